"""`earmark serve`: API, page and worker in one process, and the embedded parts where nothing else is configured."""

import asyncio
import signal
import socket
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress

import uvicorn

from earmark.cli.database import Database
from earmark.cli.services import open_services, run_worker
from earmark.config import Settings
from earmark.http_api.app import create_app
from earmark.http_api.sign_in import SignIn

GRACE_SECONDS = 5
"""What open requests get to finish when the service is told to stop."""


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: stopping is ours to order."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(settings: Settings) -> socket.socket:
    """The listening socket.

    Raises:
        OSError: The address is in use or not ours.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
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


async def serve(settings: Settings, database: Database, listener: socket.socket, subject: str) -> None:
    """Serves until SIGINT or SIGTERM; a second one does not wait for open requests, a third for nothing at all."""
    url = public_url(settings, listener)
    async with open_services(settings, database.url) as services:
        await services.storage.ready()
        config = uvicorn.Config(
            create_app(services),
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            lifespan="off",
        )
        server = _Server(config)
        worker = asyncio.create_task(run_worker(services, database.keep_running))
        worker.add_done_callback(lambda _: setattr(server, "should_exit", True))
        try:
            _stop_on_signals(server)
            _announce(url, services.sign_in, subject)
            await server.serve(sockets=[listener])
        finally:
            worker.cancel()
            with suppress(asyncio.CancelledError):
                await worker


async def until_signalled(work: Coroutine[object, object, None]) -> None:
    """Carries on with the work until SIGINT or SIGTERM, which cancels it."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


def _stop_on_signals(server: uvicorn.Server) -> None:
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        if server.force_exit:
            loop.remove_signal_handler(number)
            signal.raise_signal(number)
        server.force_exit = server.should_exit
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)


def _announce(url: str, sign_in: SignIn, subject: str) -> None:
    link = f"    Sign in as {subject}:\n    {url}/#token={sign_in.issue(subject)}\n\n" if sign_in.issues else ""
    with suppress(BrokenPipeError):  # nobody reads it: that is no reason not to serve
        print(  # noqa: T201 - what the person at the terminal is waiting for
            f"\n    Earmark is running at {url}\n\n{link}    Ctrl-C stops it.\n", flush=True
        )
