"""Databases of PostgreSQL for tests: new ones, and ones with all tables that are emptied and lent again.

Making and dropping a database costs a second where three test processes do it at once, for each drop is a checkpoint
of the whole server; emptying thirty small tables costs a hundredth of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg

DATABASES: Final = "upkept_test_"
TIMES_LENT: Final = 25
"""Then a database goes: its dead rows and statistics must not grow to something that no test means."""

_SHAPE: Final = """
    SELECT md5(coalesce(string_agg(line, E'\\n' ORDER BY line), '')) FROM (
        SELECT concat_ws(' ', relname, relkind, relchecks, relhastriggers, relrowsecurity, relacl, reloptions) AS line
            FROM pg_class WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT concat_ws(' ', attrelid::regclass, attname, atttypid::regtype, attnotnull, attacl)
            FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
            WHERE relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped
        UNION ALL SELECT concat_ws(' ', indexrelid::regclass, indisvalid, pg_get_indexdef(indexrelid))
            FROM pg_index JOIN pg_class ON pg_class.oid = indrelid WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT concat_ws(' ', conname, pg_get_constraintdef(oid))
            FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT concat_ws(' ', tgname, tgenabled) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT concat_ws(' ', proname, prosrc) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_'
        UNION ALL SELECT concat_ws(' ', setrole, setconfig) FROM pg_db_role_setting
            JOIN pg_database ON pg_database.oid = setdatabase WHERE datname = current_database()
        UNION ALL SELECT version_num FROM alembic_version
    ) AS lines"""
_EMPTYING: Final = """
    SELECT CASE relkind WHEN 'r' THEN format('DELETE FROM %I', relname)
                        ELSE format('SELECT setval(%L, 1, false)', quote_ident(relname)) END
    FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S') AND relname <> 'alembic_version'"""


@dataclass
class PostgresServer:
    """A reachable server on which a test process makes throw-away databases."""

    url: str
    prefix: str
    numbers: Iterator[int] = field(default_factory=count)
    _resting: dict[str, int] = field(default_factory=dict)
    _lent: dict[str, tuple[str, int]] = field(default_factory=dict)
    _shapes: dict[str, Any] = field(default_factory=dict)

    def create(self, template: str = "") -> str:
        """The URL of a new database."""
        name = f"{self.prefix}_{next(self.numbers)}"
        self._run(f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else ""))
        return urlsplit(self.url)._replace(path=f"/{name}").geturl()

    def drop(self, url: str) -> None:
        """Remove a database, whoever is still connected."""
        self._run(f'DROP DATABASE IF EXISTS "{database_name(url)}" WITH (FORCE)')

    def lend(self, template: str) -> str:
        """The URL of a database with the tables of the template and no rows; `give_back` takes it again."""
        if not self._resting:
            self._resting[self.create(template)] = 0
        url, times = self._resting.popitem()
        self._shapes.setdefault(template, _shape(url))
        self._lent[url] = (template, times + 1)
        return url

    def give_back(self, url: str) -> None:
        """Empty it for the next test, or drop it where a test changed more than rows."""
        template, times = self._lent.pop(url)
        if times >= TIMES_LENT or not self._empty(url, self._shapes[template]):
            self.drop(url)
            return
        self._resting[url] = times

    def _empty(self, url: str, shape: Any) -> bool:
        """Whoever is still connected is cut off, as a drop would do."""
        self._run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [database_name(url)]
        )
        try:
            if _shape(url) != shape:
                return False
            with psycopg.connect(url) as connection:
                connection.execute("SET session_replication_role = replica")  # foreign keys: all goes at once
                found = connection.execute(_EMPTYING).fetchall()
                connection.execute("; ".join(line for (line,) in found).encode())
        except psycopg.Error:  # a test dropped it, or the note of what it is
            return False
        return True

    def drop_all(self) -> None:
        """Remove what this process made and what runs that were killed left behind."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            rows = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [DATABASES])
            for (name,) in rows.fetchall():
                if name.startswith(self.prefix) or not alive(name.removeprefix(DATABASES).partition("_")[0]):
                    connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())

    def _run(self, statement: str, values: list[str] | None = None) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode(), values)


def database_name(url: str) -> str:
    """The last part of a PostgreSQL URL."""
    return urlsplit(url).path.removeprefix("/")


def alive(pid: str) -> bool:
    """Is that process still there? Services of one machine are shared by several runs at a time."""
    return Path(f"/proc/{pid}").exists()


def _shape(url: str) -> Any:
    """What a test may not leave changed: all but the rows."""
    with psycopg.connect(url) as connection:
        (found,) = connection.execute(_SHAPE).fetchone() or (None,)
        return found
