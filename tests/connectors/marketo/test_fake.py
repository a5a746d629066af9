"""The stand-in itself: it runs on its own, and has Marketo's own ways where our connector does not ask for them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from tests.connectors.marketo.conftest import SECRET

from upkept.testing.fake_marketo import FakeMarketo


@contextmanager
def listener(answer: bytes = b'{"ok":true}', status: int = 200) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Takes down what is posted to it."""
    heard: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append({"path": self.path, "body": body.decode(), **{k.lower(): v for k, v in self.headers.items()}})
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/hooks/marketo", heard
    server.shutdown()
    server.server_close()
    thread.join(5)


def bearer(fake: FakeMarketo) -> dict[str, str]:
    asked = {"grant_type": "client_credentials", "client_id": "client", "client_secret": SECRET}
    answer = httpx.get(f"{fake.url}/identity/oauth/token", params=asked).json()
    return {"Authorization": f"Bearer {answer['access_token']}"}


def test_it_runs_on_its_own_and_calls_a_webhook() -> None:
    with listener() as (hooks, heard):
        command = [sys.executable, "-m", "upkept.testing.fake_marketo", "--port", "0", "--hooks", hooks, "--token", "t"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            made = httpx.post(f"{url}/_do", json={"what": "create", "fields": {"email": "ann@example.com"}}).json()
            httpx.post(f"{url}/_do", json={"what": "unsubscribe", "id": made["id"]})
            for _ in range(200):
                if len(heard) == 2:
                    break
                threading.Event().wait(0.05)
            assert httpx.get(f"{url}/_stats").json()["leads"] == 1
        finally:
            process.terminate()
            process.wait(10)
            assert process.stdout is not None
            process.stdout.close()
    last = json.loads(heard[-1]["body"])
    assert (last["event"], last["email"], heard[-1]["x-upkept-token"]) == ("unsubscribe", "ann@example.com", "t")


def test_a_webhook_is_sent_once_whatever_the_answer(fake: FakeMarketo) -> None:
    with listener(status=503) as (refusing, _), listener(answer=b"") as (empty, _):
        for url in (refusing, empty, "http://127.0.0.1:9/x"):
            fake.webhook(url, "t")
        fake.do("create")
        assert fake.drain()
    assert fake.stats()["webhooks"] == {"status_503": 1, "empty": 1, "unreachable": 1}


def test_webhooks_are_dropped_doubled_and_late(fake: FakeMarketo) -> None:
    with listener() as (url, heard):
        fake.webhook(url, "t", in_path=True, what=["created"])
        fake.faults(drop=1.0)
        fake.do("create")
        fake.faults(drop=0.0, duplicate=1.0, delay=0.05, reorder=0.05)
        fake.do("change", fake.do("create"), fields={"company": "x"})
        assert fake.drain()
    assert [one["path"] for one in heard] == ["/hooks/marketo/t"] * 2
    assert heard[0]["body"] == heard[1]["body"]
    assert fake.stats()["webhooks"] == {"dropped": 1, "duplicated": 1, "delivered": 2}


def test_unsubscribing_is_of_the_address_and_durable(fake: FakeMarketo) -> None:
    twins = [fake.do("create", fields={"email": "Ann@example.com"}) for _ in range(2)]
    fake.do("unsubscribe", twins[0])
    assert [fake.lead(id)["unsubscribed"] for id in twins] == [True, True]
    for id in twins:
        fake.do("delete", id)
    again = fake.do("create", fields={"email": "ann@example.com"})
    assert fake.lead(again)["unsubscribed"] is True
    fake.do("change", again, fields={"email": "clean@example.com"})
    assert fake.lead(again)["unsubscribed"] is False
    fake.do("change", again, fields={"email": "ann@example.com"})
    assert fake.lead(again)["unsubscribed"] is True


def test_leads_come_in_pages_and_only_with_the_fields_that_were_asked_for(fake: FakeMarketo) -> None:
    ids = fake.seed(5, days=1)
    headers = bearer(fake)
    params = {"filterType": "id", "filterValues": ",".join(map(str, ids)), "batchSize": "2"}
    seen = []
    while True:
        answer = httpx.get(f"{fake.url}/rest/v1/leads.json", params=params, headers=headers).json()
        seen += [one["id"] for one in answer["result"]]
        assert "unsubscribed" not in answer["result"][0]
        if "nextPageToken" not in answer:
            break
        params["nextPageToken"] = answer["nextPageToken"]
    assert seen == ids


@pytest.mark.parametrize(("path", "params", "code"), [
    ("leads.json", {"filterType": "firstName", "filterValues": "x"}, "1011"),
    ("leads.json", {"filterType": "id", "filterValues": ""}, "1003"),
    ("leads.json", {"filterType": "id", "filterValues": "1", "fields": "nonsense"}, "1006"),
    ("activities.json", {"nextPageToken": "rubbish", "activityTypeIds": "1009"}, "1003"),
    ("activities.json", {"activityTypeIds": ",".join(map(str, range(11)))}, "1003"),
    ("activities/leadchanges.json", {}, "1002"),
    ("nothing.json", {}, "610"),
])  # fmt: skip
def test_what_marketo_refuses(fake: FakeMarketo, path: str, params: dict[str, str], code: str) -> None:
    answer = httpx.get(f"{fake.url}/rest/v1/{path}", params=params, headers=bearer(fake))
    assert (answer.status_code, answer.json()["success"], answer.json()["errors"][0]["code"]) == (200, False, code)


def test_calls_beyond_the_rate_and_addresses_too_long(fake: FakeMarketo) -> None:
    headers = bearer(fake)
    fake.faults(rate_limit=2)
    url = f"{fake.url}/rest/v1/leads/describe.json"
    answers = [httpx.get(url, headers=headers).json() for _ in range(3)]
    assert [one["success"] for one in answers] == [True, True, False]
    assert answers[2]["errors"][0]["code"] == "606"
    assert httpx.get(url, params={"x": "y" * 8200}, headers=headers).status_code == 414
    assert httpx.post(url, content=b"x" * 1_100_000, headers=headers).status_code == 413
    assert httpx.get(url).json()["errors"][0]["code"] == "606"


def test_an_upsert_creates_people_as_marketo_s_does(fake: FakeMarketo) -> None:
    headers = bearer(fake)

    def sync(**body: object) -> str:
        said = {"input": [{"email": "ann@example.com"}], **body}
        (one,) = httpx.post(f"{fake.url}/rest/v1/leads.json", json=said, headers=headers).json()["result"]
        return str(one["reasons"][0]["code"] if "reasons" in one else one["status"])

    assert sync(action="updateOnly") == "1004"
    assert sync() == "created"
    assert sync() == "updated"
    assert sync(action="createOnly") == "1005"
    assert sync(action="createDuplicate") == "created"
    assert sync() == "1007"
    assert sync(action="updateOnly", input=[{"email": "ann@example.com", "nonsense": 1}]) == "1006"
