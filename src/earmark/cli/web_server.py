"""One web server: the application on a socket that is open already, until it is told to stop."""

import asyncio
import gc
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from socket import socket
from typing import TypeVar

import uvicorn
from starlette.types import ASGIApp

from earmark.config import Settings
from earmark.http_api.services import Services

T = TypeVar("T")


class WebServer(uvicorn.Server):
    """uvicorn without its own signal handling: stopping is ours to order."""

    def __init__(self, services: Services, app: ASGIApp) -> None:
        self._services = services
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=services.settings.shutdown_grace_seconds,
                lifespan="off",
                ws="none",
                server_header=False,
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
