"""The application, reached directly or through a real server."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from earmark.http_api.app import create_app
from earmark.http_api.caller import Role
from http_api.harness import Api, Server, opened


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def api(database: str, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Api]:
    async with opened(database, tmp_path) as services:
        api = Api(services, create_app(services))
        yield api
        for client in api.clients:
            await client.aclose()


@pytest.fixture
def alice(api: Api) -> httpx.AsyncClient:
    return api.client("alice")


@pytest.fixture
def service(api: Api) -> httpx.AsyncClient:
    return api.client("backend", Role.SERVICE)


@pytest.fixture
def running(database: str, tmp_path: Path) -> Iterator[Server]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(*listener.getsockname(), tmp_path)
    begun = threading.Event()
    stop: list[Any] = []

    async def serve() -> None:
        async with opened(database, tmp_path, server.url) as services:
            config = uvicorn.Config(
                create_app(services), lifespan="off", log_config=None, access_log=False, ws="none", http="httptools"
            )
            web = uvicorn.Server(config)
            stop.append(web)
            serving = asyncio.create_task(web.serve(sockets=[listener]))
            begun.set()
            await serving

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert begun.wait(20)
    yield server
    stop[0].should_exit = True
    thread.join(20)
    assert not thread.is_alive()
    listener.close()
