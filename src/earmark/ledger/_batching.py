"""How calls reach the database: directly, or, for asyncio, coalesced with those that arrive while one is in flight.

Cursors are plain ones, whatever kind the connection would make, and read plain values, whatever its owner has set, as
Django does: statements and decoding are written for those.
"""

import asyncio
import sys
from collections import defaultdict
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from typing import Any, TypeVar, cast
from uuid import UUID

import psycopg
from psycopg.adapt import AdaptersMap
from psycopg.pq import Format
from psycopg.rows import tuple_row
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.json import JsonbLoader
from psycopg.types.uuid import UUIDLoader
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from earmark.errors import from_database, translated
from earmark.ledger._calls import BATCH_SQL, Batched, Query, Row, batch_parameters, rollback
from earmark.ledger.retrying import GAVE_UP, UNREACHABLE, insist
from earmark.ledger.rollback_log import log_failed_rollback, log_settlement
from earmark.model import Cause

T = TypeVar("T")
MAX_BATCH = 500
"""Requests sent in one call at most."""
MAX_IN_FLIGHT = 2
"""Calls that run at the same time, of all verbs: one is decoded and written while another is worked on."""
WORTH_A_SECOND = 32
"""Requests that must wait before a call is sent beside another: small calls cost more than they gain."""
SLOW_SECONDS = 0.1
"""A call that takes longer no longer counts among those in flight; only the pool's size then bounds them."""
TIMEOUTS = 10
"""How often a call that timed out is halved and sent again: enough to find the one of MAX_BATCH that is locked."""
CLOSING_SECONDS = 5.0
"""What calls in flight get to end when the ledger is closed."""
_UNHEARD = "whoever reserved it had gone"

Waiting = tuple[Batched[Any], asyncio.Future[Any]]
_PLAIN = AdaptersMap(types=psycopg.adapters.types)
_PLAIN.register_loader("jsonb", JsonbLoader)
_PLAIN.register_loader("timestamptz", TimestamptzLoader)
_PLAIN.register_loader("uuid", UUIDLoader)
_READ = tuple(psycopg.adapters.types[name].oid for name in ("jsonb", "timestamptz", "uuid"))
"""The types of the answers that a connection's owner may want in another form."""


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
        with translated(), psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
            _read_plain_values(cursor)
            if isinstance(call, Query):
                return call.decode(cursor.execute(call.sql, call.parameters).fetchall())
            cursor.execute(BATCH_SQL[call.verb], batch_parameters([call.request]))
            return call.decode(cast("Row", cursor.fetchone()))

    def close(self) -> None:
        """Closes the pool."""
        self._pool.close()


class AsyncTransport:
    """The same for asyncio. While a call is in flight, those that arrive are gathered and sent together next.

    A call that finds nothing in flight is sent at once; many that wait are sent beside the one in flight. A call that
    takes long (it waits for a lock, perhaps that of a transaction of this very process) holds up nobody.

    A reserve without a key whose caller was cancelled is not sent; where it was, what it took is given back.
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
        try:
            return await answer
        except asyncio.CancelledError:
            if not answer.cancelled() and answer.exception() is None:  # it was on its way already
                self._unheard(call, answer.result())
            raise

    async def close(self) -> None:
        """Closes the pool, once what is in flight has ended; that is not waited for longer than CLOSING_SECONDS."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_SECONDS):
                while self._sending:
                    await asyncio.wait(self._sending)
                    await asyncio.sleep(0)  # what has ended is taken out in the loop's next turn
        await self._pool.close()

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
            self._begin(self._send(verb, batch[:share]))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def _free(self) -> int:
        return min(MAX_IN_FLIGHT - self._in_flight + self._slow, (self._pool.max_size or sys.maxsize) - self._in_flight)

    async def _send(self, verb: str, batch: list[Waiting]) -> None:
        was_slow = False

        def is_slow() -> None:
            nonlocal was_slow
            was_slow = True
            self._slow += 1
            self._send_waiting()

        slow = asyncio.get_running_loop().call_later(SLOW_SECONDS, is_slow)
        try:
            await self._send_batch(verb, batch, iter(range(TIMEOUTS)))
        finally:
            slow.cancel()
            self._in_flight -= 1
            self._slow -= was_slow
            self._send_waiting()

    async def _send_batch(self, verb: str, batch: list[Waiting], timeouts: Iterator[int]) -> None:
        batch = [(call, answer) for call, answer in batch if call.lost is None or not answer.done()]
        if not batch:
            return
        try:
            async with (
                self._pool.connection() as connection,
                psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor,
            ):
                _read_plain_values(cursor)
                await cursor.execute(BATCH_SQL[verb], batch_parameters([call.request for call, _ in batch]))
                answers = list(zip(batch, await cursor.fetchall(), strict=True))
        except psycopg.Error as error:
            timed_out = isinstance(error, GAVE_UP)
            is_over = next(timeouts, None) is None if timed_out else isinstance(error, UNREACHABLE)
            if len(batch) == 1 or is_over:
                _fail(batch, error)
                return
            half = len(batch) // 2  # a malformed request, or a locked tree: the others must not pay for it
            await self._send_batch(verb, batch[:half], timeouts)
            await self._send_batch(verb, batch[half:], timeouts)
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers must hear of it
            _fail(batch, error)
        else:
            for (call, answer), row in answers:
                self._answer(answer, call, row)

    def _answer(self, answer: asyncio.Future[T], call: Batched[T], row: Row) -> None:
        try:
            result = call.decode(row)
        except Exception as error:  # noqa: BLE001 - a caller that never hears waits for ever
            if not answer.done():
                answer.set_exception(error)
            return
        if answer.done():
            self._unheard(call, result)
        else:
            answer.set_result(result)

    def _unheard(self, call: Batched[T], result: T) -> None:
        """The caller has gone: what was done stands, but for what nobody could settle any more."""
        lost = call.lost and call.lost(result)
        if lost is not None:
            self._begin(self._give_back(lost))

    async def _give_back(self, reservation: UUID) -> None:
        cause = Cause.CANCELLED
        call = rollback(reservation, cause=cause, subject=None, items=None, actor=None, reason=_UNHEARD)
        try:
            settlement = await insist(lambda: self.run(call))
        except psycopg.Error as error:
            log_failed_rollback(reservation, cause, error, subject=None, items=None, actor=None)
        else:
            log_settlement(reservation, settlement, cause, None, _UNHEARD)

    async def _run_on(self, call: Batched[T] | Query[T], connection: psycopg.AsyncConnection[Any]) -> T:
        with translated():
            async with psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:
                _read_plain_values(cursor)
                if isinstance(call, Query):
                    await cursor.execute(call.sql, call.parameters)
                    return call.decode(await cursor.fetchall())
                await cursor.execute(BATCH_SQL[call.verb], batch_parameters([call.request]))
                return call.decode(cast("Row", await cursor.fetchone()))


def _read_plain_values(cursor: psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]) -> None:
    """Whatever the connection reads; another parser of JSON is as good."""
    for oid in _READ:
        found, plain = cursor.connection.adapters.get_loader(oid, Format.TEXT), _PLAIN.get_loader(oid, Format.TEXT)
        if plain and found is not plain and not (found and issubclass(found, JsonbLoader)):
            cursor.adapters.register_loader(oid, plain)


def _fail(batch: list[Waiting], error: Exception) -> None:
    known = from_database(error) if isinstance(error, psycopg.Error) else error
    if known is not error:
        known.__cause__ = error
    for _, answer in batch:
        if not answer.done():
            answer.set_exception(known)
