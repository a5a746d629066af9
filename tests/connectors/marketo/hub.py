"""A hub with Marketo as its one vendor, and short ways to let it work."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.connectors.marketo.conftest import SECRET

from upkept.contract import Statement
from upkept.flow import opt_outs
from upkept.flow import runs as flow_runs
from upkept.flow.apply import apply
from upkept.flow.bells import Bell
from upkept.flow.explain import explain
from upkept.flow.fetch import fetch, read_back
from upkept.flow.hub import Hub
from upkept.flow.opening import policies
from upkept.flow.pull import step
from upkept.flow.push import push
from upkept.flow.receive import Received, keep
from upkept.keys import Keys
from upkept.registry import load_connections
from upkept.settings import load
from upkept.sources import STATEMENTS
from upkept.sources.envelope import encode
from upkept.store import outbox, runs
from upkept.store.engine import Store
from upkept.store.inbox import Arrival
from upkept.store.row_key import row_key
from upkept.store.runs import Run

KEYS = Keys(public_id=b"p" * 32, tombstone=b"t" * 32, consent=b"c" * 32, secret=b"s" * 32)
TOKEN = "hook-token-42"


def now() -> int:
    return time.time_ns() // 1000


def hub_of(store: Store, home: Path, url: str, more: str = "") -> Hub:
    (home / "upkept.toml").write_text(
        '[connections.marketo]\nconnector = "marketo"\nclient_id = "client"\nclient_secret = "env:SECRET"\n'
        f'webhook_token = "env:TOKEN"\nbase_url = "{url}"\n{more}'
    )
    settings = load({"SECRET": SECRET, "TOKEN": TOKEN}, cwd=home)
    loaded = load_connections(settings)
    marketo = loaded["marketo"]
    # The quota itself is proved elsewhere; waiting for it would prove nothing here.
    loaded["marketo"] = replace(marketo, connector=replace(marketo.connector, api_calls=1e6))
    ranks = {name: one.rank for name, one in loaded.items()}
    return Hub(store=store, connections=loaded, keys=KEYS, policies=policies(settings, ranks=ranks), settings=settings)


def ring(hub: Hub, bells: Iterable[Bell]) -> None:
    """Do what the bells ask for, the workers' part; what is owed is told by `pushed`."""
    waiting = list(bells)
    while waiting:
        bell = waiting.pop(0)
        if bell.task == "apply":
            waiting += apply(hub, bell.ids, now=now).bells
        elif bell.task == "fetch":
            waiting += fetch(hub, bell.ids, now=now)
        elif bell.task == "read_back":
            waiting += read_back(hub, now=now)


def tell(hub: Hub, connection: str, *said: Statement) -> None:
    """Let one of our own doors say this."""
    body, at = encode(said), now()
    key = f"{at}"
    arrival = Arrival(connection=connection, dedup_key=key, kind=STATEMENTS, body=body, received_at=at, lowering="may")
    facts = opt_outs.among(hub, connection, said, received_at=at)
    (kept,) = keep(hub, [Received((arrival,), tuple((fact, row_key(connection, key)) for fact in facts))], now=at)
    assert kept.error is None
    ring(hub, kept.bells)


def pushed(hub: Hub) -> int:
    """Push all that is due, and take in the answers; how many rows of the outbox are left, dead ones too."""
    for _ in range(50):
        with hub.store.read() as connection:
            due = outbox.due(connection, now=now())
        if not due:
            break
        ring(hub, push(hub, [row for _, row in due], now=now))
    return count(hub, "outbox")


def resync(hub: Hub, **options: Any) -> Run:
    run = flow_runs.start(hub, "marketo", now=now(), **options).run
    for _ in range(100):
        ring(hub, step(hub, run.id, now=now))
        with hub.store.read() as connection:
            found = runs.get(connection, run.id)
        assert found is not None
        if not found.open or found.attempts:
            return found
    raise AssertionError(f"the run did not end: {found}")


def state(hub: Hub, person: str) -> str:
    return str(explain(hub, person)["consent"]["email"]["state"])


def shown(hub: Hub, person: str) -> Mapping[str, Any]:
    attributes = explain(hub, person)["attributes"]
    return {name: one["value"] for name, one in attributes.items()}


def count(hub: Hub, table: str) -> int:
    with hub.store.read() as connection:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())  # noqa: S608
