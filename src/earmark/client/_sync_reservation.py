"""Generated from `_async_reservation.py` by `tools/generate_sync.py`; do not edit."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self
from uuid import UUID

from earmark.errors import AlreadySettled, EarmarkError, NotFound, QuotaExceeded
from earmark.ledger.denial import exceeded
from earmark.model import Amounts, Cause, Grant, Settlement, Shortage

if TYPE_CHECKING:
    from earmark.client._sync import Client


class Reservation:
    """A reservation that was asked for. As a context manager it settles itself, which needs a service's token.

    Leaving the block normally commits what is still held; leaving it by an exception rolls it back: with the
    exception's own `cause` attribute where it has one, `cancelled` when the block was interrupted, and
    otherwise with the `on_error` it was reserved with.

    Raises:
        QuotaExceeded: On entering the block of a denied reservation.
        AlreadySettled: On leaving the block normally when somebody else had rolled holds back, so that the work is
            not paid for.
        ServiceUnavailable: On leaving the block normally, when nobody can know whether it was committed.
    """

    def __init__(self, client: "Client", subject: str, grant: Grant, on_error: Cause, items: frozenset[str]) -> None:
        self._client = client
        self._on_error = on_error
        self._settles_itself = True
        self._open = set(items)
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
        """Commits all that is held, some items, or less, or with `grow` more; see `Client.commit`."""
        settlement = self._client.commit(self.id, items=items, amounts=amounts, grow=grow, subject=self.subject)
        self._open -= {name for name, item in settlement.items.items() if item.state == "committed"}
        return settlement

    def rollback(
        self, cause: Cause = Cause.CANCELLED, *, items: Sequence[str] | None = None, reason: str | None = None
    ) -> Settlement:
        """Gives back all that is held, or some items; see `Client.rollback`."""
        if items is None:
            self._settles_itself = False
        settlement = self._client.rollback(self.id, cause=cause, items=items, subject=self.subject, reason=reason)
        self._open -= settlement.items.keys()
        return settlement

    def extend(self, ttl: timedelta) -> Settlement:
        """Moves the deadline to `ttl` from now."""
        return self._client.extend(self.id, ttl=ttl, subject=self.subject)

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
        if error is not None and self._settles_itself:
            self._roll_back_after(error)
        elif self._settles_itself and self._open:
            self._commit_the_rest()

    def _commit_the_rest(self) -> None:
        try:
            settlement = self.commit(items=sorted(self._open))
        except (AlreadySettled, NotFound, QuotaExceeded) as refused:
            raise self._not_paid_for(refused.detail.get("outcome")) from refused
        if any(item.state == "rolled_back" for item in settlement.items.values()):
            raise self._not_paid_for(settlement.outcome)

    def _not_paid_for(self, outcome: str | None) -> AlreadySettled:
        return AlreadySettled(
            f"Reservation {self.id} had been rolled back before its block ended; its work is not paid for.",
            {"reservation": str(self.id), "subject": self.subject, "outcome": outcome},
        )

    def _roll_back_after(self, error: BaseException) -> None:
        cause = getattr(error, "cause", None)
        if not isinstance(cause, Cause):
            interrupted = isinstance(error, (KeyboardInterrupt, GeneratorExit))
            cause = Cause.CANCELLED if interrupted else self._on_error
        try:
            self.rollback(cause, reason=type(error).__name__)
        except EarmarkError as refused:  # the error of the block is the one to be heard
            error.add_note(
                f"Reservation {self.id} could not be rolled back; what it holds returns at {self.expires_at}: {refused}"
            )
