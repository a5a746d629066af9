"""The installation's own keys: made once, kept in `<home>/keys.json`, readable by their owner only.

    public_id   the ids people show (R15)
    consent     keyed hashes of addresses whose opt-outs outlive an erasure
    secret      sessions, tokens at rest, log pseudonyms
    tombstone   keyed hashes of what was erased (R12); its own key, never rotated, never derived

`UPKEPT_SECRET_KEY` replaces the first three by keys derived from it (HKDF-SHA256, RFC 5869). The tombstone key
always comes from the file: whoever rotates the secret must not bring an erased person back. Back the file up
with the database; a database restored beside other keys refuses nothing that was erased.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from upkept.contract import Config

NAMES: Final = ("public_id", "tombstone", "consent", "secret")
SIZE: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Four keys of 32 bytes."""

    public_id: bytes = field(repr=False)
    tombstone: bytes = field(repr=False)
    consent: bytes = field(repr=False)
    secret: bytes = field(repr=False)


def keys_path(home: Path) -> Path:
    """Where the keys of a home are."""
    return home / "keys.json"


def ensure_keys(home: Path, secret_key: str | None = None) -> Keys:
    """The keys of this home, made at the first call (any number of processes may call at once)."""
    keys = _read(keys_path(home)) or _make(home)
    if secret_key is None:
        return keys
    return replace(
        keys,
        public_id=_derive(secret_key, "public_id"),
        consent=_derive(secret_key, "consent"),
        secret=_derive(secret_key, "secret"),
    )


def _derive(secret_key: str, purpose: str) -> bytes:
    # Two steps of HMAC; a library for them would cost each process 6 MB.
    extracted = hmac.digest(bytes(SIZE), secret_key.encode(), "sha256")
    return hmac.digest(extracted, f"upkept {purpose} v1".encode() + b"\x01", "sha256")


def _make(home: Path) -> Keys:
    """Write aside, then link into place: linking fails if another process was first, and then its keys count."""
    path = keys_path(home)
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        document = {name: secrets.token_hex(SIZE) for name in NAMES}
        descriptor, aside = tempfile.mkstemp(dir=home, prefix=".keys-")
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                json.dump(document, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.link(aside, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(aside)  # noqa: PTH108
        _sync_folder(home)
    except OSError as error:
        raise Config(
            f"{home}: the keys cannot be made there: {error.strerror}. Set UPKEPT_HOME to a folder we own"
        ) from (error)
    made = _read(path)
    if made is None:
        raise Config(f"{path} vanished while it was being made. Start one Upkept per home")
    return made


def _sync_folder(home: Path) -> None:
    descriptor = os.open(home, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> Keys | None:
    try:
        text = path.read_text(encoding="ascii")
        if path.stat().st_mode & 0o077:
            raise Config(f"{path} can be read by others. Close it: chmod 600 {path}")
        document = json.loads(text)
        keys = Keys(**{name: bytes.fromhex(document[name]) for name in NAMES})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Config(f"{path} cannot be read: {error.strerror}. Run Upkept as the user who owns it") from error
    except (ValueError, KeyError, TypeError):
        raise Config(f"{path} is damaged. Restore it from the backup: new keys would forget what was erased") from None
    if any(len(getattr(keys, name)) != SIZE for name in NAMES):
        raise Config(f"{path} is damaged. Restore it from the backup: new keys would forget what was erased")
    return keys
