"""The kinds of columns the tables are made of."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

metadata = MetaData()

Bytewise: TypeEngine[str] = Text().with_variant(Text(collation="C"), "postgresql")
Time = BigInteger().with_variant(Integer, "sqlite")
Serial = BigInteger().with_variant(Integer, "sqlite")
Queryable: TypeEngine[str] = Text().with_variant(JSONB(), "postgresql")


def flag(name: str, *, default: bool = False) -> Column[bool]:
    """A boolean, never null."""
    return Column(name, Boolean, nullable=False, server_default=text("true" if default else "false"))


def count(name: str) -> Column[int]:
    """A number that begins at 0."""
    return Column(name, BigInteger, nullable=False, server_default=text("0"))
