"""The webhook door over real sockets: what is stored, what is refused, and what a sender can do to it."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
from tests.till.site import SECRET, Site, delivery, event
from tests.till.upkept_till import signature

from upkept.store import connections
from upkept.store.engine import Store, open_store


def rows(store: Store) -> list[tuple[str, str, str]]:
    with store.read() as connection:
        found = connection.exec_driver_sql("SELECT dedup_key, lane, state FROM inbox ORDER BY dedup_key")
        return [(row[0], row[1], row[2]) for row in found]


def test_accepted_means_stored_once(web: Site, store: Store) -> None:
    body = delivery(event(1), event(2))
    answers = [web.post(body), web.post(body), web.post(body, path="/hooks/till/some-token")]
    assert [(a.status_code, a.json()) for a in answers] == [(200, {"ok": True})] * 3
    assert rows(store) == [("evt_customer.updated_1", "inbound", "new"), ("evt_customer.updated_2", "inbound", "new")]


def test_many_at_once_are_all_stored(web: Site, store: Store) -> None:
    bodies = [delivery(event(n)) for n in range(200)]
    with ThreadPoolExecutor(16) as pool, httpx.Client():
        assert {answer.status_code for answer in pool.map(web.post, bodies)} == {200}
    assert len(rows(store)) == 200


def test_an_opt_out_is_in_force_when_it_is_answered(web: Site, store: Store) -> None:
    assert web.post(delivery(event(1, kind="customer.unsubscribed"))).status_code == 200
    with store.read() as connection:
        acts = connection.exec_driver_sql("SELECT subject_kind, act FROM consent ORDER BY subject_kind").all()
        marked = connection.exec_driver_sql("SELECT lowering FROM inbox").scalar()
    assert [tuple(act) for act in acts] == [("address", "opt_out"), ("record", "opt_out")]
    assert ([lane for _, lane, _ in rows(store)], marked) == (["consent"], "may")


def test_a_paused_connection_still_stores(web: Site, store: Store) -> None:
    with store.write() as connection:
        connections.pause(connection, "till", reason="a wrong key", now=1)
    assert web.post(delivery(event(1))).status_code == 200
    assert len(rows(store)) == 1


def test_probes_and_strangers(web: Site, store: Store) -> None:
    url = web.url
    assert httpx.get(f"{url}/hooks/till").json() == {"ok": True}
    assert httpx.head(f"{url}/hooks/till").status_code == 200
    assert httpx.get(f"{url}/hooks/nobody").status_code == 404
    assert httpx.post(f"{url}/hooks/nobody", content=b"{}").status_code == 404
    assert httpx.post(f"{url}/hooks/api", content=b"{}").status_code == 404
    assert httpx.put(f"{url}/hooks/till", content=b"{}").status_code == 405
    assert rows(store) == []


def test_a_token_in_the_path_is_in_no_log(web: Site) -> None:
    """It is all that proves who calls where a vendor signs nothing."""
    for path in ("/hooks/till/hush0123456789", "/hooks/nobody/hush0123456789"):
        web.post(delivery(event(1)), path=path)
        web.client.get(f"{web.url}{path}?key=hush0123456789")
    assert "hush" not in web.log("web")


def test_what_is_not_authentic_or_readable_is_refused_in_one_line(web: Site, store: Store) -> None:
    forged = httpx.post(f"{web.url}/hooks/till", content=delivery(event(1)), headers={"x-till-signature": "00"})
    assert forged.status_code == 401
    assert forged.json() == {"ok": False, "error": "the signature does not match webhook_secret"}
    assert b"\n" not in forged.content
    assert httpx.post(f"{web.url}/hooks/till").status_code == 401
    assert web.post(b"\xff\x00 not json").status_code == 400
    assert rows(store) == []


def test_a_bug_of_ours_is_told_and_nothing_is_stored(web: Site, store: Store) -> None:
    answer = web.post(delivery(event(1), event(2, kind="boom")))
    assert answer.status_code == 500
    assert "boom" not in answer.text
    assert rows(store) == []
    assert "receive_failed" in web.log("web")
    assert web.post(delivery(event(1))).status_code == 200


def test_compressed_bodies(web: Site, store: Store) -> None:
    body = delivery(event(1))
    headers = {"x-till-signature": signature(body, SECRET), "content-encoding": "gzip"}
    assert httpx.post(f"{web.url}/hooks/till", content=gzip.compress(body), headers=headers).status_code == 200
    bomb = gzip.compress(b" " * (20 << 20))
    assert httpx.post(f"{web.url}/hooks/till", content=bomb, headers=headers).status_code == 413
    assert httpx.post(f"{web.url}/hooks/till", content=b"junk", headers=headers).status_code == 400
    assert len(rows(store)) == 1


def test_one_mebibyte_is_the_most(web: Site, store: Store) -> None:
    empty = len(delivery(event(1, pad="")))
    largest = delivery(event(1, pad="x" * ((1 << 20) - empty)))
    assert len(largest) == 1 << 20
    assert web.post(largest).status_code == 200
    refused = web.post(largest + b" ")
    assert (refused.status_code, refused.json()["error"]) == (413, "the body is larger than 1 MiB")
    assert len(rows(store)) == 1


def test_endless_chunks_are_cut_off(web: Site) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=20) as client:
        client.sendall(b"POST /hooks/till HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        sent, began = 0, time.monotonic()
        try:
            while sent < 64 << 20 and time.monotonic() - began < 15:
                client.sendall(chunk)
                sent += 65536
        except OSError:
            pass
        client.settimeout(1)
        assert sent < 32 << 20
    assert httpx.get(f"{web.url}/healthz").status_code == 200


def test_an_announced_excess_is_answered_before_it_is_sent(web: Site) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=5) as client:
        client.sendall(b"POST /hooks/till HTTP/1.1\r\nhost: x\r\ncontent-length: 99000000\r\n\r\n{")
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_far_too_large_gets_its_answer(web: Site) -> None:
    """The rest of what is being sent is taken in, so that no reset takes the answer away."""
    large = b"x" * (3 << 20)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", web.port), timeout=10) as client:
            client.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(large) + large)
            answer = b""
            while more := client.recv(65536):  # a reset would raise here
                answer += more
        assert answer.startswith(b"HTTP/1.1 413")
        assert answer.endswith(b'"the body is larger than 1 MiB"}')


HEAD = b"POST /hooks/till HTTP/1.1\r\nhost: x\r\n"
SLOW = {
    "says nothing": (b"", b""),
    "trickles headers": (HEAD, b"x-a: b\r\n"),
    "trickles headers of its second request": (b"GET /hooks/till HTTP/1.1\r\nhost: x\r\n\r\n" + HEAD, b"x-a: b\r\n"),
    "trickles a body": (HEAD + b"content-length: 1000\r\n\r\n", b"x"),
}
"""What a slow sender begins with, and what it adds every half second."""


def test_fifty_slow_senders_hold_up_nobody_and_are_sent_away(web: Site) -> None:
    async def slow(begin: bytes, more: bytes) -> float:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        writer.write(begin)
        end = asyncio.create_task(reader.read())
        while not end.done() and time.monotonic() - began < 30:
            writer.write(more)
            await asyncio.wait([end], timeout=0.5)
        writer.transport.abort()
        return time.monotonic() - began

    async def run() -> dict[str, list[float]]:
        senders = {kind: [asyncio.create_task(slow(*how)) for _ in range(13)] for kind, how in SLOW.items()}
        await asyncio.sleep(1)
        for number in range(20):
            began = time.monotonic()
            answer = await asyncio.to_thread(web.post, delivery(event(number)))
            assert answer.status_code == 200
            assert time.monotonic() - began < 2
        return {kind: await asyncio.gather(*tasks) for kind, tasks in senders.items()}

    for kind, seconds in asyncio.run(run()).items():
        assert max(seconds) < 20, f"one that {kind} stayed for {max(seconds):.0f} s"


def test_health_and_numbers(web: Site, store: Store) -> None:
    web.post(delivery(event(1)))
    httpx.post(f"{web.url}/hooks/till", content=b"{}")
    httpx.post(f"{web.url}/hooks/nobody", content=b"{}")
    ready = httpx.get(f"{web.url}/readyz")
    assert ready.status_code == 200
    said = ready.json()
    assert (said["ready"], said["database"], said["migrations"], said["broker"]) == (True, "ok", "ok", "away")
    assert said["waiting_rows"] == 1
    numbers = httpx.get(f"{web.url}/metrics").text
    for line in (
        'upkept_requests_accepted_total{connection="till"}',
        'upkept_requests_rejected_total{connection="till",status="401"}',
        'upkept_requests_rejected_total{connection="unknown",status="404"}',
        'upkept_inbox_rows{connection="till",state="new"} 1.0',
        "upkept_database_up 1.0",
        "upkept_clock_clamped_total 0.0",
    ):
        assert line in numbers
    assert "/hooks/{connection}" in httpx.get(web.url).text


def test_not_ready_before_the_tables_are_there(site: Site) -> None:
    store = open_store(site.database_url)
    with store.write() as connection:
        connection.exec_driver_sql("DROP TABLE alembic_version")
    store.close()
    site.start("web")
    ready = httpx.get(f"{site.url}/readyz")
    assert ready.status_code == 503
    assert "upkept migrate" in ready.json()["migrations"]


def test_what_was_accepted_at_the_end_is_stored(site: Site) -> None:
    """SIGTERM in the middle of a stream of posts: every 200 is in the inbox, and the exit is clean."""
    site.start("web")
    accepted: list[int] = []

    def posts(number: int) -> None:
        for n in range(number * 1000, number * 1000 + 200):
            try:
                if site.post(delivery(event(n))).status_code == 200:
                    accepted.append(n)
            except httpx.HTTPError:
                return

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(posts, number) for number in range(4)]
        time.sleep(1)
        assert site.stop("web") == 0
        for future in futures:
            future.result()
    store = open_store(site.database_url)
    stored = {key for key, _, _ in rows(store)}
    store.close()
    assert accepted
    assert {f"evt_customer.updated_{n}" for n in accepted} <= stored


def test_json_is_what_every_answer_is(web: Site) -> None:
    for answer in (web.post(delivery(event(1))), httpx.post(f"{web.url}/hooks/nobody")):
        assert answer.headers["content-type"] == "application/json"
        json.loads(answer.content)
