"""The full walk: bulk extracts in stretches of 31 days, through everything that can go wrong on the way."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from tests.connectors.marketo.conftest import Lent, configured
from tests.connectors.marketo.test_pull import events, kinds, opt_outs, said

from upkept.contract import Config, Fact, Page, Permanent, RawEvent, Retryable
from upkept.testing.fake_marketo import FakeMarketo
from upkept_marketo import MarketoConfig, connector
from upkept_marketo.client import export, fetch, probe, pull
from upkept_marketo.client.rows import records, whole
from upkept_marketo.payload import read_object

DAY = 86_400


def ids(pages: list[Page]) -> list[str]:
    reads = [event for event in events(pages) if event.kind == "read.lead"]
    return [str(lead["id"]) for event in reads for lead in read_object(event.body)["leads"]]


def patiently(cursor: str | None, config: MarketoConfig, ctx: Lent) -> tuple[list[Page], int]:
    """All pages, coming back whenever Marketo is not ready; how often that was."""
    pages: list[Page] = []
    waits = 0
    while True:
        try:
            pages.extend(pull(cursor, config, ctx))
        except Retryable:
            waits += 1
            time.sleep(0.02)
        else:
            return pages, waits
        finally:
            cursor = pages[-1].cursor if pages else cursor
        assert waits < 500


def test_a_walk_sees_every_lead_in_stretches_of_31_days(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    there = fake.seed(200, days=100, unsubscribed=5)
    pages = list(pull(None, config, ctx))
    assert sorted(set(map(int, ids(pages)))) == there, "one at a border may come twice"
    assert len(opt_outs(pages)) == 5
    made = [one["body"] for one in fake.requests() if one["path"] == "/bulk/v1/leads/export/create.json"]
    assert len(made) == 4
    spans = [one["filter"]["createdAt"] for one in made]
    assert [span["endAt"] for span in spans[:-1]] == [span["startAt"] for span in spans[1:]]
    assert [page.cursor is None for page in pages].count(True) == 1
    assert pages[-1].total == len(events(pages))
    assert pages[-1].resume is not None
    totals = [page.total for page in pages if page.total]
    assert all(150 <= total <= 320 for total in totals)


def test_a_walk_brings_the_history_of_ninety_days(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    there = fake.seed(5, days=10)
    fake.do("unsubscribe", there[0])
    fake.do("merge", there[1], losers=[there[2]])
    fake.do("bounce", there[3], hard=False)
    fake.do("fill_out", there[4], form='Contact "us"\nand more', fields={})
    fake.do("delete", there[3])
    pages = list(pull(None, config, ctx))
    found = kinds(pages)
    assert {name: found[name] for name in found if name != "read.lead"} == {
        "unsubscribe_email": 1, "merge_leads": 1, "email_bounced_soft": 1, "activity": 1,
    }  # fmt: skip
    polled = {event.id: event for event in events(list(pull(f"since:{ctx.now.isoformat()[:10]}", config, ctx)))}
    for event in events(pages):
        if event.kind in ("merge_leads", "activity"):
            there_too = polled[event.id]
            ours, theirs = (connector.normalize(one, connector.fields) for one in (event, there_too))
            assert ours == theirs, "an export and a list say the same of what happened"


def test_an_export_and_a_read_of_one_lead_say_the_same(fake: FakeMarketo, ctx: Lent) -> None:
    config = configured(fake, lead_fields=("plan", "appUserId"))
    id = fake.do("create", fields={
        "email": "ann@example.com", "firstName": " Ann ", "company": 'Acme, "Inc"\nDublin', "leadScore": 7, "plan": 3,
        "phone": None, "title": "", "unsubscribed": True, "emailInvalid": True,
    })  # fmt: skip
    (walked,) = [event for event in events(list(pull(None, config, ctx))) if event.kind == "read.lead"]
    read = fetch(RawEvent(id=str(id), kind="read.lead", body=b""), config, ctx)
    one, other = (list(connector.normalize(event, connector.fields)) for event in (walked, read))
    assert isinstance(one[0], Fact)
    assert isinstance(other[0], Fact)
    assert (one[0].fields, one[0].claims) == (other[0].fields, other[0].claims)
    assert one[1:] == other[1:]


def test_a_kill_at_any_step_continues_to_the_same_end(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    fake.seed(60, days=70)
    wanted = sorted(ids(list(pull(None, config, ctx))))
    cursor: str | None = None
    resumed: list[Page] = []
    while True:
        page = next(pull(cursor, config, Lent(tokens=ctx.tokens)))
        resumed.append(page)
        cursor = page.cursor
        if cursor is None:
            break
    assert sorted(ids(resumed)) == wanted
    assert len(resumed) > 20


def test_a_kill_between_the_queueing_and_its_cursor_costs_nothing(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent
) -> None:
    fake.seed(5, days=5)
    cursor = None
    while cursor is None or json.loads(cursor).get("state") != "created":
        cursor = next(pull(cursor, config, ctx)).cursor
    next(pull(cursor, config, ctx))
    assert len(ids(list(pull(cursor, config, ctx)))) == 5, "queued once already; the second try finds it so"


def test_a_large_file_is_read_in_pieces(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = fake.seed(100, days=10)
    for id in there[::3]:
        fake.do("change", id, fields={"company": 'A "quoted"\r\nline, and\nanother ' * 3})
    fake.do("change", there[50], fields={"company": "long " * 200})
    for ranges in (True, False):
        fake.faults(no_range=not ranges)
        for piece in (300, 1000, 4096):
            monkeypatch.setattr(export, "PIECE", piece)
            pages = list(pull(None, config, ctx))
            assert sorted(map(int, ids(pages))) == there
            assert max(len(page.events) for page in pages) < 60


def test_a_job_takes_its_time_and_the_pull_comes_back(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    there = fake.seed(20, days=40)
    fake.faults(export_seconds=0.2)
    pages, waits = patiently(None, config, ctx)
    assert sorted(set(map(int, ids(pages)))) == there
    assert waits > 4
    cursors = [page.cursor for page in pages]
    assert len(set(cursors)) == len(cursors), "each page moves the run on, so that it is not taken for one that fails"


@pytest.mark.parametrize(
    ("fault", "message"), [("queue_full", "ten exports"), ("export_quota", "export quota")]
)  # fmt: skip
def test_a_full_queue_and_a_spent_quota_are_told_apart(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent, fault: str, message: str
) -> None:
    there = fake.seed(5, days=5)
    fake.faults(**{fault: True})
    pages: list[Page] = []
    with pytest.raises(Retryable, match=message) as later:
        pages.extend(pull(None, config, ctx))
    assert (later.value.after is None) == (fault == "queue_full")
    if later.value.after is not None:
        assert 0 < later.value.after <= 86_400
    fake.faults()
    assert len(ids(patiently(None, config, ctx)[0])) == len(there)


def test_a_failed_job_is_made_again_and_given_up_in_the_end(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent
) -> None:
    there = fake.seed(5, days=5)
    fake.faults(fail_exports=1)
    pages, waits = patiently(None, config, ctx)
    assert (len(ids(pages)), waits) == (len(there), 1)
    fake.faults(fail_exports=99)
    with pytest.raises(Permanent, match="in a row"):
        patiently(None, config, ctx)


def test_a_file_that_is_gone_is_made_anew(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    there = fake.seed(5, days=5)
    cursor = None
    while cursor is None or json.loads(cursor).get("state") != "complete":
        cursor = next(pull(cursor, config, ctx)).cursor
    fake.faults(lost_files=True)
    page = next(pull(cursor, config, ctx))
    fake.faults()
    assert len(ids(list(pull(page.cursor, config, ctx)))) == len(there)


def test_a_walk_may_begin_at_a_day(fake: FakeMarketo, ctx: Lent) -> None:
    fake.seed(10, days=100)
    day = ctx.now.date().isoformat()
    assert len(ids(list(pull(None, configured(fake, since=day), ctx)))) <= 1
    for call in (probe, lambda config, ctx: list(pull(None, config, ctx))):
        with pytest.raises(Config, match="since"):
            call(configured(fake, since="last year"), ctx)


def test_a_subscription_without_leads_ends(fake: FakeMarketo, ctx: Lent) -> None:
    config = configured(fake, since=ctx.now.date().isoformat())
    assert events(list(pull(None, config, ctx))) == []


def test_records_end_where_they_end() -> None:
    text = b'a,b\n1,"x\ny"\n2,"q ""z""\n'
    assert whole(text, last=False) == b'a,b\n1,"x\ny"\n'
    assert whole(b'"open\nand open\n', last=False) == b""
    assert records(b'\xef\xbb\xbfa,b\r\n1,"x\ny"\n') == [["a", "b"], ["1", "x\ny"]]
    for broken in (b"\xff,1\n", b'a,"b" c"\n'):
        with pytest.raises(Retryable):
            records(broken)


def test_a_short_record_or_a_short_file_is_asked_for_again(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.seed(5, days=5)
    cursor = None
    while cursor is None or json.loads(cursor).get("state") != "complete":
        cursor = next(pull(cursor, config, ctx)).cursor
    given: list[Any] = [b"id,email\n1\n", b""]
    monkeypatch.setattr(export, "read_file", lambda *_a, **_k: given[0])
    size = len(given[0])
    place = json.dumps({**json.loads(cursor), "size": size})
    with pytest.raises(Retryable, match="columns"):
        list(pull(place, config, ctx))
    given.pop(0)
    with pytest.raises(Retryable, match="ends before"):
        list(pull(place, config, ctx))


def test_statements_of_a_walk_are_snapshots_from_when_the_job_began(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent
) -> None:
    fake.seed(3, days=5)
    facts = [one for one in said(list(pull(None, config, ctx))) if isinstance(one, Fact)]
    assert {one.snapshot for one in facts} == {True}
    assert all(one.observed_at is not None and one.observed_at <= ctx.now for one in facts)
