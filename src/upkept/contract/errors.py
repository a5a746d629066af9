"""What can go wrong, named by who acts next.

    UpkeptError
    +- Rejected     the sender: not authentic or unreadable; answered 401 or 400, nothing stored
    +- Skipped      nobody: understood, not for us; the inbox row says why
       +- Gone      the hub: a push found no such record; it is read back, and told again if it is there
    +- Retryable    the hub: it may succeed later (`after` seconds if the vendor said so)
    +- Permanent    an engineer: this input never succeeds; dead letter, `upkept replay` after a fix
    +- Config       the operator: a key, scope or setting; the connection pauses and says so

Messages are for the person who acts next. They name the connection or object and the next step, and
never hold a secret, a payload or personal data. Any other exception is a bug of ours.
"""

from __future__ import annotations


class UpkeptError(Exception):
    """The base of every error Upkept raises on purpose."""


class Rejected(UpkeptError):
    """The request is not authentic (`status` 401) or cannot be read (400, 413). Nothing is stored."""

    def __init__(self, message: str, *, status: int = 401) -> None:
        super().__init__(message)
        self.status = status


class Skipped(UpkeptError):
    """The event is understood and not for us. `kind` is the vendor's name for it, where `split` raises this: then
    there is no raw event that bears it, and the inbox shows what it was."""

    def __init__(self, message: str, *, kind: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind


class Gone(Skipped):
    """A push met no such record: it was deleted or merged there, or this account does not show it."""


class Retryable(UpkeptError):
    """It may succeed later. `after` is the vendor's own Retry-After in seconds, if it gave one."""

    def __init__(self, message: str, *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Permanent(UpkeptError):
    """This input can never succeed as it is."""


class Config(UpkeptError):
    """A person must change something; the message names what and where."""
