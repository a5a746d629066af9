"""Writing many: one batch, asked for once, its answers read with suspicion, and who it could not write done alone."""

from __future__ import annotations

import io
import json
import tarfile
from contextlib import suppress
from typing import Any

import pytest
from tests.connectors.mailchimp.conftest import LIST, OTHER

from upkept.contract import Desired, Permanent, Pushed, RecordRef, Retryable, Skipped
from upkept.testing.fake_mailchimp import FakeMailchimp
from upkept.testing.fake_mailchimp.api import answer
from upkept_mailchimp.client import batch, push_many
from upkept_mailchimp.client.batch import FEW_OPT_OUTS, read_answers
from upkept_mailchimp.config import MailchimpConfig
from upkept_mailchimp.member import hash_of

MANY = 60


def record(n: int) -> RecordRef:
    return RecordRef("member", f"{LIST}/{hash_of(f'm{n}@example.com')}")


def states(count: int = MANY, **said: Any) -> dict[str, Desired]:
    return {f"key-{n:03}": Desired(person=f"p{n}", record=record(n), **said) for n in range(count)}


def statuses(fake: FakeMailchimp) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in fake.world.audiences[LIST].members.values():
        found[one["status"]] = found.get(one["status"], 0) + 1
    return found


def calls(fake: FakeMailchimp, method: str, path: str = "") -> int:
    return sum(one["method"] == method and path in one["path"] for one in fake.requests())


@pytest.fixture(autouse=True)
def members(fake: FakeMailchimp) -> None:
    fake.seed(audience=LIST, members=MANY)


def test_many_opt_outs_are_one_batch(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    done = dict(push_many(states(consent={"*": "opt_out"}, fields={"merge_fields.FNAME": "X"}), config, ctx))
    assert statuses(fake) == {"unsubscribed": MANY}
    assert (calls(fake, "POST", "/batches"), calls(fake, "PATCH")) == (1, 0)
    assert len(done) == MANY
    first = done["key-000"]
    assert isinstance(first, Pushed)
    assert (first.record, first.fields) == (record(0), {"merge_fields.FNAME": "X"})
    assert first.at is not None


def test_a_few_are_sooner_alone(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    done = dict(push_many(states(FEW_OPT_OUTS, consent={"*": "opt_out"}), config, ctx))
    assert all(isinstance(one, Pushed) for one in done.values())
    assert (calls(fake, "POST"), calls(fake, "PATCH")) == (0, FEW_OPT_OUTS)


def test_each_is_answered_as_if_it_were_alone(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    """A lock, a member that is gone, a profile that is refused, another audience, a tag, an erasure: among many."""
    fake.audience(LIST, merge_fields={"SEATS": "number"})
    fake.act("unsubscribe", "m0@example.com", audience=LIST)
    fake.act("erase", "m1@example.com", audience=LIST)
    wanted = states(consent={"*": "opt_out"})
    wanted["key-000"] = Desired(
        person="p", record=record(0), consent={"*": "opt_in"}, fields={"merge_fields.FNAME": "A"}
    )
    wanted["key-002"] = Desired(
        person="p", record=record(2), consent={"*": "opt_out"}, fields={"merge_fields.SEATS": "?"}
    )
    wanted["key-003"] = Desired(
        person="p", record=RecordRef("member", f"{OTHER}/{hash_of('x')}"), consent={"*": "opt_out"}
    )
    wanted["key-004"] = Desired(person="p", record=record(4), fields={"tags.VIP": True})
    wanted["key-005"] = Desired(person="p", record=record(5), erased=True)
    wanted["key-006"] = Desired(person="p", record=None, email="new@example.com", fields={"merge_fields.FNAME": "N"})
    done = dict(push_many(wanted, config, ctx))
    assert done.keys() == wanted.keys()
    locked, tagged, added = done["key-000"], done["key-004"], done["key-006"]
    assert isinstance(locked, Pushed)
    assert (locked.locked, locked.fields) == (frozenset({"*"}), {"merge_fields.FNAME": "A"})
    assert isinstance(done["key-001"], Skipped)
    assert isinstance(done["key-002"], Permanent)
    assert isinstance(done["key-003"], Permanent)
    assert isinstance(tagged, Pushed)
    assert isinstance(added, Pushed)
    assert added.record == RecordRef("member", f"{LIST}/{hash_of('new@example.com')}")
    members = fake.world.audiences[LIST].members
    assert members[hash_of("m2@example.com")]["status"] == "unsubscribed"
    assert members[hash_of("m5@example.com")]["status"] == "archived"
    assert [one["name"] for one in members[hash_of("m4@example.com")]["tags"]] == ["VIP"]


def test_a_batch_that_takes_long_is_gone_on_with_and_not_asked_for_again(
    fake: FakeMailchimp, config: MailchimpConfig, ctx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "PATIENCE", 0.1)
    fake.faults(batch_seconds=60)
    wanted = states(consent={"*": "opt_out"})
    for _ in range(3):
        with pytest.raises(Retryable, match="still at work"):
            dict(push_many(wanted, config, ctx))
    assert calls(fake, "POST", "/batches") == 1
    for one in fake.world.batches.values():
        one["due"] = 0
    assert len(dict(push_many(wanted, config, ctx))) == MANY
    assert (statuses(fake), calls(fake, "POST", "/batches")) == ({"unsubscribed": MANY}, 1)


def test_an_opt_out_is_not_undone_by_a_batch_that_runs_later(
    fake: FakeMailchimp, config: MailchimpConfig, ctx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is to be subscribed goes into no batch: it would run after an opt-out that was acknowledged meanwhile."""
    monkeypatch.setattr(batch, "PATIENCE", 0.1)
    for one in fake.world.audiences[LIST].members.values():
        one["status"] = "unsubscribed"
    fake.faults(batch_seconds=60)
    wanted = states(consent={"*": "opt_in"}, fields={"merge_fields.FNAME": "X"})
    wanted |= {f"new-{n}": Desired(person="p", record=None, email=f"n{n}@example.com", consent={"*": "opt_in"})
               for n in range(12)}  # fmt: skip
    with suppress(Retryable):  # a batch is at work
        dict(push_many(wanted, config, ctx))
    left = Desired(person="p0", record=record(0), consent={"*": "opt_out"})
    assert isinstance(dict(push_many({"key-out": left}, config, ctx))["key-out"], Pushed)
    for id, one in fake.world.batches.items():
        one["due"] = 0
        answer(fake.world, "GET", f"/batches/{id}", {}, {})  # it works when it is looked at
    assert fake.world.audiences[LIST].members[hash_of("m0@example.com")]["status"] == "unsubscribed"
    assert statuses(fake) == {"subscribed": MANY - 1 + 12, "unsubscribed": 1}


def test_a_batch_of_opt_outs_is_at_work_before_others_are_written(
    fake: FakeMailchimp, config: MailchimpConfig, ctx: Any
) -> None:
    fake.seed(audience=LIST, members=5)
    wanted = {f"in-{n}": Desired(person="p", record=record(MANY + n), consent={"*": "opt_in"}) for n in range(5)}
    done = dict(push_many(wanted | states(consent={"*": "opt_out"}), config, ctx))
    assert len(done) == MANY + 5
    methods = [one["method"] for one in fake.requests() if one["method"] in ("POST", "PATCH")]
    assert methods == ["POST", *["PATCH"] * 5]


def test_a_batch_that_mailchimp_forgot_is_asked_for_anew(
    fake: FakeMailchimp, config: MailchimpConfig, ctx: Any
) -> None:
    wanted = states(consent={"*": "opt_out"})
    fake.faults(fail_next=[None, 500])
    with pytest.raises(Retryable):
        dict(push_many(wanted, config, ctx))
    fake.world.batches.clear()
    with pytest.raises(Retryable, match="no longer knows"):
        dict(push_many(wanted, config, ctx))
    assert len(dict(push_many(wanted, config, ctx))) == MANY
    assert calls(fake, "POST", "/batches") == 2


def test_what_comes_up_meanwhile_is_a_batch_of_its_own(
    fake: FakeMailchimp, config: MailchimpConfig, ctx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a queue that grows would put everybody into a new batch at each try, and never hear of any."""
    monkeypatch.setattr(batch, "PATIENCE", 0.1)
    fake.seed(audience=LIST, members=MANY)
    fake.faults(batch_seconds=60)
    with pytest.raises(Retryable):
        dict(push_many(states(consent={"*": "opt_out"}), config, ctx))
    with pytest.raises(Retryable):
        dict(push_many(states(2 * MANY, consent={"*": "opt_out"}), config, ctx))
    sizes = [len(one["operations"]) for one in fake.world.batches.values()]
    for one in fake.world.batches.values():
        one["due"] = 0
    assert len(dict(push_many(states(2 * MANY, consent={"*": "opt_out"}), config, ctx))) == 2 * MANY
    assert sizes == [MANY, MANY]
    assert calls(fake, "POST", "/batches") == 2
    assert json.loads(ctx.tokens["batches"]) == {}


def test_five_hundred_that_wait_are_enough(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    fake.world.batches.update({f"x{n}": {"id": f"x{n}", "operations": [], "due": 1e18} for n in range(500)})
    with pytest.raises(Retryable) as later:
        dict(push_many(states(consent={"*": "opt_out"}), config, ctx))
    assert later.value.after


def test_answers_that_are_no_archive_are_asked_for_again(
    fake: FakeMailchimp, config: MailchimpConfig, ctx: Any
) -> None:
    fake.faults(batch_broken=True)
    with pytest.raises(Retryable, match="cannot be read"):
        dict(push_many(states(consent={"*": "opt_out"}), config, ctx))
    fake.faults()
    assert len(dict(push_many(states(consent={"*": "opt_out"}), config, ctx))) == MANY
    assert calls(fake, "POST", "/batches") == 1


def test_the_key_is_not_sent_to_where_the_answers_lie(config: MailchimpConfig, ctx: Any) -> None:
    for url in ("http://169.254.169.254/latest", "file:///etc/passwd", "", "ftp://x", "http://127.0.0.1:1/x"):
        with pytest.raises(Retryable, match="no safe address"):
            batch._downloaded({"response_body_url": url}, config, ctx)


def packed(name: str, text: bytes, *, size: int | None = None, kind: bytes = tarfile.REGTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        entry = tarfile.TarInfo(name)
        entry.size, entry.type, entry.linkname = len(text) if size is None else size, kind, "/etc/passwd"
        tar.addfile(entry, io.BytesIO(text))
    return out.getvalue()


def test_an_archive_is_read_with_suspicion() -> None:
    one = json.dumps([{"operation_id": "k/member", "status_code": 200, "response": '{"id": "x"}'}]).encode()
    assert read_answers(packed("b/a.json", one)) == {"k/member": (200, {"id": "x"})}
    assert read_answers(packed("../../etc/cron.d/a.json", one)) == {"k/member": (200, {"id": "x"})}, (
        "nothing is unpacked"
    )
    assert read_answers(packed("b/a.json", b"", kind=tarfile.SYMTYPE)) == {}
    assert read_answers(packed("b/a.txt", b"x")) == {}
    for broken in (b"", b"x", packed("a.json", one)[:40], packed("a.json", b"{"), packed("a.json", b'[{"x": 1}]'),
                   packed("a.json", b"[" * 100_000)):  # fmt: skip
        with pytest.raises(Retryable):
            read_answers(broken)
    with pytest.raises(Permanent, match="larger"):
        read_answers(packed("a.json", bytes(batch.LARGEST + 1)))
