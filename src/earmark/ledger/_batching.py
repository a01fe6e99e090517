"""How calls reach the database: directly, or, for asyncio, coalesced with those that arrive while one is in flight."""

import asyncio
from collections import defaultdict
from typing import Any, TypeVar, cast

import psycopg
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from earmark.errors import from_database, translated
from earmark.ledger._calls import BATCH_SQL, Batched, Query, Row, batch_parameters
from earmark.ledger.retrying import UNREACHABLE

T = TypeVar("T")
MAX_BATCH = 500
"""Requests sent in one call at most."""


class Transport:
    """Sends each call on a pooled connection, or on the caller's."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def run(self, call: Batched[T] | Query[T], connection: psycopg.Connection[Any] | None = None) -> T:
        """Sends one call.

        Raises:
            EarmarkError: The functions refused the request.
            psycopg.Error: Everything else, untouched.
        """
        if connection is None:
            with self._pool.connection() as pooled:
                return self.run(call, pooled)
        with translated(), connection.cursor(row_factory=tuple_row) as cursor:
            if isinstance(call, Query):
                return call.decode(cursor.execute(call.sql, call.parameters).fetchall())
            cursor.execute(BATCH_SQL[call.verb], batch_parameters([call.request]))
            return call.decode(cast("Row", cursor.fetchone()))


class AsyncTransport:
    """The same for asyncio. While a call is in flight, calls of the same verb are gathered and sent together next.

    No timers: a call that finds nothing in flight is sent at once.
    """

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._waiting: dict[str, list[tuple[Batched[Any], asyncio.Future[Any]]]] = defaultdict(list)
        self._senders: dict[str, asyncio.Task[None]] = {}

    async def run(self, call: Batched[T] | Query[T], connection: psycopg.AsyncConnection[Any] | None = None) -> T:
        """Sends one call.

        Raises:
            EarmarkError: The functions refused the request.
            psycopg.Error: Everything else, untouched.
        """
        if connection is not None:
            return await self._run_on(call, connection)
        if isinstance(call, Query):
            async with self._pool.connection() as pooled:
                return await self._run_on(call, pooled)
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting[call.verb].append((call, answer))
        if call.verb not in self._senders:
            self._senders[call.verb] = asyncio.create_task(self._send(call.verb))
        return await answer

    async def _send(self, verb: str) -> None:
        waiting = self._waiting[verb]
        try:
            while waiting:
                batch, waiting[:MAX_BATCH] = waiting[:MAX_BATCH], []
                await self._send_batch(verb, batch)
        finally:
            del self._senders[verb]

    async def _send_batch(self, verb: str, batch: list[tuple[Batched[Any], asyncio.Future[Any]]]) -> None:
        try:
            async with self._pool.connection() as connection, connection.cursor(row_factory=tuple_row) as cursor:
                await cursor.execute(BATCH_SQL[verb], batch_parameters([call.request for call, _ in batch]))
                answers = list(zip(batch, await cursor.fetchall(), strict=True))
        except UNREACHABLE as error:
            _fail(batch, error)
        except psycopg.Error as error:
            if len(batch) == 1:
                _fail(batch, error)
                return
            for one in batch:  # somebody's request is malformed; the others must not pay for it
                await self._send_batch(verb, [one])
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers must hear of it
            _fail(batch, error)
        else:
            for (call, answer), row in answers:
                _answer(answer, call, row)

    async def _run_on(self, call: Batched[T] | Query[T], connection: psycopg.AsyncConnection[Any]) -> T:
        with translated():
            async with connection.cursor(row_factory=tuple_row) as cursor:
                if isinstance(call, Query):
                    await cursor.execute(call.sql, call.parameters)
                    return call.decode(await cursor.fetchall())
                await cursor.execute(BATCH_SQL[call.verb], batch_parameters([call.request]))
                return call.decode(cast("Row", await cursor.fetchone()))


def _answer(answer: asyncio.Future[T], call: Batched[T], row: Row) -> None:
    if answer.done():  # the caller has gone; what was done stands and its deadline watches over it
        return
    try:
        answer.set_result(call.decode(row))
    except Exception as error:  # noqa: BLE001 - a caller that never hears waits for ever
        answer.set_exception(error)


def _fail(batch: list[tuple[Batched[Any], asyncio.Future[Any]]], error: Exception) -> None:
    known = from_database(error) if isinstance(error, psycopg.Error) else error
    if known is not error:
        known.__cause__ = error
    for _, answer in batch:
        if not answer.done():
            answer.set_exception(known)
