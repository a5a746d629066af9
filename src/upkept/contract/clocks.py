"""Telling a vendor's time by the `Date` of its answers."""

from __future__ import annotations

import math
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

TRUSTED_SKEW: Final = 2.0
"""Seconds our clock may differ from a vendor's before theirs counts; its `Date` header is cut to the second."""


def vendor_time(sent: datetime, answered: datetime, date: str | None) -> int:
    """When a request was sent, in whole unix seconds of the vendor's clock; `date` is the header of its answer.

    A read must never be stamped later than the state it shows: a hub whose clock runs ahead would let a stale read
    beat the changes that follow it.
    """
    try:
        skew = (parsedate_to_datetime(date) - answered).total_seconds() if date else 0.0
    except (TypeError, ValueError):
        skew = 0.0
    return math.floor(sent.timestamp() + (skew if abs(skew) > TRUSTED_SKEW else 0.0))
