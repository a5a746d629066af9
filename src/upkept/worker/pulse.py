"""Is a worker alive? A pulse goes from SQL over the broker to the worker and back to SQL.

A process that runs and a connection that stands prove nothing: a Celery worker can be alive and deaf.
"""

from __future__ import annotations

from typing import Final

from upkept.store import jobs
from upkept.store.engine import Store

EVERY: Final = 10.0
"""Seconds between two pulses."""
DEAF: Final = 60.0
"""A pulse unheard for so many seconds: the supervisor restarts the worker."""
LANES: Final = {"worker": "consent", "courier": "outbound"}
"""Who listens where. The worker looks at `consent` first, so a backlog does not look like deafness."""

STUCK: Final = 300.0
"""A slow vendor may hold every thread of the courier for so many seconds. After that it looks like one that never
answers, and a restart is the only way to get a thread back."""


def busy(store: Store, *, now: int) -> None:
    """The courier cannot hear its pulse because all its threads are at work: that is no deafness."""
    with store.write() as connection:
        jobs.heard(connection, "courier", now=now)


def pulse_age(store: Store, name: str = "worker", *, now: int, since: int = 0) -> float:
    """For how many seconds a pulse of `name` has been unheard; 0 if the last one was heard or none was sent.

    `now` and `since` in microseconds; silence from before `since` (when the worker was started) does not count.
    A broker that is away sends no pulses, so it does not look like a deaf worker. Raises `Retryable`.
    """
    with store.read() as connection:
        sent = jobs.unheard_since(connection, name)
    return 0.0 if sent is None else max(0, now - max(sent, since)) / 1_000_000
