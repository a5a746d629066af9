"""Wrong designs to plant into the hub's processes: `make resync` must fail with any of them.

Each is the text of a `sitecustomize.py`, which Python runs in every process before anything else.
"""

from __future__ import annotations

from typing import Final

BUGS: Final = {
    "unchanged-written": '''
"""What a walk shows is news, whether the head says it already or not (R5 switched off)."""
from upkept.flow import compare

compare.says_nothing_new = lambda head, fact: False
''',
    "cursor-first": '''
"""The cursor moves on in a transaction of its own, before the page is stored."""
from upkept.flow import pull
from upkept.store import runs

take_in = pull._take_in


def cursor_first(hub, run, connection, page, asked_at, now):
    if page.cursor is not None:
        with hub.store.write() as open_store:
            runs.advance(open_store, run, now=now(), cursor=page.cursor, state="pulling", scanned=0, admitted=0,
                         unchanged=0, total=page.total)
    return take_in(hub, run, connection, page, asked_at, now)


pull._take_in = cursor_first
''',
    "owed-no-more": '''
"""What was claimed for a push is no longer owed, whether the vendor takes it or not."""
from upkept.store import outbox

claim = outbox.claim


def claimed_and_done(connection, destination, *, now, limit):
    dues = claim(connection, destination, now=now, limit=limit)
    for due in dues:
        outbox.done(connection, due)
    return dues


outbox.claim = claimed_and_done
''',
}

SHORT_LEASES: Final = '''
"""No bug: a killed process's deliveries, calls and read-backs are free after seconds, so that a run need not wait."""
from upkept.store import inbox, quotas, readbacks

inbox.LEASE = quotas.SLOT = readbacks.LEASE = 4_000_000
'''
