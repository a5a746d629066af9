"""`upkept up`: the whole hub as processes under one roof.

    broker    the embedded Valkey, unless UPKEPT_BROKER_URL names another
    web       the doors
    worker    prefork, 2: consent, inbound, bulk
    courier   threads: outbound and vendor reads, with the sweeper and beat in it

Children run in sessions of their own, so a terminal's Ctrl-C reaches the supervisor only; it ends them from the
back to the front: who works first, then who accepts, then the broker. A child that ends by itself is started
again, each time a little later. The kernel ends the children if the supervisor is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from upkept import broker
from upkept.contract import Config, Retryable
from upkept.orphans import die_with
from upkept.settings import Settings

STARTED_SECONDS: Final = 60.0
"""Nothing takes longer to come up, even on a busy machine."""
STOP_SECONDS: Final = {"courier": 25.0, "worker": 25.0, "web": 15.0, "broker": broker.STOP_SECONDS}
STOP_ORDER: Final = (("courier", "worker"), ("web",), ("broker",))
SETTLED_SECONDS: Final = 60.0
"""A child that lived this long begins again at the shortest wait."""
LONGEST_WAIT: Final = 30.0
LISTEN_SECONDS: Final = 15.0
ENDING: Final = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class Ended(Exception):
    """We were asked to end."""


@dataclass(slots=True)
class Child:
    """One process and what is needed to start it again."""

    name: str
    command: Callable[[], Sequence[str]]
    ready: Callable[[], bool]
    listens: bool = False
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    start_at: float = 0.0
    failures: int = 0

    def start(self) -> None:
        parent = os.getpid()
        self.process = subprocess.Popen(
            list(self.command()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # Celery's farewells; logs go to standard error
            start_new_session=True,
            preexec_fn=lambda: die_with(parent),  # safe: the supervisor has one thread
        )
        self.started = time.monotonic()

    def wait_after_end(self, now: float) -> float:
        """Seconds until it is started again: 0.5, 1, 2 … 30."""
        self.failures = 1 if now - self.started > SETTLED_SECONDS else self.failures + 1
        wait: float = 0.25 * 2 ** min(self.failures, 10)
        return min(LONGEST_WAIT, wait)


@dataclass(slots=True)
class Supervisor:
    """Starts children in order, keeps them running, ends them in the reverse order.

    `deaf(name, since)` says whether a child that lives, started at the Unix time `since`, no longer hears bells.
    """

    children: Sequence[Child]
    say: Callable[[str], None]
    deaf: Callable[[str, float], bool]
    _listen_at: float = 0.0
    _pause: Callable[[float], None] = time.sleep

    def run(self, *, when_ready: Callable[[], None]) -> int:
        """Until asked to end; returns the exit status."""
        with _signals() as self._pause:
            try:
                for child in self.children:
                    child.start()
                    if child.name == "broker":  # all others connect to it
                        self._await_ready(child)
                for child in self.children:
                    self._await_ready(child)
                when_ready()
                while True:
                    self._look_after()
            except Ended:
                self.say("ending; press Ctrl-C again to end at once")
                return 0
            finally:
                self._stop()

    def _await_ready(self, child: Child) -> None:
        until = time.monotonic() + STARTED_SECONDS
        while not child.ready():
            self._pause(0.05)
            if child.process is not None and child.process.poll() is not None:
                raise Config(f"{child.name} does not start; its own message stands above")
            if time.monotonic() > until:
                raise Config(f"{child.name} is not ready after {STARTED_SECONDS:.0f} s; see its messages above")

    def _look_after(self) -> None:
        now = time.monotonic()
        self._listen(now)
        for child in self.children:
            if child.process is not None and child.process.poll() is not None:
                wait = child.wait_after_end(now)
                child.start_at = now + wait
                self.say(f"{child.name} ended ({_reason(child.process.returncode)}); starting it again in {wait:g} s")
                _kill_session(child)
                child.process = None
            if child.process is None and child.start_at <= now:
                with contextlib.suppress(Config):  # the broker's socket may still answer for a moment
                    child.start()
        due = [child.start_at - now for child in self.children if child.process is None]
        self._pause(max(0.05, min([*due, self._listen_at - now])))

    def _listen(self, now: float) -> None:
        """Kill a child that is alive and deaf (a broken broker connection can do that); it is started again."""
        if now < self._listen_at:
            return
        self._listen_at = now + LISTEN_SECONDS
        for child in self.children:
            if child.listens and _alive(child):
                with contextlib.suppress(Retryable):  # the database is away: nobody can tell
                    if self.deaf(child.name, time.time() - (now - child.started)):
                        self.say(f"{child.name} no longer hears the broker and is killed")
                        _kill_session(child)

    def _stop(self) -> None:
        """Ask, wait, then kill the whole session; a second signal cuts the waiting short."""
        impatient = False
        for names in STOP_ORDER:
            running = [c for c in self.children if c.name in names and c.process is not None]
            for child in running:
                _signal(child, signal.SIGTERM)
            until = time.monotonic() + max([STOP_SECONDS[c.name] for c in running], default=0.0)
            while not impatient and any(_alive(c) for c in running) and time.monotonic() < until:
                try:
                    self._pause(0.1)
                except Ended:
                    impatient = True
            for child in running:
                if _alive(child):
                    self.say(f"{child.name} did not end in time and is killed")
                _kill_session(child)


@contextlib.contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the home: a second `upkept up` on it is refused. The lock goes with the process, however it ends."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise Config(
                f"Upkept runs in {home} already (process {file.read().strip() or 'unknown'}). "
                f"End that one first, or choose another UPKEPT_HOME and UPKEPT_PORT"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def roster(settings: Settings) -> list[Child]:
    """The children of `upkept up`, in the order of their start."""
    ours = [sys.executable, "-m", "upkept.cli"]
    children = [
        Child("web", lambda: [*ours, "web"], lambda: _listens(settings)),
        Child("worker", lambda: [*ours, "worker"], lambda: True, listens=True),
        Child("courier", lambda: [*ours, "worker", "--courier"], lambda: True, listens=True),
    ]
    if settings.broker_url is None:
        answers = lambda: broker.answers(settings.broker_socket)  # noqa: E731
        children.insert(0, Child("broker", lambda: broker.command(settings), answers))
    return children


def port_is_free(settings: Settings) -> None:
    """Raise `Config` if something else listens where the hub should."""
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
    except OSError as error:
        raise Config(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}). Set UPKEPT_PORT or UPKEPT_HOST"
        ) from error


def _listens(settings: Settings) -> bool:
    address = settings.url.removeprefix("http://").rpartition(":")[0].strip("[]")
    try:
        socket.create_connection((address, settings.port), timeout=1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _signals() -> Iterator[Callable[[float], None]]:
    """A pause that ends early when a child ends, and raises `Ended` when we are asked to.

    Signals come through a pipe, so that none is lost between looking and sleeping, whichever thread receives it.
    """
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = {number: signal.signal(number, lambda *_: None) for number in (*ENDING, signal.SIGCHLD)}
    wakeup = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)

    def pause(seconds: float) -> None:
        select.select([readable], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            if ENDING & set(os.read(readable, 4096)):
                raise Ended

    try:
        yield pause
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(readable)
        os.close(writable)


def _alive(child: Child) -> bool:
    return child.process is not None and child.process.poll() is None


def _signal(child: Child, number: signal.Signals) -> None:
    if child.process is not None and child.process.poll() is None:
        child.process.send_signal(number)


def _kill_session(child: Child) -> None:
    """Kill whatever is left of a child and its own children."""
    if child.process is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.process.pid, signal.SIGKILL)
    child.process.wait()


def _reason(status: int) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"by {signal.Signals(-status).name}"
    return f"status {status}"
