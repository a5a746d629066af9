"""Two workers bring two new records with one address at the same moment: it must always be one person."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from bench.prove.trials import delivery
from bench.prove.world import World, open_world

from upkept.flow.apply import apply
from upkept.flow.receive import keep
from upkept.store.engine import open_store


def races(url: str, home: Path, *, times: int) -> int:
    """How many of `times` races ended with anything but one person."""
    worlds = [open_world(open_store(url), home) for _ in range(2)]
    worlds[0].clear()
    rows = [_rows(world, connection, times) for world, connection in zip(worlds, ("mail", "crm"), strict=True)]
    start = threading.Barrier(2)
    failures: list[BaseException] = []

    def work(world: World, mine: Sequence[int]) -> None:
        try:
            for row in mine:
                start.wait(60)
                apply(world.hub, [row], now=lambda: time.time_ns() // 1000)
        except BaseException as error:
            failures.append(error)
            start.abort()

    crew = [threading.Thread(target=work, args=pair) for pair in zip(worlds, rows, strict=True)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    if failures:
        raise failures[0]
    whole = [doc for doc in worlds[0].people() if len(doc["person"]["keys"]) == 2]
    for world in worlds:
        world.hub.store.close()
    return times - len(whole)


def _rows(world: World, connection: str, times: int) -> list[int]:
    said = [
        delivery(world, connection, f"{connection}{n}", {"name": connection}, email=f"p{n}@x.example")
        for n in range(times)
    ]
    kept = keep(world.hub, said, now=world.now)
    return [id_ for one in kept for bell in one.bells for id_ in bell.ids]
