"""Repeating, a bounded number of times, what is safe to repeat while the database is out of reach."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg
from psycopg_pool import PoolTimeout

from earmark.observing import happened

T = TypeVar("T")
UNREACHABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    PoolTimeout,
)
"""What is raised when the database is gone or its answer was lost, or when it takes no changes, as in a failover."""
GAVE_UP = (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled)
"""What a `lock_timeout` or a `statement_timeout` ends: that is about the books that it waited for, alone."""
_OF_ONE_CALL = ("54", "58")
"""Classes of SQLSTATE, such as of a block that cannot be read."""
RETRY_DELAYS = (0.05, 0.25, 1.0)
"""Seconds before each further attempt."""

_logger = logging.getLogger("earmark.ledger")


def is_away(error: BaseException) -> bool:
    """Whether the database is out of reach for all calls, rather than unable to do this one."""
    if not isinstance(error, UNREACHABLE) or isinstance(error, GAVE_UP):
        return False
    return not (error.sqlstate or "").startswith(_OF_ONE_CALL)


async def insist(attempt: Callable[[], Awaitable[T]]) -> T:
    """Attempts until the database answers or the attempts are used up; finishes even when the caller is cancelled."""

    async def persist() -> T:
        for delay in RETRY_DELAYS:
            try:
                return await attempt()
            except UNREACHABLE as error:
                _note(error, delay)
                await asyncio.sleep(delay)
        return await attempt()

    return await finish(persist())


async def finish(work: Awaitable[T]) -> T:
    """Awaits it to its end, even when the caller is cancelled meanwhile, who hears of it then."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:  # noqa: BLE001 - the task's own: its result raises it again
            break
    if cancelled is not None:
        task.exception()
        raise cancelled
    return task.result()


def insist_sync(attempt: Callable[[], T]) -> T:
    """The same without asyncio."""
    for delay in RETRY_DELAYS:
        try:
            return attempt()
        except UNREACHABLE as error:
            _note(error, delay)
            time.sleep(delay)
    return attempt()


def _note(error: Exception, delay: float) -> None:
    happened("rollback_retried")
    _logger.warning("database_unreachable", extra={"error": type(error).__name__, "retry_seconds": delay})
