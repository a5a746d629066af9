"""A TCP proxy in a thread that a test can cut, freeze and mend."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

State = Literal["open", "cut", "frozen"]


@dataclass
class Proxy:
    """`cut` refuses and resets, `frozen` accepts and passes nothing on."""

    target: tuple[str, int]
    port: int = 0
    state: State = "open"
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def become(self, state: State) -> None:
        self.state = state
        if state == "cut":
            self._loop.call_soon_threadsafe(self._reset)

    def _reset(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self.state == "cut":
                writer.transport.abort()
                return
            other_reader, other = await asyncio.open_connection(*self.target)
            self._writers.add(other)
            await asyncio.gather(self._pass(reader, other), self._pass(other_reader, writer))
        except OSError:
            writer.transport.abort()
        finally:
            self._writers.discard(writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                while self.state == "frozen":
                    await asyncio.sleep(0.05)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
            self._writers.discard(writer)


@contextmanager
def proxied(host: str, port: int) -> Iterator[Proxy]:
    """A running proxy in front of host:port; it listens on `proxy.port`."""
    proxy = Proxy((host, port))
    ready = threading.Event()

    async def live() -> None:
        server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        ready.set()
        with suppress(asyncio.CancelledError):
            await server.serve_forever()
        proxy._reset()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def run() -> None:
        asyncio.set_event_loop(proxy._loop)
        proxy._loop.run_until_complete(task)
        proxy._loop.close()

    task = proxy._loop.create_task(live())
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(10)
    yield proxy
    proxy._loop.call_soon_threadsafe(task.cancel)
    thread.join(10)
