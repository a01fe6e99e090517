"""Through a real server: streams, limits while reading, clients that leave, connections that are closed."""

import asyncio
import json
import logging
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from earmark.http_api.frame import Frame
from earmark.http_api.sign_in import SignIn
from fixtures.service import Service
from http_api.harness import JPEG, SECRET, Server, described


def reserved(client: httpx.Client, size: int = len(JPEG)) -> dict[str, Any]:
    body = described() | {"size": size}
    return client.post("/api/images/preupload", json=body).raise_for_status().json()["images"][0]


def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it never came true")


def begun(server: Server, upload: dict[str, Any], **headers: str) -> socket.socket:
    """A connection on which the head of a PUT was sent."""
    url = httpx.URL(upload["uploadUrl"])
    connection = socket.create_connection((server.host, server.port), timeout=20)
    fields = {"Host": "x", **upload["headers"], **headers}
    lines = [f"PUT {url.raw_path.decode()} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    connection.sendall("\r\n".join(lines).encode())
    return connection


def answered(connection: socket.socket) -> bytes:
    """All that comes until the server closes, in order or, where it left something unread, by a reset."""
    received = b""
    with connection, suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "earmark")
    return caplog


def test_a_whole_upload(running: Server):
    with running.client() as client:
        upload = reserved(client)

        def chunks() -> Iterator[bytes]:
            yield JPEG[:100]
            yield JPEG[100:]

        response = client.put(upload["uploadUrl"], content=chunks(), headers=upload["headers"])
        assert response.status_code == 201, response.text
        done = client.post("/api/images/complete", json={"imageId": upload["imageId"]})
        assert (done.status_code, done.json()["status"]) == (202, "uploaded")
        assert [path.read_bytes() for path in running.objects] == [JPEG]


def test_q56_chunked_and_too_long(running: Server):
    with running.client() as client:
        upload = reserved(client, 1000)
        sent = 0
        with begun(running, upload, **{"Transfer-Encoding": "chunked"}) as connection:
            while sent < 50_000_000 and not select.select([connection], [], [], 0)[0]:
                connection.sendall(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
                sent += 1000
            answer = answered(connection)
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"/problems/too-long" in answer
        assert b"connection: close" in answer.lower()
        assert 1000 < sent < 50_000_000
        assert running.objects == []
        assert client.get("/api/usage").json()["resources"]["storage_bytes"]["held"] == 1000


def test_q56_more_behind_the_length_is_not_read_as_the_file(running: Server):
    with running.client() as client:
        upload = reserved(client)
    connection = begun(running, upload, **{"Content-Length": str(len(JPEG))})
    connection.sendall(JPEG + b"x" * 50_000)
    # What follows the body is no request: depending on how the segments fall, the server says so first, and what has
    # begun to come is removed a moment later.
    assert answered(connection).split()[1] in {b"201", b"400"}
    Service.wait_until(lambda: all(path.suffix != ".part" for path in running.objects))
    assert [path.read_bytes() for path in running.objects] in ([], [JPEG])


def test_what_is_refused_is_not_read_to_the_end(running: Server):
    with running.client() as client:
        upload = reserved(client)
        client.post(f"/api/images/{upload['imageId']}/cancel")
    endless = begun(running, upload, **{"Transfer-Encoding": "chunked"})
    head = endless.recv(65536)
    assert head.startswith(b"HTTP/1.1 410")
    assert b"connection: close" in head.lower()
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    sent = 0
    with endless, suppress(OSError):  # reset or broken pipe, as the system likes
        while sent < 500:
            endless.sendall(chunk)
            sent += 1
    assert sent < 500
    declared = begun(running, upload, **{"Content-Length": "9999999999"})
    assert answered(declared).startswith(b"HTTP/1.1 413")
    polite = begun(running, upload, **{"Content-Length": str(len(JPEG)), "Expect": "100-continue"})
    polite.settimeout(20)
    assert polite.recv(65536).startswith(b"HTTP/1.1 410")
    polite.close()
    assert running.objects == []


def test_a_client_that_leaves_in_the_middle(running: Server, logged: pytest.LogCaptureFixture):
    with running.client() as client:
        upload = reserved(client, 1_000_000)
        connection = begun(running, upload, **{"Content-Length": "1000000"})
        connection.sendall(b"x" * 400_000)
        until(lambda: bool(running.objects))
        connection.close()
        until(lambda: running.objects == [])
        until(lambda: any(getattr(line, "status", None) == 499 for line in logged.records))
        assert not [line for line in logged.records if line.levelno >= logging.ERROR]
        again = client.put(upload["uploadUrl"], content=b"x" * 1_000_000, headers=upload["headers"])
        assert again.status_code == 201


def test_bodies_that_are_too_large(running: Server):
    token = SignIn(SECRET).issue("alice")
    head = f"POST /api/quota/rollback HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    declared = socket.create_connection((running.host, running.port), timeout=20)
    declared.sendall(f"{head}Content-Length: 9999999999\r\n\r\n".encode())
    assert answered(declared).startswith(b"HTTP/1.1 413")
    with running.client() as client:
        sent = 0

        def chunks() -> Iterator[bytes]:
            nonlocal sent
            for _ in range(1000):
                sent += 100_000
                yield b" " * 100_000

        response = client.post("/api/quota/rollback", content=chunks())
        assert (response.status_code, response.json()["type"]) == (413, "/problems/body-too-large")
        assert sent < 100_000_000
        assert client.get("/api/usage").status_code == 200


def test_a_small_body_that_is_not_read_costs_no_connection(running: Server):
    connection = socket.create_connection((running.host, running.port), timeout=20)
    body = json.dumps({"count": 1}).encode()
    request = b"POST /api/quota/rollback HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with connection, connection.makefile("rb") as answers:
        for _ in range(2):
            connection.sendall(request)
            assert answers.readline().startswith(b"HTTP/1.1 401")
            length = 0
            while (line := answers.readline()) != b"\r\n":
                assert line
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            assert json.loads(answers.read(length))["type"] == "/problems/not-signed-in"


def test_a_client_that_sends_everything_first_still_reads_why_it_was_refused(running: Server):
    with running.client() as client:
        upload = reserved(client, 900_000)
        client.post(f"/api/images/{upload['imageId']}/cancel")
    connection = begun(running, upload, **{"Content-Length": "900000"})
    connection.sendall(b"x" * 900_000)
    assert b"/problems/reservation-over" in answered(connection)


@pytest.mark.anyio
async def test_a_request_that_the_stopping_service_cuts_off_is_told_so():
    """uvicorn cancels what is still open when its time to end in order is over, and would answer 500."""
    reading = asyncio.Event()
    sent: list[Any] = []

    async def read(_scope: Any, _receive: Any, _send: Any) -> None:
        reading.set()
        await asyncio.Event().wait()

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "PUT", "path": "/", "headers": [], "http_version": "1.1", "query_string": b""}
    request = asyncio.ensure_future(Frame(read)(scope, receive, send))
    await reading.wait()
    request.cancel()
    await request
    assert sent[0]["status"] == 503
    assert b"retry-after" in dict(sent[0]["headers"])
    assert json.loads(sent[1]["body"])["type"].endswith("/service-stopping")
