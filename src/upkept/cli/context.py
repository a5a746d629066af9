"""What every command begins with: the settings of this process, and its logs."""

from __future__ import annotations

import os
from functools import cache

from upkept import log
from upkept.settings import Settings, load


@cache
def current_settings() -> Settings:
    """The settings of this process, with its logs set up; `Config` says what is wrong and how to cure it."""
    settings = load(os.environ)
    log.setup(settings)
    return settings
