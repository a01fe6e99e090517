"""Generated from `_async_reservation.py` by `tools/generate_sync.py`; do not edit."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from psycopg import Connection
from psycopg.pq import TransactionStatus

from earmark.errors import AlreadySettled
from earmark.ledger.denial import exceeded
from earmark.ledger.retrying import UNREACHABLE
from earmark.model import Amounts, Cause, Grant, Settlement, Shortage

if TYPE_CHECKING:
    from earmark.ledger._sync import Ledger


class Reservation:
    """A reservation that was asked for. As a context manager it settles itself.

    Leaving the block normally commits what is still held; leaving it by an exception rolls it back: with the
    exception's own `cause` attribute where it has one, `cancelled` when the block was interrupted, and
    otherwise with the `on_error` it was reserved with. It settles on the connection it was reserved on, if that was
    the caller's own.

    Raises:
        QuotaExceeded: On entering the block of a denied reservation.
        AlreadySettled: On leaving the block normally when somebody else had rolled holds back, so that the work is
            not paid for.
    """

    def __init__(
        self,
        ledger: "Ledger",
        subject: str,
        grant: Grant,
        on_error: Cause,
        connection: Connection[Any] | None,
    ) -> None:
        self._ledger = ledger
        self._on_error = on_error
        self._connection = connection
        self._settles_itself = True
        self._given_back: set[str] = set()
        self.subject = subject
        self.grant = grant

    @property
    def id(self) -> UUID:
        """Its id.

        Raises:
            QuotaExceeded: It was denied.
        """
        if self.grant.reservation is None:
            raise exceeded(self.subject, self.grant.short)
        return self.grant.reservation

    @property
    def granted(self) -> bool:
        """Whether quota was taken."""
        return self.grant.granted

    @property
    def short(self) -> tuple[Shortage, ...]:
        """When denied, what was missing."""
        return self.grant.short

    @property
    def expires_at(self) -> datetime | None:
        """The deadline it was granted with."""
        return self.grant.expires_at

    def __bool__(self) -> bool:
        return self.granted

    def commit(
        self,
        *,
        items: Sequence[str] | Mapping[str, Amounts] | None = None,
        amounts: Amounts | None = None,
        grow: bool = False,
    ) -> Settlement:
        """Commits all that is held, some items, or less, or with `grow` more; see `Ledger.commit`."""
        return self._ledger.commit(
            self.id, items=items, amounts=amounts, grow=grow, subject=self.subject, connection=self._connection
        )

    def rollback(
        self, cause: Cause = Cause.CANCELLED, *, items: Sequence[str] | None = None, reason: str | None = None
    ) -> Settlement:
        """Gives back all that is held, or some items; see `Ledger.rollback`."""
        if items is None:
            self._settles_itself = False
        settlement = self._ledger.rollback(
            self.id, cause=cause, items=items, subject=self.subject, reason=reason, connection=self._connection
        )
        self._given_back.update(settlement.done)
        return settlement

    def extend(self, ttl: timedelta) -> Settlement:
        """Moves the deadline to `ttl` from now."""
        return self._ledger.extend(self.id, ttl=ttl, subject=self.subject, connection=self._connection)

    def detach(self) -> UUID:
        """Lets the holds outlive the block; who settles them later needs the id that is returned."""
        self._settles_itself = False
        return self.id

    def __enter__(self) -> Self:
        _ = self.id
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._settles_itself:
            return
        if error is not None:
            self._roll_back_after(error)
            return
        settlement = self.commit()
        rolled_back = {name for name, item in settlement.items.items() if item.state == "rolled_back"}
        if rolled_back - self._given_back or settlement.outcome in {"denied", "not_found"}:
            raise AlreadySettled(
                f"Reservation {self.id} had been rolled back before its block ended; its work is not paid for.",
                {"reservation": str(self.id), "subject": self.subject, "outcome": settlement.outcome},
            )

    def _roll_back_after(self, error: BaseException) -> None:
        cause = getattr(error, "cause", None)
        if not isinstance(cause, Cause):
            interrupted = isinstance(error, (KeyboardInterrupt, GeneratorExit))
            cause = Cause.CANCELLED if interrupted else self._on_error
        if self._connection is not None and self._connection.info.transaction_status == TransactionStatus.INERROR:
            error.add_note(f"Reservation {self.id} goes with its failed transaction, or at {self.expires_at}.")
            return
        try:
            self.rollback(cause, reason=type(error).__name__)
        except UNREACHABLE:  # logged by rollback(); the error of the block is the one to be heard
            error.add_note(f"Reservation {self.id} could not be rolled back; its quota returns at {self.expires_at}.")
