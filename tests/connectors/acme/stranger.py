"""Installing the stranger's package: its folder on the path is all it takes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SITE = Path(__file__).parent


@contextmanager
def installed() -> Iterator[None]:
    """As `pip install upkept-acme` would leave it: package and metadata on the path."""
    sys.path.insert(0, str(SITE))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(SITE))


def package() -> Any:
    """The package, imported."""
    with installed():
        return importlib.import_module("upkept_acme")
