"""The procrastinate application that works on the queue; apart, so that a command which works on none starts sooner."""

import asyncio
from collections.abc import Iterable
from typing import Any

import procrastinate
from procrastinate.connector import LISTEN_TIMEOUT, Notify
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from earmark.ledger.service_pool import ServicePool, answers_within
from earmark.uploads.queue import SCHEMA

_LISTEN_SECONDS = LISTEN_TIMEOUT + 10
"""Longer than procrastinate listens before it asks whether the connection still is one."""


def queue_app(conninfo: str) -> procrastinate.App:
    """The application that works on the queue's schema of this database.

    Its own connections do not wait for the disk: what a crash takes back of a job's bookkeeping, the rescuer sees to.
    """
    connector = _Connector(
        conninfo=conninfo,
        min_size=1,
        max_size=2,
        kwargs={"options": f"-c search_path={SCHEMA} -c synchronous_commit=off"},
        configure=_commit_each_statement,
        pool_factory=_pool,
    )
    return procrastinate.App(connector=connector)


class _Connector(procrastinate.PsycopgConnector):
    async def open_async(self, pool: AsyncConnectionPool | None = None) -> None:
        """Opens the pool, or leaves nothing of it behind."""
        try:
            await super().open_async(pool)
        except BaseException:
            await self.close_async()
            raise

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Calls back for each job that was added, until cancelled: asked again where it is lost, as in the pools."""
        with answers_within(_LISTEN_SECONDS):
            listening = asyncio.create_task(super().listen_notify(on_notification, channels))
        try:
            await asyncio.wait({listening})
        finally:
            while not listening.done():
                listening.cancel()
                await asyncio.wait({listening}, timeout=1)
        listening.result()


async def _commit_each_statement(connection: AsyncConnection[Any]) -> None:
    await connection.set_autocommit(True)


def _pool(**settings: Any) -> AsyncConnectionPool[AsyncConnection[Any]]:
    return ServicePool(**{**settings, "check": _refuse_closed})


async def _refuse_closed(connection: AsyncConnection[Any]) -> None:
    """Notices that the server has closed it, without the trip to the server that procrastinate would make.

    Raises:
        psycopg.OperationalError: It has.
    """
    for _ in ("its last words", "the end"):
        connection.pgconn.consume_input()
