"""Two transactions at once on PostgreSQL: the first has done all and not committed when the second begins."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.flow.stage import Stage

from upkept.flow import effect, forget
from upkept.flow.settle import settle


def race(on: Stage, monkeypatch: pytest.MonkeyPatch, *acts: Callable[[], object]) -> list[int]:
    """Let the first commit when the second waits for it or is through; whose tries (0 or 1) came to be settled."""
    threads = [threading.Thread(target=act) for act in acts]
    first, second = threads
    paused, go_on = threading.Event(), threading.Event()
    tries: list[int] = []

    def settled(*args: Any, **options: Any) -> None:
        tries.append(threads.index(threading.current_thread()))
        settle(*args, **options)
        if threading.current_thread() is first and not paused.is_set():
            paused.set()
            assert go_on.wait(30)

    with monkeypatch.context() as patch:
        for module in (effect, forget):
            patch.setattr(module, "settle", settled)
        try:
            first.start()
            assert paused.wait(30)
            second.start()
            while second.is_alive() and not waits(on):
                second.join(0.01)
        finally:
            go_on.set()
            for one in threads:
                if one.ident is not None:
                    one.join(30)
    return tries


def waits(on: Stage) -> bool:
    """Does a transaction wait for a lock?"""
    return (
        on.rows("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") != []
    )
