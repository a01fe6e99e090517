"""Reservations: the ledger for any resource."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from earmark.errors import (
    AlreadySettled,
    InvalidRequest,
    KeyConflict,
    NotFound,
    NotRefundable,
    QuotaExceeded,
    UnknownResource,
    UnknownSubject,
)
from earmark.http_api.answers import Connection, RequestInFlight
from earmark.http_api.bodies import (
    RESERVE_BODY,
    CommitBody,
    ExtendBody,
    RefundBody,
    ReservationRollbackBody,
    ReserveBody,
)
from earmark.http_api.caller import Caller
from earmark.http_api.requests import key_of, named_in_query, read, uuid_of
from earmark.http_api.routing import SUBJECT, Access, address, operation, resource
from earmark.http_api.services import Services
from earmark.http_api.settlements import checked, refunded, rolled_back
from earmark.http_api.usage_reader import UsageReader
from earmark.http_api.wire import (
    CommittedAnswer,
    ExtendedAnswer,
    RefundedAnswer,
    ReservationAnswer,
    ReservationRolledBackAnswer,
    ReservedAnswer,
    answer,
    committed_answer,
    extended_answer,
    refunded_answer,
    reservation_answer,
    rolled_back_answer,
    usage_answer,
)
from earmark.ledger.denial import exceeded

B = TypeVar("B", bound=Struct)


@dataclass(frozen=True, slots=True)
class Settled:
    """The reservation that a call settles.

    Attributes:
        named: As the address names it.
        seen: Whose reservations the caller finds; None: everybody's.
        actor: Who calls.
    """

    named: str
    seen: str | None
    actor: str

    def id(self) -> UUID:
        """Its id.

        Raises:
            NotFound: The address names none.
        """
        return uuid_of(self.named, "reservation")


EffectOn = Callable[[Settled, B, Connection | None], Awaitable[Response]]


def routes(services: Services) -> list[Route]:
    """The calls of this noun."""
    calls = Reservations(services)
    return [
        resource("/api/reservations", POST=calls.reserve),
        resource("/api/reservations/{id}/rollback", POST=calls.rollback),
        resource("/api/reservations/{id}/commit", POST=calls.commit),
        resource("/api/reservations/{id}/extend", POST=calls.extend),
        resource("/api/reservations/{id}/refund", POST=calls.refund),
        resource("/api/reservations/{id}", GET=calls.one),
    ]


class Reservations:
    """Each method answers one call. A service finds everybody's reservations; `?subject=` narrows it to one's."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._usage = UsageReader(services.ledger)
        self._ledger = services.ledger

    @operation(
        body=RESERVE_BODY,
        example=ReserveBody(amounts={"images": 1}, ttl_seconds=600),
        answers={201: ReservedAnswer},
        problems=(UnknownSubject, UnknownResource, QuotaExceeded, KeyConflict),
        query=(SUBJECT,),
        keyed=True,
        quota=True,
        located=True,
    )
    async def reserve(self, request: Request) -> Response:
        """Takes quota, all of it or none: 201, or 429."""
        caller = self._services.caller(request)
        key = key_of(request)
        body = await read(request, ReserveBody)
        subject = caller.acting_for(body.subject or named_in_query(request))
        if (body.amounts is None) == (body.items is None):
            raise InvalidRequest("Give amounts of one item, or items with their amounts.", {"field": "amounts"})
        reservation = await self._ledger.reserve(
            subject,
            body.amounts,
            items=body.items,
            key=key,
            ttl=timedelta(seconds=body.ttl_seconds),
            actor=caller.subject,
        )
        grant = reservation.grant
        if grant.reservation is None or grant.expires_at is None:
            raise exceeded(subject, grant.short, replayed=grant.replayed)
        usage = usage_answer(await self._usage.usage(subject))
        return answer(
            ReservedAnswer(grant.reservation, grant.expires_at, grant.replayed, usage),
            201,
            location=address(request, f"/api/reservations/{grant.reservation}"),
            usage=usage,
            replayed=grant.replayed,
        )

    @operation(answers={200: ReservationAnswer}, problems=(NotFound,), query=(SUBJECT,))
    async def one(self, request: Request) -> Response:
        """A reservation as it stands."""
        caller = self._services.caller(request)
        seen = caller.sees(named_in_query(request))
        story = await self._ledger.reservation(uuid_of(request.path_params["id"], "reservation"), subject=seen)
        if story is None:
            raise NotFound("There is no such reservation.")
        return answer(reservation_answer(story))

    @operation(
        body=CommitBody,
        example=CommitBody(amounts={"images": 1}),
        answers={200: CommittedAnswer},
        access=Access.SERVICE,
        problems=(NotFound, AlreadySettled, QuotaExceeded, RequestInFlight),
        query=(SUBJECT,),
        keyed=True,
        quota=True,
    )
    async def commit(self, request: Request) -> Response:
        """The work is done: what it used is used, the rest comes back. The word of a service."""
        caller = self._services.caller(request)
        caller.must_be_service()
        body = await read(request, CommitBody)
        return await self._once(request, caller, body, self._commit)

    async def _commit(self, settled: Settled, body: CommitBody, connection: Connection | None) -> Response:
        settlement = await self._ledger.commit(
            settled.id(),
            items=body.items,
            amounts=body.amounts,
            subject=settled.seen,
            late=body.late,
            grow=body.grow,
            actor=settled.actor,
            reason=body.reason,
            connection=connection,
        )
        subject = checked(settlement, {"committed", "already_committed"})
        usage = usage_answer(await self._usage.usage(subject, connection))
        return answer(committed_answer(settlement, usage), usage=usage)

    @operation(
        body=ReservationRollbackBody,
        example=ReservationRollbackBody(reason="The user closed the page."),
        answers={200: ReservationRolledBackAnswer},
        problems=(NotFound, AlreadySettled, RequestInFlight),
        query=(SUBJECT,),
        keyed=True,
        quota=True,
    )
    async def rollback(self, request: Request) -> Response:
        """Gives back what is held; repeated: nothing more."""
        caller = self._services.caller(request)
        body = await read(request, ReservationRollbackBody)
        caller.states(body.cause)
        return await self._once(request, caller, body, self._roll_back)

    async def _roll_back(
        self, settled: Settled, body: ReservationRollbackBody, connection: Connection | None
    ) -> Response:
        settlement = await self._services.uploads.failed_rollbacks.reservation(
            self._ledger,
            settled.id(),
            cause=body.cause,
            items=body.items,
            subject=settled.seen,
            actor=settled.actor,
            reason=body.reason,
            connection=connection,
        )
        subject, _ = rolled_back(settlement)
        usage = usage_answer(await self._usage.usage(subject, connection))
        return answer(rolled_back_answer(settlement, usage), usage=usage)

    @operation(
        body=ExtendBody,
        example=ExtendBody(600),
        answers={200: ExtendedAnswer},
        problems=(NotFound, AlreadySettled, RequestInFlight),
        query=(SUBJECT,),
        keyed=True,
    )
    async def extend(self, request: Request) -> Response:
        """Moves the deadline; never to an earlier time.

        With a reason, an upload that has not arrived is waited for as long.
        """
        caller = self._services.caller(request)
        body = await read(request, ExtendBody)
        return await self._once(request, caller, body, self._extend)

    async def _extend(self, settled: Settled, body: ExtendBody, connection: Connection | None) -> Response:
        reservation = settled.id()
        settlement = await self._ledger.extend(
            reservation,
            ttl=timedelta(seconds=body.ttl_seconds),
            items=body.items,
            subject=settled.seen,
            actor=settled.actor,
            reason=body.reason,
            connection=connection,
        )
        checked(settlement, {"extended"})
        return answer(extended_answer(reservation, settlement))

    @operation(
        body=RefundBody,
        example=RefundBody(reason="The file was deleted."),
        answers={200: RefundedAnswer},
        access=Access.SERVICE,
        problems=(NotFound, AlreadySettled, NotRefundable, RequestInFlight),
        query=(SUBJECT,),
        keyed=True,
        quota=True,
    )
    async def refund(self, request: Request) -> Response:
        """What was used is used no longer: what the plan marks as refundable comes back, once. The word of a service.

        An image whose use is refunded is deleted.
        """
        caller = self._services.caller(request)
        caller.must_be_service()
        body = await read(request, RefundBody)
        return await self._once(request, caller, body, self._refund)

    async def _refund(self, settled: Settled, body: RefundBody, connection: Connection | None) -> Response:
        settlement = await self._ledger.refund(
            settled.id(),
            items=body.items,
            subject=settled.seen,
            actor=settled.actor,
            reason=body.reason,
            connection=connection,
        )
        usage = usage_answer(await self._usage.usage(refunded(settlement), connection))
        return answer(refunded_answer(settlement, usage), usage=usage)

    async def _once(self, request: Request, caller: Caller, body: B, effect: EffectOn[B]) -> Response:
        settled = Settled(request.path_params["id"], caller.sees(named_in_query(request)), caller.subject)
        return await self._services.answers.once(
            request,
            lambda: self._services.owner_of_reservation(settled.named, settled.seen),
            body,
            lambda connection: effect(settled, body, connection),
        )
