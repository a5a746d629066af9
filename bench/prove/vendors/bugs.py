"""Mistakes that one makes with these vendors, each planted into a connector or the product; all must be caught."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from importlib import import_module
from typing import Any, Final
from unittest.mock import patch

from bench.prove.bugs import no_tie_break

from upkept.contract import Consent
from upkept.flow import effect, opt_outs, plan
from upkept.people.consent import admit_consent

# The packages offer the functions of these names; the modules themselves are meant.
mailchimp, marketo, salesforce, stripe = (
    import_module(f"upkept_{name}.normalize") for name in ("mailchimp", "marketo", "salesforce", "stripe")
)


@contextmanager
def mailchimp_read_stamped_with_arrival() -> Iterator[None]:
    """A member's `last_changed` is not looked at: what a read shows is as new as its arrival."""
    with patch.object(mailchimp, "_changed_at", lambda member: None):
        yield


@contextmanager
def mailchimp_list_word_qualifies() -> Iterator[None]:
    """Whoever stands on a list as subscribed is taken to have asked for it."""
    with patch.object(mailchimp, "_confirmed", lambda read: (mailchimp._time(read.member["timestamp_opt"]), "listed")):
        yield


@contextmanager
def mailchimp_archive_opts_out() -> Iterator[None]:
    """Tidying up counts as a wish."""

    def consent(read: Any, *of: Any) -> Iterator[Any]:
        left = {**read.member, "status": "unsubscribed"} if read.member.get("status") == "archived" else read.member
        yield from true_consent(replace(read, member=left), *of)

    true_consent = mailchimp._consent
    with patch.object(mailchimp, "_consent", consent):
        yield


@contextmanager
def salesforce_unticked_box_opts_in() -> Iterator[None]:
    """A checkbox that is not set counts as the person's own opt-in."""

    def consent(row: Mapping[str, Any], record: Any, at: datetime | None) -> Iterator[Consent]:
        yield from true_consent(row, record, at)
        if row.get(salesforce.OPT_OUT) is False:
            yield Consent(act="opt_in", record=record, address=row.get("Email"), at=at, qualified=True, evidence="CRM")

    true_consent = salesforce._consent
    with patch.object(salesforce, "_consent", consent):
        yield


@contextmanager
def marketo_taken_back_lifts() -> Iterator[None]:
    """`unsubscribed` set to false counts as the person's own opt-in."""

    def changed(told: Any) -> Iterator[Any]:
        for said in true_changed(told):
            opts_in = isinstance(said, Consent) and said.act == "opt_in"
            yield replace(said, address=told.email, qualified=True, evidence="Marketo") if opts_in else said

    true_changed = marketo._changed
    with patch.dict(marketo._READERS, {marketo.CHANGED: changed}):
        yield


@contextmanager
def marketo_flag_as_old_as_its_read() -> Iterator[None]:
    """A flag that is set counts from the read that shows it, so that every poll opts the lead out anew."""

    def lead(shown: Mapping[str, Any], *of: Any) -> Iterator[Any]:
        yield from true_lead({name: value for name, value in shown.items() if name != "updatedAt"}, *of)

    true_lead = marketo._lead
    with patch.object(marketo, "_lead", lead):
        yield


@contextmanager
def stripe_event_as_old_as_its_arrival() -> Iterator[None]:
    """`created` of an event is not looked at."""

    def told(event: Any) -> Any:
        return replace(true_told(event), at=event.received_at)

    true_told = stripe.told
    with patch.object(stripe, "told", told):
        yield


@contextmanager
def loser_dropped() -> Iterator[None]:
    """What comes late for a record that was merged away or deleted is thrown away."""

    def folded(connection: Any, hub: Any, batch: Any, working: Any, *of: Any) -> None:
        batch.facts = [one for one in batch.facts if not working.records[one.record].deleted]
        true_fold(connection, hub, batch, working, *of)

    true_fold = effect._fold
    with patch.object(effect, "_fold", folded):
        yield


@contextmanager
def opt_out_stays_behind() -> Iterator[None]:
    """An opt-out is the address's alone, as at Marketo: who moves to a clean one is subscribed again."""

    def admitted(name: str, statement: Consent, **options: Any) -> list[Any]:
        facts = admit_consent(name, statement, **options)
        of_address = [fact for fact in facts if fact.subject_kind == "address"]
        return of_address or facts if statement.act == "opt_out" else facts

    with patch.object(plan, "admit_consent", admitted), patch.object(opt_outs, "admit_consent", admitted):
        yield


BUGS: Final[tuple[Callable[[], Any], ...]] = (
    mailchimp_read_stamped_with_arrival,
    mailchimp_list_word_qualifies,
    mailchimp_archive_opts_out,
    salesforce_unticked_box_opts_in,
    marketo_taken_back_lifts,
    marketo_flag_as_old_as_its_read,
    stripe_event_as_old_as_its_arrival,
    loser_dropped,
    opt_out_stays_behind,
    no_tie_break,
)
