"""What `upkept explain` says to people beyond its JSON."""

from __future__ import annotations

import pytest

from upkept.cli.explaining import END_OF_TIME, show_attribute


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("stripe_next_invoice_at", 1_798_111_797, "1798111797 (2026-12-24 11:29 UTC)"),
        ("stripe_past_due_since", 0, "0 (1970-01-01 00:00 UTC)"),
        ("stripe_cancel_at", None, "(empty)"),
        ("looked_at", END_OF_TIME, str(END_OF_TIME)),
        ("looked_at", -1, "-1"),
        ("looked_at", True, "true"),
        ("seats", 1_798_111_797, "1798111797"),
    ],
)
def test_a_moment_in_unix_seconds_is_shown_with_its_date(
    name: str, value: object, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show_attribute(name, {"value": value, "source": "stripe", "at": "2026-01-01T00:00:00Z", "rule": "lww", "lost": []})
    assert capsys.readouterr().out.splitlines()[0] == f"{name} = {shown}"


def test_a_combined_value_is_shown_with_what_it_was_made_of(capsys: pytest.CaptureFixture[str]) -> None:
    at = "2026-01-01T00:00:00Z"
    share = {"type": "customer", "id": "cus_1", "value": 30.0, "at": at}
    made = {"value": 42.0, "source": "stripe", "at": at, "rule": "combined", "lost": []}
    show_attribute("stripe_mrr", {**made, "made_of": [share, {**share, "id": "cus_2", "value": 12.0}]})
    assert capsys.readouterr().out.splitlines() == [
        "stripe_mrr = 42.0",
        f"  stripe said so at {at} (rule: combined)",
        f"  made of 30.0 of cus_1 at {at}",
        f"  made of 12.0 of cus_2 at {at}",
    ]
