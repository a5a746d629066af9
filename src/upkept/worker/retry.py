"""From the class of an error to what becomes of a task. Every message is spent, whatever happened.

    Retryable   quiet: the rows are still there, the sweeper offers them again
    Config      a person must act: an error line with the cure; the sweeper offers them again
    Skipped, Permanent, Rejected
                belong to single rows and are settled by the steps; one that gets here is a bug
    anything else
                a bug of ours, or a time limit: an error line with its traceback; the sweeper offers them again

What happens to a *row* (how often it is tried, when it goes dead) is decided where its outcome is written, in
`upkept.flow.normalize`; a task knows nothing of that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

import structlog

from upkept.contract import Config, Retryable
from upkept.flow.bells import Bell
from upkept.flow.hub import Hub
from upkept.worker.process import process

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a failed task is told: at which level, with a traceback or not, and the cure."""

    level: Literal["info", "error"]
    traceback: bool
    cure: str


TABLE: Final[tuple[tuple[type[BaseException], Ending], ...]] = (
    (Retryable, Ending("info", False, "none needed: it is tried again by itself")),
    (Config, Ending("error", False, "change what the message names, then restart the hub")),
    (Exception, Ending("error", True, "a bug of ours, or a step that took too long; its rows are tried again")),
)


def ending(error: BaseException) -> Ending:
    """The row of the table for this error."""
    return next(end for kind, end in TABLE if isinstance(error, kind))


def attempt(task: str, step: Callable[[Hub], Iterable[Bell]]) -> bool:
    """Run a step and ring what it asks for. False if it failed, which the sweeper makes good."""
    try:
        with process.at_work():
            bells = tuple(step(process.hub()))
    except Exception as error:
        end = ending(error)
        tell = log.error if end.level == "error" else log.info
        detail = {"exc_info": error} if end.traceback else {"detail": str(error)}
        tell("task_failed", task=task, error=type(error).__name__, cure=end.cure, **detail)
        return False
    if bells:
        process.ringer().ring(bells)
    return True
