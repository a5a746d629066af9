"""The tables. Times are microseconds since 1970 UTC in BIGINT, on both databases.

Text compares by bytes (collation "C" on PostgreSQL, BINARY on SQLite), so the order of the core's sets is the
order of the database. Heads and facts are opaque canonical JSON in text; only a person's derived values, which
people query, are JSONB on PostgreSQL.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

metadata = MetaData()

Bytewise: TypeEngine[str] = Text().with_variant(Text(collation="C"), "postgresql")
Time = BigInteger().with_variant(Integer, "sqlite")
Serial = BigInteger().with_variant(Integer, "sqlite")
Queryable: TypeEngine[str] = Text().with_variant(JSONB(), "postgresql")


def _flag(name: str, *, default: bool = False) -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=text("true" if default else "false"))


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


# What arrived. One row per split event, with the bytes of that event alone.
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
    _flag("thin"),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("next_attempt_at", Time, nullable=False),
    Column("lease_until", Time),
    Column("lease_epoch", Integer, nullable=False, server_default=text("0")),
    Column("reason", Text),
    Column("run", BigInteger),
    UniqueConstraint("connection", "dedup_key", name="inbox_dedup"),
)
Index(
    "inbox_open",
    inbox.c.next_attempt_at,
    postgresql_where=text("state IN ('new', 'claimed')"),
    sqlite_where=text("state IN ('new', 'claimed')"),
)
Index("inbox_dead", inbox.c.id, postgresql_where=text("state = 'dead'"), sqlite_where=text("state = 'dead'"))
Index(
    "inbox_run",
    inbox.c.run,
    inbox.c.state,
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
    _flag("part"),
    Column("owner", Bytewise),
    Column("person", Bytewise),
    Column("user_id", Bytewise),
    Column("issued_at", Time, nullable=False),
    _flag("deleted"),
    _flag("known"),
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

# Who held which identifier when; and the rows that two workers lock to see each other's claims.
claims = Table(
    "claims",
    metadata,
    Column("kind", Bytewise, nullable=False),
    Column("value", Bytewise, nullable=False),
    Column("record", Bytewise, nullable=False),
    Column("start_at", Time, nullable=False),
    Column("end_at", Time),
    _flag("verified", default=True),
    PrimaryKeyConstraint("kind", "value", "record", "start_at"),
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
    _flag("cut"),
    Column("reason", Text, nullable=False),
    Column("inbox", BigInteger),
)
Index("links_a", links.c.a)
Index("links_b", links.c.b)
conflicts = Table(
    "conflicts",
    metadata,
    Column("a", Bytewise, nullable=False),
    Column("b", Bytewise, nullable=False),
    Column("reason", Text, nullable=False),
    PrimaryKeyConstraint("a", "b"),
)
Index("conflicts_b", conflicts.c.b)

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
    _flag("archived"),
    Column("hash", Bytewise, nullable=False),
    Column("updated_at", Time, nullable=False),
)
Index("people_updated", people.c.updated_at)

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
    _flag("qualified"),
    _flag("verified", default=True),
    Column("connection", Bytewise, nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("inbox_key", Bytewise, nullable=False),
    Column("recorded_at", Time, nullable=False),
)
Index("consent_subject", consent.c.subject)

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
    _count("n"),
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
    Column("desired", Text, nullable=False),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("lane", Bytewise, nullable=False),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("next_attempt_at", Time, nullable=False),
    Column("lease_until", Time),
    Column("lease_epoch", Integer, nullable=False, server_default=text("0")),
    Column("reason", Text),
    UniqueConstraint("destination", "subject", "action", name="outbox_subject"),
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

# One coalesced wish per record to read it back from its vendor.
readbacks = Table(
    "readbacks",
    metadata,
    Column("connection", Bytewise, nullable=False),
    Column("type", Bytewise, nullable=False),
    Column("source_id", Bytewise, nullable=False),
    Column("reason", Bytewise, nullable=False),
    Column("due_at", Time, nullable=False),
    Column("wishes", BigInteger, nullable=False, server_default=text("1")),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("lease_until", Time),
    PrimaryKeyConstraint("connection", "type", "source_id"),
)
Index("readbacks_due", readbacks.c.due_at)

# What the hub remembers of a connection: where its pull stands, and whether it waits for a person.
connections = Table(
    "connections",
    metadata,
    Column("name", Bytewise, primary_key=True),
    Column("cursor", Text),
    Column("pulled_at", Time),
    Column("walked_at", Time),
    Column("paused_at", Time),
    Column("paused_reason", Text),
)
runs = Table(
    "runs",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("kind", Bytewise, nullable=False),
    Column("connection", Bytewise, nullable=False),
    Column("state", Bytewise, nullable=False),
    Column("params", Text, nullable=False),
    Column("cursor", Text),
    Column("total", BigInteger),
    _count("scanned"),
    _count("admitted"),
    _count("changed"),
    _count("unchanged"),
    _count("failed"),
    _count("missing"),
    Column("reason", Text),
    Column("started_at", Time, nullable=False),
    Column("moved_at", Time, nullable=False),
    Column("finished_at", Time),
    Column("next_attempt_at", Time, nullable=False),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("lease_until", Time),
    Column("lease_epoch", Integer, nullable=False, server_default=text("0")),
    Column("holder", Text),
)
# One resync of a connection at a time: a second one joins it.
Index(
    "runs_resync",
    runs.c.connection,
    unique=True,
    postgresql_where=text("kind = 'resync' AND state IN ('pulling', 'applying')"),
    sqlite_where=text("kind = 'resync' AND state IN ('pulling', 'applying')"),
)
Index(
    "runs_open",
    runs.c.next_attempt_at,
    postgresql_where=text("state IN ('pulling', 'applying')"),
    sqlite_where=text("state IN ('pulling', 'applying')"),
)

# The records that a full walk has shown so far; what is missing at its end is read back.
walked = Table(
    "walked",
    metadata,
    Column("run", BigInteger, nullable=False),
    Column("record", Bytewise, nullable=False),
    Column("type", Bytewise, nullable=False),
    PrimaryKeyConstraint("run", "record"),
)

# The vendor account's quota and concurrency, leased by all workers alike; and cached access tokens.
quotas = Table(
    "quotas",
    metadata,
    Column("account", Bytewise, nullable=False),
    Column("endpoint", Bytewise, nullable=False),
    Column("free_at", Time, nullable=False),
    PrimaryKeyConstraint("account", "endpoint"),
)
slots = Table(
    "slots",
    metadata,
    Column("account", Bytewise, nullable=False),
    Column("number", SmallInteger, nullable=False),
    Column("until", Time, nullable=False),
    Column("holder", Bytewise),
    PrimaryKeyConstraint("account", "number"),
)
tokens = Table(
    "tokens",
    metadata,
    Column("connection", Bytewise, nullable=False),
    Column("name", Bytewise, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("expires_at", Time, nullable=False),
    PrimaryKeyConstraint("connection", "name"),
)

# Periodic jobs claim their slot here, so any number of beats, or none, is safe.
jobs = Table(
    "jobs",
    metadata,
    Column("name", Bytewise, primary_key=True),
    Column("slot", BigInteger, nullable=False),
    Column("claimed_at", Time, nullable=False),
)
pulses = Table(
    "pulses",
    metadata,
    Column("name", Bytewise, primary_key=True),
    Column("rung_at", Time),
    Column("heard_at", Time),
)

alerts = Table(
    "alerts",
    metadata,
    Column("key", Bytewise, primary_key=True),
    Column("connection", Bytewise, nullable=False),
    Column("message", Text, nullable=False),
    Column("cure", Text, nullable=False),
    Column("first_at", Time, nullable=False),
    Column("last_at", Time, nullable=False),
    Column("times", BigInteger, nullable=False),
    Column("resolved_at", Time),
)
audit = Table(
    "audit",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("at", Time, nullable=False),
    Column("actor", Bytewise, nullable=False),
    Column("action", Bytewise, nullable=False),
    Column("subjects", Text, nullable=False),
)

# Facts about this installation: which keys its hashes and ids were made with.
meta = Table("meta", metadata, Column("name", Bytewise, primary_key=True), Column("value", Text, nullable=False))
