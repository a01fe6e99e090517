"""What an answer costs on its way out."""

import asyncio
import gc
import socket
from contextlib import asynccontextmanager
from itertools import count

import httpx
import pytest

from earmark.cli import web_server
from earmark.cli.serve import listen
from earmark.cli.web_server import MOST_WAITING_BYTES, Gathering, WebServer
from earmark.http_api.app import create_app
from earmark.http_api.sign_in import SignIn
from http_api.harness import SECRET, described, opened

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio", {"use_uvloop": True}  # as it is served


@pytest.fixture(autouse=True)
def collector():
    """What serving does to it is undone."""
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@asynccontextmanager
async def serving(services):
    """The address of the application, served as `earmark serve` does."""
    listener = listen("127.0.0.1", 0)
    server = WebServer(services, create_app(services))
    running = asyncio.create_task(server.run_on(listener))
    try:
        yield httpx.URL(f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        server.stop()
        await running


@pytest.fixture
async def connection():
    ours, theirs = socket.socketpair()
    theirs.settimeout(0)
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, ours)
    yield Gathering(transport), theirs
    transport.abort()
    theirs.close()


async def test_head_and_body_leave_together_at_the_end_of_the_turn(connection):
    gathering, peer = connection
    gathering.write(b"head ")
    gathering.write(b"body")
    with pytest.raises(BlockingIOError):
        peer.recv(100)
    await asyncio.sleep(0)
    assert peer.recv(100) == b"head body"


async def test_what_was_written_before_the_end_of_a_connection_is_sent(connection):
    gathering, peer = connection
    gathering.write(b"the last words")
    gathering.close()
    assert peer.recv(100) == b"the last words"
    gathering.write(b"too late")
    await asyncio.sleep(0)
    assert peer.recv(100) == b""


async def test_much_is_not_held_back(connection):
    gathering, peer = connection
    gathering.write(b"x" * (MOST_WAITING_BYTES + 1))
    assert peer.recv(100) == b"x" * 100


async def is_cut_off(url: httpx.URL, first: bytes, more: bytes) -> bool:
    """Whether somebody whose head never comes to an end is stopped some time."""
    _, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(first)
    try:
        for _ in range(1000):
            writer.write(more)
            await writer.drain()
    except ConnectionError:
        return True
    finally:
        writer.transport.abort()
    return False


async def test_a_head_has_a_bound(database, tmp_path):
    async with opened(database, tmp_path) as services, serving(services) as url:
        for first, more in (
            (b"GET /", b"u" * 10_000),
            (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ", b"v" * 10_000),
            (b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"X-Many: v\r\n" * 1000),
        ):
            assert await is_cut_off(url, first, more), first
        async with httpx.AsyncClient(base_url=url) as client:
            headers = {"X-Long": "v" * 30_000}
            assert (await client.get("/healthz", headers=headers)).status_code == 200
            assert (await client.put("/healthz", headers=headers, content=b"b" * 500_000)).status_code == 405


@pytest.mark.parametrize("begun", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"], ids=["nothing", "a part"])
async def test_a_head_that_does_not_come_is_not_waited_for(database, tmp_path, monkeypatch, begun):
    monkeypatch.setattr(web_server, "HEAD_SECONDS_MAX", 0.2)
    async with opened(database, tmp_path) as services, serving(services) as url:
        for before in (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"):
            reader, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(before)
            if before:
                assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
            writer.write(begun)
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()


async def test_a_request_that_is_under_way_is_not_cut_off_for_the_next_ones_head(database, tmp_path, monkeypatch):
    monkeypatch.setattr(web_server, "HEAD_SECONDS_MAX", 0.05)
    patience, waits, given = web_server._Protocol._wait_for_head, count(1), asyncio.Event()

    def wait_for_head(protocol):
        patience(protocol)
        if next(waits) == 6:  # the connection, two heads, and three times while the first is answered
            given.set()

    monkeypatch.setattr(web_server._Protocol, "_wait_for_head", wait_for_head)
    async with opened(database, tmp_path) as services, serving(services) as url:
        monkeypatch.setattr(services.storage, "ready", given.wait)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\n")
        answered = await asyncio.wait_for(reader.read(), 10)
        assert (answered.startswith(b"HTTP/1.1 200"), answered.count(b"HTTP/1.1")) == (True, 1)
        writer.close()


async def test_what_is_made_is_where_clients_reach_the_service(database, tmp_path):
    """Behind a proxy that serves it under a path, which it takes away from what it passes on."""
    async with opened(database, tmp_path, "https://app.example/quota/") as services, serving(services) as url:
        headers = {"Authorization": f"Bearer {SignIn(SECRET).issue('alice')}"}
        async with httpx.AsyncClient(base_url=url, headers=headers) as client:
            made = await client.post("/api/reservations", json={"amounts": {"images": 1}})
            assert made.headers["location"] == f"/quota/api/reservations/{made.json()['reservationId']}"
            assert (await client.get(made.headers["location"].removeprefix("/quota"))).status_code == 200
            assert (await client.get("/")).status_code == 200
            upload = (await client.post("/api/images/preupload", json=described())).json()["images"][0]
            assert upload["uploadUrl"].startswith("https://app.example/quota/storage/")


async def test_what_start_up_made_is_not_collected_again_while_it_serves(database, tmp_path):
    assert gc.get_freeze_count() == 0
    async with opened(database, tmp_path) as services:
        server = WebServer(services, create_app(services))
        server.stop()
        await server.run_on(listen("127.0.0.1", 0))
        assert gc.get_freeze_count() > 10_000
