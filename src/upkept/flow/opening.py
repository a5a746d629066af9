"""Opening the hub of a process: store, connections, keys, policies."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event

from upkept.contract import Config
from upkept.flow.hub import Hub
from upkept.keys import ensure_keys
from upkept.people.policies import DEFAULT_POLICIES, Policies, Policy
from upkept.registry import load_connections
from upkept.settings import Settings
from upkept.store.engine import Store, open_store


def open_hub(settings: Settings, *, pool_size: int = 4) -> Hub:
    """The hub as configured; raises `Config` for a mistake in the configuration. The database may be away.

    Every new connection to PostgreSQL is refused (`Config`) where a commit would not be durable.
    """
    connections = load_connections(settings)
    store = open_store(settings.database_url, pool_size=pool_size)
    _refuse_lossy_commits(store)
    return Hub(
        store=store,
        connections=connections,
        keys=ensure_keys(settings.home, settings.secret_key),
        policies=policies(settings, ranks={name: connection.rank for name, connection in connections.items()}),
        settings=settings,
    )


def policies(settings: Settings, *, ranks: dict[str, int]) -> Policies:
    """The built-in policies with those of `upkept.toml` over them."""
    configured = {name: Policy(policy.rule, policy.groups) for name, policy in settings.policies.items()}
    return Policies({**DEFAULT_POLICIES.by_attribute, **configured}, ranks)


def _refuse_lossy_commits(store: Store) -> None:
    if store.dialect != "postgresql":
        return

    @event.listens_for(store.engine, "connect")
    def look(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('fsync'), current_setting('synchronous_commit')")
            fsync, synchronous = cursor.fetchone()
        connection.rollback()
        for name, value in (("fsync", fsync), ("synchronous_commit", synchronous)):
            if value == "off":
                raise Config(
                    f"PostgreSQL runs with {name}=off: a delivery answered 2xx could be lost in a crash. "
                    f"Set {name}=on for the database of UPKEPT_DATABASE_URL and start again"
                )
