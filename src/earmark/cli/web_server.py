"""One web server: the application on a socket that is open already, until it is told to stop."""

import asyncio
import gc
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from socket import socket
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from earmark.config import Settings
from earmark.http_api.services import Services

T = TypeVar("T")
YOUNG_OBJECTS = 10_000
"""Made before the collector looks at them: some hundred requests; by default it would be at every few of them."""
HEAD_BYTES_MAX = 65_536
"""Of a request's line and headers, which nothing else bounds: whoever sends more is refused, and cut off."""
HEAD_SECONDS_MAX = 30.0
"""Within which they are to come, once a connection was opened or they have begun."""
MOST_WAITING_BYTES = 65_536
"""Of an answer that are held back until the end of the turn."""


class Gathering:
    """A transport that sends what is written in one turn of the loop in one piece: an answer's head and its body."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._waiting = bytearray()
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, piece: bytes) -> None:
        """Sends it with what else is written in this turn; with much, at once, so that the transport can say stop."""
        if not self._waiting:
            self._loop.call_soon(self._send)
        self._waiting += piece
        if len(self._waiting) > MOST_WAITING_BYTES:
            self._send()

    def close(self) -> None:
        """Ends the connection once everything is sent."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, bytearray()
        if waiting and not self._transport.is_closing():
            self._transport.write(waiting)


_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 23\r\nconnection: close\r\n\r\n"
    b"The head is too large.\n"
)


class _Protocol(HttpToolsProtocol):
    """uvicorn's, which writes head and body apart, two packets, and takes a head of any size, however slow."""

    _head_bytes: int | None = None
    """What has come of a head that is not complete, but for the piece that it began in: that may hold much else."""
    _piece_bytes = 0
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", Gathering(cast("asyncio.Transport", transport))))
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._piece_bytes = len(data)
        super().data_received(data)
        if self._head_bytes is None:
            return
        self._head_bytes += self._piece_bytes
        if self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            latest = cast("RequestResponseCycle | None", self.cycle)
            if latest is None or latest.response_complete:
                self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = -self._piece_bytes
        self._wait_for_head()

    def on_headers_complete(self) -> None:
        self._wait_no_more()
        super().on_headers_complete()
        self._head_bytes = None

    def _wait_for_head(self) -> None:
        self._wait_no_more()
        self._patience = self.loop.call_later(HEAD_SECONDS_MAX, self._give_up)

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()

    def _give_up(self) -> None:
        latest = cast("RequestResponseCycle | None", self.cycle)
        if latest is None or latest.response_complete:
            self.transport.close()
        else:  # it is still being answered: the next head has time
            self._wait_for_head()


class WebServer(uvicorn.Server):
    """uvicorn without its own signal handling: stopping is ours to order."""

    def __init__(self, services: Services, app: ASGIApp) -> None:
        self._services = services
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=services.settings.shutdown_grace_seconds,
                lifespan="off",
                ws="none",
                server_header=False,
                root_path=urlsplit(services.settings.public_url or "").path.rstrip("/"),  # a proxy takes it away
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: see `stop`."""
        yield

    async def run_on(self, listener: socket) -> None:
        """Serves until `stop`.

        What was made on the way here lives as long as the process: the collector need not look through it again and
        again, which stops everything for tens of milliseconds.
        """
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)
        await self.serve(sockets=[listener])

    def stop(self) -> None:
        """Says at once that it is not ready, goes on for the time to drain, and then ends in order.

        Called again it does not wait for that, and for no open request.
        """
        if self._services.stopping.is_set():
            self.force_exit = self.should_exit
            self.should_exit = True
            return
        self._services.stopping.set()
        if self._services.settings.drain_seconds:
            asyncio.get_running_loop().call_later(self._services.settings.drain_seconds, self._end)
        else:
            self._end()

    def _end(self) -> None:
        self.should_exit = True


def run(main: Coroutine[object, object, T]) -> T:
    """Runs it on the fastest event loop that there is."""
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop  # noqa: PLC0415 - not made for Windows

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def grace_seconds(settings: Settings) -> float:
    """What an orderly end may take: draining, open requests, and closing what they used."""
    return settings.drain_seconds + settings.shutdown_grace_seconds + 5
