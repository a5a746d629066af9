"""The Celery app, its settings, and ringing bells by task name.

SQL is the queue and the broker only a doorbell: a message carries ids, so one that is lost costs seconds. The
settings below follow from it (Celery on Redis loses tasks on a `kill -9` whatever the settings): no ETA, no
results, JSON only, late acknowledgement, and a message is spent once its task ran, whatever the outcome.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from celery import Celery
from kombu import Exchange, Queue
from kombu.utils.scheduling import round_robin_cycle

from upkept.flow.bells import Bell

log = structlog.get_logger(__name__)

QUEUES: Final = ("consent", "inbound", "outbound", "bulk")
VISIBILITY_SECONDS: Final = 300
"""Longer than any task; another app with a shorter one on the same Redis database would win: use our own."""

LISTEN_SECONDS: Final = 0.2
"""How long a worker on Redis listens before it chooses again which queues it listens to. While a bulk step runs it does
not listen to `bulk`, so this is the rest between two of them (kombu's own is a second)."""

MANDATED: Final[dict[str, Any]] = {
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "task_ignore_result": True,
    "result_backend": None,
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_acks_on_failure_or_timeout": True,  # the outcome is in SQL; the message is spent
    "task_soft_time_limit": 45,
    "task_time_limit": 60,
    "worker_prefetch_multiplier": 1,
    "worker_max_tasks_per_child": 1000,
    "worker_max_memory_per_child": 262_144,  # KiB
    "worker_soft_shutdown_timeout": 15,
    "worker_enable_soft_shutdown_on_idle": False,
    "worker_cancel_long_running_tasks_on_connection_loss": False,  # the fence covers an overlap
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "visibility_timeout": VISIBILITY_SECONDS,
    "task_publish_retry": False,
    "broker_connection_timeout": 2,
    "broker_pool_acquire_timeout": 0.5,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "worker_send_task_events": False,
    "task_default_queue": "inbound",
    "timezone": "UTC",
}
REDIS: Final[dict[str, Any]] = {
    "visibility_timeout": VISIBILITY_SECONDS,
    "socket_timeout": 5,  # more than a BRPOP takes
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "health_check_interval": 10,
    "retry_on_timeout": True,
    "global_keyprefix": "upkept:",
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "priority_steps": [0],
    "queue_order_strategy": "upkept.queue:Lanes",
    "polling_interval": LISTEN_SECONDS,
}
RABBITMQ: Final[dict[str, Any]] = {"confirm_publish": True, "read_timeout": 2, "write_timeout": 2}
RINGING_REDIS: Final = {**REDIS, "socket_timeout": 0.5, "socket_connect_timeout": 0.5, "retry_on_timeout": False}

app = Celery("upkept", set_as_current=False)
app.conf.update(MANDATED)


def connect(url: str) -> Celery:
    """The app pointed at the broker behind `url` (Redis, `redis+socket://` or RabbitMQ); opens nothing yet."""
    rabbitmq = urlsplit(url).scheme in ("amqp", "amqps")
    app.conf.update(
        broker_url=url,
        broker_transport_options=RABBITMQ if rabbitmq else REDIS,
        task_default_queue_type="quorum" if rabbitmq else "classic",
        task_queues=[_queue(name, quorum=rabbitmq) for name in QUEUES],
    )
    return app


def _queue(name: str, *, quorum: bool) -> Queue:
    """The nameless exchange reaches a queue by its name: no binding that a FLUSHALL could take away."""
    arguments = {"x-queue-type": "quorum"} if quorum else None
    return Queue(name, Exchange(""), routing_key=name, durable=True, queue_arguments=arguments)


class Lanes(round_robin_cycle):  # type: ignore[misc]  # kombu has no types
    """The order in which a Redis worker looks at its queues.

    Consent first, always. `inbound` goes before `bulk` four times of five, so that neither starves. `bulk` is
    not looked at while it holds all children but one: a step of a resync takes seconds, a webhook must not wait.
    RabbitMQ knows no such order; there a prefetch of one per queue and the short steps bound the wait.
    """

    TURNS: Final = 5
    taken = 0
    children = 0

    def consume(self, n: int) -> list[str]:
        names = [name for name in self.items[:n] if name != "bulk" or self._bulk_may_run()]
        first = "bulk" if self.taken % self.TURNS == self.TURNS - 1 else "inbound"
        return sorted(names, key=lambda name: (name != "consent", name != first, name))

    def rotate(self, last_used: str) -> str:
        self.taken += last_used != "consent"
        return last_used

    def _bulk_may_run(self) -> bool:
        if self.children < 2:
            return True
        from celery.worker import state as at_work  # a process that only rings does not load the worker

        running = sum(1 for request in at_work.reserved_requests if request.delivery_info.get("routing_key") == "bulk")
        return running < self.children - 1


class Ringer:
    """Rings bells over one connection it holds.

    A sick broker costs a ring at most about two seconds (it is tried once more on a fresh connection), and after
    three failures nothing at all for ten seconds. What is not rung is offered again by the sweeper. Threads may
    share a ringer; a forked child makes its own.
    """

    FAILURES: Final = 3
    OPEN_SECONDS: Final = 10.0

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._lock = threading.Lock()
        self._producer: Any = None
        self._failures = 0
        self._open_until = 0.0
        self._sick_since: float | None = None

    def ring(self, bells: Iterable[Bell]) -> bool:
        """Ring them all; False at the first that could not be."""
        return all(self.ring_one(bell.task, bell.queue, [list(bell.ids)]) for bell in bells)

    def ring_one(self, task: str, queue: str, arguments: list[Any]) -> bool:
        """Send one message `upkept.<task>`; never raises for a broker that is away."""
        with self._lock:
            if self._clock() < self._open_until:
                return False
            try:
                self._send(task, queue, arguments)
            except Exception as error:  # a broker's clients raise a dozen unrelated types
                self._failed(error)
                return False
            if self._sick_since is not None:
                log.info("broker_back", cure="none needed")
            self._failures, self._sick_since = 0, None
            return True

    def sick_seconds(self) -> float:
        """For how long no ring has succeeded although one was tried; 0 for a healthy broker."""
        return 0.0 if self._sick_since is None else self._clock() - self._sick_since

    def close(self) -> None:
        with self._lock:
            self._hang_up()

    def _send(self, task: str, queue: str, arguments: list[Any]) -> None:
        fresh = self._producer is None
        try:
            self._publish(task, queue, arguments)
        except Exception:
            self._hang_up()
            if fresh or self._sick_since is not None:
                raise
            # A connection that was held may be a dead one of yesterday: a fresh one decides.
            self._publish(task, queue, arguments)

    def _publish(self, task: str, queue: str, arguments: list[Any]) -> None:
        if self._producer is None:
            self._producer = app.amqp.Producer(_ringing_connection(self._url), auto_declare=False)
        # Celery words every argument for its log, element by element; ids need no words.
        app.send_task(f"upkept.{task}", args=arguments, queue=queue, producer=self._producer, retry=False,
                      argsrepr="", kwargsrepr="")  # fmt: skip

    def _failed(self, error: Exception) -> None:
        now = self._clock()
        self._hang_up()
        self._failures += 1
        if self._sick_since is None:
            self._sick_since = now
            log.warning(
                "broker_sick", error=type(error).__name__,
                cure="nothing is lost: the sweeper carries on; see that the broker of UPKEPT_BROKER_URL runs",
            )  # fmt: skip
        if self._failures >= self.FAILURES:
            self._open_until = now + self.OPEN_SECONDS

    def _hang_up(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                producer.connection.collect()
            except Exception as error:
                log.debug("broker_hang_up", error=type(error).__name__)


def _ringing_connection(url: str) -> Any:
    if urlsplit(url).scheme in ("amqp", "amqps"):
        return app.connection_for_write(url, connect_timeout=2, heartbeat=0, transport_options=RABBITMQ)
    return app.connection_for_write(url, connect_timeout=0.5, transport_options=RINGING_REDIS)
