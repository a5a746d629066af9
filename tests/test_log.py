"""No planted secret and no planted address ever reaches a log line."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from upkept import log
from upkept.settings import load

SECRET = "sk_live_canary51"
PASSWORD = "pg-canary-pass"
ADDRESS = "Ada.Canary+x@example.com"


@pytest.fixture(params=["json", "console"])
def lines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[io.StringIO]:
    (tmp_path / "upkept.toml").write_text('[connections.x]\nconnector = "x"\napi_key = "env:X_KEY"\n')
    env = {
        "UPKEPT_LOG": request.param,
        "UPKEPT_DATABASE_URL": f"postgresql://hub:{PASSWORD}@127.0.0.1/x",
        "UPKEPT_SECRET_KEY": "canary-key-" * 4,
        "X_KEY": SECRET,
    }
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    log.setup(load(env, cwd=tmp_path), stream=stream)
    yield stream
    root.handlers[:], root.level = before, level
    logging.captureWarnings(False)
    structlog.reset_defaults()


def plant_everywhere() -> None:
    ours = log.get("upkept.test")
    ours.info(f"pulled with {SECRET} for {ADDRESS}", connection="x", records=12)
    ours.warning("nested", detail={"inner": [ADDRESS, (SECRET, {ADDRESS: 1})]}, body=f"email={ADDRESS}".encode())
    ours.info("named", api_key="canary-1", webhook_secret=["canary-2"], Authorization="canary-3", token=b"canary-4")
    ours.info("urls", url="redis://user:canary-5@h/0", query=f"/contacts?email={ADDRESS.replace('@', '%40')}")
    ours.bind(who=ADDRESS).error("bound")
    logging.getLogger("celery.worker").error("task for %s failed with %s", ADDRESS, SECRET)
    logging.getLogger("uvicorn.error").warning("peer %s", {"password": "canary-6", "who": ADDRESS}["who"])
    try:
        raise ValueError(f"{ADDRESS} {SECRET} {PASSWORD}")
    except ValueError:
        ours.exception("broke")
        logging.getLogger("sqlalchemy.engine").exception("broke too")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn(f"deprecated for {ADDRESS}", stacklevel=1)


def test_no_canary_survives(lines: io.StringIO) -> None:
    plant_everywhere()
    text = lines.getvalue()
    assert "canary" not in text.casefold()
    assert "pg-canary-pass" not in text
    assert text.count(log.HIDDEN) >= 8
    assert "Traceback" in text
    assert "ValueError" in text


def test_an_address_keeps_one_pseudonym_whatever_its_case(lines: io.StringIO) -> None:
    ours = log.get("upkept.test")
    ours.info("one", who="ada@example.com")
    ours.info("two", who="ADA@example.com")
    ours.info("three", who="bob@example.com")
    found = [line.partition("address:")[2][:10] for line in lines.getvalue().splitlines()]
    assert found[0] == found[1] != found[2]


def test_who_stops_a_command_is_shown_no_traceback(lines: io.StringIO) -> None:
    for error in (KeyboardInterrupt(), ValueError()):
        try:
            raise error
        except (KeyboardInterrupt, ValueError):
            logging.getLogger("sqlalchemy.pool.impl.QueuePool").error("Exception during reset", exc_info=True)
    assert "ValueError" in lines.getvalue()
    assert "KeyboardInterrupt" not in lines.getvalue()


def test_innocent_values_stay_as_they_are(lines: io.StringIO) -> None:
    log.get("upkept.test").info("applied", connection="billing", ids=["evt_1", "cus_9"], rows=7, ok=True, token_age=3)
    text = lines.getvalue()
    for word in ("applied", "billing", "evt_1", "cus_9", "7", "True" if "[info" in text else "true"):
        assert word in text
    assert log.HIDDEN not in text


def test_lines_are_json_objects_when_asked(tmp_path: Path) -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        log.setup(load({"UPKEPT_LOG": "json"}, cwd=tmp_path), stream=stream)
        log.get("upkept.test").info("applied", rows=7)
        logging.getLogger("other").warning("foreign %d", 3)
    finally:
        root.handlers[:], root.level = before, level
        logging.captureWarnings(False)
        structlog.reset_defaults()
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["event"], first["level"], first["logger"], first["rows"]) == ("applied", "info", "upkept.test", 7)
    assert first["timestamp"].endswith("Z")
    assert (second["event"], second["level"], second["logger"]) == ("foreign 3", "warning", "other")
