"""What a run has shown, as ratios first: this machine's rates say little about another's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.run import Outcome, Round

Say = Callable[[str], None]


def say(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)


def short(made: Round) -> str:
    """A round in one line."""
    assert made.hub is not None
    assert made.hub_delay is not None
    assert made.afternoon is not None
    rates = " ".join(
        f"c{c}: {made.accept[c].rate:,.0f}/s ({made.accept[c].rate / bare.rate:.3f} of bare)"
        for c, bare in made.bare.items()
    )
    return (
        f"  accept {rates}; drained {made.drained:,.0f}/s; end to end {made.hub.applied:,.0f}/s "
        f"({made.hub.applied / made.afternoon.applied:.1f}x the afternoon's {made.afternoon.applied:,.0f}/s); "
        f"at a fifth p99 {made.hub_delay.accept.p99:.1f} ms, visible p99 {made.hub_delay.p99:.0f} ms"
    )


def table(outcome: Outcome) -> str:
    """Medians over the rounds, with the smallest and the largest."""
    width = 62
    lines = ["", f"{outcome.database}: medians of {len(outcome.rounds)} rounds (smallest to largest)", ""]
    lines += [f"  {name:<{width}} {value}" for name, value in _rows(outcome)]
    for how, outage in outcome.outages.items():
        sent, after = outage.accept, "its return" if how == "frozen" else "the last answer, without it"
        lines.append(
            f"  {f'broker {how}, {sent.sent:,} posts: 2xx; p99 ms':<{width}} {sent.accepted:,}; {sent.p99:.0f}; "
            f"all applied {outage.applied_after:.0f} s after {after}"
        )
    for name, verdict in outcome.verdicts.items():
        words = "right" if verdict.right else f"WRONG: {verdict.missing} missing, {verdict.wrong} wrong values"
        detail = f" ({verdict.example})" if verdict.example else ""
        lines.append(f"  {f'store of {name}, {verdict.sampled} customers sampled':<{width}} {words}{detail}")
    return "\n".join([*lines, ""])


def _rows(outcome: Outcome) -> Iterator[tuple[str, str]]:
    rounds = outcome.rounds
    hub = [r.hub for r in rounds if r.hub]
    plain = [r.afternoon for r in rounds if r.afternoon]
    for connections in rounds[0].bare:
        bare = [r.bare[connections].rate for r in rounds]
        ours = [r.accept[connections].rate for r in rounds]
        yield f"bare endpoint, {connections} connections, requests/s", _spread(bare)
        yield f"accepted (durable), {connections} connections, events/s", _spread(ours)
        yield "    of the bare endpoint", _spread([a / b for a, b in zip(ours, bare, strict=True)], 3)
        yield (
            "    answer p50 / p99 ms",
            _pair([r.accept[connections].p50 for r in rounds], [r.accept[connections].p99 for r in rounds]),
        )
    yield "backlog applied (no load), events/s", _spread([r.drained for r in rounds])
    yield "applied end to end, 32 connections, events/s", _spread([e.applied for e in hub])
    yield "the afternoon's version, the same", _spread([e.applied for e in plain])
    yield (
        "    times the afternoon's version",
        _spread([a.applied / b.applied for a, b in zip(hub, plain, strict=True)], 1),
    )
    for name, delays in (
        ("upkept", [r.hub_delay for r in rounds if r.hub_delay]),
        ("afternoon", [r.afternoon_delay for r in rounds if r.afternoon_delay]),
    ):
        yield (
            f"{name} at a fifth of saturation: answer p50 / p99 ms",
            _pair([d.accept.p50 for d in delays], [d.accept.p99 for d in delays]),
        )
        yield "    accepted to visible p50 / p99 ms", _pair([d.p50 for d in delays], [d.p99 for d in delays])
    for name, found in (("upkept", hub), ("afternoon", plain)):
        cpu = {part: [e.cost.cpu.get(part, 0.0) for e in found] for part in found[0].cost.cpu}
        yield f"{name}: process time per event, us", _spread([sum(e.cost.cpu.values()) for e in found])
        yield "    " + ", ".join(cpu), " + ".join(f"{median(values):.0f}" for values in cpu.values())
        for part in found[0].cost.memory:
            yield (
                f"{name} {part}: memory RSS / PSS MiB",
                _pair([e.cost.memory[part].rss for e in found], [e.cost.memory[part].pss for e in found]),
            )


def _spread(values: Iterable[float], digits: int = 0) -> str:
    found = sorted(values)
    return f"{median(found):,.{digits}f} ({found[0]:,.{digits}f} to {found[-1]:,.{digits}f})"


def _pair(first: Iterable[float], second: Iterable[float]) -> str:
    return f"{median(first):.1f} / {median(second):.1f}"
