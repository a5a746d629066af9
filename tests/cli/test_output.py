"""What commands print of addresses: enough to recognise them by, and no secret."""

from __future__ import annotations

import pytest

from upkept.cli.output import shown_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host", "redis://host"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://hub@host/1", "redis://hub@host/1"),
        ("redis://:canary@host:1/0", "redis://:***@host:1/0"),
        (
            "rediss://hub:canary@host?password=canary&ssl_cert_reqs=none",
            "rediss://hub:***@host?password=***&ssl_cert_reqs=none",
        ),
        ("redis+socket:///srv/hub/valkey.sock", "redis+socket:///srv/hub/valkey.sock"),
        ("amqp://hub:can@ry:canary@host:5672//", "amqp://hub:***@host:5672//"),
        ("amqp://host", "amqp://host"),
        ("sqlite:////srv/upkept.sqlite3", "sqlite:////srv/upkept.sqlite3"),
        ("postgresql+psycopg://hub:canary@[::1]:5432/people", "postgresql+psycopg://hub:***@[::1]:5432/people"),
        ("postgresql+psycopg://hub@/people?host=/run/pg", "postgresql+psycopg://hub@/people?host=/run/pg"),
        ("postgresql+psycopg:///people?sslpassword=canary", "postgresql+psycopg:///people?sslpassword=***"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown
