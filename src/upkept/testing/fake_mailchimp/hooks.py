"""Webhooks of the Mailchimp stand-in: unsigned forms, at least once, in no order, tried again when the answer is not
2xx.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from upkept.testing.fake_mailchimp.faults import Object
from upkept.testing.post import RetryingPostman, asked, outcome

AGENT: Final = {"User-Agent": "MailChimp"}


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook of an audience: which types of events, caused by whom."""

    id: str
    url: str
    events: Object
    sources: Object

    def wants(self, type: str, by: str) -> bool:
        return bool(self.events.get(type)) and bool(self.sources.get(by))

    def said(self, audience: str) -> Object:
        return {"id": self.id, "url": self.url, "events": self.events, "sources": self.sources, "list_id": audience}


def form(said: Object) -> bytes:
    """As PHP nests: `data[merges][FNAME]=Ann`."""
    return urlencode(list(_flat(said, ""))).encode()


def answers_get(url: str) -> bool:
    """The probe that Mailchimp makes before it saves a webhook."""
    return asked("GET", url, None, AGENT)[0] == 200


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}[{name}]" if path else name)
    else:
        yield path, str(value)


class Postman(RetryingPostman[tuple[str, bytes]]):
    """Delivers forms: an address, and what is posted there."""

    def tell(self, url: str, said: Object) -> None:
        """Post a form."""
        self.post((url, form(said)))

    def send(self, what: tuple[str, bytes]) -> str:
        url, body = what
        return outcome(asked("POST", url, body, {"Content-Type": "application/x-www-form-urlencoded", **AGENT})[0])
