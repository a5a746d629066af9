"""What the hub is doing: wishes, runs, quotas, jobs, alerts."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    text,
)

from upkept.store.tables.columns import Bytewise, Serial, Time, count, metadata

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
    count("scanned"),
    count("admitted"),
    count("changed"),
    count("unchanged"),
    count("failed"),
    count("missing"),
    count("compacted"),
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
    Column("account", Bytewise, primary_key=True),
    Column("free_at", Time, nullable=False),
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
