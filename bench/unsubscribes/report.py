"""What a run has shown, as two tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from bench.unsubscribes.vendors import NAMES, Vendors
from bench.unsubscribes.watch import HERE, Click, Spread

WITHIN: Final = 10.0
"""Seconds in which 99 of 100 unsubscribes must be at every other system, faults aside."""


def spreads(clicks: Sequence[Click]) -> Iterator[tuple[str, str, Spread, Spread]]:
    """From where, to where, seconds from the click, seconds from the hub's 2xx. Who never got there took for ever."""
    for source in NAMES:
        mine = [click for click in clicks if click.source == source]
        for to in (HERE, *(name for name in NAMES if name != source)):
            from_click = [click.seen.get(to, float("inf")) - click.at for click in mine]
            from_answer = [click.seen.get(to, float("inf")) - click.seen.get(HERE, click.at) for click in mine]
            yield source, to, Spread.of(from_click), Spread.of(from_answer)


def too_slow(clicks: Sequence[Click]) -> list[str]:
    """Where the p99 is missed, a line each."""
    return [
        f"from {source} to {to}: p99 {shown.p99:.1f} s"
        for source, to, shown, _ in spreads(clicks)
        if shown.count and shown.p99 > WITHIN
    ]


def steady_table(clicks: Sequence[Click], *, rate: float) -> str:
    lines = [
        f"Faults aside: {len(clicks):,} unsubscribes, {rate:g} a second, in turn at each vendor; seconds",
        "",
        f"  {'from':<12}{'to':<12}{'count':>6}   {'from the click':^24}   {'from the 2xx of the hub':^24}",
        f"  {'':<30}   {'p50':>8}{'p99':>8}{'longest':>8}   {'p50':>8}{'p99':>8}{'longest':>8}",
    ]
    for source, to, click, answer in spreads(clicks):
        after = "" if to == HERE else _seconds(answer)
        lines.append(f"  {source:<12}{to:<12}{click.count:>6}   {_seconds(click)}   {after}".rstrip())
    return "\n".join([*lines, ""])


def faults_table(vendors: Vendors, done: Iterable[tuple[str, Mapping[str, int]]]) -> str:
    """What went wrong meanwhile."""
    lines = ["What went wrong meanwhile", ""]
    for name in NAMES:
        told = vendors.deliveries(name)
        shown: dict[str, int] = {
            word: told[word] for word in ("delivered", "acknowledged", "dropped", "duplicated") if word in told
        }
        lines.append(f"  {f'webhooks of {name}':<28}{_counted(shown)}")
    lines += [f"  {what:<28}{_counted(counts)}" for what, counts in done]
    return "\n".join([*lines, ""])


def end_table(
    clicked: Mapping[int, float], first: Mapping[str, Mapping[int, float]], lost: Mapping[str, Collection[int]],
    reverted: Mapping[str, Collection[int]], told_again: Mapping[str, int],
) -> str:  # fmt: skip
    """Who is unsubscribed where at the end; `clicked` is when each of those under faults did."""
    lines = [
        f"  {'':<12}{'unsubscribed':>13}{'lost':>7}{'reverted':>10}{'told again':>12}   "
        f"{'under faults, seconds from the click':^38}",
        f"  {'':<12}{'':>42}   {'p50':>12}{'p99':>12}{'longest':>12}",
    ]
    for where in (HERE, *NAMES):
        times = Spread.of(at - clicked[person] for person, at in first[where].items() if person in clicked)
        standing = len(first[where]) - len(lost[where])
        lines.append(
            f"  {where:<12}{standing:>13,}{len(lost[where]):>7}{len(reverted[where]):>10}"
            f"{told_again.get(where, 0):>12,}   {times.p50:>12.1f}{times.p99:>12.1f}{times.longest:>12.1f}"
        )
    return "\n".join([*lines, ""])


def _seconds(shown: Spread) -> str:
    return f"{shown.p50:>8.2f}{shown.p99:>8.2f}{shown.longest:>8.2f}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in sorted(Counter(counts).items())) or "nothing"
