"""Structured logs, with secrets and personal data masked.

Every line of every process goes through `mask` as the last step before it is written: our own lines, those of
Celery, uvicorn and SQLAlchemy, and tracebacks. A secret becomes `[secret]`; an address becomes a short keyed
pseudonym, the same for the same address in one installation, so that lines can still be brought together.
"""

from __future__ import annotations

import hashlib
import logging
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, TextIO
from urllib.parse import urlsplit

import structlog
from structlog.typing import EventDict, Processor

from upkept.keys import ensure_keys
from upkept.settings import Settings

HIDDEN: Final = "[secret]"
SHORTEST_SECRET: Final = 6
"""A configured secret shorter than this is not searched for in texts: it would blank out innocent words."""

SECRET_NAMES: Final = re.compile(r"secret|token|passw|authorization|cookie|(^|[_-])key$|api_?key", re.IGNORECASE)
URL_CREDENTIALS: Final = re.compile(r"(?<=://)[^/@\s\"']*@")
ADDRESS: Final = re.compile(
    r"[^\s@<>\"',;:()\[\]{}=&?/%]{1,64}(?:@|%40)[^\s@<>\"',;:()\[\]{}=&?/%]{1,255}\.[^\W\d_]{2,24}"
)


class Mask:
    """A structlog processor that hides `secrets`, whatever is named like one, and addresses."""

    def __init__(self, secrets: Iterable[str], key: bytes) -> None:
        found = sorted({secret for secret in secrets if len(secret) >= SHORTEST_SECRET}, key=len, reverse=True)
        self._secrets = re.compile("|".join(re.escape(secret) for secret in found)) if found else None
        self._key = key

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        return {self.text(name): self._value(name, value) for name, value in event.items()}

    def text(self, text: str) -> str:
        """One string with everything hidden that must be."""
        if self._secrets is not None:
            text = self._secrets.sub(HIDDEN, text)
        if "://" in text:
            text = URL_CREDENTIALS.sub(f"{HIDDEN}@", text)
        return ADDRESS.sub(self._pseudonym, text) if "@" in text or "%40" in text else text

    def _value(self, name: str, value: Any) -> Any:
        if isinstance(value, bool | int | float | None):
            return value
        if name != "event" and SECRET_NAMES.search(name):
            return HIDDEN
        match value:
            case str():
                return self.text(value)
            case bytes():
                return self.text(value.decode("utf-8", "backslashreplace"))
            case Mapping():
                return {self.text(str(key)): self._value(str(key), item) for key, item in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self._value(name, item) for item in value]
            case _:
                return self.text(str(value))

    def _pseudonym(self, match: re.Match[str]) -> str:
        address = match.group().replace("%40", "@").casefold()
        return f"address:{hashlib.blake2b(address.encode(), key=self._key, digest_size=5).hexdigest()}"


def _is_no_interrupt(record: logging.LogRecord) -> bool:
    """Ctrl-C amid a library's step is no fault of it: SQLAlchemy's pool tells of one, and raises it on as it should."""
    return record.exc_info is None or record.exc_info[0] is not KeyboardInterrupt


def setup(settings: Settings, *, stream: TextIO | None = None) -> None:
    """Send every log line of this process through the mask to `stream` (standard error). Call it once, early."""
    mask = Mask(_secrets(settings), ensure_keys(settings.home, settings.secret_key).secret)
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                mask,
                _renderer(settings, stream or sys.stderr),
            ],
        )
    )
    handler.addFilter(_is_no_interrupt)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    _route_libraries()


def _route_libraries() -> None:
    """Libraries that bring handlers of their own lose them; chatty ones speak from WARNING on."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "celery", "celery.task", "celery.redirected"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
    for name in (
        "httpx",
        "httpcore",
        "urllib3",
        "kombu",
        "amqp",
        "alembic",
        "celery.worker.strategy",
        "celery.app.trace",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)


def _renderer(settings: Settings, stream: TextIO) -> Processor:
    if settings.log_format == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)


def _secrets(settings: Settings) -> Iterable[str]:
    yield from settings.secrets.values()
    if settings.secret_key:
        yield settings.secret_key
    for url in (settings.database_url, settings.broker_url or ""):
        if password := urlsplit(url).password:
            yield password


def get(name: str) -> Any:
    """A structured logger: `log.info("record applied", connection="billing", records=12)`."""
    return structlog.stdlib.get_logger(name)
