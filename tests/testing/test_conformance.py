"""The kit catches what it says it catches: each planted bug fails the proof it should, and a sound connector none."""

from __future__ import annotations

import json
import logging
import random
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.connectors.acme.acme_server import KEY, acme
from tests.connectors.acme.stranger import package

from upkept.contract import (
    Config,
    Consent,
    Context,
    Fact,
    FieldMap,
    Page,
    Part,
    RawEvent,
    RecordRef,
    Rejected,
    Request,
    Said,
    Statement,
    Summary,
    TimelineEvent,
    Whole,
)
from upkept.testing import proofs
from upkept.testing import proofs_outside as outside
from upkept.testing.conformance import Disproved, Kit, certify
from upkept.testing.fixtures import Fixture

ACME = package()
SOUND = ACME.connector
FIXTURES = Path(str(ACME.__file__)).parent.parent / "fixtures"
CONFIG = ACME.AcmeConfig(api_key=KEY, webhook_secret="acme-secret-of-the-tests")
P1 = RecordRef("person", "p1")
NOW = datetime(2026, 9, 1, tzinfo=UTC)


def sign(body: bytes, now: datetime) -> Request:
    return Request(body=body, headers={"x-acme-secret": "acme-secret-of-the-tests"})


@contextmanager
def vendor() -> Iterator[Any]:
    with acme(p1={"email": "ann@example.com"}, p2={"name": "Bo"}, p3={"name": "Cleo"}) as running:
        yield ACME.AcmeConfig(api_key=KEY, base_url=running.url)


def kit(connector: Any = SOUND, **arguments: Any) -> Kit:
    return Kit(**{"connector": connector, "fixtures": FIXTURES, "config": CONFIG, "covers": frozenset(), **arguments})


def disproved(proof: Callable[..., None], *arguments: Any) -> str:
    with pytest.raises(Disproved) as caught:
        proof(*arguments)
    return str(caught.value)


def also(say: Callable[[RawEvent], Iterable[Statement]]) -> Any:
    """Acme, saying more than it should."""

    def normalize(event: RawEvent, fields: FieldMap, /) -> Iterable[Statement]:
        return [*SOUND.normalize(event, fields), *say(event)]

    return replace(SOUND, normalize=normalize)


def test_a_sound_connector_is_certified() -> None:
    report = certify(SOUND, fixtures=FIXTURES, config=CONFIG, sign=sign, covers=frozenset(), vendor=vendor)
    assert report.certified, "\n".join(report.lines())
    assert "proved      any order ends equal" in list(report.lines())


def test_what_was_not_proved_is_said() -> None:
    report = certify(SOUND, fixtures=FIXTURES)
    assert not report.failed
    assert not report.certified
    left = {proof.name: proof.detail for proof in report.proofs if proof.outcome == "not proved"}
    assert left == {
        "authentic_requests_come_in": "it needs `sign`",
        "forged_requests_are_refused": "it needs `sign`",
        "stale_requests_are_refused": "it needs `sign`",
        "a_second_pull_adds_nothing": "it needs `vendor`",
    }
    every = certify(SOUND, fixtures=FIXTURES, config=CONFIG, sign=sign, vendor=vendor)
    assert {proof.name for proof in every.proofs} == {proof.name for proof in report.proofs}


def test_a_kind_without_a_fixture() -> None:
    promising = kit(replace(SOUND, kinds=SOUND.kinds | {"person.merged"}))
    assert "no fixture shows person.merged" in disproved(proofs.every_kind_has_a_fixture, promising)


def fixture_of(kit: Kit, name: str) -> Fixture:
    return next(one for one in kit.loaded if one.name == name)


def test_a_fixture_that_says_something_else() -> None:
    chatty = kit(also(lambda event: [TimelineEvent(record=P1, name="noted", id=event.id, at=NOW)]))
    said = disproved(proofs.fixture_says_what_is_expected, chatty, fixture_of(chatty, "person.updated__stage"))
    assert "no longer says what person.updated__stage.expected.json expects" in said
    assert '"name": "noted"' in said


def test_a_missing_expected_file_and_a_misnamed_fixture(tmp_path: Path) -> None:
    folder = tmp_path / "webhook"
    folder.mkdir()
    body = (FIXTURES / "webhook/person.updated__stage.json").read_bytes()
    (folder / "person.updated__new.json").write_bytes(body)
    (folder / "person.created__misnamed.json").write_bytes(body)
    here = kit(fixtures=tmp_path)
    said = disproved(proofs.fixture_says_what_is_expected, here, fixture_of(here, "person.updated__new"))
    assert '"acme_stage": "customer"' in said
    said = disproved(proofs.fixture_says_what_is_expected, here, fixture_of(here, "person.created__misnamed"))
    assert "but shows ['person.updated']" in said


@pytest.mark.parametrize(
    ("look", "name"),
    [
        (lambda: time.time(), "time.time"),
        (lambda: datetime.now(UTC), "datetime.now"),
        (lambda: random.random(), "random"),
        (lambda: socket.gethostname(), "socket"),
        (lambda: Path(__file__).exists(), "stat"),
        (lambda: open(__file__).close(), "open"),  # noqa: PTH123
    ],
)
def test_a_normalize_that_looks_outside(look: Callable[[], object], name: str) -> None:
    def say(_event: RawEvent) -> list[Statement]:
        look()
        return []

    assert name in disproved(proofs.normalize_is_pure, kit(also(say)))


def test_a_normalize_that_remembers() -> None:
    seen: list[str] = []

    def say(event: RawEvent) -> list[Statement]:
        seen.append(event.id)
        return [TimelineEvent(record=P1, name="seen", id=str(len(seen)))]

    assert "twice" in disproved(proofs.normalize_repeats_itself, kit(also(say)))


def test_a_normalize_that_minds_the_order() -> None:
    arrived: list[str] = []

    def say(event: RawEvent) -> list[Statement]:
        arrived.append(event.id)
        return [Fact(record=P1, fields={"latest": event.id}, observed_at=NOW + timedelta(seconds=len(arrived)))]

    assert "the order of events decides" in disproved(proofs.any_order_ends_equal, kit(also(say)))


def test_an_unknown_kind_that_is_not_skipped() -> None:
    def normalize(event: RawEvent, fields: FieldMap, /) -> Iterable[Statement]:
        return [Fact(record=P1, observed_at=NOW)]

    assert "raise Skipped" in disproved(proofs.unknown_kinds_are_skipped, kit(replace(SOUND, normalize=normalize)))


def test_a_body_that_crashes() -> None:
    def normalize(event: RawEvent, fields: FieldMap, /) -> Iterable[Statement]:
        json.loads(event.body)["person"]["id"]
        return [*SOUND.normalize(event, fields)]

    assert "raises" in disproved(proofs.broken_bodies_are_permanent, kit(replace(SOUND, normalize=normalize)))


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        (Fact(record=P1, observed_at=datetime(2026, 9, 1)), "without a zone"),  # noqa: DTZ001
        (Fact(record=RecordRef("deal", "d1"), owner=P1, observed_at=NOW), "add the type to Connector.parts"),
        (TimelineEvent(record=P1, name="n", id="1", metadata={"deep": {}}), "timelines are flat"),  # type: ignore[dict-item]
        (TimelineEvent(record=P1, name="n", id="1", metadata={str(n): n for n in range(11)}), "11 keys"),
        (TimelineEvent(record=P1, name="", id="1"), "without a name"),
        (Fact(record=P1, fields={"nested": [1]}), "never a list"),  # type: ignore[dict-item]
    ],
)
def test_a_statement_the_store_cannot_hold(statement: Statement, complaint: str) -> None:
    said = disproved(proofs.statements_are_well_formed, kit(also(lambda _event: [statement])))
    assert complaint in said


def test_a_field_that_people_see_has_a_name_of_its_own() -> None:
    told = also(lambda _event: [Fact(record=P1, fields={"_g": 5, "_n": "Pro", "plan": "Pro"})])
    assert "_g, _n: a dry run shows these" in disproved(proofs.own_fields_have_labels, kit(told))
    labels = {"_g": "gross", "_n": "plan"}
    assert "both shown as person plan" in disproved(proofs.own_fields_have_labels, kit(replace(told, labels=labels)))
    proofs.own_fields_have_labels(kit(replace(told, labels=labels | {"_n": "plan name"})))


def test_opt_outs_that_are_not_declared_or_never_come() -> None:
    undeclared = kit(replace(SOUND, lowering=frozenset()))
    assert "person.unsubscribed can opt out" in disproved(proofs.opt_outs_are_declared, undeclared)
    silent = kit(replace(SOUND, lowering=SOUND.lowering | {"person.deleted"}))
    assert "person.deleted is in `lowering`" in disproved(proofs.opt_outs_are_declared, silent)
    complaint = also(lambda event: [Consent(act="complaint", record=P1)] if event.kind == "person.updated" else [])
    assert "person.updated can opt out" in disproved(proofs.opt_outs_are_declared, kit(complaint))


def test_a_summary_that_minds_the_order() -> None:
    def summarize(fields: Mapping[str, Said], parts: Iterable[Part], /) -> Mapping[str, Summary]:
        first = next(iter(parts))
        return {"acme_first": Summary(value=first.ref.id, used=(first.ref,))}

    deals = [Fact(record=RecordRef("deal", id), owner=P1, observed_at=NOW) for id in ("d1", "d2")]
    connector = replace(also(lambda _event: deals), parts=frozenset({"deal"}), summarize=summarize)
    assert "summarize depends on the order" in disproved(proofs.any_order_ends_equal, kit(connector))


def combining(combine: Any) -> Any:
    """Acme with two more people, and this way to combine them."""
    two = [Fact(record=RecordRef("person", id), fields={"name": id}, observed_at=NOW) for id in ("p8", "p9")]
    return replace(also(lambda _event: two), combine=combine)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (lambda people: people[0].ref.id, "combine depends on the order of the records"),
        (lambda people: time.time(), "combine calls time.time"),
        (lambda people: people[0].fields.clear(), "changed what it was given"),
        (lambda people: [], "cannot store"),
        (lambda people: len(people), ""),
    ],
)
def test_a_combination_that_minds_more_than_its_records(value: Callable[[list[Any]], Any], complaint: str) -> None:
    def combine(records: Iterable[Whole], /) -> Mapping[str, Summary]:
        people = list(records)
        return {"acme_all": Summary(value=value(people), used=tuple(sorted(one.ref for one in people)))}

    if complaint:
        assert complaint in disproved(proofs.records_combine_in_any_order, kit(combining(combine)))
    else:
        proofs.records_combine_in_any_order(kit(combining(combine)))


def test_a_combination_of_what_it_was_not_given_or_of_too_few() -> None:
    def combine(_records: Iterable[Whole], /) -> Mapping[str, Summary]:
        return {"acme_all": Summary(value=1, used=(RecordRef("person", "nobody"),))}

    assert "which it was not given" in disproved(proofs.records_combine_in_any_order, kit(combining(combine)))
    few = replace(SOUND, combine=combine)
    assert "fewer than two living records" in disproved(proofs.records_combine_in_any_order, kit(few))
    assert "records_combine_in_any_order" in {proof.name for proof in certify(few, fixtures=FIXTURES).failed}


def test_a_door_that_is_too_open() -> None:
    def verify(request: Request, config: Any, /, *, now: datetime) -> None:
        if "x-acme-secret" not in request.headers:
            raise Rejected("no secret")

    open_door = kit(replace(SOUND, verify=verify), sign=sign, covers=frozenset({"body", "time"}))
    assert "another secret: the request is let in" in disproved(outside.forged_requests_are_refused, open_door)
    assert "empty headers: the request is let in" in disproved(outside.unsigned_requests_are_refused, open_door)
    assert "an hour old: the request is let in" in disproved(outside.stale_requests_are_refused, open_door)
    wide_open = kit(replace(SOUND, verify=lambda _request, _config, /, *, now: None))
    assert "no headers and no token: the request" in disproved(outside.unsigned_requests_are_refused, wide_open)
    unread = kit(sign=sign, covers=frozenset({"body"}))
    assert "a changed body: the request is let in" in disproved(outside.forged_requests_are_refused, unread)


def test_a_door_that_refuses_only_the_past() -> None:
    def signed_at(body: bytes, now: datetime) -> Request:
        return Request(body=body, headers={**sign(body, now).headers, "at": now.isoformat()})

    def verify(request: Request, config: Any, /, *, now: datetime) -> None:
        if datetime.fromisoformat(request.headers["at"]) < now - timedelta(minutes=5):
            raise Rejected("stale")

    said = disproved(outside.stale_requests_are_refused, kit(replace(SOUND, verify=verify), sign=signed_at))
    assert said == "an hour in the future: the request is let in"


def test_a_split_that_makes_up_ids_or_chokes() -> None:
    def split(request: Request, config: Any, /) -> Iterator[RawEvent]:
        for event in SOUND.split(request, config):
            yield replace(event, id=f"{event.id}:{random.random()}")

    made_up = kit(replace(SOUND, split=split), sign=sign)
    assert "event ids" in disproved(outside.event_ids_last, made_up)

    def careless(request: Request, config: Any, /) -> Iterable[RawEvent]:
        json.loads(request.body)
        return [*SOUND.split(request, config)]

    for one in (sign, None):
        chokes = kit(replace(SOUND, split=careless), sign=one)
        assert "at the door" in disproved(outside.garbage_is_refused, chokes)


def test_an_error_that_escapes_and_a_secret_that_is_told() -> None:
    def probe(config: Any, ctx: Context, /) -> Any:
        logging.getLogger("acme").debug("calling with %s", {"Authorization": f"Bearer {config.api_key}"})
        raise ConnectionError("no such host")

    careless = kit(replace(SOUND, probe=probe))
    assert "ConnectionError escapes" in disproved(outside.no_foreign_error_escapes, careless)
    assert "a secret stands in a log line" in disproved(outside.no_secret_is_logged, careless)

    def blabbing(config: Any, ctx: Context, /) -> Any:
        try:
            raise ValueError(f"https://acme.example/?key={config.api_key}")
        except ValueError as error:
            raise Config("Acme refuses the key") from error

    blabbed = disproved(outside.no_secret_is_logged, kit(replace(SOUND, probe=blabbing)))
    assert "a secret stands in probe when the vendor has" in blabbed


def test_a_pull_that_differs_each_time_or_cannot_go_on() -> None:
    def restless(cursor: str | None, config: Any, ctx: Context, /) -> Iterator[Page]:
        for page in SOUND.pull(cursor, config, ctx):
            told = ctx.now.isoformat().encode()
            yield replace(page, events=tuple(replace(one, body=one.body.replace(b"Bo", told)) for one in page.events))

    again = kit(replace(SOUND, pull=restless), vendor=vendor)
    assert "changes what is known" in disproved(outside.a_second_pull_adds_nothing, again)

    def forgetful(cursor: str | None, config: Any, ctx: Context, /) -> Iterator[Page]:
        pages = list(SOUND.pull(None, config, ctx))
        yield from pages if cursor is None else [replace(pages[-1], events=())]

    stuck = kit(replace(SOUND, pull=forgetful), vendor=vendor)
    assert "does not continue" in disproved(outside.a_second_pull_adds_nothing, stuck)
