"""What tasks, events and campaign members keep for `summarize`, under short names, and what people call it."""

from __future__ import annotations

from typing import Final

STATUS: Final = "_st"
CLOSED: Final = "_cl"
AT: Final = "_at"
CREATED: Final = "_cr"
CAMPAIGN: Final = "_ca"
RESPONDED: Final = "_re"

LABELS: Final = {
    STATUS: "status",
    CLOSED: "closed",
    AT: "at",
    CREATED: "created",
    CAMPAIGN: "campaign",
    RESPONDED: "responded",
}
