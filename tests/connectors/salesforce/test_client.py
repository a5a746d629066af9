"""The SDK behind its door: each trap of `simple-salesforce` 1.12 that was measured, and that we do not step into."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from simple_salesforce.api import Salesforce
from tests.connectors.ledgered import Ledgered
from tests.connectors.salesforce.conftest import configured
from tests.connectors.salesforce.test_conformance import CONFIG, FIXTURES, sign

from upkept.contract import Config, Fact, Permanent, RawEvent, Retryable, Skipped
from upkept.testing.fake_salesforce import ALWAYS_GOOD, FakeSalesforce
from upkept.testing.fake_salesforce.org import ORGANIZATION
from upkept.testing.kit import Kit
from upkept.testing.proofs_outside import no_foreign_error_escapes, no_secret_is_logged
from upkept_salesforce import connector
from upkept_salesforce.client import describe, door, fetch, probe
from upkept_salesforce.client.api import call, rest
from upkept_salesforce.client.door import is_salesforce, session
from upkept_salesforce.config import SalesforceConfig

KEY = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def read(id: str, kind: str = "lead") -> RawEvent:
    return RawEvent(id=id, kind=f"read.{kind}", body=b"")


def row(event: RawEvent) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(event.body)["row"]
    return found


def test_a_plain_http_address_is_reached_although_the_sdk_makes_it_https(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    (id,) = fake.seed(leads=1)
    assert row(fetch(read(id), config, ctx))["Email"] == "lead0@example.com"
    assert ctx.open_slots == 0
    assert ctx.permits == len(fake.gate.requests)


def test_sessions_that_are_over_at_once_cost_two_logins_not_971(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    (id,) = fake.seed(leads=1)
    fake.set_faults(expired=True)
    with pytest.raises(Config, match="refuses the session"):
        fetch(read(id), config, ctx)
    assert fake.gate.logins == 2


def test_a_session_that_is_over_is_replaced_once_and_the_call_made_again(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    (id,) = fake.seed(leads=1)
    fetch(read(id), config, ctx)
    fake.gate.sessions.clear()
    assert row(fetch(read(id), config, ctx))["Id"] == id
    assert fake.gate.logins == 2


def test_what_every_call_carries_survives_a_new_login(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    (id,) = fake.seed(leads=1)
    fake.set_faults(fail_next=[500])
    with pytest.raises(Retryable):
        fetch(read(id), config, ctx)
    fake.set_faults()
    fetch(read(id), config, ctx)
    fake.gate.sessions.clear()
    fetch(read(id), config, ctx)
    assert len(fake.gate.requests) > 4
    assert {seen.get("sforce-call-options") for seen in fake.gate.requests} == {"client=upkept"}


def test_another_workers_newer_session_is_taken_before_logging_in(fake: FakeSalesforce, ctx: Ledgered) -> None:
    (id,) = fake.seed(leads=1)
    config = configured(fake)
    ctx.keep_token("session", json.dumps(["over", fake.url, ""]), seconds=1)

    def renewed_meanwhile(org: Salesforce) -> Any:
        ctx.keep_token("session", json.dumps([ALWAYS_GOOD, fake.url, ""]), seconds=1)
        return org.restful(f"sobjects/Lead/{id}")

    assert call(renewed_meanwhile, config, ctx, endpoint="test").body["Id"] == id
    assert fake.gate.logins == 0


def test_every_call_has_a_time_out(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert door.CONNECT_TIMEOUT + door.READ_TIMEOUT < 30
    (id,) = fake.seed(leads=1)
    monkeypatch.setattr(door, "READ_TIMEOUT", 0.2)
    fake.set_faults(slow=1.0)
    with pytest.raises(Retryable, match="ReadTimeout"):
        fetch(read(id), config, ctx)


def test_too_many_calls_and_too_few_rights_are_both_403_and_told_apart(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    (id,) = fake.seed(leads=1)
    fake.set_faults(limit={"after": 0})
    with pytest.raises(Retryable, match="REQUEST_LIMIT_EXCEEDED") as limited:
        fetch(read(id), config, ctx)
    assert limited.value.after == 900
    fake.set_faults(fail_next=[403])
    with pytest.raises(Config, match="may not do this"):
        rest("GET", "limits", config, ctx, endpoint="limits")


@pytest.mark.parametrize("how", ["html", "garbage", "array", "reset", 500, 503, "UNABLE_TO_LOCK_ROW", "QUERY_TIMEOUT"])
def test_a_sick_salesforce_is_asked_again(how: Any, fake: FakeSalesforce, ctx: Ledgered) -> None:
    (id,) = fake.seed(leads=1)
    config = configured(fake)
    fetch(read(id), config, ctx)
    fake.set_faults(fail_next=[how])
    with pytest.raises(Retryable):
        fetch(read(id), config, ctx)
    assert row(fetch(read(id), config, ctx))["Id"] == id


@pytest.mark.parametrize("how", ["html", 503, "reset", "garbage"])
def test_a_sick_login_is_asked_again_and_a_refused_one_is_the_operators(
    how: Any, fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    fake.set_faults(fail_next=[how])
    with pytest.raises(Retryable):
        probe(config, ctx)
    fake.set_faults(revoked=True)
    with pytest.raises(Config, match="invalid_grant"):
        probe(config, ctx)


def test_errors_quote_no_value(fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered) -> None:
    with pytest.raises(Permanent) as refused:
        rest("POST", "sobjects/Lead", config, ctx, endpoint="create",
             json={"LastName": "Doe", "Company": "x", "Email": "not an address"})  # fmt: skip
    assert "INVALID_EMAIL_ADDRESS" in str(refused.value)
    assert "not an address" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_netrc_of_the_machine_does_not_replace_the_session(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    (id,) = fake.seed(leads=1)
    assert row(fetch(read(id), config, ctx))["Id"] == id


def test_only_salesforces_own_word_counts_about_where_an_org_lives(fake: FakeSalesforce) -> None:
    assert is_salesforce("https://acme.my.salesforce.com")
    assert is_salesforce("https://login.salesforce.com/")
    assert not is_salesforce("https://salesforce.com.example.org")
    assert not is_salesforce("http://127.0.0.1:1")
    assert session("https://acme.my.salesforce.com")[1].target is None
    assert session(fake.url)[1].target == fake.url


def test_jwt_and_session_auth(fake: FakeSalesforce, ctx: Ledgered) -> None:
    (id,) = fake.seed(leads=1)
    bearer = SalesforceConfig(client_id="app", username="u@example.com", private_key=KEY, base_url=fake.url)
    assert row(fetch(read(id), bearer, ctx))["Id"] == id
    bare = SalesforceConfig(access_token=ALWAYS_GOOD, base_url=fake.url)
    logins = fake.gate.logins
    assert row(fetch(read(id), bare, Ledgered()))["Id"] == id
    assert fake.gate.logins == logins
    fake.gate.sessions.clear()
    with pytest.raises(Config, match="access_token"):
        fetch(read(id), bare, Ledgered())


def test_the_assertion_says_who_and_for_whom(fake: FakeSalesforce, ctx: Ledgered) -> None:
    from upkept_salesforce.client.login import _credentials

    config = SalesforceConfig(client_id="app", username="u@example.com", private_key=KEY, audience="https://test.x")
    said = jwt.decode(_credentials(config, ctx)["assertion"], options={"verify_signature": False})
    assert (said["iss"], said["sub"], said["aud"]) == ("app", "u@example.com", "https://test.x")
    assert 170 <= said["exp"] - ctx.now.timestamp() <= 180


@pytest.mark.parametrize(
    "options",
    [
        {"client_secret": ""},
        {"client_secret": "", "username": "u", "private_key": "no key"},
        {"client_id": "", "access_token": ""},
        {"access_token": "00D!x", "base_url": "https://login.salesforce.com"},
    ],
)
def test_credentials_that_cannot_be_used_are_the_operators(
    options: dict[str, str], fake: FakeSalesforce, ctx: Ledgered
) -> None:
    with pytest.raises(Config):
        probe(configured(fake, **options), ctx)
    assert not fake.gate.requests


def test_probe_names_the_org_and_what_is_hidden(fake: FakeSalesforce, ctx: Ledgered) -> None:
    fake.set_faults(hidden=["Lead.HasOptedOutOfEmail", "CampaignMember", "Contact.Phone"])
    found = probe(configured(fake, organization_id=ORGANIZATION[:15], external_id_field="Nope__c"), ctx)
    assert found.account == f"Acme ({ORGANIZATION})"
    assert found.warnings == (
        "Lead.HasOptedOutOfEmail is hidden from the integration user: no opt-out of a lead is seen",
        "Lead: not to be seen are Nope__c",
        "Contact: not to be seen are Phone, Nope__c",
        "the integration user may not see CampaignMembers: they are left out",
    )


def test_probe_says_why_no_task_could_be_written(fake: FakeSalesforce, ctx: Ledgered) -> None:
    rule = configured(fake, organization_id=ORGANIZATION, tasks="charge failed")
    assert probe(rule, ctx).warnings == ()
    fake.set_faults(hidden=["Task.Description"], read_only=["Task"])
    assert probe(rule, ctx).warnings == (
        "tasks cannot be written: the integration user may not make Tasks; give it create and Edit Tasks",
        "tasks cannot be written: hidden from the integration user are Description",
    )
    fake.set_faults(hidden=["Task"])
    describe._known.clear()
    assert "tasks cannot be written: the integration user may not see Tasks" in probe(rule, ctx).warnings
    assert not [said for said in probe(configured(fake), ctx).warnings if said.startswith("tasks")]


def test_probe_refuses_another_org_and_one_without_leads(fake: FakeSalesforce, ctx: Ledgered) -> None:
    with pytest.raises(Config, match="not organization_id"):
        probe(configured(fake, organization_id="00D000000000001"), ctx)
    fake.set_faults(hidden=["Lead"])
    with pytest.raises(Config, match="may not see Leads"):
        probe(configured(fake), ctx)


def test_a_field_hidden_since_it_was_described_costs_one_more_call(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    (id,) = fake.seed(leads=1)
    assert "Phone" in row(fetch(read(id), config, ctx))
    fake.set_faults(hidden=["Lead.Phone"])
    assert "Phone" not in row(fetch(read(id), config, ctx))


def test_a_read_shows_deleted_merged_and_purged_records(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    winner, loser = fake.seed(leads=2)
    fake.org.merge("Lead", winner, [loser])
    assert row(fetch(read(loser[:15]), config, ctx))["MasterRecordId"] == winner
    fake.org.purge()
    assert row(fetch(read(loser), config, ctx)) == {"Id": loser, "IsDeleted": True}
    for id, kind in ((winner, "contact"), ("conformance_1", "lead"), (winner, "case")):
        with pytest.raises(Skipped):
            fetch(read(id, kind), config, ctx)


def test_no_error_escapes_and_no_secret_is_told_with_a_session_either() -> None:
    config = SalesforceConfig(
        access_token="00D_planted_session_id",
        organization_id=CONFIG.organization_id,
        webhook_token=CONFIG.webhook_token,
    )
    kit = Kit(connector=connector, fixtures=FIXTURES, config=config, sign=sign)
    no_foreign_error_escapes(kit)
    no_secret_is_logged(kit)


def test_what_our_own_user_changed_last_is_known_for_ours(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    one, two = fake.seed(leads=2)
    rest("PATCH", f"sobjects/Lead/{one}", config, ctx, endpoint="test", json={"Title": "x"})
    said = {id: next(iter(connector.normalize(fetch(read(id), config, ctx), connector.fields))) for id in (one, two)}
    assert {id: isinstance(fact, Fact) and fact.ours for id, fact in said.items()} == {one: True, two: False}
    fake.change("Lead", one, Title="y")
    (fact,) = connector.normalize(fetch(read(one), config, ctx), connector.fields)
    assert isinstance(fact, Fact)
    assert not fact.ours
