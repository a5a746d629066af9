"""A database belongs to the keys it was made with.

Ids, opt-outs and tombstones stand on keyed hashes. With other keys every id would change, no opt-out would bind
any address and no erasure would hold, all without an error: so the hub refuses to work.
"""

from __future__ import annotations

import hashlib

from upkept.contract import Config
from upkept.flow.hub import Hub
from upkept.keys import keys_path
from upkept.store import meta


def check_keys(hub: Hub) -> None:
    """Raise `Config` unless the database was made with these keys; the first call claims a new one."""
    ours = {
        f"key:{name}": hashlib.blake2b(getattr(hub.keys, name), digest_size=16, person=b"upkept").hexdigest()
        for name in ("public_id", "consent", "tombstone")
    }
    with hub.store.write() as connection:
        held = meta.remember(connection, ours)
    wrong = sorted(name.removeprefix("key:") for name, value in held.items() if value != ours[name])
    if wrong:
        raise Config(
            f"the keys {', '.join(wrong)} are not those this database was made with, so opt-outs and erasures would "
            f"not hold. Restore {keys_path(hub.settings.home)} (or UPKEPT_SECRET_KEY) from where the database "
            "came from, or point UPKEPT_DATABASE_URL at an empty one"
        )
