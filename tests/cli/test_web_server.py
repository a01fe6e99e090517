"""What an answer costs on its way out."""

import asyncio
import gc
import socket

import pytest

from earmark.cli.serve import listen
from earmark.cli.web_server import MOST_WAITING_BYTES, Gathering, WebServer
from earmark.http_api.app import create_app
from http_api.harness import opened

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio", {"use_uvloop": True}  # as it is served


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


async def test_what_start_up_made_is_not_collected_again_while_it_serves(database, tmp_path):
    assert gc.get_freeze_count() == 0
    thresholds = gc.get_threshold()
    async with opened(database, tmp_path) as services:
        server = WebServer(services, create_app(services))
        server.stop()
        try:
            await server.run_on(listen("127.0.0.1", 0))
            assert gc.get_freeze_count() > 10_000
        finally:
            gc.unfreeze()
            gc.set_threshold(*thresholds)
