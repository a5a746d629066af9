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
UV = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
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
            found[variable] = separator.join(str(ast.literal_eval(value)).split())
    return found | dict(os.environ)


def main(lock: str) -> int:
    if subprocess.run(
        [*PIP, "install", "-qq", "--require-hashes", "-r", str(HERE / "build.lock")], check=False
    ).returncode:
        print("The installer itself could not be installed; pip's message stands above.", file=sys.stderr)
        return 1
    wanted = ["--require-hashes", "-r", str(HERE / lock)]
    env = pip_settings()
    if subprocess.run([*UV, "--index-strategy", "unsafe-best-match", *wanted], env=env, check=False).returncode:
        print("uv could not install the lock here; pip tries now, which takes a minute.", file=sys.stderr)
        if subprocess.run([*PIP, "install", "-qq", *wanted], check=False).returncode:
            return 1
    if lock == "sandbox.lock":
        return 0
    ourselves = ["--no-deps", "--no-build-isolation", "-e", str(HERE.parent)]
    return subprocess.run([*UV, "--offline", *ourselves], env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
