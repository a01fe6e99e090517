"""Generated from `_async_reservation.py` by `tools/generate_sync.py`; do not edit."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self

from earmark.errors import AlreadySettled, EarmarkError, NotFound, QuotaExceeded
from earmark.ledger.reserved import Reserved
from earmark.model import Amounts, Cause, Grant, Settlement

if TYPE_CHECKING:
    from earmark.client._sync import Client


class Reservation(Reserved):
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
        super().__init__(subject, grant, on_error)
        self._client = client
        self._open = set(items)

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
            self._wanted_back = cause
        settlement = self._client.rollback(self.id, cause=cause, items=items, subject=self.subject, reason=reason)
        self._settles_itself = self._settles_itself and items is not None
        self._open -= settlement.items.keys()
        return settlement

    def extend(self, ttl: timedelta) -> Settlement:
        """Moves the deadline to `ttl` from now."""
        return self._client.extend(self.id, ttl=ttl, subject=self.subject)

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
        elif self._wanted_back is not None:  # it failed, and nobody minded: the work is not to be paid for
            self.rollback(self._wanted_back)
        elif self._open:
            self._commit_the_rest()

    def _commit_the_rest(self) -> None:
        try:
            settlement = self.commit(items=sorted(self._open))
        except (AlreadySettled, NotFound, QuotaExceeded) as refused:
            raise self._not_paid_for(refused.detail.get("outcome")) from refused
        if any(item.state == "rolled_back" for item in settlement.items.values()):
            raise self._not_paid_for(settlement.outcome)

    def _roll_back_after(self, error: BaseException) -> None:
        try:
            self.rollback(self._cause_of(error), reason=type(error).__name__)
        except EarmarkError as refused:  # the error of the block is the one to be heard
            error.add_note(
                f"Reservation {self.id} could not be rolled back; what it holds returns at {self.expires_at}: {refused}"
            )
