"""The webhook door of a hub, on a port of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from upkept.doors.commits import Commits
from upkept.doors.hooks import Hooks
from upkept.flow.bells import Bell
from upkept.flow.hub import Hub
from upkept.flow.receive import keep


@contextmanager
def door(hub: Hub) -> Iterator[tuple[str, list[Bell]]]:
    """The webhook door on a port of its own, and the bells it would ring."""
    rung: list[Bell] = []
    commits = Commits(
        lambda batch: keep(hub, batch, now=time.time_ns() // 1_000), lambda bells: rung.extend(bells), writers=1
    )
    hooks = Hooks(hub, commits)

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await hooks(scope, receive, send)
            return
        await receive()
        commits.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await commits.stop()
        await send({"type": "lifespan.shutdown.complete"})

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", rung
    server.should_exit = True
    thread.join(10)


def next_second() -> None:
    """Marketo's seconds are whole: what was read in one of them ties with what happened in it (R7)."""
    time.sleep(1.1)
