"""A process's own parts: a fork waits for a step's end, and a child begins with nothing open. Errors by their table."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import structlog

from upkept.contract import Config, Permanent, Retryable
from upkept.flow.bells import Bell
from upkept.flow.hub import Hub
from upkept.worker.process import process
from upkept.worker.retry import attempt, ending


def in_a_child(check: Callable[[], bool]) -> bool:
    """Fork, look, end; what the child saw."""
    child = os.fork()
    if child == 0:
        os._exit(0 if check() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_fork_waits_for_the_end_of_a_step() -> None:
    begun = threading.Event()

    def step() -> None:
        with process.stepping():
            begun.set()
            time.sleep(0.4)

    thread = threading.Thread(target=step)
    thread.start()
    begun.wait(5)
    began = time.monotonic()

    def can_step() -> bool:
        with process.stepping():
            return True

    assert in_a_child(can_step)
    assert time.monotonic() - began > 0.3
    thread.join()


def test_a_child_begins_with_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    parents_hub, parents_ringer = object(), object()
    monkeypatch.setattr(process, "_hub", parents_hub)
    monkeypatch.setattr(process, "_ringer", parents_ringer)
    kept = [(parents_hub, parents_ringer)]
    assert in_a_child(lambda: (process._hub, process._ringer, process._of_the_parent) == (None, None, kept))
    assert process._hub is parents_hub


class Rung:
    def __init__(self) -> None:
        self.bells: list[Bell] = []

    def ring(self, bells: Iterable[Bell]) -> bool:
        self.bells.extend(bells)
        return True


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> Rung:
    ringer = Rung()
    monkeypatch.setattr(process, "hub", lambda: None)
    monkeypatch.setattr(process, "ringer", lambda: ringer)
    return ringer


def test_what_a_step_asks_for_is_rung(rung: Rung) -> None:
    bell = Bell("outbound", "push", (1,))
    assert attempt("apply", lambda _: (bell,))
    assert rung.bells == [bell]


@pytest.mark.parametrize(
    ("error", "level", "traceback"),
    [
        (Retryable("away"), "info", False),
        (Config("a wrong key: set it"), "error", False),
        (Permanent("unreadable"), "error", True),
        (ZeroDivisionError("a bug"), "error", True),
    ],
)
def test_an_error_spends_the_message_and_is_told_once(
    rung: Rung, error: Exception, level: str, traceback: bool
) -> None:
    def fails(_hub: Hub) -> tuple[Bell, ...]:
        raise error

    with structlog.testing.capture_logs() as lines:
        assert not attempt("apply", fails)
    told: dict[str, Any] = dict(lines[0])
    assert len(lines) == 1
    assert (told["log_level"], told["task"], "exc_info" in told) == (level, "apply", traceback)
    assert told["cure"] == ending(error).cure
    assert rung.bells == []
