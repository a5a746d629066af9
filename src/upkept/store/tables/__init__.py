"""The tables. Times are microseconds since 1970 UTC in BIGINT, on both databases.

Text compares by bytes (collation "C" on PostgreSQL, BINARY on SQLite), so the order of the core's sets is the
order of the database. Heads and facts are opaque canonical JSON in text; only a person's derived values, which
people query, are JSONB on PostgreSQL.
"""

from upkept.store.tables.columns import metadata
from upkept.store.tables.people import consent, counters, outbox, people, tellings, timeline, told, tombstones
from upkept.store.tables.said import aliases, claims, conflicts, facts, identifiers, inbox, links, records, repeats
from upkept.store.tables.work import (
    alerts,
    audit,
    connections,
    jobs,
    meta,
    pulses,
    quotas,
    readbacks,
    runs,
    slots,
    tokens,
    walked,
)

__all__ = [
    "alerts",
    "aliases",
    "audit",
    "claims",
    "conflicts",
    "connections",
    "consent",
    "counters",
    "facts",
    "identifiers",
    "inbox",
    "jobs",
    "links",
    "meta",
    "metadata",
    "outbox",
    "people",
    "pulses",
    "quotas",
    "readbacks",
    "records",
    "repeats",
    "runs",
    "slots",
    "tellings",
    "timeline",
    "tokens",
    "told",
    "tombstones",
    "walked",
]
