"""A reservation for asyncio. `_sync_reservation.py` is generated from this file by `tools/generate_sync.py`."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus

from earmark.errors import EarmarkError
from earmark.ledger.reserved import Reserved
from earmark.model import Amounts, Cause, Grant, Settlement

if TYPE_CHECKING:
    from earmark.ledger._async import AsyncLedger


class AsyncReservation(Reserved):
    """A reservation that was asked for. As a context manager it settles itself.

    Leaving the block normally commits what is still held; leaving it by an exception rolls it back: with the
    exception's own `cause` attribute where it has one, `cancelled` when the block was cancelled or interrupted, and
    otherwise with the `on_error` it was reserved with. It settles on the connection it was reserved on, if that was
    the caller's own.

    Raises:
        QuotaExceeded: On entering the block of a denied reservation.
        AlreadySettled: On leaving the block normally when somebody else had rolled holds back, so that the work is
            not paid for.
    """

    def __init__(
        self,
        ledger: "AsyncLedger",
        subject: str,
        grant: Grant,
        on_error: Cause,
        connection: AsyncConnection[Any] | None,
    ) -> None:
        super().__init__(subject, grant, on_error)
        self._ledger = ledger
        self._connection = connection
        self._given_back: set[str] = set()

    async def commit(
        self,
        *,
        items: Sequence[str] | Mapping[str, Amounts] | None = None,
        amounts: Amounts | None = None,
        grow: bool = False,
    ) -> Settlement:
        """Commits all that is held, some items, or less, or with `grow` more; see `AsyncLedger.commit`."""
        return await self._ledger.commit(
            self.id, items=items, amounts=amounts, grow=grow, subject=self.subject, connection=self._connection
        )

    async def rollback(
        self, cause: Cause = Cause.CANCELLED, *, items: Sequence[str] | None = None, reason: str | None = None
    ) -> Settlement:
        """Gives back all that is held, or some items; see `AsyncLedger.rollback`."""
        if items is None:
            self._wanted_back = cause
        settlement = await self._ledger.rollback(
            self.id, cause=cause, items=items, subject=self.subject, reason=reason, connection=self._connection
        )
        self._settles_itself = self._settles_itself and items is not None
        returned = {name for name, item in settlement.items.items() if item.state == "rolled_back"}
        self._given_back |= returned.intersection(returned if items is None else items)
        return settlement

    async def extend(self, ttl: timedelta) -> Settlement:
        """Moves the deadline to `ttl` from now."""
        return await self._ledger.extend(self.id, ttl=ttl, subject=self.subject, connection=self._connection)

    async def __aenter__(self) -> Self:
        _ = self.id
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._settles_itself:
            return
        if error is not None:
            await self._roll_back_after(error)
            return
        if self._wanted_back is not None:  # it failed, and nobody minded: the work is not to be paid for
            await self.rollback(self._wanted_back)
            return
        settlement = await self.commit()
        rolled_back = {name for name, item in settlement.items.items() if item.state == "rolled_back"}
        if rolled_back - self._given_back or settlement.outcome in {"denied", "not_found"}:
            raise self._not_paid_for(settlement.outcome)

    async def _roll_back_after(self, error: BaseException) -> None:
        if self._connection is not None and self._connection.info.transaction_status == TransactionStatus.INERROR:
            error.add_note(f"Reservation {self.id} goes with its failed transaction, or at {self.expires_at}.")
            return
        try:
            await self.rollback(self._cause_of(error), reason=type(error).__name__)
        except (psycopg.Error, EarmarkError) as failure:  # the error of the block is the one to be heard
            error.add_note(
                f"Reservation {self.id} could not be rolled back; its quota returns at {self.expires_at}: {failure}"
            )
