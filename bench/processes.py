"""Processes of a run, and what the kernel knows of them: time used and memory held."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
MEBIBYTE: Final = 1 << 20
STOP_SECONDS: Final = 30.0


class Failed(Exception):
    """The run cannot go on, or its result is wrong; the message says what to look at."""


@dataclass(slots=True)
class Process:
    """A process we started; its output is in `log`."""

    name: str
    running: subprocess.Popen[bytes]
    log: Path

    @property
    def pids(self) -> set[int]:
        """It and all its descendants."""
        return tree(self.running.pid)

    def stop(self) -> None:
        """Ask it to end, then end it."""
        self.running.terminate()
        try:
            self.running.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in self.pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.running.wait()

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])


def start(name: str, command: Sequence[str], env: Mapping[str, str], folder: Path) -> Process:
    """Start a process with its output in a file of `folder`."""
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        running = subprocess.Popen(
            command, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    return Process(name, running, log)


def await_port(process: Process, port: int, *, seconds: float = 30.0) -> None:
    """Until somebody listens; raises `Failed` with the last words of a process that ends instead."""
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.running.poll() is not None or time.monotonic() > until:
                raise Failed(f"{process.name} does not listen:\n{process.last_words()}") from None
            time.sleep(0.05)


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tree(root: int) -> set[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))) is not None:
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    found, frontier = {root}, [root]
    while frontier:
        frontier = [child for parent in frontier for child in children.get(parent, ())]
        found.update(frontier)
    return found


def cpu_seconds(pids: Iterable[int]) -> dict[int, float]:
    """User and system time that each process has used so far."""
    return {pid: (int(stat[11]) + int(stat[12])) / TICKS for pid in pids if (stat := _stat(pid)) is not None}


def used(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Seconds used between two looks; processes that ended in between are not seen."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


@dataclass(frozen=True, slots=True)
class Memory:
    """Mebibytes: `rss` counts pages shared between processes in each of them, `pss` shares them out."""

    rss: float
    pss: float


def memory(pids: Iterable[int]) -> Memory:
    """What these processes hold together."""
    rss = pss = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Rss:"):
                    rss += int(line.split()[1])
                elif line.startswith("Pss:"):
                    pss += int(line.split()[1])
    return Memory(rss * 1024 / MEBIBYTE, pss * 1024 / MEBIBYTE)


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name, which may hold anything: state, parent, …"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
