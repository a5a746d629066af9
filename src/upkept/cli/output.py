"""What commands print: one JSON document, or a table for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

WIDE: Final = 1_000


def print_json(value: Any) -> None:
    """One document on standard output, and nothing else."""
    json.dump(value, sys.stdout, indent=1, ensure_ascii=False)
    print()


def print_lines(lines: Iterable[str], *, err: bool = False) -> None:
    """Each on a line of its own; `err` for what is said beside the answer."""
    for line in lines:
        print(line, file=sys.stderr if err else sys.stdout)


def shown_url(url: str) -> str:
    """A database's or a broker's address without its secrets: `***` stands for every password it has."""
    parts = urlsplit(url)
    user, at, place = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    options = "&".join(
        f"{key}={'***' if 'pass' in key.lower() else value}" for key, value in parse_qsl(parts.query, True)
    )
    asked = f"?{options}" if options else ""
    return f"{parts.scheme}://{name}{':***' if password else ''}{at}{place}{parts.path}{asked}"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str) -> None:
    """A table on standard output; `empty` is said where there are no rows."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if not rows:
        print(empty)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=not sys.stdout.isatty(), overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
    # Where nobody looks the table is for grep: a row is a line, however long.
    Console(width=None if sys.stdout.isatty() else WIDE, highlight=False).print(table)
