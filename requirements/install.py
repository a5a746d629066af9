"""Install a lock file into the environment of the Python that runs this: `python requirements/install.py run.lock`.

Every package is checked against the hash in the lock. uv does the work, three times as fast as pip; it does not
read pip's configuration, so where this machine gets its packages (index, certificates, wheel folders) is handed
over. If uv fails there, pip installs the same lock.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
UV = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", sys.executable]
"""Compiled here, as pip does: where PYTHONDONTWRITEBYTECODE is set every start would compile the vendors' SDKs anew."""
HANDED_OVER = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "no-index": ("UV_NO_INDEX", " "),
}


def pip_settings() -> dict[str, str]:
    """pip's own settings as variables that uv reads; what is set already stays."""
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False).stdout
    found: dict[str, str] = {}
    for line in sorted(listed.splitlines(), reverse=True):  # `:env:` sorts before files, so it is read last and wins
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in HANDED_OVER:
            variable, separator = HANDED_OVER[key]
            places = str(ast.literal_eval(value)).split()
            if key == "find-links":  # pip passes over a folder that is not there, uv stops
                places = [place for place in places if "://" in place or Path(place).exists()]
            if places:
                found[variable] = separator.join(places)
    return found | dict(os.environ)


def install(wanted: list[str]) -> bool:
    """With uv; if that fails, with pip."""
    best = ["--index-strategy", "unsafe-best-match"]  # whichever index has it: the hash decides
    if not subprocess.run([*UV, *best, *wanted], env=pip_settings(), check=False).returncode:
        return True
    print("uv could not install this here; pip tries now, which takes a minute.", file=sys.stderr)
    return not subprocess.run([*PIP, "install", "-qq", *wanted], check=False).returncode


def main(lock: str) -> int:
    build = ["install", "-qq", "--require-hashes", "-r", str(HERE / "build.lock")]
    if subprocess.run([*PIP, *build], check=False).returncode:
        print("The installer itself could not be installed; pip's message stands above.", file=sys.stderr)
        return 1
    if not install(["--require-hashes", "-r", str(HERE / lock)]):
        return 1
    if lock == "sandbox.lock":
        return 0
    return int(not install(["--no-index", "--no-deps", "--no-build-isolation", "-e", str(HERE.parent)]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
