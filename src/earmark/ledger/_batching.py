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
MAX_IN_FLIGHT = 2
"""Calls that run at the same time, of all verbs: one is decoded and written while another is worked on."""
WORTH_A_SECOND = 32
"""Requests that must wait before a call is sent beside another: small calls cost more than they gain."""
SLOW_SECONDS = 0.1
"""A call that takes longer no longer counts among those in flight; only the pool's size then bounds them."""

Waiting = tuple[Batched[Any], asyncio.Future[Any]]


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
    """The same for asyncio. While a call is in flight, those that arrive are gathered and sent together next.

    A call that finds nothing in flight is sent at once; many that wait are sent beside the one in flight. A call that
    takes long (it waits for a lock, perhaps that of a transaction of this very process) holds up nobody.
    """

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._waiting: dict[str, list[Waiting]] = defaultdict(list)
        self._in_flight = 0
        self._slow = 0
        self._sending: set[asyncio.Task[None]] = set()
        self._woken = False

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
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._waiting[call.verb].append((call, answer))
        if not self._woken:  # once for all that arrive in this turn of the loop
            self._woken = True
            loop.call_soon(self._send_waiting)
        return await answer

    def _send_waiting(self) -> None:
        self._woken = False
        while self._waiting and (free := self._free()) > 0:
            waiting = sum(map(len, self._waiting.values()))
            if waiting < WORTH_A_SECOND and self._in_flight > self._slow:
                return
            share = min(MAX_BATCH, max(WORTH_A_SECOND, -(-waiting // free)))
            verb = next(iter(self._waiting))
            batch = self._waiting.pop(verb)
            if batch[share:]:
                self._waiting[verb] = batch[share:]  # at the end: the verbs take turns
            self._in_flight += 1
            task = asyncio.create_task(self._send(verb, batch[:share]))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    def _free(self) -> int:
        return min(MAX_IN_FLIGHT - self._in_flight + self._slow, self._pool.max_size - self._in_flight)

    async def _send(self, verb: str, batch: list[Waiting]) -> None:
        was_slow = False

        def is_slow() -> None:
            nonlocal was_slow
            was_slow = True
            self._slow += 1
            self._send_waiting()

        slow = asyncio.get_running_loop().call_later(SLOW_SECONDS, is_slow)
        try:
            await self._send_batch(verb, batch)
        finally:
            slow.cancel()
            self._in_flight -= 1
            self._slow -= was_slow
            self._send_waiting()

    async def _send_batch(self, verb: str, batch: list[Waiting]) -> None:
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


def _fail(batch: list[Waiting], error: Exception) -> None:
    known = from_database(error) if isinstance(error, psycopg.Error) else error
    if known is not error:
        known.__cause__ = error
    for _, answer in batch:
        if not answer.done():
            answer.set_exception(known)
