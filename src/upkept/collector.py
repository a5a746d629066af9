"""How long-lived processes use Python's garbage collector."""

from __future__ import annotations

import gc


def collect_seldom(*thresholds: int) -> None:
    """Set what is loaded by now apart from the collector for good; it looks at the rest by these thresholds.

    A full collection would stop a door for 50 ms, and copy the pages that a worker shares with its children into each.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*thresholds)
