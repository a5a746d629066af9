"""The five-minute tour of the README, played by itself: `make demo`.

A hub and a Stripe-compatible sandbox start side by side; Stripe's own SDK makes customers, subscriptions and payments
there; the signed webhooks reach the hub; the people that result are shown and one of them explained. Then a change
whose webhook is lost is found by a resync, and a delivery that comes again changes nothing. At last Mailchimp, Marketo
and Salesforce join, and an unsubscribe at one of them is one at all. Nothing stays.

Exit status: 0 if all of that was seen, 1 with what went wrong, 130 after Ctrl-C.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import stripe
from bench.demo import around, hub, sandbox, show
from bench.demo.story import PEOPLE, Story, story
from bench.processes import Failed
from bench.three import VARIABLES

ARRIVE_SECONDS: Final = 60.0
CONFIG: Final = """\
[workspace]
name = "Demo"

[connections.stripe]
connector = "stripe"
api_key = "env:STRIPE_API_KEY"
webhook_secret = "env:STRIPE_WEBHOOK_SECRET"
base_url = "{sandbox}"
poll = 0
"""
"""`poll = 0`: the demo asks for its resync itself, so nothing else may find the lost change before."""

console = show.console()


def main() -> int:
    """Play it; whatever happens, nothing is left running."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"  # all of this happens on this machine
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="upkept-demo-") as folder:
            play(Path(folder))
    except (Failed, stripe.StripeError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: stopped; nothing is left running", file=sys.stderr)
        return 130
    console.print(f"\n[bold]That was all of it[/bold], in {time.monotonic() - began:.0f} s. Hub, sandbox and their "
                  "data are gone; the README has the same tour for your own hands.")  # fmt: skip
    return 0


def play(folder: Path) -> None:
    """The tour; `Failed` says what was not as promised."""
    if sandbox.in_use():
        console.print(f"[dim]{sandbox.STATE} is in use: another localstripe left its state there or runs. "
                      "It is put aside and back again.[/dim]")  # fmt: skip
    secret = f"whsec_{secrets.token_hex(16)}"
    variables = {"STRIPE_API_KEY": sandbox.KEY, "STRIPE_WEBHOOK_SECRET": secret, **VARIABLES}
    with (
        sandbox.running(folder) as vendor,
        around.running() as others,
        hub.running(folder, CONFIG.format(sandbox=vendor.url) + others.config, variables) as ours,
    ):
        _chapter("A hub (upkept up) and a Stripe-compatible sandbox (localstripe)")
        _tell(f"the hub listens at {ours.hook}, the sandbox at {vendor.url}")
        vendor.tell(ours.hook, secret)
        _chapter("What happens at Stripe, told by Stripe's own SDK")
        told = story(vendor.url, sandbox.KEY)
        for line in told.happen():
            _tell(line)
        _await_people(ours, vendor)
        _chapter("The people that result")
        before = _people(ours)
        _chapter("Why: every value has its source")
        _command(ours, "explain", "101")
        _lose_and_find(ours, told, before)
        _deliver_again(ours, vendor, secret)
        _go_round(ours, others)


def _await_people(ours: hub.Hub, vendor: sandbox.Sandbox) -> None:
    """Until every event was delivered and nothing of it waits."""
    wanted = len(vendor.events())
    until = time.monotonic() + ARRIVE_SECONDS
    while (accepted := ours.accepted()) < wanted or ours.ready().get("waiting_rows") != 0:
        if time.monotonic() > until:
            raise Failed(
                f"of {wanted} events {accepted} were accepted within {ARRIVE_SECONDS:.0f} s, and the hub says: "
                f"{json.dumps(ours.ready())}\n{ours.process.last_words()}"
            )
        time.sleep(0.1)
    _tell(f"{wanted} signed webhooks were delivered, stored and applied")


def _people(ours: hub.Hub) -> Mapping[str, show.Person]:
    with ThreadPoolExecutor(2) as two:
        people = dict(zip(PEOPLE, two.map(ours.explain, PEOPLE), strict=True))
    console.print(show.table([*people.values()], "user", "email", "plan", "status", "MRR", "paid"))
    _tell("the two customers of one address are one person")
    _expect("what three seats are a month", show.value(people["101"], "stripe_mrr"), 147.0)
    _expect("a year of a currency without decimals", show.value(people["102"], "stripe_lifetime_value"), 120_000)
    _expect("the cancelled subscription", show.value(people["104"], "stripe_subscription_status"), "canceled")
    _expect("one person for two customers of one address", len(people["twice@example.com"]["records"]), 2)
    return people


def _lose_and_find(ours: hub.Hub, told: Story, before: Mapping[str, show.Person]) -> None:
    _chapter("A webhook is lost; a resync finds what it would have told")
    for line in told.change_unheard():
        _tell(line)
    _tell(f"nobody told the hub: there user 101 is on {show.value(before['101'], 'stripe_plan')} still")
    _command(ours, "resync", "stripe", "--wait")
    mover, leaver = ours.explain("101"), ours.explain("103")
    console.print(show.table([mover, leaver], "user", "email", "plan", "status", "MRR", "next invoice"))
    _expect("the plan that user 101 moved to", show.value(mover, "stripe_plan"), "Business")
    _expect("that user 103 leaves", show.value(leaver, "stripe_cancel_at_period_end"), True)


def _deliver_again(ours: hub.Hub, vendor: sandbox.Sandbox, secret: str) -> None:
    _chapter("A delivery comes again, and one is forged")
    before = _digest(ours)
    event = next(one for one in vendor.events() if one["type"] == "customer.subscription.created")
    body = json.dumps(event, indent=2, sort_keys=True).encode()
    for _ in range(2):
        _expect("the answer to a repeated delivery", ours.post(body, secret), 200)
    _expect("the answer to a forged delivery", ours.post(body, f"{secret}0"), 401)
    _tell(f"{event['type']} is delivered twice more, freshly signed: 200; with a wrong signature: 401")
    _expect("the digest of the whole store", _digest(ours), before)
    _tell("the same digest: nothing changed")


def _go_round(ours: hub.Hub, others: around.Vendors) -> None:
    _chapter("Mailchimp, Marketo and Salesforce (stand-ins of our own) know two of these people, too")
    for name in ("mailchimp", "marketo", "salesforce"):
        _command(ours, "resync", name, "--wait")
    around.within("the plan in Mailchimp", lambda: others.plan(around.GONE) != "")
    console.print(others.table())
    _tell("the plan comes from Stripe: Mailchimp's PLAN is said to be written from it in upkept.toml")
    _chapter("One of them unsubscribes at Mailchimp")
    others.tell(ours.hooks)
    others.unsubscribe()
    took = around.within("the opt-out at all of them", lambda: not any(others.may_mail(around.GONE).values()))
    console.print(others.table())
    _tell(f"that took {took:.1f} s from the click on")
    _chapter("Somebody imports an old list at Marketo: it says that all may be mailed")
    others.import_again()
    _expect("what Marketo thinks", others.may_mail(around.GONE)["Marketo"], True)
    _command(ours, "resync", "marketo", "--wait")
    around.within("the opt-out at Marketo again", lambda: not others.may_mail(around.GONE)["Marketo"])
    _tell("Marketo is told again: an unsubscribe is never reverted by an import")
    _command(ours, "explain", "103", "consent")


def _digest(ours: hub.Hub) -> str:
    _prompt("digest")
    digest = ours.command("digest").strip()
    _tell(digest)
    return digest


def _chapter(title: str) -> None:
    console.print(f"\n[bold]{title}[/bold]")


def _tell(line: str) -> None:
    console.print(f"  {line}", markup=False)


def _command(ours: hub.Hub, *words: str) -> None:
    _prompt(*words)
    ours.show(*words)


def _prompt(*words: str) -> None:
    console.print(f"  [bold cyan]$ upkept {' '.join(words)}[/bold cyan]")
    console.file.flush()  # what the command prints comes after it


def _expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise Failed(f"{what}: {found!r} instead of {wanted!r}")


if __name__ == "__main__":
    sys.exit(main())
