"""Shared commits: together when they arrive together, each with its own answer, bounded, and never a false yes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from upkept.contract import Retryable
from upkept.doors import commits as commits_module
from upkept.doors.commits import Busy, Commits
from upkept.flow.bells import Bell
from upkept.flow.receive import Kept, Received
from upkept.store.inbox import Arrival


def received(number: int, rows: int = 1) -> Received:
    return Received(
        tuple(
            Arrival(connection="till", dedup_key=f"{number}.{row}", kind="k", body=b"{}", received_at=0)
            for row in range(rows)
        )
    )


class Store:
    """Keeps what it is told, slowly; it can be made to refuse one request, everything, or to hang."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.kept: set[str] = set()
        self.refuses = ""
        self.broken: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def keep(self, batch: Sequence[Received]) -> list[Kept]:
        self.gate.wait(20)
        time.sleep(0.002)
        if self.broken:
            raise self.broken
        self.batches.append(len(batch))
        answers = []
        for one in batch:
            keys = [arrival.dedup_key for arrival in one.arrivals]
            if self.refuses in keys:
                answers.append(Kept(error=ValueError("no")))
            else:
                self.kept.update(keys)
                answers.append(Kept(bells=(Bell("inbound", "apply", (len(self.kept),)),)))
        return answers


@pytest.mark.parametrize("writers", [1, 2])
def test_what_arrives_together_shares_commits_and_each_is_answered(writers: int) -> None:
    store = Store()
    rung: list[Bell] = []
    store.refuses = "7.0"

    async def run() -> list[Kept]:
        commits = Commits(store.keep, rung.extend, writers=writers)
        commits.start()
        answers = [commits.put(received(n), 2) for n in range(200)]
        done = await asyncio.gather(*answers)
        assert (commits.pending_rows, commits.pending_bytes) == (0, 0)
        await commits.stop()
        return done

    answers = asyncio.run(run())
    assert [n for n, kept in enumerate(answers) if kept.error] == [7]
    assert len(store.kept) == len(rung) == 199
    assert sum(store.batches) == 200
    assert len(store.batches) < 20


def test_no_answer_before_the_commit() -> None:
    store = Store()
    store.gate.clear()

    async def run() -> None:
        commits = Commits(store.keep, lambda _: None, writers=1)
        commits.start()
        answer = commits.put(received(1), 2)
        await asyncio.sleep(0.1)
        assert not answer.done()
        assert not store.kept
        store.gate.set()
        assert (await answer).error is None
        assert store.kept
        await commits.stop()

    asyncio.run(run())


def test_too_much_is_turned_away_and_room_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits_module, "PENDING_ROWS", 5)
    monkeypatch.setattr(commits_module, "PENDING_BYTES", 100)
    store = Store()
    store.gate.clear()

    async def run() -> None:
        commits = Commits(store.keep, lambda _: None, writers=1)
        commits.start()
        first = commits.put(received(1, rows=4), 10)
        with pytest.raises(Busy):
            commits.put(received(2, rows=2), 10)
        with pytest.raises(Busy):
            commits.put(received(3), 91)
        store.gate.set()
        await first
        assert (await commits.put(received(4, rows=5), 90)).error is None
        await commits.stop()

    asyncio.run(run())
    assert "2.0" not in store.kept


def test_a_commit_that_hangs_is_answered_busy_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits_module, "ANSWER_WITHIN", 0.3)
    store = Store()
    store.gate.clear()

    async def run() -> None:
        commits = Commits(store.keep, lambda _: None, writers=1)
        commits.start()
        began = time.monotonic()
        with pytest.raises(Busy):
            await commits.put(received(1), 2)
        assert time.monotonic() - began < 2
        with pytest.raises(Busy, match="does not answer"):  # at once: every writer hangs
            commits.put(received(3), 2)
        store.gate.set()
        await asyncio.sleep(0.6)
        assert (await commits.put(received(2), 2)).error is None
        await commits.stop()

    asyncio.run(run())


def test_a_store_that_is_away_fails_each_and_the_writer_lives_on() -> None:
    store = Store()
    store.broken = Retryable("away", after=5)

    async def run() -> None:
        commits = Commits(store.keep, lambda _: None, writers=1)
        commits.start()
        assert isinstance((await commits.put(received(1), 2)).error, Retryable)
        store.broken = None
        assert (await commits.put(received(1), 2)).error is None
        await commits.stop()

    asyncio.run(run())


def test_stop_writes_what_is_pending() -> None:
    store = Store()

    async def run() -> None:
        commits = Commits(store.keep, lambda _: None, writers=2)
        commits.start()
        answers = [commits.put(received(n), 2) for n in range(50)]
        began = time.monotonic()
        await commits.stop()
        assert time.monotonic() - began < 5
        await asyncio.gather(*answers)

    asyncio.run(run())
    assert len(store.kept) == 50
