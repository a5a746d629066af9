"""Webhooks of the Marketo stand-in: calls of trigger campaigns, made once whatever the answer is.

https://experienceleague.adobe.com/en/docs/marketo-developer/marketo/webhooks/webhooks: an administrator words them, so
each hook says where its token goes and how its payload is encoded. An empty answer is an error (1001).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from upkept.testing import post
from upkept.testing.fake_marketo.faults import Faults, Object

HEADER: Final = "X-Upkept-Token"
EVERYTHING: Final = frozenset({"created", "changed", "unsubscribed"})


@dataclass(frozen=True, slots=True)
class Hook:
    """Where hints go. The token goes into the header unless `in_path`; `what` are the triggers that call it."""

    url: str
    token: str
    in_path: bool = False
    form: bool = False
    what: frozenset[str] = EVERYTHING


class Postman(post.Postman[tuple[Hook, bytes]]):
    """Calls hooks, once whatever the answer is."""

    senders = 2
    timeout = 30.0

    def __init__(self, faults: Faults, *, seed: int = 0) -> None:
        super().__init__(faults, seed=seed)
        self.hooks: list[Hook] = []

    def tell(self, what: str, lead: int, email: str | None, at: str) -> None:
        """Call the hooks that listen for this."""
        for hook in (one for one in self.hooks if what in one.what):
            said: Object = {"lead_id": lead, "at": at, "number": next(self.numbers)}
            if what == "unsubscribed":
                said |= {"event": "unsubscribe", "email": email}
            self.post((hook, (urlencode(said) if hook.form else json.dumps(said)).encode()))

    def send(self, what: tuple[Hook, bytes]) -> str:
        """ "delivered", "empty" (error 1001), "status_…" or "unreachable"."""
        hook, body = what
        kind = "application/x-www-form-urlencoded" if hook.form else "application/json"
        headers = {"Content-Type": kind, "User-Agent": "MktWebhook/1.0"}
        url = hook.url.rstrip("/")
        if hook.in_path:
            url += f"/{hook.token}"
        else:
            headers[HEADER] = hook.token
        status, answer = post.asked("POST", url, body, headers, timeout=self.timeout)
        if not status:
            return "unreachable"
        how = post.outcome(status)
        return "empty" if how == post.DELIVERED and not answer else how
