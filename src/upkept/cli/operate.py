"""The operator's acts: explain, export, merge, unmerge, erase; forget, undo, rebuild (a file of their own); digest.

PERSON is an id (old ones resolve for ever), an email, a user id, or `connection:source id`. Exit status 4: nobody or
nothing is meant; 5: several are, and standard error lists them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from upkept.cli import complain, walks
from upkept.cli.acting import DryRun, Json, Yes, actor, agreed
from upkept.cli.context import opened_hub
from upkept.cli.output import print_json, print_lines, print_table
from upkept.contract import Config, UpkeptError

if TYPE_CHECKING:
    from upkept.flow.erase import Erasure
    from upkept.flow.link import Linked

commands = typer.Typer()
commands.add_typer(walks.commands)

NOBODY: Final = 4
SEVERAL: Final = 5

Person = Annotated[str, typer.Argument(metavar="PERSON", help="An id, an email, a user id or connection:source id.")]


@commands.command()
def explain(
    person: Person,
    field: Annotated[
        str | None, typer.Argument(metavar="FIELD", help="One attribute, or `consent` for its whole ledger.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Who somebody is, and for every value: who said so, when, by which rule, and what lost."""
    from upkept.cli import explaining
    from upkept.flow.explain import explain as explained

    with opened_hub() as hub, _meant():
        said = explained(hub, person)
    if field is None:
        print_json(said) if as_json else explaining.show(said)
        return
    found = _field(said, field)
    if as_json:
        print_json(found)
    elif field == "consent":
        explaining.show_consent(said)
    elif isinstance(found, dict) and "lost" in found:
        explaining.show_attribute(field, found)
    else:
        print_lines(_plainly(found))


@commands.command()
def export(person: Person, _as_json: Json = True) -> None:
    """Everything that is known of somebody, with where it came from, as one JSON document, asked for or not."""
    from upkept.cli.follow import clock
    from upkept.flow.export import export as exported

    with opened_hub() as hub, _meant():
        print_json(exported(hub, person, now=clock(), actor=actor()))


@commands.command()
def merge(a: Person, b: Person, as_json: Json = False) -> None:
    """Make two people one; the id shown becomes that of the second. `upkept unmerge` takes it back."""
    from upkept.cli.follow import clock
    from upkept.flow import link

    with opened_hub() as hub, _meant():
        linked = link.merge(hub, a, b, now=clock(), actor=actor())
    _tell_linked(linked, as_json)


@commands.command()
def unmerge(a: Person, b: Person, as_json: Json = False) -> None:
    """Part what is one person, between the records that bore these two ids. Each side keeps its own."""
    from upkept.cli.follow import clock
    from upkept.flow import link

    with opened_hub() as hub, _meant():
        linked = link.unmerge(hub, a, b, now=clock(), actor=actor())
    _tell_linked(linked, as_json)


@commands.command()
def erase(person: Person, yes: Yes = False, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Erase somebody for ever: all that is known of them goes, and nothing of it is taken in again."""
    from upkept.cli.follow import clock
    from upkept.flow import erase as erasing

    with opened_hub() as hub, _meant():
        planned = erasing.preview(hub, person)
        if dry_run:
            _tell_erasure(planned, as_json, done=False)
            return
        if not yes:
            print_lines(_erasure(planned, done=False), err=True)
            agreed(yes, "There is no way back. Erase?")
        # By the id, so that what was agreed to is what happens.
        _tell_erasure(erasing.erase(hub, planned.person, now=clock(), actor=actor()), as_json, done=True)


@commands.command()
def digest(as_json: Json = False) -> None:
    """One hash over the whole derived store: equal for the same facts, on any database, in any order of arrival."""
    from upkept.flow.digest import measure

    with opened_hub() as hub:
        measured = measure(hub)
    if as_json:
        print_json({"digest": measured.hash, **{name: asdict(one) for name, one in measured.sections.items()}})
    else:
        print(measured.hash)


@commands.command()
def tombstones(
    lay: Annotated[Path | None, typer.Option("--lay", help="Lay those of this file, after a restore.")] = None,
) -> None:
    """The log of what was erased, as keyed hashes. Keep it beside the backups: `upkept tombstones > erased.json`.

    After a restore: `upkept tombstones --lay erased.json`, then `upkept rebuild`.
    """
    from upkept.cli.follow import clock
    from upkept.flow.erase import lay as laid
    from upkept.people.erasure import Tombstone
    from upkept.store import tombstones as stored

    with opened_hub() as hub:
        if lay is None:
            with hub.store.read() as connection:
                print_json([asdict(one) for one in stored.everything(connection)])
            return
        try:
            log = [Tombstone(**one) for one in json.loads(lay.read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError) as error:
            raise Config(f"{lay}: this is no log of `upkept tombstones` ({type(error).__name__})") from None
        laid(hub, log, now=clock(), actor=actor())
    print(f"{len(log):,} tombstones are laid; remove what they cover: upkept rebuild")


@commands.command()
def audit(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 100, as_json: Json = False
) -> None:
    """Who did what to whom, and when: ids, never values."""
    from upkept.flow.explain import moment
    from upkept.store import audit as stored

    with opened_hub() as hub, hub.store.read() as connection:
        acts = stored.listed(connection, limit=limit)
    if as_json:
        print_json({"acts": [{**asdict(act), "at": moment(act.at)} for act in acts]})
        return
    rows = [(moment(act.at), act.actor, act.action, ", ".join(act.subjects)) for act in acts]
    print_table(("at", "who", "did", "to"), rows, empty="nobody did anything yet")


@contextmanager
def _meant() -> Iterator[None]:
    """Say that nobody, or that several, are meant; standard output stays empty."""
    from upkept.flow.find import Several, Unknown

    try:
        yield
    except Unknown as error:
        complain(error)
        raise typer.Exit(NOBODY) from None
    except Several as error:
        complain(error)
        for one in error.candidates:
            complain(UpkeptError(f"  {one.id}  {', '.join(':'.join((key.connection, key.id)) for key in one.records)}"))
        raise typer.Exit(SEVERAL) from None


def _field(said: dict[str, Any], field: str) -> Any:
    for place in (said["attributes"], said["memberships"], said):
        if field in place:
            return place[field]
    complain(UpkeptError(f"nobody says anything of {field!r} there; known are: {', '.join(said['attributes'])}"))
    raise typer.Exit(NOBODY)


def _plainly(found: Any) -> list[str]:
    if isinstance(found, dict):
        return [f"{name}: {value}" for name, value in found.items()]
    return [str(one) for one in found] if isinstance(found, list) else ["" if found is None else str(found)]


def _tell_linked(linked: Linked, as_json: bool) -> None:
    if as_json:
        print_json(asdict(linked))
        return
    print(f"{linked.said}: {', '.join(linked.people)}")
    if linked.apart:
        print(f"some of their records belong to others, because of an earlier unmerge: {', '.join(linked.apart)}")


def _tell_erasure(erasure: Erasure, as_json: bool, *, done: bool) -> None:
    if as_json:
        print_json({"erased" if done else "would_erase": _document(erasure)})
    else:
        print_lines(_erasure(erasure, done=done))


def _document(erasure: Erasure) -> dict[str, Any]:
    return {
        "person": erasure.person,
        "records": [{"connection": key.connection, "type": key.type, "id": key.id} for key in erasure.records],
        **{name: count for name, count in asdict(erasure.tally).items() if name != "records"},
        "deliveries_blanked": erasure.rows,
        "deliveries_unread": list(erasure.unread),
        "identifiers": [list(one) for one in erasure.erased],
        "identifiers_left": [list(one) for one in erasure.left],
        "deletes_queued": list(erasure.vendors + erasure.unknown),
        "not_configured": list(erasure.unknown),
    }


def _erasure(erasure: Erasure, *, done: bool) -> Iterator[str]:
    tally = erasure.tally
    yield f"{'erased' if done else 'to be erased'}: {erasure.person}"
    for key in erasure.records:
        yield f"  {key.connection} {key.type} {key.id}"
    yield (
        f"  {tally.parts:,} parts, {tally.facts:,} facts, {tally.events:,} events; "
        f"{erasure.rows:,} deliveries {'were' if done else 'are'} blanked"
    )
    if erasure.unread:
        yield (
            f"  among them are {len(erasure.unread):,} that may hold an opt-out and cannot be read: what they say goes "
            f"with them (inbox {' '.join(map(str, erasure.unread))})"
        )
        if not done:
            yield "  to keep it, fix the connector first and run: upkept replay with these ids"
    yield f"  refused from now on: {', '.join(value for _, value in erasure.erased) or 'their records alone'}"
    if erasure.left:
        left = ", ".join(value for _, value in erasure.left)
        yield f"  not refused, for somebody else holds or held it, or it stands for nobody: {left}"
    if erasure.vendors:
        queued = "is queued for" if done else "will be queued for"
        yield f"  a delete {queued} {', '.join(erasure.vendors)}; a vendor that is only read: delete them there by hand"
    if erasure.unknown:
        yield f"  {', '.join(erasure.unknown)}: not configured any more; delete them there by hand"
    yield "  opt-outs stay, as keyed hashes of the address"
