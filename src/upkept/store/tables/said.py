"""What arrived, what it said, and who held which identifier."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Computed,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from upkept.store.tables.columns import Bytewise, Serial, Time, flag, metadata

# What arrived. One row per split event, with the bytes of that event alone. `lowering` is told at `store.inbox`.
# `queue` is what indexes ask for: 'open' where work is left, 'dead' where a person is asked, else nothing. No index may
# name `state` itself: a claim changes it, and would have to enter the row into every index again.
inbox = Table(
    "inbox",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("connection", Bytewise, nullable=False),
    Column("dedup_key", Bytewise, nullable=False),
    Column("kind", Bytewise, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("received_at", Time, nullable=False),
    Column("lane", Bytewise, nullable=False),
    Column("state", Bytewise, nullable=False),
    Column("lowering", Bytewise, nullable=False),
    flag("thin"),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("next_attempt_at", Time, nullable=False),
    Column("lease_until", Time),
    Column("lease_epoch", Integer, nullable=False, server_default=text("0")),
    Column("reason", Text),
    Column("run", BigInteger),
    Column(
        "queue",
        Bytewise,
        Computed(
            "CASE state WHEN 'new' THEN 'open' WHEN 'claimed' THEN 'open' WHEN 'dead' THEN 'dead' END", persisted=True
        ),
    ),
    UniqueConstraint("connection", "dedup_key", name="inbox_dedup"),
    sqlite_autoincrement=True,  # what a row said goes by its id, when the row is gone too: no other row may get it
)
Index(
    "inbox_open",
    inbox.c.next_attempt_at,
    postgresql_where=text("queue = 'open'"),
    sqlite_where=text("queue = 'open'"),
)
Index("inbox_dead", inbox.c.id, postgresql_where=text("queue = 'dead'"), sqlite_where=text("queue = 'dead'"))
Index(
    "inbox_run",
    inbox.c.run,
    inbox.c.queue,
    postgresql_where=text("run IS NOT NULL"),
    sqlite_where=text("run IS NOT NULL"),
)

# What it said. `record` goes first in the key: one index finds a record's facts and refuses duplicates.
facts = Table(
    "facts",
    metadata,
    Column("record", Bytewise, nullable=False),
    Column("fact_id", Bytewise, nullable=False),
    Column("at", Time, nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("doc", Text, nullable=False),
    Column("inbox", BigInteger, nullable=False),
    Column("run", BigInteger),
    PrimaryKeyConstraint("record", "fact_id"),
)
Index("facts_inbox", facts.c.inbox)
Index("facts_run", facts.c.run, postgresql_where=text("run IS NOT NULL"), sqlite_where=text("run IS NOT NULL"))

# What each source says, folded. `id` is the public id the record got at birth (R15).
records = Table(
    "records",
    metadata,
    Column("id", Bytewise, primary_key=True),
    Column("connection", Bytewise, nullable=False),
    Column("type", Bytewise, nullable=False),
    Column("source_id", Bytewise, nullable=False),
    flag("part"),
    Column("owner", Bytewise),
    Column("person", Bytewise),
    Column("user_id", Bytewise),
    Column("issued_at", Time, nullable=False),
    flag("deleted"),
    flag("known"),
    Column("head", Text, nullable=False),
    Column("floor", Text),
    Column("summary", Text),
)
Index(
    "records_person",
    records.c.person,
    postgresql_where=text("person IS NOT NULL"),
    sqlite_where=text("person IS NOT NULL"),
)
Index(
    "records_owner", records.c.owner, postgresql_where=text("owner IS NOT NULL"), sqlite_where=text("owner IS NOT NULL")
)
Index(
    "records_source",
    records.c.source_id,
    records.c.connection,
    postgresql_where=text("NOT part"),
    sqlite_where=text("NOT part"),
)

# The ids of records that went while their people lived on, and whom they lead to; told at `store.aliases`.
aliases = Table(
    "aliases", metadata, Column("id", Bytewise, primary_key=True), Column("record", Bytewise, nullable=False)
)
Index("aliases_record", aliases.c.record)

# Who held which identifier when; and the rows that two workers lock to see each other's claims. The key finds the
# oldest holdings of an address without the others.
claims = Table(
    "claims",
    metadata,
    Column("kind", Bytewise, nullable=False),
    Column("value", Bytewise, nullable=False),
    Column("record", Bytewise, nullable=False),
    Column("start_at", Time, nullable=False),
    Column("end_at", Time),
    flag("verified", default=True),
    PrimaryKeyConstraint("kind", "value", "start_at", "record"),
)
Index("claims_record", claims.c.record)
identifiers = Table(
    "identifiers",
    metadata,
    Column("kind", Bytewise, nullable=False),
    Column("value", Bytewise, nullable=False),
    PrimaryKeyConstraint("kind", "value"),
)

links = Table(
    "links",
    metadata,
    Column("id", Bytewise, primary_key=True),
    Column("a", Bytewise, nullable=False),
    Column("b", Bytewise, nullable=False),
    Column("at", Time, nullable=False),
    Column("strength", Bytewise, nullable=False),
    flag("cut"),
    Column("reason", Text, nullable=False),
    Column("inbox", BigInteger),
)
Index("links_a", links.c.a)
Index("links_b", links.c.b)
Index(
    "links_inbox",
    links.c.inbox,
    postgresql_where=text("inbox IS NOT NULL"),
    sqlite_where=text("inbox IS NOT NULL"),
)
conflicts = Table(
    "conflicts",
    metadata,
    Column("a", Bytewise, nullable=False),
    Column("b", Bytewise, nullable=False),
    Column("reason", Text, nullable=False),
    PrimaryKeyConstraint("a", "b"),
)
Index("conflicts_b", conflicts.c.b)
Index("conflicts_crowded", conflicts.c.a, postgresql_where=text("a = b"), sqlite_where=text("a = b"))

# The further rows that said what was known already, facts, links, events and consent; told at `store.repeats`.
repeats = Table(
    "repeats",
    metadata,
    Column("kind", Bytewise, nullable=False),
    Column("record", Bytewise, nullable=False),
    Column("id", Bytewise, nullable=False),
    Column("inbox", BigInteger, nullable=False),
    Column("doc", Text, nullable=False),
    PrimaryKeyConstraint("id", "record", "kind", "inbox"),
)
Index("repeats_inbox", repeats.c.inbox)
Index("repeats_record", repeats.c.record)
