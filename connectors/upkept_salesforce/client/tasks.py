"""Noting what happened as completed tasks, each once.

Before any is made Salesforce is asked for those that stand, deleted and archived ones too, by whom they are about,
their subject and their day: its words decide, so neither an answer that was lost nor a hub that was restored makes a
second one. Who was converted or merged meanwhile is followed to the record that took over; its tasks went there as
well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, Final

from simple_salesforce.format import format_soql

from upkept.contract import Context, Desired, Pushed, Skipped, UpkeptError
from upkept_salesforce.client.api import API_VERSION, Answer, query, rest
from upkept_salesforce.client.create import CONVERTED
from upkept_salesforce.client.errors import NotFound, Refused, results
from upkept_salesforce.config import SalesforceConfig
from upkept_salesforce.ids import full_id
from upkept_salesforce.objects import BY_TYPE, CONTACT, LEAD, person
from upkept_salesforce.telling import key_of, task

MOVES: Final = 3
"""How often a record may have been handed on: converted, then merged, then merged again."""

STANDING: Final = "Task query"

Answered = Iterator[tuple[str, Pushed | UpkeptError]]
Tasks = dict[str, dict[str, Any]]


def noted(some: Mapping[str, Desired], config: SalesforceConfig, ctx: Context) -> Answered:
    """Up to 200 events by key, each made a task of if it is none yet."""
    tasks: Tasks = {}
    for key, state in some.items():
        who = person(state.record.id) if state.record else None
        if who is None or state.event is None:
            yield key, Skipped("only leads and contacts have tasks")
        else:
            tasks[key] = task(state.event, key, who=who.id, status=config.task_status)
    for _ in range(MOVES):
        moved: Tasks = {}
        for key, error in _made(tasks, config, ctx):
            if isinstance(error, NotFound) or (isinstance(error, Refused) and CONVERTED in error.codes):
                moved[key] = tasks[key]
            else:
                yield key, error or Pushed(record=some[key].record)
        heirs = _heirs({said["WhoId"] for said in moved.values()}, config, ctx) if moved else {}
        yield from ((key, _nobody()) for key, said in moved.items() if said["WhoId"] not in heirs)
        tasks = {key: {**said, "WhoId": heirs[said["WhoId"]]} for key, said in moved.items() if said["WhoId"] in heirs}
        if not tasks:
            return
    yield from ((key, _nobody()) for key in tasks)


def _nobody() -> UpkeptError:
    return Skipped("Salesforce deleted whom it is about")


def _made(tasks: Tasks, config: SalesforceConfig, ctx: Context) -> Iterator[tuple[str, UpkeptError | None]]:
    """Make those that do not stand; of each what was wrong with it."""
    standing = _standing(tasks, config, ctx) if tasks else set()
    yield from ((key, None) for key in tasks if key in standing)
    fresh = {key: said for key, said in tasks.items() if key not in standing}
    if not fresh:
        return
    endpoint = "Task create"
    records = [{"attributes": {"type": "Task"}, **said} for said in fresh.values()]
    answer = rest("POST", "composite/sobjects", config, ctx, endpoint=endpoint,
                  json={"allOrNone": False, "records": records})  # fmt: skip
    yield from zip(fresh, results(answer.body, len(fresh), endpoint=endpoint), strict=True)


def _standing(tasks: Tasks, config: SalesforceConfig, ctx: Context) -> set[str]:
    """The keys of those that were made before. A description cannot be asked for, so the few that may be are read."""
    whos, subjects, days = (sorted({said[name] for said in tasks.values()})
                            for name in ("WhoId", "Subject", "ActivityDate"))  # fmt: skip
    soql = format_soql(
        "SELECT Id, Description FROM Task WHERE WhoId IN {} AND Subject IN {} AND ActivityDate IN {}",
        whos, subjects, [date.fromisoformat(day) for day in days],
    )  # fmt: skip
    found: set[str] = set()
    answer: Answer | None = query(soql, config, ctx, endpoint=STANDING)
    while answer is not None:
        keys = (key_of(row.get("Description")) for row in answer.rows("records", endpoint=STANDING))
        found.update(key for key in keys if key in tasks)
        answer = _following(answer, config, ctx)
    return found


def _following(answer: Answer, config: SalesforceConfig, ctx: Context) -> Answer | None:
    """The next page of a query; long descriptions make short pages."""
    path = str(answer.body.get("nextRecordsUrl") or "").partition(f"/v{API_VERSION}/")[2]
    return rest("GET", path, config, ctx, endpoint=STANDING) if path and answer.body.get("done") is False else None


def _heirs(ids: set[str], config: SalesforceConfig, ctx: Context) -> dict[str, str]:
    """Whom those that are gone were converted or merged into."""
    found: dict[str, str] = {}
    for type_, names in ((LEAD, ("ConvertedContactId", "MasterRecordId")), (CONTACT, ("MasterRecordId",))):
        kind = BY_TYPE[type_]
        theirs = sorted(id for id in ids if id.startswith(kind.prefix))
        if not theirs:
            continue
        soql = format_soql(f"SELECT Id, {', '.join(names)} FROM {kind.name} WHERE Id IN {{}}", theirs)  # noqa: S608
        endpoint = f"{kind.name} query"
        for row in query(soql, config, ctx, endpoint=endpoint).rows("records", endpoint=endpoint):
            id = full_id(row.get("Id"))
            heir = next(filter(None, (full_id(row.get(name)) for name in names)), None)
            if id is not None and heir is not None and heir != id:
                found[id] = heir
    return found
