"""Rollbacks for which the database was not there: each is tried again until it has ended, and noted in the books.

What is kept here dies with the process; then the deadline of the hold gives the quota back.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection

from earmark.errors import EarmarkError
from earmark.ledger import AsyncLedger
from earmark.ledger.retrying import GAVE_UP, RETRY_DELAYS, is_away
from earmark.model import Cause, Settlement
from earmark.uploads import _calls
from earmark.uploads._calls import Connections, Transition

MAX_KEPT = 10_000
"""Beyond that the deadlines must do."""
MAX_ATTEMPTS = 20
"""Of a rollback that the database answers with an error; one that it does not answer is tried until it does."""
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0

Again = Callable[[], Awaitable[Transition | Settlement]]

_logger = logging.getLogger("earmark.rollback")


@dataclass(slots=True)
class FailedRollback:
    """One rollback that has failed so far.

    Attributes:
        again: Tries it once more.
        attempts: How many times it was tried.
    """

    target: UUID
    cause: Cause
    error: str
    again: Again
    attempts: int = len(RETRY_DELAYS) + 1
    failed_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class FailedRollbacks:
    """Keeps and retries failed rollbacks, beside everything else that the event loop does.

    Args:
        pool: Connections to the database that was not there.
    """

    def __init__(self, pool: Connections) -> None:
        self._pool = pool
        self._kept: dict[tuple[object, ...], FailedRollback] = {}
        self._retrying: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._kept)

    async def reservation(
        self,
        ledger: AsyncLedger,
        reservation: UUID,
        *,
        cause: Cause,
        items: Sequence[str] | None,
        subject: str | None,
        actor: str | None,
        reason: str | None,
        connection: AsyncConnection[Any] | None,
    ) -> Settlement:
        """Rolls a reservation back, as `AsyncLedger.rollback` does; where that fails, takes it over.

        Raises:
            psycopg.Error: It failed, and is tried again, on a connection of our own.
        """
        attempt = partial(
            ledger.rollback, reservation, cause=cause, items=items, subject=subject, actor=actor, reason=reason
        )
        try:
            return await attempt(connection=connection)
        except psycopg.Error as error:
            self.keep(reservation, cause, error, attempt, *(items or ()))
            raise

    def keep(self, target: UUID, cause: Cause, error: Exception, again: Again, *part: object) -> None:
        """Takes over a rollback whose caller was told that it failed; once for the same part of the target."""
        key = (target, *part)
        if key in self._kept or len(self._kept) >= MAX_KEPT:
            return
        self._kept[key] = FailedRollback(target, cause, _text(error), again)
        if self._retrying is None or self._retrying.done():
            self._retrying = asyncio.create_task(self._retry(), name="failed_rollbacks")

    async def aclose(self) -> None:
        """Stops retrying; the deadlines give back what is left."""
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.wait({self._retrying})

    async def _retry(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while self._kept:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            for key, failed in tuple(self._kept.items()):
                if not await self._once(key, failed):
                    break  # the database is away still, for the others too

    async def _once(self, key: tuple[object, ...], failed: FailedRollback) -> bool:
        failed.attempts += 1
        outcome: str | None
        try:
            outcome = (await failed.again()).outcome
        except psycopg.Error as error:
            failed.error = _text(error)
            if is_away(error):
                return False
            if isinstance(error, GAVE_UP):
                return True
            # A row that is broken: the sweeper will set it aside.
            outcome = None if failed.attempts < MAX_ATTEMPTS else "given_up"
        except EarmarkError as error:  # it was refused, which is an end too
            outcome = type(error).__name__
        if outcome is not None:
            del self._kept[key]
            fields = {"target": str(failed.target), "outcome": outcome, "attempts": failed.attempts}
            _logger.info("failed_rollback_ended", extra=fields)
        await self._note(failed, outcome)
        return True

    async def _note(self, failed: FailedRollback, outcome: str | None) -> None:
        try:
            async with self._pool.connection() as connection:
                await _calls.record_failed_rollback(
                    connection,
                    failed.target,
                    failed.cause,
                    attempts=failed.attempts,
                    error=failed.error,
                    failed_at=failed.failed_at,
                    outcome=outcome,
                )
        except psycopg.Error as error:
            _logger.warning("failed_rollback_not_noted", extra={"target": str(failed.target), "error": _text(error)})


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip()
