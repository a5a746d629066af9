"""A PostgreSQL of our own that may be killed, and the processes of a hub on it."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

import psycopg
from bench.crash import letters
from bench.processes import Failed, Process, free_port, start, tree

ROOT: Final = Path(__file__).parents[2]
READY_SECONDS: Final = 40.0
AS_NOBODY_IN_PARTICULAR: Final = "postgres"
"""PostgreSQL refuses to run as root; its package made this user."""


def postgres_binaries() -> Path:
    """Where initdb and postgres are; Debian keeps them off the PATH."""
    found = shutil.which("postgres")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not versions:
        raise Failed("no PostgreSQL server is installed here. On Debian: apt-get install postgresql")
    return versions[-1].parent


@dataclass(slots=True)
class Postgres:
    """A throw-away cluster with the durability a production database has."""

    folder: Path
    port: int = field(default_factory=free_port)
    running: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def make(self) -> None:
        self.folder.mkdir(mode=0o700)
        if os.geteuid() == 0:
            shutil.chown(self.folder, AS_NOBODY_IN_PARTICULAR)
        initdb = [
            str(postgres_binaries() / "initdb"),
            "-D",
            str(self.folder),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
        ]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, timeout=60, **self._as_user())

    def start(self) -> None:
        """Start, and wait until it answers; after a kill it recovers first."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 60,
        }
        command = [str(postgres_binaries() / "postgres"), "-D", str(self.folder)]
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder.parent / "postgres.log").open("ab") as output:
            self.running = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **self._as_user(),
            )
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            with suppress(psycopg.OperationalError):
                psycopg.connect(self.url, connect_timeout=2).close()
                return None
            if self.running.poll() is not None:  # the last one's shared memory was still there
                return self.start()
            time.sleep(0.1)
        raise Failed("the throw-away PostgreSQL does not come up")

    def kill(self) -> None:
        """SIGKILL to the postmaster and every backend."""
        assert self.running is not None
        for pid in sorted(tree(self.running.pid), reverse=True):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.running.wait()

    def stop(self) -> None:
        if self.running is not None and self.running.poll() is None:
            self.running.send_signal(signal.SIGINT)
            try:
                self.running.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def _as_user(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        user = pwd.getpwnam(AS_NOBODY_IN_PARTICULAR)
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@dataclass(slots=True)
class Hub:
    """Broker, web, worker and courier as `upkept up` starts them, but ours to kill. `failpoints` arms them."""

    folder: Path
    database_url: str
    config: str
    port: int = field(default_factory=free_port)
    failpoints: str = ""
    processes: dict[str, Process] = field(default_factory=dict)
    kills: dict[str, int] = field(default_factory=dict)
    _asked: set[int] = field(default_factory=set)

    ROLES: ClassVar = ("broker", "web", "worker", "courier")

    @property
    def env(self) -> Mapping[str, str]:
        return {
            "UPKEPT_HOME": str(self.folder / "home"),
            "UPKEPT_CONFIG": str(self.folder / "upkept.toml"),
            "UPKEPT_DATABASE_URL": self.database_url,
            "UPKEPT_PORT": str(self.port),
            "UPKEPT_LOG": "json",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.site), os.environ.get("PYTHONPATH", "")]),
        }

    @property
    def site(self) -> Path:
        """Where the connectors of the run are installed."""
        return self.folder / "site"

    def start(self) -> None:
        (self.folder / "upkept.toml").write_text(self.config)
        letters.install(self.site)
        subprocess.run(
            [sys.executable, "-m", "upkept.cli", "migrate"], env={**os.environ, **self.env}, check=True, timeout=60,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        for role in self.ROLES:
            self.run(role)

    def run(self, role: str) -> None:
        """Start one process, with the failpoints armed where our own code runs."""
        commands = {
            "broker": [sys.executable, "-m", "bench.crash.broker"],
            "web": [sys.executable, "-m", "upkept.cli", "web"],
            "worker": [sys.executable, "-m", "upkept.cli", "worker"],
            "courier": [sys.executable, "-m", "upkept.cli", "worker", "--courier"],
        }
        env = {**self.env, **({"UPKEPT_FAILPOINTS": self.failpoints} if self.failpoints and role != "broker" else {})}
        self.processes[role] = start(role, commands[role], env, self.folder)

    def kill(self, role: str, dice: random.Random) -> None:
        """SIGKILL to a process; of the worker now and then only to one of its children."""
        process = self.processes[role]
        pids = sorted(process.pids)
        target = dice.choice(pids) if role == "worker" and dice.random() < 0.5 else process.running.pid
        with suppress(ProcessLookupError):
            os.kill(target, signal.SIGKILL)
        self._asked.add(target)
        self.kills[role] = self.kills.get(role, 0) + 1

    def revive(self) -> None:
        """Start again what died, as the supervisor does; a death nobody asked for was a failpoint's."""
        for role, process in self.processes.items():
            status = process.running.poll()
            if status is None:
                continue
            if status == -signal.SIGKILL and self.failpoints and process.running.pid not in self._asked:
                self.kills["failpoint"] = self.kills.get("failpoint", 0) + 1
            self._end_orphans(role)
            self.run(role)

    def disarm(self) -> None:
        """From now on nothing dies by itself; what runs armed is started anew."""
        self.failpoints = ""
        for role in ("web", "worker", "courier"):
            self.processes[role].stop()
            self._end_orphans(role)
            self.run(role)

    def stop(self) -> None:
        for role in reversed(self.ROLES):
            if role in self.processes:
                self.processes[role].stop()
                self._end_orphans(role)

    def _end_orphans(self, role: str) -> None:
        """Children of a killed parent keep its session; none may be left when a run ends."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.processes[role].running.pid, signal.SIGKILL)
