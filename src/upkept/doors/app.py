"""The web process as one ASGI application: `/hooks/…` raw, everything else through Starlette."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from typing import Any, Final

import structlog

from upkept.contract import Retryable
from upkept.doors import health
from upkept.doors.answers import Send
from upkept.doors.body import Receive
from upkept.doors.commits import Commits
from upkept.doors.hooks import PREFIX, Hooks
from upkept.doors.publisher import Publisher
from upkept.flow.belonging import check_keys
from upkept.flow.hub import Hub
from upkept.flow.opening import open_hub
from upkept.flow.receive import Kept, Received, keep
from upkept.settings import Settings, load

log = structlog.get_logger(__name__)

WRITERS: Final = {"sqlite": 1, "postgresql": 2}
WARM_WITHIN: Final = 5.0


class App:
    """A hub's doors; it opens and closes with the ASGI lifespan."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._belongs = False
        self.publisher = Publisher(self._ringer)
        self.commits = Commits(self._keep, self.publisher.offer, writers=WRITERS[hub.store.dialect])
        self._hooks = Hooks(hub, self.commits)
        self._others = health.application(hub, self.publisher.sick_seconds)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PREFIX):
            await self._hooks(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._others(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await self._start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.commits.stop()
        await asyncio.to_thread(self.publisher.stop)
        self.hub.store.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        """Connections and publisher are warmed before the door opens: the first requests need not wait for them."""
        self.publisher.start()
        try:
            await asyncio.to_thread(self.look)
        except Retryable as error:
            log.warning("database_away", detail=str(error), cure="requests get 503 until it is back")
        await asyncio.to_thread(self.publisher.warm.wait, WARM_WITHIN)
        self.commits.start()

    def look(self) -> None:
        """Ask the database something. Raises `Retryable` if it is away, `Config` if its commits are not durable."""
        with self.hub.store.read() as connection:
            connection.exec_driver_sql("SELECT 1")

    def _keep(self, batch: Sequence[Received]) -> list[Kept]:
        if not self._belongs:
            # Here too: the database may have been away when the process began.
            check_keys(self.hub)
            self._belongs = True
        return keep(self.hub, batch, now=time.time_ns() // 1000)

    def _ringer(self) -> Any:
        # Loaded by the publisher's own thread: nothing else of the web process needs Celery.
        from upkept import queue

        url = self.hub.settings.effective_broker_url
        queue.connect(url)
        return queue.Ringer(url)


def create_app(settings: Settings | None = None) -> App:
    """The web application; settings come from the environment if none are given.

    Raises `Config` for a mistake in the configuration and for a PostgreSQL whose commits are not durable.
    """
    hub = open_hub(settings or load(os.environ))
    app = App(hub)
    # The database may come later; until then the door answers 503.
    with contextlib.suppress(Retryable):
        app.look()
    return app
