"""Who the people are, their consent and timeline, what others must know, who was erased."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from upkept.store.tables.columns import Bytewise, Queryable, Serial, Time, count, flag, metadata

# Derived: who the people are. Every row can be dropped and rebuilt from the records.
people = Table(
    "people",
    metadata,
    Column("id", Bytewise, primary_key=True),
    Column("role", Bytewise, nullable=False),
    Column("external_id", Bytewise),
    Column("email", Text),
    Column("name", Text),
    Column("attributes", Queryable, nullable=False),
    Column("tags", Queryable, nullable=False),
    Column("segments", Queryable, nullable=False),
    Column("companies", Queryable, nullable=False),
    Column("consent", Bytewise, nullable=False),
    flag("archived"),
    Column("hash", Bytewise, nullable=False),
    Column("updated_at", Time, nullable=False),
)

# Consent: insert-only, by keyed hashes of the address and of the record, so an erasure leaves it standing.
consent = Table(
    "consent",
    metadata,
    Column("id", Bytewise, primary_key=True),
    Column("subject_kind", Bytewise, nullable=False),
    Column("subject", Bytewise, nullable=False),
    Column("channel", Bytewise, nullable=False),
    Column("topic", Bytewise, nullable=False),
    Column("act", Bytewise, nullable=False),
    Column("at", Time, nullable=False),
    flag("qualified"),
    flag("verified", default=True),
    Column("connection", Bytewise, nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("inbox_key", Bytewise, nullable=False),
    Column("recorded_at", Time, nullable=False),
)
Index("consent_subject", consent.c.subject)
Index("consent_inbox", consent.c.inbox_key)

timeline = Table(
    "timeline",
    metadata,
    Column("record", Bytewise, nullable=False),
    Column("id", Bytewise, nullable=False),
    Column("name", Bytewise, nullable=False),
    Column("at", Time, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("inbox", BigInteger, nullable=False),
    PrimaryKeyConstraint("record", "id"),
)
Index("timeline_inbox", timeline.c.inbox)
counters = Table(
    "counters",
    metadata,
    Column("record", Bytewise, nullable=False),
    Column("name", Bytewise, nullable=False),
    count("n"),
    Column("first_at", Time, nullable=False),
    Column("last_at", Time, nullable=False),
    PrimaryKeyConstraint("record", "name"),
)

# What other systems must know: the newest desired state per destination and person, or a delete of a record.
outbox = Table(
    "outbox",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("destination", Bytewise, nullable=False),
    Column("subject", Bytewise, nullable=False),
    Column("action", Bytewise, nullable=False),
    Column("state", Bytewise, nullable=False),
    Column("type", Bytewise, nullable=False),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("lane", Bytewise, nullable=False),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("next_attempt_at", Time, nullable=False),
    Column("lease_until", Time),
    Column("holder", Text),
    Column("reason", Text),
    UniqueConstraint("destination", "subject", "action", "type", name="outbox_subject"),
    sqlite_autoincrement=True,  # a vendor is given the id as a key: it must never name another wish
)
Index(
    "outbox_due",
    outbox.c.destination,
    outbox.c.lane,
    outbox.c.next_attempt_at,
    postgresql_where=text("state = 'new'"),
    sqlite_where=text("state = 'new'"),
)

# What each record at a vendor was told last, as JSON of `people.owed.Told`: an echo of it is no news (R6).
told = Table("told", metadata, Column("record", Bytewise, primary_key=True), Column("doc", Text, nullable=False))

# Which events of the timeline a destination is told of, each once: `target` is its record they are noted on, null until
# it has one; `told_at` null until it took them. They outlive a withdrawn event, which may come back.
tellings = Table(
    "tellings",
    metadata,
    Column("record", Bytewise, nullable=False),
    Column("id", Bytewise, nullable=False),
    Column("destination", Bytewise, nullable=False),
    Column("at", Time, nullable=False),
    Column("target", Bytewise),
    Column("told_at", Time),
    PrimaryKeyConstraint("record", "id", "destination"),
)

# Erased for good: keyed hashes only.
tombstones = Table(
    "tombstones",
    metadata,
    Column("kind", Bytewise, nullable=False),
    Column("subject", Bytewise, nullable=False),
    Column("at", Time, nullable=False),
    PrimaryKeyConstraint("kind", "subject"),
)
