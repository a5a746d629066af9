"""The SDK's way to the network, made safe.

`simple-salesforce` 1.12 makes every address https, waits for ever, follows redirects, and of each call keeps the body
alone. All of its calls go through one `requests.Session`, and there it is put right: where `base_url` is not
Salesforce itself (a proxy, a stand-in) each call goes there, each has a time-out, none is redirected, and the
headers of the last answer are kept. What every call has to carry stands on the session, so that it survives a new
login.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter

CONNECT_TIMEOUT: Final = 5.0
READ_TIMEOUT: Final = 20.0
"""Seconds. A worker's time limit is 30."""

CLIENT: Final = "upkept"
"""How changes of ours are marked: `changeOrigin` of a change event then ends in `;client=upkept`."""

OWN_HOSTS: Final = (".salesforce.com", ".force.com", ".salesforce.mil", ".cloudforce.com", ".sfcrmproducts.cn")


class Door(HTTPAdapter):
    """`target` is where every call goes, whatever address the SDK made of it; None leaves addresses alone."""

    def __init__(self, target: str | None) -> None:
        self.target = target
        self.answered: Mapping[str, str] = {}
        super().__init__()

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send, with our time-out whatever the SDK asks for."""
        if self.target is not None:
            address = urlsplit(request.url or "")
            request.url = self.target + address.path + (f"?{address.query}" if address.query else "")
        self.answered = {}
        kwargs["timeout"] = (CONNECT_TIMEOUT, READ_TIMEOUT)
        response = super().send(request, *args, **kwargs)
        self.answered = response.headers
        return response


def is_salesforce(base_url: str) -> bool:
    """Whether this is an address of Salesforce's own, whose word about where an org lives counts."""
    return (urlsplit(base_url).hostname or "").endswith(OWN_HOSTS)


def session(base_url: str) -> tuple[Session, Door]:
    """The session of this thread: the SDK's clients are not safe to share, nor are pooled connections after a fork."""
    return _session(os.getpid(), threading.get_ident(), base_url.rstrip("/"))


@lru_cache(maxsize=64)
def _session(_pid: int, _thread: int, base_url: str) -> tuple[Session, Door]:
    made, door = Session(), Door(None if is_salesforce(base_url) else base_url)
    made.mount("https://", door)
    made.mount("http://", door)
    made.headers["Sforce-Call-Options"] = f"client={CLIENT}"
    made.max_redirects = 0
    made.auth = lambda request: request  # else a .netrc of the machine replaces the token
    return made, door
