"""The embedded broker: private, without a port, and what it holds survives its end, even a violent one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from upkept import broker
from upkept.contract import Config
from upkept.settings import Settings, load

LONG = "h" * 90


def settings_at(home: Path) -> Settings:
    home.mkdir(parents=True, exist_ok=True)
    return load({"UPKEPT_HOME": str(home)}, cwd=home)


@pytest.fixture(autouse=True)
def _no_folder_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    for home in (tmp_path / LONG, tmp_path / LONG / "var"):
        shutil.rmtree(load({"UPKEPT_HOME": str(home)}, cwd=tmp_path).broker_socket.parent, ignore_errors=True)


def client(settings: Settings) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(settings.broker_socket), decode_responses=True)


@pytest.mark.parametrize("home", ["var", f"{LONG}/var"])
def test_it_keeps_what_it_holds_over_a_clean_end(tmp_path: Path, home: str) -> None:
    settings = settings_at(tmp_path / home)
    with broker.running(settings) as url:
        assert url == f"redis+socket://{settings.broker_socket}"
        client(settings).rpush("bells", "one")
        assert stat.S_IMODE(settings.broker_socket.parent.stat().st_mode) == 0o700
    assert not broker.answers(settings.broker_socket)
    with broker.running(settings):
        assert client(settings).lrange("bells", 0, -1) == ["one"]


def test_it_is_durable_private_and_evicts_nothing(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    with broker.running(settings):
        said = client(settings).config_get("*")
        assert isinstance(said, dict)
        for name, value in {
            "port": "0",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "save": "",
        }.items():
            assert said[name] == value


def test_a_second_one_in_the_same_home_is_refused(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    with broker.running(settings), pytest.raises(Config, match="runs already"):
        broker.command(settings)


def test_kill_9_loses_nothing_that_it_wrote(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    process = subprocess.Popen(broker.command(settings), start_new_session=True)
    try:
        until = time.monotonic() + 20
        while not broker.answers(settings.broker_socket) and time.monotonic() < until:
            time.sleep(0.02)
        for number in range(200):
            client(settings).rpush("bells", number)
        time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with broker.running(settings):  # over the socket file that the dead one left
        assert client(settings).llen("bells") == 200


def test_a_foreign_folder_for_the_socket_is_refused(tmp_path: Path) -> None:
    settings = settings_at(tmp_path / LONG)
    settings.broker_socket.parent.symlink_to(tmp_path)
    try:
        with pytest.raises(Config, match="belongs to somebody else"):
            broker.command(settings)
    finally:
        settings.broker_socket.parent.unlink()


def test_a_socket_nobody_listens_at_does_not_answer(tmp_path: Path) -> None:
    path = tmp_path / "valkey.sock"
    assert not broker.answers(path)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        began = time.monotonic()
        assert not broker.answers(path)
        assert time.monotonic() - began < 5
