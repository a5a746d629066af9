"""The cursor of PostgreSQL's connections. Apart from the engine: SQLite must not load psycopg."""

from __future__ import annotations

from typing import Any

from psycopg import Cursor
from psycopg.pq import Format


class BinaryCursor(Cursor[Any]):
    """A cursor that gets its results in binary: text would write each byte of a body as two digits, and read them.

    SQLAlchemy's reflection of columns and indexes would want an engine without it; we ask whether a table is there.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.format = Format.BINARY
