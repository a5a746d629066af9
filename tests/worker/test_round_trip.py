"""From a post to the store through real processes, over each broker, and through the death of a worker's child."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from kombu import Connection
from tests.till.site import Site, delivery, event, process, rabbitmq_alone, wait_for

from upkept import broker
from upkept.flow.bells import Bell
from upkept.queue import Ringer
from upkept.store import jobs
from upkept.store.engine import open_store

DELAY = "celery_delayed_0"


def count(site: Site, question: str) -> int:
    store = open_store(site.database_url)
    with store.read() as connection:
        found = connection.exec_driver_sql(question).scalar()
    store.close()
    return int(found or 0)


def done(site: Site) -> int:
    return count(site, "SELECT count(*) FROM inbox WHERE state = 'done'")


@pytest.fixture(params=["embedded", "redis", "rabbitmq"])
def site(request: pytest.FixtureRequest, with_tables: Callable[[str], str], tmp_path: Path) -> Iterator[Site]:
    """A hub on each broker: SQLite with the embedded one, PostgreSQL with the others."""
    url = with_tables("sqlite" if request.param == "embedded" else "postgresql")
    with ExitStack() as stack:
        broker_url = ""
        if request.param == "redis":
            broker_url = request.getfixturevalue("redis_url")
        elif request.param == "rabbitmq":
            broker_url = stack.enter_context(rabbitmq_alone(request.getfixturevalue("rabbitmq_url")))
        site = Site(tmp_path / "home", url, broker_url)
        if request.param == "embedded":
            stack.enter_context(process(broker.command(site.settings)))
            wait_for(lambda: broker.answers(site.settings.broker_socket))
        stack.callback(site.end)
        yield site


def test_a_worker_on_rabbitmq_declares_our_queues_alone_and_has_nothing_to_warn_of(
    tmp_path: Path, database_url: str, rabbitmq_url: str
) -> None:
    """Celery would prepare delays that we never ask for: 28 queues, and a warning for each queue of ours."""
    with rabbitmq_alone(rabbitmq_url), Connection(rabbitmq_url) as connection:
        connection.default_channel.queue_delete(DELAY)
        site = Site(tmp_path / "home", database_url, rabbitmq_url)
        try:
            for name in ("worker", "courier"):
                site.start(name)
                wait_for(lambda name=name: "ready." in site.log(name))  # type: ignore[misc]
                assert "[warning" not in site.log(name)
        finally:
            site.end()
        with pytest.raises(connection.channel_errors, match="NOT_FOUND"):
            connection.default_channel.queue_declare(DELAY, passive=True)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_post_is_applied_and_a_thin_one_fetched(site: Site) -> None:
    for name in ("worker", "courier", "web"):
        site.start(name)
    site.post(delivery(event(1), event(2, kind="customer.unsubscribed")))
    wait_for(lambda: done(site) == 2, 60)
    site.post(delivery(event(3, kind="customer.thin")))
    wait_for(
        lambda: count(site, "SELECT count(*) FROM people WHERE CAST(attributes AS text) LIKE '%%fetched%%'") == 1, 60
    )
    wait_for(lambda: _heard(site, "worker") and _heard(site, "courier"), 60)

    for child in children(site.started["worker"].pid):
        os.kill(child, signal.SIGKILL)
    for number in range(10, 20):
        assert site.post(delivery(event(number))).status_code == 200
    wait_for(lambda: count(site, "SELECT count(*) FROM people") == 13, 60)

    assert [site.stop(name, 40) for name in ("worker", "courier", "web")] == [0, 0, 0]
    assert "Traceback" not in site.log("web") + site.log("courier")


def test_steps_of_a_walk_follow_each_other_without_long_rests(
    with_tables: Callable[[str], str], tmp_path: Path
) -> None:
    """While one runs the worker does not listen to `bulk`; it must not rest for a second after each."""
    site = Site(tmp_path / "home", with_tables("sqlite"), "")
    with process(broker.command(site.settings)):
        wait_for(lambda: broker.answers(site.settings.broker_socket))
        client = redis.Redis(unix_socket_path=str(site.settings.broker_socket))
        Ringer(site.settings.effective_broker_url).ring([Bell("bulk", "apply", (number,)) for number in range(1, 41)])
        try:
            site.start("worker")
            wait_for(lambda: client.llen("upkept:bulk") < 40, 60)
            wait_for(lambda: client.llen("upkept:bulk") == 0, 25)
        finally:
            site.end()
            client.close()


def _heard(site: Site, name: str) -> bool:
    store = open_store(site.database_url)
    with store.read() as connection:
        rung = connection.exec_driver_sql(f"SELECT count(*) FROM pulses WHERE name = '{name}'").scalar()  # noqa: S608
        silent = jobs.unheard_since(connection, name)
    store.close()
    return bool(rung) and silent is None
