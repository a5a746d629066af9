"""The embedded broker as a process of its own, so that the harness can kill it."""

from __future__ import annotations

import os
import sys

from upkept.broker import command
from upkept.contract import Config
from upkept.settings import load


def main() -> None:
    """Become the broker of the home in the environment."""
    try:
        words = command(load(os.environ))
    except Config as error:
        sys.exit(str(error))
    os.execv(words[0], words)  # noqa: S606 - the broker's own binary


if __name__ == "__main__":
    main()
