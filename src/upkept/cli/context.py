"""What every command begins with: the settings of this process, its logs, and the hub.

`--help` and a mistyped command come without them, so nothing here is loaded before it is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from upkept.contract import Config

if TYPE_CHECKING:
    from upkept.flow.hub import Hub
    from upkept.settings import Settings


@cache
def current_settings() -> Settings:
    """The settings of this process, with its logs set up; `Config` says what is wrong and how to cure it."""
    from upkept import log
    from upkept.settings import load

    settings = load(os.environ)
    log.setup(settings)
    return settings


@contextmanager
def opened_hub(*, migrate: bool = False) -> Iterator[Hub]:
    """The hub of this installation on a database of its own keys; with `migrate` its tables are made if need be."""
    from upkept.flow.belonging import check_keys
    from upkept.flow.opening import open_hub
    from upkept.store.schema import bring_up, is_newest

    hub = open_hub(current_settings(), pool_size=2)
    try:
        if migrate:
            bring_up(hub.store)
        with hub.store.read() as connection:
            if not is_newest(connection):
                raise Config("the database lacks tables of this version; run: upkept migrate")
        check_keys(hub)
        yield hub
    finally:
        hub.store.close()
