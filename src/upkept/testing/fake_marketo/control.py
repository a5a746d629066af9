"""The `/_…` addresses of the Marketo stand-in: what a test arranges and looks at."""

from __future__ import annotations

from upkept.testing.fake_marketo.faults import Object
from upkept.testing.fake_marketo.hooks import EVERYTHING, Hook
from upkept.testing.fake_marketo.world import World


def control(world: World, method: str, path: str, said: Object) -> Object:
    """Do what `method path` asks. The caller holds the world's lock. Raises ValueError for what is not known."""
    match method, path.strip("/"):
        case "POST", "_webhooks":
            world.postman.hooks.append(_hook(said))
        case "DELETE", "_data":
            world.clear()
        case "POST", "_seed":
            return {"ids": world.seed(**said)}
        case "POST", "_do":
            return _do(world, **said)
        case "POST", "_clock":
            return _clock(world, said)
        case "POST", "_expire":
            world.token = ("", 0.0)
        case "POST", "_faults":
            world.faults.set(said)
        case "DELETE", "_faults":
            world.faults.end()
        case "GET", "_stats":
            return {"calls": dict(world.gate.calls), "refused": dict(world.gate.refused), "leads": len(world.leads),
                    "activities": len(world.log), "most_at_once": world.gate.most_open,
                    "webhooks": dict(world.postman.counts)}  # fmt: skip
        case "GET", "_requests":
            return {"requests": list(world.gate.requests)}
        case _:
            raise ValueError(f"no such control: {method} {path}")
    return {}


def _hook(said: Object) -> Hook:
    what = said.get("what")
    return Hook(
        url=said["url"],
        token=said["token"],
        in_path=bool(said.get("in_path")),
        form=bool(said.get("form")),
        what=frozenset(what) if what else EVERYTHING,
    )


def _do(world: World, what: str, id: int = 0, **said: object) -> Object:
    """What people, flows and other programs do at Marketo."""
    fields = said.get("fields", {})
    assert isinstance(fields, dict)  # noqa: S101  # a test's own mistake
    match what:
        case "create":
            return {"id": world.create(fields)}
        case "change":
            world.change(id, fields, source=str(said.get("source", "Flow action")))
        case "unsubscribe":
            world.unsubscribe(id)
        case "bounce":
            world.bounce(id, hard=bool(said.get("hard", True)))
        case "fill_out":
            world.fill_out(id, str(said.get("form", "Contact us")), fields)
        case "delete":
            world.delete(id)
        case "merge":
            losers = said.get("losers")
            assert isinstance(losers, list)  # noqa: S101
            world.merge(id, losers)
        case _:
            raise ValueError(f"nobody can {what}")
    return {"id": id}


def _clock(world: World, said: Object) -> Object:
    if "offset" in said:
        world.clock.offset = float(said["offset"])
    if "frozen" in said:
        world.clock.frozen = said["frozen"]
    if "advance" in said:
        if world.clock.frozen is not None:
            world.clock.frozen += float(said["advance"])
        else:
            world.clock.offset += float(said["advance"])
    return {"now": world.clock.now()}
