"""Named places where the crash harness kills the process, to show that nothing depends on what follows.

    UPKEPT_FAILPOINTS="apply.before_commit=0.05,receive.after_commit=0.01"

A name is armed with a probability. Unarmed, which is always outside the harness, `reach` is one look into an
empty mapping.
"""

from __future__ import annotations

import os
import random
import signal
from typing import Final

from upkept.contract import Config

NAMES: Final = frozenset(
    {
        "receive.before_commit",
        "receive.opt_out_inserted",
        "receive.after_commit",
        "publish.before",
        "publish.after",
        "apply.claimed",
        "apply.before_commit",
        "apply.after_commit",
        "pull.before_commit",
        "pull.after_commit",
    }
)


def _armed(text: str) -> dict[str, float]:
    armed: dict[str, float] = {}
    for item in filter(None, text.split(",")):
        name, _, probability = item.partition("=")
        if name not in NAMES:
            raise Config(f"UPKEPT_FAILPOINTS: no failpoint {name!r}; known are: {', '.join(sorted(NAMES))}")
        armed[name] = float(probability or 1)
    return armed


_ARMED: Final = _armed(os.environ.get("UPKEPT_FAILPOINTS", ""))


def reach(name: str) -> None:
    """Kill this process (SIGKILL) here, if the harness armed this name and the dice say so."""
    if _ARMED and random.random() < _ARMED.get(name, 0):  # noqa: S311 - dice, not a secret
        os.kill(os.getpid(), signal.SIGKILL)
