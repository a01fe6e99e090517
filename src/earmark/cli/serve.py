"""`earmark serve`: API, page and worker, and the embedded parts where nothing else is configured."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress

from earmark.cli.database import Database
from earmark.cli.services import open_services, run_worker
from earmark.cli.web_processes import WebProcesses
from earmark.cli.web_server import WebServer
from earmark.config import Settings
from earmark.http_api.app import create_app, create_operations_app
from earmark.http_api.services import Services
from earmark.http_api.sign_in import SignIn
from earmark.uploads.processing import Processor, load_processor

_logger = logging.getLogger("earmark.service")


def listen(host: str, port: int) -> socket.socket:
    """The listening socket.

    Raises:
        OSError: The address is in use or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def public_url(settings: Settings, listener: socket.socket) -> str:
    """Where clients reach the service."""
    if settings.public_url is not None:
        return settings.public_url.rstrip("/")
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{host}:{port}"


async def serve(settings: Settings, database: Database, listener: socket.socket, subject: str | None) -> None:
    """Serves until SIGINT or SIGTERM; a second one does not wait for open requests, a third for nothing at all.

    The worker runs in this process; so does the web server, unless the settings want several.
    """
    url = public_url(settings, listener)
    processor = load_processor(settings.processor)
    async with open_services(settings, database.url) as services:
        await services.storage.ready()
        if settings.workers == 1:
            server = WebServer(services, create_app(services))
            serving, stop = server.run_on(listener), server.stop
        else:
            processes = WebProcesses(settings, database.url, listener)
            serving, stop = processes.serve(), processes.stop
        worker = asyncio.create_task(run_worker(services, processor, database.keep_running))
        worker.add_done_callback(lambda _: stop())
        try:
            _stop_on_signals(stop)
            _announce(url, services.sign_in, subject)
            await serving
        finally:
            worker.cancel()
            with suppress(asyncio.CancelledError):
                await worker


async def work(services: Services, processor: Processor, database: Database, listener: socket.socket | None) -> None:
    """The worker alone, until cancelled; with a listener it answers there how it is doing."""
    if listener is None:
        await run_worker(services, processor, database.keep_running)
        return
    host, port = listener.getsockname()[:2]
    _logger.info("listening", extra={"host": host, "port": port})
    server = WebServer(services, create_operations_app(services))
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.run_on(listener))
        try:
            await run_worker(services, processor, database.keep_running)
        finally:
            server.stop()
            await serving


async def until_signalled(work: Coroutine[object, object, None]) -> None:
    """Carries on with the work until SIGINT or SIGTERM, which cancels it; a second one leaves it to end in order."""
    task = asyncio.ensure_future(work)
    _stop_on_signals(lambda: None if task.cancelling() else task.cancel())
    with suppress(asyncio.CancelledError):
        await task


def _stop_on_signals(stop: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    times = 0

    def received(number: signal.Signals) -> None:
        nonlocal times
        times += 1
        if times > 2:  # noqa: PLR2004 - see serve
            loop.remove_signal_handler(number)
            signal.raise_signal(number)
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, received, number)


def _announce(url: str, sign_in: SignIn, subject: str | None) -> None:
    link = ""
    if subject is not None and sign_in.issues:
        link = f"    Sign in as {subject}:\n    {url}/#token={sign_in.issue(subject)}\n\n"
    with suppress(BrokenPipeError):  # nobody reads it: that is no reason not to serve
        print(  # noqa: T201 - what the person at the terminal is waiting for
            f"\n    Earmark is running at {url}\n\n{link}    Ctrl-C stops it.\n", flush=True
        )
