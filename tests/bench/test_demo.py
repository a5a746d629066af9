"""`make demo` and the README's tour, on a real sandbox: Stripe's own SDK, signed webhooks, people, explained."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench.demo import hub, sandbox
from bench.demo.aside import kept
from bench.processes import Failed

ROOT = sandbox.ROOT
REQUIRED = os.environ.get("UPKEPT_REQUIRE_SERVICES") == "1" or os.environ.get("CI") == "true"
TOUR = (ROOT / "README.md").read_text().partition("## A five-minute tour")[2].partition("\n## ")[0]


@pytest.fixture
def _installed() -> None:
    if not sandbox.PROGRAM.exists():
        (pytest.fail if REQUIRED else pytest.skip)("localstripe is not installed: make sandbox")


@pytest.mark.usefixtures("_installed")
def test_the_demo_plays_and_leaves_nothing_behind() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.demo"], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "That was all of it" in done.stdout
    assert "nothing changed" in done.stdout
    ports = re.findall(r"http://127\.0\.0\.1:(\d+)", done.stdout)
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert ports
    assert not [line for line in running if any(port.encode() in line.split(b"\0") for port in ports)]


@pytest.mark.usefixtures("_installed")
def test_the_tour_of_the_readme_does_what_it_says(tmp_path: Path) -> None:
    config, exports, script = tour()
    with (
        sandbox.running(tmp_path) as vendor,
        hub.running(tmp_path, config.replace("8420", str(vendor.port)), exports) as ours,
    ):
        script = script.replace("8420", str(vendor.port)).replace("8080", str(ours.port))
        env = {**os.environ, **exports, "NO_PROXY": "*"}
        for _ in range(2):  # a reader may run it again
            subprocess.run([sys.executable, "-c", script], env=env, check=True, timeout=60)
        until = time.monotonic() + 60
        while ours.accepted() < len(vendor.events()) or ours.ready().get("waiting_rows") != 0:
            assert time.monotonic() < until, ours.process.last_words()
            time.sleep(0.1)
        before = ours.explain("ada@example.com")["attributes"]
        for words in commands():
            ours.command(*words)
        after = ours.explain("42")["attributes"]
    assert before["stripe_mrr"]["value"] == 147.0
    # Before the resync it may be known already: a tie of one second reads the customer back by itself.
    assert after["stripe_cancel_at_period_end"]["value"] is True


def tour() -> tuple[str, dict[str, str], str]:
    """The settings, the variables and the script of the README's tour."""
    config = re.search(r"cat > upkept\.toml <<'END'\n(.*?)^END$", TOUR, re.M | re.S)
    script = re.search(r"python <<'END'\n(.*?)^END$", TOUR, re.M | re.S)
    exports = re.search(r"^export (.*)$", TOUR, re.M)
    assert config
    assert script
    assert exports
    return config[1], dict(pair.split("=", 1) for pair in exports[1].split()), script[1]


def commands() -> list[list[str]]:
    """The commands of the tour that end by themselves, in its order."""
    found = [line.split()[1:] for line in re.findall(r"^upkept .*$", TOUR, re.M)]
    assert ["resync", "stripe", "--wait"] in found
    return found


def test_without_the_sandbox_it_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="make sandbox"), sandbox.running(tmp_path, program=tmp_path / "localstripe"):
        pass


@pytest.mark.parametrize("before", [None, b"of another localstripe"])
def test_the_state_of_another_localstripe_is_there_again(tmp_path: Path, before: bytes | None) -> None:
    state = tmp_path / "localstripe.pickle"
    if before is not None:
        state.write_bytes(before)
    program = stand_in(tmp_path, state)
    with sandbox.running(tmp_path, program=program, state=state):
        assert state.read_bytes() == b"of the demo"
        with sandbox.running(tmp_path, program=program, state=state):
            pass
        assert state.read_bytes() == b"of the demo"  # the first is not done yet
    assert (state.read_bytes() if state.exists() else None) == before
    assert not (tmp_path / "upkept-localstripe.pickle").exists()


def test_what_a_killed_demo_left_aside_is_put_back(tmp_path: Path) -> None:
    state = tmp_path / "localstripe.pickle"
    state.write_bytes(b"of the demo")
    (tmp_path / "upkept-localstripe.pickle").write_bytes(b"+of another localstripe")
    with kept(state):
        state.write_bytes(b"of the demo")
    assert state.read_bytes() == b"of another localstripe"


def test_a_state_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    state = tmp_path / "localstripe.pickle"
    state.symlink_to(tmp_path / "precious")
    with pytest.raises(Failed, match="belongs to somebody else"), kept(state):
        pass


def test_a_sandbox_that_does_not_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    program = tmp_path / "localstripe"
    program.write_text("#!/bin/sh\necho no IPv6 here >&2\nexit 1\n")
    program.chmod(0o755)
    running = sandbox.running(tmp_path, program=program, state=tmp_path / "state")
    with pytest.raises(Failed, match="no IPv6 here"), running:
        pass


def stand_in(folder: Path, state: Path) -> Path:
    """A program that listens where it is told and writes over the state, as localstripe does."""
    program = folder / "localstripe"
    program.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, socket, sys, time\n"
        f"pathlib.Path({str(state)!r}).write_bytes(b'of the demo')\n"
        "listener = socket.create_server(('127.0.0.1', int(sys.argv[2])))\n"
        "time.sleep(60)\n"
    )
    program.chmod(0o755)
    return program
