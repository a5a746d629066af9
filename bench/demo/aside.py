"""Put a file aside for a while, and back when the last of several that did so at once is done."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from bench.processes import Failed

THERE: Final = b"+"
ABSENT: Final = b"-"


@contextmanager
def kept(path: Path) -> Iterator[None]:
    """Whatever is done to `path` meanwhile, it is (or is absent) as before once the last block has ended.

    Blocks of several processes may overlap; what one that was killed left aside, the next puts back. Raises `Failed`
    where the file is somebody else's.
    """
    aside = path.with_name(f"upkept-{path.name}")
    with _opened(aside) as copy:
        if _alone(copy) and not copy.read():
            copy.write(THERE + path.read_bytes() if path.exists() else ABSENT)
            copy.flush()
        fcntl.flock(copy, fcntl.LOCK_SH)
        try:
            _must_be_ours(path)
            yield
        finally:
            if _alone(copy):
                copy.seek(0)
                _put_back(path, copy.read())
                aside.unlink(missing_ok=True)


def _alone(copy: BinaryIO) -> bool:
    """Is nobody else between the beginning and the end of a block?"""
    with suppress(BlockingIOError):
        fcntl.flock(copy, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _put_back(path: Path, content: bytes) -> None:
    if content.startswith(THERE):
        path.write_bytes(content.removeprefix(THERE))
    else:
        path.unlink(missing_ok=True)


def _must_be_ours(path: Path) -> None:
    """Open it as whoever writes it will: a shared folder may forbid that even to root."""
    _opened(path).close()


def _opened(path: Path) -> BinaryIO:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.fdopen(os.open(path, flags, 0o600), "r+b")
    except OSError as error:
        raise Failed(f"{path} belongs to somebody else ({error.strerror}). Have it removed, then try again") from None
