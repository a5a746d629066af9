"""One row per contact, one per event."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Engine, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase): ...


class Contact(Base):
    __tablename__ = "contacts"

    id: Mapped[int] = mapped_column(primary_key=True)
    stripe_id: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str | None] = mapped_column(index=True)
    name: Mapped[str | None]
    attributes: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class StripeEvent(Base):
    __tablename__ = "stripe_events"

    id: Mapped[str] = mapped_column(primary_key=True)
    contact_id: Mapped[int]
    type: Mapped[str]
    created: Mapped[int] = mapped_column(BigInteger)


def open_database(url: str) -> Engine:
    """The engine with everything as SQLAlchemy has it by default."""
    return create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
