"""What a process counts, for `/metrics`. What the database knows is looked up when it is asked for."""

from __future__ import annotations

from functools import cache

from prometheus_client import CollectorRegistry, Counter, ProcessCollector

registry = CollectorRegistry(auto_describe=True)
ProcessCollector(namespace="upkept", registry=registry)

_ACCEPTED = Counter(
    "upkept_requests_accepted", "Webhook requests stored and answered 2xx.", ["connection"], registry=registry
)
_REJECTED = Counter(
    "upkept_requests_rejected", "Webhook requests refused; nothing stored.", ["connection", "status"],
    registry=registry,
)  # fmt: skip
_TURNED_AWAY = Counter(
    "upkept_requests_turned_away", "Webhook requests answered 5xx: the sender sends them again.", ["connection"],
    registry=registry,
)  # fmt: skip


def accepted(connection: str) -> None:
    _accepted(connection).inc()


def rejected(connection: str, status: int) -> None:
    _REJECTED.labels(connection, str(status)).inc()


def turned_away(connection: str) -> None:
    _TURNED_AWAY.labels(connection).inc()


@cache
def _accepted(connection: str) -> Counter:
    return _ACCEPTED.labels(connection)
