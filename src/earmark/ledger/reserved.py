"""What a reservation is and says, whoever settles it: over the database or over HTTP, sync or async."""

import asyncio
from datetime import datetime
from uuid import UUID

from earmark.errors import AlreadySettled
from earmark.ledger.denial import exceeded
from earmark.model import Cause, Grant, Shortage


class Reserved:
    """The answer to a request for quota, and what is left to do with it."""

    def __init__(self, subject: str, grant: Grant, on_error: Cause) -> None:
        self._on_error = on_error
        self._settles_itself = True
        self._wanted_back: Cause | None = None
        self.subject = str(subject)
        self.grant = grant

    @property
    def id(self) -> UUID:
        """Its id.

        Raises:
            QuotaExceeded: It was denied.
        """
        if self.grant.reservation is None:
            raise exceeded(self.subject, self.grant.short, replayed=self.grant.replayed)
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

    def detach(self) -> UUID:
        """Lets the holds outlive the block; who settles them later needs the id that is returned."""
        self._settles_itself = False
        return self.id

    def _cause_of(self, error: BaseException) -> Cause:
        """Why an exception that left the block gives the quota back."""
        cause = getattr(error, "cause", None)
        if isinstance(cause, str) and cause in set(Cause):
            return Cause(cause)
        interrupted = isinstance(error, (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit))
        return Cause.CANCELLED if interrupted else self._on_error

    def _not_paid_for(self, outcome: str | None) -> AlreadySettled:
        return AlreadySettled(
            f"Reservation {self.id} had been rolled back before its block ended; its work is not paid for.",
            {"reservation": str(self.id), "subject": self.subject, "outcome": outcome},
        )
