"""The queue: mandated settings reach the client, bells arrive as Celery messages, a sick broker costs little."""

from __future__ import annotations

import base64
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from kombu import Connection
from tests.till.proxy import proxied
from tests.till.site import free_port, process, rabbitmq_alone, redis_server, wait_for

from upkept import broker, queue
from upkept.flow.bells import Bell
from upkept.settings import load


@pytest.fixture
def ringer(redis_url: str) -> Iterator[queue.Ringer]:
    queue.connect(redis_url)
    ringer = queue.Ringer(redis_url)
    yield ringer
    ringer.close()


def messages(client: redis.Redis, name: str) -> list[tuple[str, Any]]:
    """(task, arguments) of what waits in a queue, oldest first."""
    waiting = [json.loads(one) for one in reversed(client.lrange(f"upkept:{name}", 0, -1))]
    return [(m["headers"]["task"], json.loads(base64.b64decode(m["body"]))[0]) for m in waiting]


def test_the_settings_that_were_mandated() -> None:
    queue.connect("redis://127.0.0.1:6379/1")
    conf = queue.app.conf
    mandated = {
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure_or_timeout": True,
        "task_ignore_result": True,
        "result_backend": None,
        "accept_content": ["json"],
        "task_soft_time_limit": 45,
        "task_time_limit": 60,
        "worker_prefetch_multiplier": 1,
        "worker_soft_shutdown_timeout": 15,
        "broker_connection_max_retries": None,
        "task_publish_retry": False,
    }
    assert {name: conf[name] for name in mandated} == mandated
    options = conf.broker_transport_options
    assert (options["visibility_timeout"], conf["visibility_timeout"]) == (300, 300)
    assert (options["unacked_restore_interval"], options["unacked_restore_throttle"]) == (5, 1)
    assert options["global_keyprefix"] == "upkept:"
    assert queue.RINGING_REDIS["socket_timeout"] == 0.5
    assert [q.name for q in conf.task_queues] == ["consent", "inbound", "outbound", "bulk"]


def test_rabbitmq_gets_quorum_queues_and_confirmed_publishing() -> None:
    queue.connect("amqp://guest:guest@127.0.0.1:5672//")
    assert all(q.queue_arguments == {"x-queue-type": "quorum"} for q in queue.app.conf.task_queues)
    assert queue.app.conf.broker_transport_options == {
        "confirm_publish": True, "read_timeout": 2, "write_timeout": 2,
    }  # fmt: skip


def test_bells_arrive_as_messages(ringer: queue.Ringer, redis_url: str) -> None:
    assert ringer.ring([Bell("consent", "apply", (1, 2)), Bell("outbound", "run", (7,))])
    assert ringer.ring_one("pulse", "consent", ["worker"])
    with redis.Redis.from_url(redis_url) as client:
        assert messages(client, "consent") == [("upkept.apply", [[1, 2]]), ("upkept.pulse", ["worker"])]
        assert messages(client, "outbound") == [("upkept.run", [[7]])]


def test_a_flush_does_not_silence_the_ringer(ringer: queue.Ringer, redis_url: str) -> None:
    assert ringer.ring([Bell("inbound", "apply", (1,))])
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
        assert ringer.ring([Bell("inbound", "apply", (2,))])
        assert messages(client, "inbound") == [("upkept.apply", [[2]])]


def test_the_embedded_broker_takes_bells(tmp_path: Path) -> None:
    settings = load({"UPKEPT_HOME": str(tmp_path / "var")})
    with process(broker.command(settings)):
        wait_for(lambda: broker.answers(settings.broker_socket))
        queue.connect(settings.effective_broker_url)
        ringer = queue.Ringer(settings.effective_broker_url)
        assert ringer.ring([Bell("inbound", "apply", (1,))])
        ringer.close()
        with redis.Redis(unix_socket_path=str(settings.broker_socket)) as client:
            assert messages(client, "inbound") == [("upkept.apply", [[1]])]


def test_rabbitmq_takes_bells(rabbitmq_url: str) -> None:
    queue.connect(rabbitmq_url)
    ringer = queue.Ringer(rabbitmq_url)
    with rabbitmq_alone(rabbitmq_url), Connection(rabbitmq_url) as connection:
        assert ringer.ring([Bell("consent", "apply", (1, 2))])
        ringer.close()
        message = connection.default_channel.basic_get("consent", no_ack=True)
        assert message.headers["task"] == "upkept.apply"
        assert json.loads(message.body)[0] == [[1, 2]]


def test_a_held_connection_that_died_meanwhile_is_replaced(rabbitmq_url: str) -> None:
    address = urlsplit(rabbitmq_url)
    with proxied(address.hostname or "127.0.0.1", address.port or 5672) as proxy, rabbitmq_alone(rabbitmq_url):
        url = address._replace(netloc=f"{address.username}:{address.password}@127.0.0.1:{proxy.port}").geturl()
        queue.connect(url)
        ringer = queue.Ringer(url)
        assert ringer.ring([Bell("consent", "apply", (1,))])
        proxy.become("cut")
        time.sleep(0.2)
        proxy.become("open")
        assert ringer.ring([Bell("consent", "apply", (2,))])
        ringer.close()


def test_a_frozen_broker_costs_seconds_once_and_then_nothing(tmp_path: Path) -> None:
    port = free_port()
    now = [100.0]
    url = f"redis://127.0.0.1:{port}/0"
    queue.connect(url)
    ringer = queue.Ringer(url, clock=lambda: now[0])
    bell = [Bell("inbound", "apply", (1,))]
    with redis_server(tmp_path, port) as server:
        assert ringer.ring(bell)
        server.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        assert [ringer.ring(bell) for _ in range(3)] == [False] * 3
        assert time.monotonic() - began < 6
        now[0] += 9
        began = time.monotonic()
        assert not any(ringer.ring(bell) for _ in range(1000))
        assert time.monotonic() - began < 0.2
        assert ringer.sick_seconds() == 9
        server.send_signal(signal.SIGCONT)
        now[0] += 2
        assert ringer.ring(bell)
        assert ringer.sick_seconds() == 0
    ringer.close()


def test_a_broker_that_was_restarted_is_rung_at_once(tmp_path: Path) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    queue.connect(url)
    ringer = queue.Ringer(url)
    for _ in range(2):
        with redis_server(tmp_path, port):
            assert ringer.ring([Bell("inbound", "apply", (1,))])
    ringer.close()


def test_a_broker_that_accepts_and_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        queue.connect(url)
        ringer = queue.Ringer(url)
        began = time.monotonic()
        assert not ringer.ring([Bell("inbound", "apply", (1,))])
        assert time.monotonic() - began < 3
        ringer.close()


def test_threads_may_share_a_ringer(ringer: queue.Ringer, redis_url: str) -> None:
    threads = [threading.Thread(target=lambda: [ringer.ring_one("apply", "bulk", [[1]]) for _ in range(25)])
               for _ in range(4)]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with redis.Redis.from_url(redis_url) as client:
        assert len(messages(client, "bulk")) == 100


class Running:
    """A request as Celery keeps it while it runs."""

    def __init__(self, name: str) -> None:
        self.delivery_info = {"routing_key": name}


@pytest.fixture
def lanes(monkeypatch: pytest.MonkeyPatch) -> queue.Lanes:
    monkeypatch.setattr(queue.Lanes, "children", 2)
    lanes = queue.Lanes()
    lanes.update(["bulk", "inbound", "consent"])
    return lanes


def test_consent_first_and_neither_of_the_others_starves(lanes: queue.Lanes) -> None:
    seconds = []
    for _ in range(10):
        order = lanes.consume(3)
        assert order[0] == "consent"
        seconds.append(order[1])
        lanes.rotate(order[1])
    assert seconds.count("bulk") == 2
    lanes.rotate("consent")
    assert lanes.consume(3)[0] == "consent"


def test_bulk_never_holds_every_child(lanes: queue.Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    from celery.worker import state

    monkeypatch.setattr(state, "reserved_requests", [Running("bulk")])
    assert lanes.consume(3) == ["consent", "inbound"]
    monkeypatch.setattr(state, "reserved_requests", [Running("inbound")])
    assert set(lanes.consume(3)) == {"consent", "inbound", "bulk"}
