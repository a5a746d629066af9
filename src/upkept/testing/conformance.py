"""The conformance kit: every connector through the same proofs.

In a test file, one line makes a test of each proof and each fixture:

    TestStripe = suite(connector, fixtures=HERE / "fixtures", config=CONFIG, sign=sign)

Without pytest, `certify(…)` takes the same arguments and reports (`upkept connector test NAME`). What an argument is
missing for is listed as not proved, never passed over in silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from upkept.contract import AnyConnector
from upkept.testing import proofs, proofs_outside
from upkept.testing.kit import Disproved, Kit, LentContext, Sign, Vendor, placeholders

__all__ = ["Disproved", "Kit", "LentContext", "Proof", "Report", "certify", "suite"]

_PURE = (
    proofs.every_kind_has_a_fixture,
    proofs.normalize_repeats_itself,
    proofs.normalize_is_pure,
    proofs.unknown_kinds_are_skipped,
    proofs.broken_bodies_are_permanent,
    proofs.statements_are_well_formed,
    proofs.own_fields_have_labels,
    proofs.opt_outs_are_declared,
    proofs.any_order_ends_equal,
)


@dataclass(frozen=True, slots=True)
class Proof:
    """One proof and how it ended; `detail` is the reason why it failed or could not be given."""

    name: str
    outcome: Literal["proved", "failed", "not proved"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All proofs of one connector."""

    connector: str
    proofs: tuple[Proof, ...]

    @property
    def certified(self) -> bool:
        """Whether every proof was given: none failed and none is missing."""
        return all(proof.outcome == "proved" for proof in self.proofs)

    @property
    def failed(self) -> tuple[Proof, ...]:
        return tuple(proof for proof in self.proofs if proof.outcome == "failed")

    def lines(self) -> Iterator[str]:
        """The report for a terminal."""
        for proof in self.proofs:
            name = proof.name.replace("_", " ")
            yield f"{proof.outcome:10}  {name}" + (f": {proof.detail}" if proof.detail else "")


def certify(
    connector: AnyConnector,
    *,
    fixtures: Path,
    config: Any = None,
    sign: Sign | None = None,
    covers: Set[str] = frozenset({"body", "time"}),
    vendor: Vendor | None = None,
) -> Report:
    """Give every proof that these arguments allow. See `Kit` for what they are."""
    kit = _kit(connector, fixtures, config, sign, covers, vendor)
    given = [_outcome(name, proof) for name, proof in _proofs(kit)]
    return Report(connector.name, (*given, *(Proof(name, "not proved", why) for name, why in _missing(kit))))


def suite(
    connector: AnyConnector,
    *,
    fixtures: Path,
    config: Any = None,
    sign: Sign | None = None,
    covers: Set[str] = frozenset({"body", "time"}),
    vendor: Vendor | None = None,
) -> type:
    """A class that pytest collects: one test for each proof and each fixture."""
    kit = _kit(connector, fixtures, config, sign, covers, vendor)
    tests = {f"test_{re.sub(r'[^a-z0-9]+', '_', name.lower())}": _method(proof) for name, proof in _proofs(kit)}
    return type(f"Test{connector.name.title()}Conformance", (), tests)


def _kit(
    connector: AnyConnector, fixtures: Path, config: Any, sign: Sign | None, covers: Set[str], vendor: Vendor | None
) -> Kit:
    return Kit(
        connector=connector,
        fixtures=fixtures,
        config=placeholders(connector.config) if config is None else config,
        sign=sign,
        covers=frozenset(covers),
        vendor=vendor,
    )


def _proofs(kit: Kit) -> Iterator[tuple[str, Callable[[], None]]]:
    for proof in _PURE:
        yield proof.__name__, partial(proof, kit)
    yield "no_secret_is_logged", partial(proofs_outside.no_secret_is_logged, kit)
    for fixture in kit.loaded:
        name = f"fixture {fixture.path.parent.name}/{fixture.name}"
        yield name, partial(proofs.fixture_says_what_is_expected, kit, fixture)
    for ability, argument in _about_abilities(kit):
        if not argument or getattr(kit, argument) is not None:
            yield ability.__name__, partial(ability, kit)


def _missing(kit: Kit) -> Iterator[tuple[str, str]]:
    for proof, argument in _about_abilities(kit):
        if argument and getattr(kit, argument) is None:
            yield proof.__name__, f"it needs `{argument}`"


def _about_abilities(kit: Kit) -> Iterator[tuple[Callable[[Kit], None], str]]:
    """The proofs about what the connector can do, each with the argument it cannot be given without."""
    connector = kit.connector
    if connector.combine is not None:
        yield proofs.records_combine_in_any_order, ""
    if connector.verify is not None:
        yield proofs_outside.event_ids_last, ""
        yield proofs_outside.unsigned_requests_are_refused, ""
        yield proofs_outside.garbage_is_refused, ""
        yield proofs_outside.authentic_requests_come_in, "sign"
        yield proofs_outside.forged_requests_are_refused, "sign"
        if "time" in kit.covers:
            yield proofs_outside.stale_requests_are_refused, "sign"
    if any(ability is not None for ability in (connector.fetch, connector.pull, connector.push, connector.probe)):
        yield proofs_outside.no_foreign_error_escapes, ""
    if connector.pull is not None:
        yield proofs_outside.a_second_pull_adds_nothing, "vendor"


def _outcome(name: str, proof: Callable[[], None]) -> Proof:
    try:
        proof()
    except Disproved as error:
        return Proof(name, "failed", str(error))
    except Exception as error:
        return Proof(name, "failed", f"{type(error).__name__}: {error}")
    return Proof(name, "proved")


def _method(proof: Callable[[], None]) -> Callable[[object], None]:
    def test(_self: object) -> None:
        proof()

    return test
