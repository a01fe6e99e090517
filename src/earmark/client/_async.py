"""The client for asyncio. `_sync.py` is generated from this file by `tools/generate_sync.py`; edit only this one."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self
from uuid import UUID

import httpx

from earmark.client import calls
from earmark.client._async_images import AsyncImages
from earmark.client._async_reservation import AsyncReservation
from earmark.client._async_transport import AsyncTransport
from earmark.client.calls import History
from earmark.client.problems import ServiceError, read_refusal
from earmark.errors import NotFound, QuotaExceeded, SchemaMismatch
from earmark.ledger._parameters import word_of
from earmark.ledger.rollback_log import log_failed_rollback
from earmark.model import (
    Adjustment,
    Amounts,
    Cause,
    Explanation,
    Late,
    ReservationStory,
    Returned,
    Settlement,
    Story,
    Subject,
    Usage,
    UsageLevel,
)


class AsyncClient:
    """Quota of subjects, over HTTP: the ledger's words for a service that does not share its database.

    Every method may be sent again, and is, while the service cannot be reached or says that it cannot answer now:
    reserving has a key, what is settled is settled once. Refusals are the errors of `earmark.errors`. The token goes to
    the service alone, and into no log and no error.

    Args:
        url: Where the service is, `https://host` with a path at most.
        token: Bearer token, or what returns the one that is good now; called for every request.
        attempts: Most times that a call is sent; the pauses between grow from 0.25 to 4 seconds, less a random part,
            and are longer where the service says so.
        timeout_seconds: Longest wait for the next bytes of an answer; for a connection 5 seconds at most.
        http: Connections of your own, for another proxy or certificates; you close them.

    Attributes:
        images: Uploads of images.

    Raises:
        InvalidRequest: The address or the token could not be one.
    """

    def __init__(
        self,
        url: str,
        token: str | Callable[[], str],
        *,
        attempts: int = 6,
        timeout_seconds: float = 30,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._transport = AsyncTransport(url, token, attempts=attempts, timeout_seconds=timeout_seconds, http=http)
        self.images = AsyncImages(self._transport)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._transport.url!r})"

    async def close(self) -> None:
        """Closes the connections; those that were handed in stay open."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def reserve(
        self,
        subject: str | None,
        amounts: Amounts | None = None,
        *,
        items: Mapping[str, Amounts] | None = None,
        key: str | None = None,
        ttl: timedelta | None = None,
        on_error: Cause = Cause.PROCESSING_FAILED,
    ) -> AsyncReservation:
        """Takes quota, all of it or none; a reservation that was denied is false, and says what it was short of.

        Where its task is cancelled meanwhile, what was taken without a key is given back.

        Args:
            subject: Whose quota; None: the token's own. A service may name anybody.
            amounts: Per resource, whole numbers from 1: one item, named "1".
            items: Instead of `amounts`: several items, each to be settled on its own.
            key: Idempotency key, 1 to 255 printable ASCII characters: the same request under it gets the same answer;
                None: one of its own.
            ttl: How long the holds last unless extended; None: 15 minutes.
            on_error: Cause with which the reservation's block rolls back on an exception without one of its own.

        Raises:
            InvalidRequest: An amount, a name or the ttl is out of range.
            KeyConflict: The key was used for a different request.
            UnknownSubject: No such subject, and no default plan.
            UnknownResource: The subject's plan does not count this resource.
            Forbidden: A user names somebody else.
            NotSignedIn: The token is not good.
            ServiceUnavailable: No answer; where quota was taken, it returns at its deadline.
        """
        cause = Cause(word_of("on_error", Cause, on_error))
        call = calls.reserve(subject, amounts, items, key=key, ttl=ttl)
        try:
            owner, grant = await self._transport.run(call)
        except QuotaExceeded as error:
            owner, grant = read_refusal(error, calls.denied)
        return AsyncReservation(self, owner, grant, cause, frozenset(items or ("1",)))

    async def commit(
        self,
        reservation: UUID,
        *,
        items: Sequence[str] | Mapping[str, Amounts] | None = None,
        amounts: Amounts | None = None,
        subject: str | None = None,
        late: Late = Late.REACQUIRE,
        grow: bool = False,
        reason: str | None = None,
    ) -> Settlement:
        """Turns holds into committed use; for a service's token.

        Args:
            reservation: Its id.
            items: Which items; or a mapping of items to what was really used, the rest of which returns at once.
            amounts: What was really used, for a reservation of one item.
            subject: Where given, only a reservation of this subject is found.
            late: Whether a commit after expiry takes quota anew, or is refused.
            grow: Whether more than was held may be committed, where there is room for the difference.
            reason: Free text for the journal.

        Raises:
            AlreadySettled: It was rolled back or refunded before.
            InvalidRequest: An amount is no whole number from 0, or above what is held and `grow` was not asked for.
            NotFound: No such reservation or item, or it is not the subject's.
            QuotaExceeded: It came late or was to grow, and there was no room left.
            Forbidden: The token is a user's.
            ServiceUnavailable: No answer.
        """
        call = calls.commit(
            reservation, subject=subject, items=items, amounts=amounts, late=late, grow=grow, reason=reason
        )
        return await self._transport.run(call)

    async def rollback(
        self,
        reservation: UUID,
        *,
        cause: Cause,
        items: Sequence[str] | None = None,
        subject: str | None = None,
        reason: str | None = None,
    ) -> Settlement:
        """Gives back what the holds took: exactly that, exactly once.

        Raises:
            AlreadySettled: It was committed before.
            NotFound: No such reservation or item, or it is not the subject's.
            Forbidden: With a user's token, a cause that is not the user's to state.
            ServiceUnavailable: No answer, which is logged; the holds return at their deadline.
        """
        call = calls.rollback(reservation, subject=subject, cause=cause, items=items, reason=reason)
        try:
            return await self._transport.run(call)
        except (SchemaMismatch, ServiceError) as error:
            log_failed_rollback(reservation, cause, error, subject=subject, items=items, actor=None)
            raise

    async def rollback_newest(
        self,
        subject: str | None,
        resource: str,
        max_amount: int,
        *,
        cause: Cause = Cause.CANCELLED,
        reason: str | None = None,
    ) -> tuple[Returned, ...]:
        """The count form: gives back the subject's own open items, newest first, up to `max_amount` of the resource.

        Raises:
            InvalidRequest: The amount is no whole number from 1.
            UnknownSubject: No such subject, and no default plan.
            Forbidden: A user names somebody else, or a cause that is not his to state.
            ServiceUnavailable: No answer; the holds return at their deadline.
        """
        call = calls.rollback_newest(subject, resource, max_amount, cause=cause, reason=reason)
        return await self._transport.run(call)

    async def refund(
        self,
        reservation: UUID,
        *,
        items: Sequence[str] | None = None,
        subject: str | None = None,
        reason: str | None = None,
    ) -> Settlement:
        """Gives back committed use of what was deleted: once per item, and only what the plan marks as refundable.

        For a service's token. An image is refunded by deleting it.

        Raises:
            AlreadySettled: It was rolled back before.
            NotFound: No such reservation or item, or it is not the subject's.
            NotRefundable: It is not committed yet, or the plan refunds nothing of it.
            Forbidden: The token is a user's.
            ServiceUnavailable: No answer.
        """
        return await self._transport.run(calls.refund(reservation, subject=subject, items=items, reason=reason))

    async def extend(
        self,
        reservation: UUID,
        *,
        ttl: timedelta,
        items: Sequence[str] | None = None,
        subject: str | None = None,
        reason: str | None = None,
    ) -> Settlement:
        """Moves the deadline to `ttl` from now; never to an earlier time.

        With a `reason` the journal says who moved it and why, and an upload that has not arrived is waited for as long.

        Raises:
            AlreadySettled: Nothing of it is held any more.
            InvalidRequest: The ttl is out of range.
            NotFound: No such reservation or item, or it is not the subject's.
            ServiceUnavailable: No answer.
        """
        return await self._transport.run(
            calls.extend(reservation, subject=subject, ttl=ttl, items=items, reason=reason)
        )

    async def adjust(
        self, subject: str, resource: str, amount: int, *, reason: str, key: str | None = None
    ) -> Adjustment:
        """Corrects committed use in the current period, at the subject and all above him, or at none of them.

        For a service's token.

        Args:
            subject: Whose use.
            resource: Which resource.
            amount: What is added to the use, over the quota too; below 0: what is taken away, but never more than
                there is, nor what the refund of stored things may yet give back: that answers `denied`.
            reason: Why, for the journal: 1 to 500 characters.
            key: Idempotency key: the same adjustment under it is made once and gets the same answer; None: one of its
                own.

        Raises:
            InvalidRequest: The amount is 0 or no 64-bit whole number, or the reason is missing.
            KeyConflict: The key was used for a different adjustment.
            UnknownSubject: No such subject, and no default plan.
            UnknownResource: The subject's plan does not count this resource.
            Forbidden: The token is a user's.
            ServiceUnavailable: No answer.
        """
        try:
            return await self._transport.run(calls.adjust(subject, resource, amount, reason=reason, key=key))
        except ServiceError as error:
            if error.problem != "adjustment-denied":
                raise
            return read_refusal(error, calls.adjustment_denied)

    async def subject(self, subject: str) -> Subject:
        """What is set for the subject: plan, parent, anchor, quotas of his own. For a service's token.

        Raises:
            UnknownSubject: No such subject, and no default plan.
            Forbidden: The token is a user's.
            ServiceUnavailable: No answer.
        """
        return await self._transport.run(calls.subject(subject))

    async def configure_subject(
        self,
        subject: str,
        *,
        plan: str | None = None,
        quotas: Mapping[str, int | None] | None = None,
        anchor: datetime | None = None,
        parent: str | None = None,
    ) -> None:
        """Registers or changes a subject; what is not given stays. Takes effect at the next grant.

        For a service's token.

        Args:
            subject: Who, 1 to 255 characters.
            plan: His plan.
            quotas: His own, in place of the plan's: -1 is unlimited, None is the plan's again.
            anchor: From which his periods are counted; with a time zone.
            parent: A registered subject to stand above him; see `AsyncLedger.configure_subject`.

        Raises:
            InvalidRequest: The parent or a value is not good.
            UnknownPlan: There is no such plan.
            UnknownResource: The plan does not count a resource named in `quotas`.
            UnknownSubject: A new subject without a plan, and no default plan.
            Forbidden: The token is a user's.
            ServiceUnavailable: No answer.
        """
        call = calls.configure_subject(subject, plan=plan, quotas=quotas or {}, anchor=anchor, parent=parent)
        await self._transport.run(call)

    async def usage(self, subject: str | None = None) -> Usage:
        """What the subject, or the token's own, may use and uses now.

        Raises:
            UnknownSubject: No such subject, and no default plan.
            ServiceUnavailable: No answer.
        """
        return await self._transport.run(calls.usage(subject))

    async def usage_levels(self, subject: str | None = None) -> tuple[UsageLevel, ...]:
        """What the subject, his parent and so on up to the root may use and use now; a grant needs room with each.

        Raises:
            UnknownSubject: No such subject, and no default plan.
            ServiceUnavailable: No answer.
        """
        return await self._transport.run(calls.usage_levels(subject))

    async def reservation(self, reservation: UUID, *, subject: str | None = None) -> ReservationStory | None:
        """The reservation as it stands, without its key; None where there is none, or it is not his."""
        try:
            return await self._transport.run(calls.reservation(reservation, subject=subject))
        except NotFound:
            return None

    async def history(self, subject: str | None = None, *, cursor: str | None = None, limit: int = 50) -> History:
        """A page of the subject's journal, newest first, of at most 200 entries.

        Args:
            subject: Whose; None: the token's own.
            cursor: The `next_cursor` of the page before.
            limit: Most entries.

        Raises:
            InvalidRequest: The cursor or the limit is not good.
            ServiceUnavailable: No answer.
        """
        return await self._transport.run(calls.history(subject, cursor=cursor, limit=limit))

    async def explain(self, subject: str | None = None) -> Explanation:
        """Why the subject's quota is what it is: what he uses, what holds quota now, and what changed it of late.

        Raises:
            UnknownSubject: No such subject, and no default plan.
            ServiceUnavailable: No answer.
        """
        return await self._transport.run(calls.explain(subject))

    async def story(self, about: UUID, *, subject: str | None = None) -> Story | None:
        """What became of the reservation, or of the image, of this id; None where there is none or it is not his."""
        try:
            return await self._transport.run(calls.story(about, subject=subject))
        except NotFound:
            return None
