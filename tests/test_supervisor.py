"""The supervisor: starts in order, restarts what falls, ends everything, and leaves nobody behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from upkept import supervisor
from upkept.contract import Config, Retryable
from upkept.settings import load
from upkept.supervisor import Child, Supervisor, only_one, port_is_free

SLEEPER = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(600)"
)
STUBBORN = (
    "import signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen(sys.argv[1], 'w')\ntime.sleep(600)"
)
PARENT = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "open(sys.argv[1], 'w').write(str(child.pid))\n"
    "time.sleep(600)"
)


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Running, and not a zombie that nobody has collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


def of_home(home: Path) -> set[int]:
    """Every process that has this home in its environment or its command line."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            said = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if str(home).encode() in said and alive(int(folder.name)):
            found.add(int(folder.name))
    return found


def child(name: str, code: str, *args: str, listens: bool = False) -> Child:
    return Child(name, lambda: [sys.executable, "-c", code, *args], lambda: True, listens)


def supervise(
    *children: Child, meanwhile: Callable[[], object], deaf: Callable[[str, float], bool] = lambda *_: False
) -> tuple[int, list[str], float]:
    """Run a supervisor, do something meanwhile in a thread, ask for the end; status, what it said, seconds to end."""
    said: list[str] = []
    asked = [0.0]
    failed: list[BaseException] = []

    def elsewhere() -> None:
        try:
            meanwhile()
        except BaseException as error:
            failed.append(error)
        asked[0] = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=elsewhere)
    status = Supervisor(children, said.append, deaf).run(when_ready=thread.start)
    thread.join()
    if failed:
        raise failed[0]
    return status, said, time.monotonic() - asked[0]


def pid_of(one: Child) -> int:
    return one.process.pid if one.process else 0


def restarted(one: Child, first: int) -> bool:
    return pid_of(one) not in {0, first}


def test_it_ends_everything_when_asked() -> None:
    one, two = child("web", SLEEPER), child("worker", SLEEPER)
    status, said, seconds = supervise(one, two, meanwhile=lambda: wait_for(lambda: pid_of(one) and pid_of(two)))
    assert status == 0
    assert not alive(pid_of(one))
    assert not alive(pid_of(two))
    assert seconds < 5
    assert said == ["ending; press Ctrl-C again to end at once"]


def test_work_ends_before_the_door_and_the_door_before_the_broker(tmp_path: Path) -> None:
    tell = (
        "import signal, sys, time\n"
        "def end(*_):\n    open(sys.argv[1], 'a').write(sys.argv[2] + ' '); time.sleep(0.2); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\nopen(sys.argv[1] + sys.argv[2], 'w')\ntime.sleep(600)"
    )
    log = tmp_path / "log"
    names = ("broker", "web", "worker", "courier")
    children = [child(name, tell, str(log), name) for name in names]
    supervise(*children, meanwhile=lambda: wait_for(lambda: all(Path(f"{log}{name}").exists() for name in names)))
    order = log.read_text().split()
    assert set(order[:2]) == {"worker", "courier"}
    assert order[2:] == ["web", "broker"]


def test_a_child_that_falls_is_started_again_a_little_later_each_time() -> None:
    one = child("web", SLEEPER)

    def kill_twice() -> None:
        for _ in range(2):
            first = pid_of(one)
            os.kill(first, signal.SIGKILL)
            wait_for(partial(restarted, one, first))

    _, said, _ = supervise(one, meanwhile=kill_twice)
    assert said[:2] == [
        "web ended (by SIGKILL); starting it again in 0.5 s",
        "web ended (by SIGKILL); starting it again in 1 s",
    ]
    assert [one.wait_after_end(one.started + 1) for _ in range(6)] == [2, 4, 8, 16, 30, 30]
    assert one.wait_after_end(one.started + 61) == 0.5


def test_a_stubborn_child_and_its_children_are_killed_in_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(supervisor.STOP_SECONDS, "web", 1.0)
    note = tmp_path / "pid"
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + PARENT
    _, said, seconds = supervise(
        child("web", stubborn, str(note)), meanwhile=lambda: wait_for(lambda: note.exists() and note.read_text())
    )
    assert 1 <= seconds < 10
    assert said[-1] == "web did not end in time and is killed"
    wait_for(lambda: not alive(int(note.read_text())), 5)


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    note = tmp_path / "ready"
    stubborn = child("web", STUBBORN, str(note))
    again = threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGINT))

    def meanwhile() -> None:
        wait_for(note.exists)
        again.start()

    _, said, seconds = supervise(stubborn, meanwhile=meanwhile)
    again.join()
    assert seconds < supervisor.STOP_SECONDS["web"]
    assert said[-1] == "web did not end in time and is killed"
    assert not alive(pid_of(stubborn))


def test_a_deaf_child_is_killed_and_started_again() -> None:
    one = child("worker", SLEEPER, listens=True)
    asked: list[tuple[str, float]] = []

    def deaf(name: str, since: float) -> bool:
        asked.append((name, since))
        if len(asked) == 1:
            raise Retryable("the database is away")
        return len(asked) == 2

    def meanwhile() -> None:
        wait_for(lambda: len(asked) >= 1)
        first = pid_of(one)
        wait_for(partial(restarted, one, first))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("upkept.supervisor.LISTEN_SECONDS", 0.2)
        began = time.time()
        _, said, _ = supervise(one, meanwhile=meanwhile, deaf=deaf)
    assert said[0] == "worker no longer hears the broker and is killed"
    assert asked[0][0] == "worker"
    assert abs(asked[0][1] - began) < 30


def test_a_child_that_cannot_start_ends_the_start() -> None:
    one = child("broker", SLEEPER)
    two = Child("web", lambda: [sys.executable, "-c", "raise SystemExit(4)"], lambda: False)
    with pytest.raises(Config, match="web does not start"):
        Supervisor([one, two], lambda _: None, lambda *_: False).run(when_ready=lambda: None)
    assert not alive(pid_of(one))


def test_a_home_is_held_by_one(tmp_path: Path) -> None:
    with only_one(tmp_path / "var"):
        second = only_one(tmp_path / "var")
        with pytest.raises(Config, match=rf"already \(process {os.getpid()}\)"):
            second.__enter__()
    with only_one(tmp_path / "var"):
        pass


def test_a_taken_port_is_named_with_its_cure(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        settings = load({"UPKEPT_PORT": str(other.getsockname()[1])}, cwd=tmp_path)
        with pytest.raises(Config, match="Set UPKEPT_PORT"):
            port_is_free(settings)
    port_is_free(settings)


class Up:
    """A real `upkept up` on its embedded defaults, with a home and a port of its own."""

    def __init__(self, folder: Path, **env: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.home = folder / "var"
        self.output = folder / "output"
        ours = {"UPKEPT_HOME": str(self.home), "UPKEPT_PORT": str(self.port), "PYTHONPATH": os.pathsep.join(sys.path)}
        self.env = {**os.environ, **ours, **env}
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "upkept.cli", "up"],
                cwd=folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def said(self) -> str:
        return self.output.read_text()

    def ready(self) -> bool:
        assert self.process.poll() is None, self.said()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                return bool(json.load(answer)["ready"])
        except OSError:
            return False

    def settled(self) -> bool:
        """Ready, the worker has forked its children, and the notice, which the supervisor prints by itself, stands."""
        said = self.said()
        return self.ready() and said.count(" ready.") >= 2 and "next: " in said


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    started = Up(tmp_path)
    try:
        wait_for(started.settled, 90)
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
        started.process.wait()
        for pid in of_home(started.home):
            os.kill(pid, signal.SIGKILL)


def test_up_says_where_it_is_and_ends_cleanly_on_ctrl_c(up: Up) -> None:
    said = up.said()
    for word in (f"http://127.0.0.1:{up.port}", str(up.home), str(up.home / "keys.json"), "next: "):
        assert word in said
    assert (up.home / "keys.json").stat().st_mode & 0o077 == 0
    members = of_home(up.home)
    assert len(members) >= 7  # supervisor, broker, web, worker and its two, courier
    second = subprocess.run(
        [sys.executable, "-m", "upkept.cli", "up"],
        env=up.env,
        cwd=up.home.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 3
    assert "runs in" in second.stderr
    assert up.ready()

    began = time.monotonic()
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(60) == 0
    assert time.monotonic() - began < 40
    assert of_home(up.home) == set()
    assert not re.search(r"Traceback|killed", up.said()), up.said()


def test_nobody_is_left_when_the_supervisor_is_killed(up: Up) -> None:
    assert len(of_home(up.home)) >= 7
    up.process.kill()
    wait_for(lambda: not of_home(up.home), 20)
