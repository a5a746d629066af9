"""What a step wants done next. SQL is the queue; a bell only says "look now", so a lost one costs seconds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Queue = Literal["consent", "inbound", "outbound", "bulk"]
TaskName = Literal["apply", "run", "fetch", "read_back", "push"]

IDS_PER_BELL = 200


@dataclass(frozen=True, slots=True)
class Bell:
    """Ring `task` on `queue` with `ids`: of the inbox for apply and fetch, of the outbox for push, a run's for run."""

    queue: Queue
    task: TaskName
    ids: tuple[int, ...]


def bells_for(rows: Iterable[tuple[int, str]], *, task: TaskName = "apply") -> list[Bell]:
    """Bells for (id, lane) rows: one per lane and batch."""
    lanes: dict[str, list[int]] = {}
    for row, lane in rows:
        lanes.setdefault(lane, []).append(row)
    return [
        Bell(queue, task, tuple(ids[start : start + IDS_PER_BELL]))  # type: ignore[arg-type]
        for queue, ids in sorted(lanes.items())
        for start in range(0, len(ids), IDS_PER_BELL)
    ]
