"""Generated from `_async.py` by `tools/generate_sync.py`; do not edit."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg_pool import ConnectionPool

from earmark.errors import InvalidRequest, SchemaMismatch
from earmark.faults import reached
from earmark.ledger import _calls, _stories
from earmark.ledger._batching import Transport
from earmark.ledger._parameters import word_of
from earmark.ledger._sync_operations import Operations
from earmark.ledger._sync_reservation import Reservation
from earmark.ledger.own_pool import OwnPool
from earmark.ledger.retrying import insist_sync
from earmark.ledger.rollback_log import log_failed_rollback, log_rollback, log_settlement
from earmark.model import (
    Adjustment,
    Amounts,
    Cause,
    Entry,
    Explanation,
    Late,
    Plan,
    PlanQuota,
    ReservationStory,
    Returned,
    Settlement,
    Story,
    Subject,
    Usage,
    UsageLevel,
)
from earmark.observing import Operation


class Ledger(Operations):
    """Quota of subjects: reserve, settle, look. Decided in PostgreSQL; this class carries the calls.

    Every method takes the caller's own `connection`: then it is part of his transaction.

    Args:
        database: A connection string, for which a pool is opened and closed with this ledger, or an open pool, of
            connections at READ COMMITTED, PostgreSQL's own default. A forked process has connections of its own in
            the first case; an open pool must be one of its own.
        max_connections: Of the ledger's own pool.
    """

    def __init__(self, database: str | ConnectionPool, *, max_connections: int = 4) -> None:
        self._owns_pool = isinstance(database, str)
        self._pool: ConnectionPool = (
            OwnPool(database, max_connections=max_connections) if isinstance(database, str) else database
        )
        self._transport = Transport(self._pool)

    def open(self) -> None:
        """Connects, where the pool is the ledger's own.

        Raises:
            psycopg_pool.PoolTimeout: The database does not answer within 30 seconds.
        """
        if self._owns_pool:
            self._pool.open(wait=True)

    def close(self) -> None:
        """Closes the ledger's own pool; one that was handed in stays open."""
        if self._owns_pool:
            self._transport.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def reserve(
        self,
        subject: str,
        amounts: Amounts | None = None,
        *,
        items: Mapping[str, Amounts] | None = None,
        key: str | None = None,
        ttl: timedelta = _calls.DEFAULT_TTL,
        on_error: Cause = Cause.PROCESSING_FAILED,
        actor: str | None = None,
        connection: Connection[Any] | None = None,
    ) -> Reservation:
        """Takes quota, all of it or none.

        Args:
            subject: Whose quota, 1 to 255 characters.
            amounts: Per resource, whole numbers from 1: one item, named "1".
            items: Instead of `amounts`: several items, each to be settled on its own.
            key: Idempotency key: the same request under it gets the same answer, granted or denied.
            ttl: How long the holds last unless extended.
            on_error: Cause with which the reservation's block rolls back on an exception without one of its own.
            actor: Who asks, for the journal; the subject himself by default.
            connection: The caller's own connection, whose transaction the call joins.

        Raises:
            InvalidRequest: An amount, a name or the ttl is out of range.
            KeyConflict: The key was used for a different request.
            UnknownSubject: No such subject, and no default plan.
            UnknownResource: The subject's plan does not count this resource.
        """
        if items is not None and amounts is not None:
            raise InvalidRequest("Give amounts, for one item, or items with theirs; not both.", {"field": "amounts"})
        named = items if items is not None else {"1": amounts or {}}
        cause = Cause(word_of("on_error", Cause, on_error))
        call = _calls.reserve(subject, named, key=key, ttl=ttl, actor=actor)
        with Operation("reserve", subject=subject) as operation:
            grant = self._transport.run(call, connection)
            if connection is None:
                reached("ledger_reserved")
            operation.ended("replayed" if grant.replayed else grant.outcome, reservation=grant.reservation)
        return Reservation(self, subject, grant, cause, connection)

    def commit(
        self,
        reservation: UUID,
        *,
        items: Sequence[str] | Mapping[str, Amounts] | None = None,
        amounts: Amounts | None = None,
        subject: str | None = None,
        late: Late = Late.REACQUIRE,
        grow: bool = False,
        actor: str | None = None,
        reason: str | None = None,
        connection: Connection[Any] | None = None,
    ) -> Settlement:
        """Turns holds into committed use.

        Args:
            reservation: Its id.
            items: Which items; or a mapping of items to what was really used, the rest of which returns at once.
            amounts: What was really used, for a reservation of one item.
            subject: Where given, only a reservation of this subject is found.
            late: Whether a commit after expiry takes quota anew, or is refused.
            grow: Whether more than was held may be committed, where there is room for the difference, at every level,
                in the period of the hold. Otherwise that answers `exceeds_hold`; without room, `denied`.
            actor: Who commits, for the journal.
            reason: Free text for the journal, up to 500 characters, as everywhere.
            connection: The caller's own connection.

        Raises:
            InvalidRequest: An amount is negative or not a whole number.
        """
        call = _calls.commit(
            reservation, subject=subject, items=items, amounts=amounts, late=late, grow=grow, actor=actor, reason=reason
        )
        with Operation("commit", reservation=reservation) as operation:
            settlement = self._transport.run(call, connection)
            if connection is None:
                reached("ledger_committed")
            operation.ended(settlement.outcome, subject=settlement.subject)
        return settlement

    def rollback(
        self,
        reservation: UUID,
        *,
        cause: Cause,
        items: Sequence[str] | None = None,
        subject: str | None = None,
        actor: str | None = None,
        reason: str | None = None,
        connection: Connection[Any] | None = None,
    ) -> Settlement:
        """Gives back what the holds took: exactly that, exactly once. Logged, and journaled, with its cause.

        On a pooled connection it is repeated, a bounded number of times, while the database is out of reach.

        Raises:
            psycopg.OperationalError: The database stayed out of reach; the holds return at their deadline.
            Forbidden: With JWT claims present, a cause that is not the user's to state.
        """
        return self._roll_back(reservation, cause, items, subject, actor, reason, connection)

    def _roll_back(
        self,
        reservation: UUID,
        cause: Cause,
        items: Sequence[str] | None,
        subject: str | None,
        actor: str | None,
        reason: str | None,
        connection: Connection[Any] | None,
    ) -> Settlement:
        call = _calls.rollback(reservation, cause=cause, subject=subject, items=items, actor=actor, reason=reason)
        attempts = 0

        def attempt() -> Settlement:
            nonlocal attempts
            attempts += 1
            return self._transport.run(call, connection)

        try:
            with Operation("rollback", reservation=reservation, cause=cause) as operation:
                if connection is not None:
                    settlement = attempt()
                else:
                    settlement = insist_sync(attempt)
                    reached("ledger_rolled_back")
                operation.ended(settlement.outcome, subject=settlement.subject)
        except (psycopg.Error, SchemaMismatch) as error:
            log_failed_rollback(reservation, cause, error, subject=subject, items=items, actor=actor)
            raise
        log_settlement(reservation, settlement, cause, actor, reason, was_repeated=attempts > 1)
        return settlement

    def rollback_newest(
        self,
        subject: str,
        resource: str,
        max_amount: int,
        *,
        cause: Cause = Cause.CANCELLED,
        actor: str | None = None,
        reason: str | None = None,
        connection: Connection[Any] | None = None,
    ) -> tuple[Returned, ...]:
        """The count form: gives back the subject's own open items, newest first, up to `max_amount` of the resource.

        It is not repeated where its answer was lost: that would give back the next ones.
        """
        return self._roll_back_newest(subject, resource, max_amount, cause, actor, reason, connection)

    def _roll_back_newest(
        self,
        subject: str,
        resource: str,
        max_amount: int,
        cause: Cause,
        actor: str | None,
        reason: str | None,
        connection: Connection[Any] | None,
    ) -> tuple[Returned, ...]:
        call = _calls.rollback_newest(subject, resource, max_amount, cause=cause, actor=actor, reason=reason)
        try:
            with Operation("rollback_newest", subject=subject, cause=cause) as operation:
                returned = self._transport.run(call, connection)
                operation.ended("rolled_back" if returned else "nothing_held")
        except (psycopg.Error, SchemaMismatch) as error:
            log_failed_rollback(None, cause, error, subject=subject, items=None, actor=actor)
            raise
        for one in returned:
            log_rollback(subject, one.reservation, one.item, one.amounts, cause, actor or subject, reason or "count")
        return returned

    def refund(
        self,
        reservation: UUID,
        *,
        items: Sequence[str] | None = None,
        subject: str | None = None,
        actor: str | None = None,
        reason: str | None = None,
        connection: Connection[Any] | None = None,
    ) -> Settlement:
        """Gives back committed use of what was deleted: once per item, and only what the plan marks as refundable."""
        call = _calls.refund(reservation, subject=subject, items=items, actor=actor, reason=reason)
        with Operation("refund", reservation=reservation) as operation:
            settlement = self._transport.run(call, connection)
            operation.ended(settlement.outcome, subject=settlement.subject)
        return settlement

    def extend(
        self,
        reservation: UUID,
        *,
        ttl: timedelta,
        items: Sequence[str] | None = None,
        subject: str | None = None,
        actor: str | None = None,
        reason: str | None = None,
        connection: Connection[Any] | None = None,
    ) -> Settlement:
        """Moves the deadline to `ttl` from now; never to an earlier time.

        With a `reason` the journal says who moved it and why, and an upload that has not arrived is waited for as long.
        """
        call = _calls.extend(reservation, ttl=ttl, subject=subject, items=items, actor=actor, reason=reason)
        with Operation("extend", reservation=reservation) as operation:
            settlement = self._transport.run(call, connection)
            operation.ended(settlement.outcome, subject=settlement.subject)
        return settlement

    def adjust(
        self,
        subject: str,
        resource: str,
        amount: int,
        *,
        reason: str,
        actor: str,
        key: str | None = None,
        connection: Connection[Any] | None = None,
    ) -> Adjustment:
        """Corrects committed use in the current period, at the subject and all above him, or at none of them.

        Args:
            subject: Whose use.
            resource: Which resource.
            amount: What is added to the use, over the quota too; below 0: what is taken away, but never more than
                there is, nor what the refund of stored things may yet give back.
            reason: Why, for the journal: 1 to 500 characters.
            actor: Who says so, for the journal.
            key: Idempotency key: the same adjustment under it is made once and gets the same answer.
            connection: The caller's own connection.

        Raises:
            InvalidRequest: The amount is 0 or no 64-bit whole number, or reason or actor is missing.
            KeyConflict: The key was used for a different adjustment.
            UnknownSubject: No such subject, and no default plan.
            UnknownResource: The subject's plan does not count this resource.
        """
        call = _calls.adjust(subject, resource, amount, reason=reason, actor=actor, key=key)
        return self._transport.run(call, connection)

    def usage(self, subject: str, *, connection: Connection[Any] | None = None) -> Usage:
        """What the subject may use and uses now: his own figures; see `usage_levels` for those above him.

        Raises:
            UnknownSubject: No such subject, and no default plan.
        """
        return self._transport.run(_calls.usage(subject), connection)

    def usages(self, subjects: Sequence[str], *, connection: Connection[Any] | None = None) -> dict[str, Usage]:
        """`usage` of many subjects, at a fraction of the cost of as many calls.

        Raises:
            UnknownSubject: One of them is unknown, and there is no default plan.
        """
        return self._transport.run(_calls.usages(subjects), connection)

    def usage_levels(self, subject: str, *, connection: Connection[Any] | None = None) -> tuple[UsageLevel, ...]:
        """What the subject, his parent and so on up to the root may use and use now; a grant needs room with each.

        Raises:
            UnknownSubject: No such subject, and no default plan.
        """
        return self._transport.run(_calls.usage_levels(subject), connection)

    def subject(self, subject: str, *, connection: Connection[Any] | None = None) -> Subject:
        """What is set for the subject: plan, parent, anchor, quotas of his own.

        Raises:
            UnknownSubject: No such subject, and no default plan.
        """
        return self._transport.run(_calls.subject(subject), connection)

    def reservation(
        self, reservation: UUID, *, subject: str | None = None, connection: Connection[Any] | None = None
    ) -> ReservationStory | None:
        """The reservation as it stands; None where there is none or, with a subject, it is not his."""
        return self._transport.run(_calls.reservation(reservation, subject=subject), connection)

    def history(
        self,
        subject: str,
        *,
        before: int | None = None,
        limit: int = 50,
        connection: Connection[Any] | None = None,
    ) -> tuple[Entry, ...]:
        """The subject's journal, newest first, at most 1000 entries; the next page is `before` the last `seq`."""
        return self._transport.run(_calls.history(subject, before=before, limit=limit), connection)

    def explain(
        self,
        subject: str,
        *,
        max_items: int = 100,
        max_changes: int = 20,
        connection: Connection[Any] | None = None,
    ) -> Explanation:
        """Why the subject's quota is what it is: what he uses, what holds quota now, and what changed it of late.

        Raises:
            UnknownSubject: No such subject, and no default plan.
        """
        call = _stories.explain(subject, max_items=max_items, max_changes=max_changes)
        return self._transport.run(call, connection)

    def story(
        self, about: UUID, *, subject: str | None = None, connection: Connection[Any] | None = None
    ) -> Story | None:
        """What became of the reservation, or of the image, of this id; None where there is none or it is not his."""
        return self._transport.run(_stories.story(about, subject=subject), connection)

    def plans(self, *, connection: Connection[Any] | None = None) -> tuple[Plan, ...]:
        """All plans."""
        return self._transport.run(_calls.plans(), connection)

    def configure_plan(
        self,
        plan: str,
        *,
        features: Mapping[str, object] | None = None,
        quotas: Mapping[str, PlanQuota | int] | None = None,
        actor: str | None = None,
        connection: Connection[Any] | None = None,
    ) -> None:
        """Creates or changes a plan; resources not named stay. Takes effect at the next grant.

        A quota that is a number is for good: it never starts again, and no refund gives it back.

        `explain` tells what was changed, when and by whom: `actor`, or else the role in the database.

        Raises:
            InvalidRequest: A name, quota or period is not allowed.
        """
        call = _calls.configure_plan(plan, features=features, quotas=quotas or {}, actor=actor)
        self._transport.run(call, connection)

    def configure_subject(
        self,
        subject: str,
        *,
        plan: str | None = None,
        quotas: Mapping[str, int | None] | None = None,
        anchor: datetime | None = None,
        parent: str | None = None,
        actor: str | None = None,
        connection: Connection[Any] | None = None,
    ) -> None:
        """Registers or changes a subject; what is not given stays. Takes effect at the next grant.

        Args:
            subject: Who, 1 to 255 characters.
            plan: His plan.
            quotas: His own, in place of the plan's: -1 is unlimited, None is the plan's again.
            anchor: From which his periods are counted.
            parent: A registered subject to stand above him, at most 8 levels in all: his own grants then need room
                there too. Within a tree it may change at any time, and what he took stays where he took it; into
                another tree he comes only while neither he nor anybody below him has anything in the books.
            actor: Who does it, for `explain`; else the role in the database.
            connection: The caller's own connection.

        Raises:
            InvalidRequest: The parent does not exist, would close a circle or a tree too deep, or is in another tree
                and there is something in the books.
            UnknownPlan: There is no such plan.
            UnknownResource: The plan does not count a resource named in `quotas`.
            UnknownSubject: A new subject without a plan, and no default plan.
        """
        call = _calls.configure_subject(
            subject, plan=plan, quotas=quotas or {}, anchor=anchor, parent=parent, actor=actor
        )
        self._transport.run(call, connection)
