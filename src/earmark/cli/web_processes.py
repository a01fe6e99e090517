"""Several processes that serve HTTP on one socket; one that dies is replaced.

Each has services of its own: connections, a batching ledger, remembered tokens. They end with the process that started
them, however that ends.
"""

import asyncio
import logging
import multiprocessing
import signal
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from socket import socket

from earmark.cli.logs import configure_logs
from earmark.cli.services import open_services
from earmark.cli.web_server import WebServer, grace_seconds, run
from earmark.config import Settings
from earmark.errors import EarmarkError
from earmark.http_api.app import create_app

SHORT_SECONDS = 5.0
"""A process that lived for less was not able to serve."""
SHORT_LIVES_MAX = 5
"""After so many of them, one after another, nothing is gained by starting more."""
_logger = logging.getLogger("earmark.web")


class WebProcessesFailed(EarmarkError):  # noqa: N818 - named for what happened
    """The processes die as soon as they are started."""


class WebProcesses:
    """As many as the settings say.

    Args:
        settings: For each of them.
        database_url: What they connect to.
        listener: The socket, bound and listening, from which each of them accepts.
    """

    def __init__(self, settings: Settings, database_url: str, listener: socket) -> None:
        self._settings = settings
        self._database_url = database_url
        self._listener = listener
        self._context = multiprocessing.get_context("spawn")
        self._stopping = asyncio.Event()
        self._running: set[SpawnProcess] = set()
        self._lifelines: tuple[Connection, Connection] = self._context.Pipe(duplex=False)

    async def serve(self) -> None:
        """Serves until `stop`.

        Raises:
            WebProcessesFailed: They do not live.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._settings.workers):
                    group.create_task(self._keep_one())
        except* WebProcessesFailed as failed:
            raise failed.exceptions[0] from None
        finally:
            for process in self._running:
                process.kill()

    def stop(self) -> None:
        """Has them end in order; called again, at once."""
        if self._stopping.is_set():
            for process in self._running:
                process.kill()
            return
        self._stopping.set()
        for process in self._running:
            process.terminate()
        asyncio.get_running_loop().call_later(grace_seconds(self._settings), self.stop)

    async def _keep_one(self) -> None:
        loop = asyncio.get_running_loop()
        short_lives = 0
        while not self._stopping.is_set():
            begun = loop.time()
            process = self._start()
            try:
                await _ended(process)
            finally:
                if process.exitcode is not None:
                    self._running.discard(process)
            if self._stopping.is_set():
                return
            _logger.error("web_process_died", extra={"pid": process.pid, "exit_code": process.exitcode})
            short_lives = short_lives + 1 if loop.time() - begun < SHORT_SECONDS else 0
            if short_lives >= SHORT_LIVES_MAX:
                raise WebProcessesFailed("the web processes die as soon as they are started; the log says why")
            if short_lives:
                await asyncio.sleep(0.1 * 2**short_lives)

    def _start(self) -> SpawnProcess:
        arguments = (self._settings, self._database_url, self._listener, self._lifelines[0])
        process = self._context.Process(target=_serve_in_process, args=arguments, name="earmark-web")
        process.start()
        self._running.add(process)
        return process


async def _ended(process: SpawnProcess) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(process.sentinel, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(process.sentinel)
    process.join()


def _serve_in_process(settings: Settings, database_url: str, listener: socket, lifeline: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of them: the first process tells the others
    configure_logs(settings.log_format)
    run(_serve(settings, database_url, listener, lifeline))


async def _serve(settings: Settings, database_url: str, listener: socket, lifeline: Connection) -> None:
    async with open_services(settings, database_url) as services:
        server = WebServer(services, create_app(services))
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, server.stop)
        loop.add_reader(lifeline.fileno(), _orphaned, server, lifeline)
        await server.run_on(listener)


def _orphaned(server: WebServer, lifeline: Connection) -> None:
    """Nothing is ever written to a lifeline: that it can be read means that the other end is gone."""
    asyncio.get_running_loop().remove_reader(lifeline.fileno())
    server.stop()
