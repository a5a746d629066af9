"""The `/_…` addresses of the Stripe stand-in: what a test arranges and looks at."""

from __future__ import annotations

import itertools
from typing import Final

from upkept.testing.fake_stripe import billing
from upkept.testing.fake_stripe.faults import Faults
from upkept.testing.fake_stripe.table import ApiError, Object
from upkept.testing.fake_stripe.world import World

_NUMBERS: Final = itertools.count(1)


def control(world: World, method: str, path: str, said: Object) -> Object:
    """Do what `method path` asks. The caller holds the world's lock."""
    match method, path.strip("/").split("/"):
        case "POST", ["_config", "webhooks", *id]:
            return {"id": world.add_endpoint(said, id[0] if id else f"we_{next(_NUMBERS)}").id}
        case "DELETE", ["_config", "data"]:
            world.clear()
        case "POST", ["_accounts"]:
            world.connect(str(said["id"]))
        case "POST", ["_seed"]:
            return world.seed_objects(said)
        case "POST", ["_clock"]:
            return _clock(world, said)
        case "POST", ["_dispute"]:
            ledger = world.ledger(said.get("account"), live=bool(said.get("live")))
            found = ledger.get("charge", said.get("charge"))
            return {"id": billing.dispute(ledger, found, str(said.get("reason", "fraudulent")))["id"]}
        case "POST", ["_faults"]:
            world.faults.set(said)
        case "DELETE", ["_faults"]:
            world.faults.__dict__.update(Faults().__dict__)
        case "GET", ["_stats"]:
            return stats(world)
        case "GET", ["_requests"]:
            return {"requests": list(world.gate.requests)}
        case _:
            raise ApiError(404, f"no such control: {method} {path}")
    return {}


def stats(world: World) -> Object:
    gate = world.gate
    return {
        "calls": dict(gate.calls),
        "peak_per_second": dict(gate.peaks),
        "refused": dict(gate.refused),
        "deliveries": {**world.postman.counts, "pending": world.postman.pending},
    }


def _clock(world: World, said: Object) -> Object:
    if "offset" in said:
        world.clock.offset = float(said["offset"])
    if "frozen" in said:
        world.clock.set(said["frozen"])
    if "advance" in said:
        target = world.clock.now() + int(said["advance"])
        for ledger in world.ledgers.values():
            start = world.clock.frozen
            billing.run_until(ledger, target)
            world.clock.set(start)
        world.clock.set(float(target))
    return {"now": world.clock.now()}
