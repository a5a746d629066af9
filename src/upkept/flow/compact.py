"""Compact old facts into the floor of their record: the winner and its stamp per field (R4).

Identifier intervals stay in the floor whole; consent and links are not touched. A run that can still be undone keeps
its facts, and with them whatever of those records is newer; of an older one it is counted how many went, because no
undo voids them any more.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from sqlalchemy import Connection

from upkept.flow.hub import Hub
from upkept.people.facts import DAY
from upkept.people.fold import compact as fold_away
from upkept.store import facts, meta, records, runs, tombstones

PLACE: Final = "compacted up to"


def compact(hub: Hub, *, now: int, limit: int) -> int:
    """Compact the old facts of at most `limit` records in one transaction; how many facts. 0: nothing is left to do.

    It goes through the records in turn and remembers where it stands, so any process may call it, at any time.
    """
    before = now - hub.settings.floor_days * DAY
    with hub.store.read() as connection:
        recent = runs.first_since(connection, before)
        after = meta.read(connection, PLACE) or ""
        ids = facts.older(connection, before=before, recent=recent, after=after, limit=limit)
        if not ids and after:
            ids = facts.older(connection, before=before, recent=recent, after="", limit=limit)
    if not ids:
        return 0
    with hub.store.write() as connection:
        done = _compact(connection, hub, ids, before, recent)
        meta.keep(connection, PLACE, ids[-1])
    return done


def _compact(connection: Connection, hub: Hub, ids: list[str], before: int, recent: int | None) -> int:
    tombstones.beside_others(connection)
    held = records.lock(connection, ids)
    stored = facts.of(connection, sorted(held))
    apart = facts.first_of_runs(connection, sorted(held), since=recent) if recent is not None else {}
    done = 0
    of_runs: Counter[int] = Counter()
    for id_, record in sorted(held.items()):
        said = stored.get(id_, [])
        until = min(before, apart.get(id_, before))
        record.floor, young = fold_away(record.floor, said, before=until, policies=hub.policies)
        stay = {fact.fact_id for fact in young}
        of_runs.update(
            facts.remove_some(connection, id_, sorted(fact.fact_id for fact in said if fact.fact_id not in stay))
        )
        done += len(said) - len(young)
    records.save_floors(connection, held.values())
    runs.count_compacted(connection, of_runs)
    return done
