"""Nobody outlives their parent: a process asks the kernel to be killed when the one that forked it dies.

Celery's pool children hold one another's pipes open, so they never see the end of a parent killed with -9; they
would wait for ever. On systems other than Linux nothing is asked.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1
LIBC: Final = ctypes.CDLL(None)
"""Loaded beforehand: between fork and exec nothing should be."""


def die_with(parent: int) -> None:
    """Called in a fresh child: be killed when `parent`, the thread that forked us, ends."""
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)
