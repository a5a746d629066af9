"""Catching a function that looks at the clock, the network, the disk or the dice.

Everything of that kind ends in a call of a C function, and the profiler sees those, whatever name they were imported
under and however deep they are called. (Patching `time.time` would miss `from time import time`, and
`datetime.now` cannot be patched at all.)
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from types import FrameType
from typing import Any, Final

_CLOCKS: Final = frozenset({"now", "utcnow", "today"})
_TIME: Final = frozenset(
    {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep", "localtime"}
)
_WORLDLY: Final = frozenset(
    {"_socket", "socket", "posix", "nt", "_random", "random", "_io", "io", "_ssl", "select", "_posixsubprocess"}
)
_BUFFERS: Final = frozenset({"text_encoding", "write", "read", "getvalue", "close", "fspath"})
"""What buffers in memory do, which live in `io` too; opening a file does not go unseen."""


@contextmanager
def worldly_calls() -> Iterator[list[str]]:
    """Collects the names of impure calls that this thread makes meanwhile.

    The garbage collector rests: what others hung on it (Hypothesis times it) is no call of the function watched.
    """
    seen: list[str] = []
    before = sys.getprofile()
    collects = gc.isenabled()

    def watch(_frame: FrameType, event: str, what: Any) -> None:
        if event == "c_call" and (name := _worldly(what)):
            seen.append(name)

    gc.disable()
    sys.setprofile(watch)
    try:
        yield seen
    finally:
        sys.setprofile(before)
        if collects:
            gc.enable()


def _worldly(function: Callable[..., Any]) -> str | None:
    name = getattr(function, "__name__", "")
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, date | datetime):
        return f"{owner.__name__}.{name}" if name in _CLOCKS else None
    module = getattr(function, "__module__", None) or type(owner).__module__
    if module == "time":
        return f"time.{name}" if name in _TIME else None
    in_memory = module in ("_io", "io", "posix") and name in _BUFFERS
    return f"{module}.{name}" if module in _WORLDLY and not in_memory else None
