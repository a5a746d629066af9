"""What is owed: one row for each thing a destination is to be told."""

from __future__ import annotations

from upkept.store import outbox
from upkept.store.engine import Store
from upkept.store.outbox import Wish


def test_deletes_of_two_types_that_share_an_id_are_two(store: Store) -> None:
    wishes = [Wish(destination="crm", subject="1", type=of, action="delete") for of in ("lead", "contact", "lead")]
    with store.write() as connection:
        first = outbox.write(connection, wishes, now=1)
        again = outbox.write(connection, wishes[:1], now=2)
        owed = outbox.claim(connection, "crm", holder="h:1", now=3, limit=9)
    assert sorted(due.type for due in owed) == ["contact", "lead"]
    assert len(set(first)) == 2
    assert set(again) < set(first), "one is owed already"
