"""The service's pools, whose connections wait for no answer without end: a network may lose a connection silently.

Then nothing comes any more, not even an end: a firewall has forgotten it, or its server is frozen or gone.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import psycopg
from psycopg import AsyncConnection, waiting
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo, TransactionStatus

from earmark.ledger.cancellable_pool import CancellablePool

ANSWER_SECONDS = 20.0
"""How long a statement waits for its answer, unless `answers_within` says otherwise; for locks it waits less."""
CANCEL_SECONDS = 2.0
"""What the server gets to say that it has cancelled a statement; then its connection is closed."""
CLOSING_SECONDS = 1.0
"""What attempts to connect get to finish when a pool closes."""
LIVELINESS: Mapping[str, int] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""For libpq, in seconds but for the last, which is milliseconds: a peer that is gone is noticed within 20 s."""

_answer_seconds: ContextVar[float | None] = ContextVar("answer_seconds", default=None)


@contextmanager
def answers_within(seconds: float | None) -> Iterator[None]:
    """Gives the statements of this block, in this task and those that it starts, so long; None: ANSWER_SECONDS."""
    before = _answer_seconds.set(seconds)
    try:
        yield
    finally:
        _answer_seconds.reset(before)


class ServiceConnection(AsyncConnection[Any]):
    """Ends a statement that has no answer in time, or was cancelled: by the server, else by closing the connection."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.made_at = time.monotonic()
        self.is_silent = False

    async def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:  # noqa: ASYNC109
        """What the statement answers, as the base class says.

        Raises:
            psycopg.OperationalError: It did not in time.
        """
        if timeout is not None:  # it waits for notifications
            return await super().wait(gen, interval, timeout)
        seconds = _answer_seconds.get() or ANSWER_SECONDS
        try:
            async with asyncio.timeout(seconds):
                return await waiting.wait_async(gen, self.pgconn.socket, interval=interval)
        except TimeoutError:
            await self._cancel(gen)
            raise psycopg.OperationalError(f"no answer within {seconds:g} s") from None
        except asyncio.CancelledError:
            await self._cancel(gen)
            raise

    async def _cancel(self, gen: PQGen[Any]) -> None:
        if self.pgconn.transaction_status != TransactionStatus.ACTIVE:
            return
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                await self.cancel_safe(timeout=CANCEL_SECONDS)
                await waiting.wait_async(gen, self.pgconn.socket, interval=CANCEL_SECONDS)
        except psycopg.errors.QueryCanceled:
            return
        except BaseException as error:
            self.is_silent = True
            self.pgconn.finish()
            if not isinstance(error, Exception):  # cancelled once more
                raise


class ServicePool(CancellablePool):
    """A pool of such connections. Where one has fallen silent those that were made before it are replaced, too.

    Args:
        conninfo: The database; what it or the environment says of LIVELINESS counts.
        settings: As for the base class.
    """

    def __init__(self, conninfo: str, **settings: Any) -> None:
        super().__init__(_lively(conninfo), connection_class=ServiceConnection, **settings)
        self._replaced_at = 0.0

    async def putconn(self, conn: AsyncConnection[Any]) -> None:
        """Takes a connection back, as the base class says."""
        await super().putconn(conn)
        if isinstance(conn, ServiceConnection) and conn.is_silent and conn.made_at > self._replaced_at:
            self._replaced_at = time.monotonic()
            await self.drain()

    async def close(self, timeout: float = CLOSING_SECONDS) -> None:  # noqa: ASYNC109 - the base class's
        """Closes it, as the base class says."""
        await super().close(timeout)


def _lively(conninfo: str) -> str:
    said = {option.keyword.decode() for option in Conninfo.get_defaults() if option.val}
    said |= set(conninfo_to_dict(conninfo))
    return make_conninfo(conninfo, **{name: value for name, value in LIVELINESS.items() if name not in said})
