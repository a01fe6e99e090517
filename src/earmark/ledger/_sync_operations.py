"""Generated from `_async_operations.py` by `tools/generate_sync.py`; do not edit."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from psycopg import Connection

from earmark.ledger import _operations, _overviews
from earmark.ledger._batching import Transport
from earmark.ledger.rollback_log import log_rollback
from earmark.model import (
    Adopted,
    Cause,
    Counted,
    Drift,
    Expired,
    Followed,
    FoundSubject,
    Health,
    Pruned,
    Repair,
    RollbacksAt,
    SetAside,
    UseAt,
)


class Operations:
    """What is watched and moved from outside, beside the quota itself."""

    _transport: Transport

    def sweep(
        self,
        *,
        max_holds: int = 100,
        max_batches: int = 10_000,
        before: datetime | None = None,
        connection: Connection[Any] | None = None,
    ) -> tuple[Expired, ...]:
        """Rolls back what is overdue, batch by batch, until nothing is left or `max_batches` were done.

        `before`, an aware moment of the database's clock, leaves alone what became overdue after it.

        Any number of sweepers may run: each passes over the subjects another one has locked. A larger batch of
        `max_holds` is hardly faster, and others wait for its commit to reach the disk.
        """
        expired: list[Expired] = []
        reached: datetime | None = None
        for _ in range(max_batches):
            batch = self._transport.run(_operations.expire(max_holds, reached, before), connection)
            for hold in batch:
                log_rollback(
                    hold.subject,
                    hold.reservation,
                    hold.item,
                    {hold.resource: hold.amount},
                    Cause.EXPIRED,
                    "deadline",
                    "sweep",
                )
            if not batch:
                break
            expired += batch
            reached = max(hold.expired_at for hold in batch)
        return tuple(expired)

    def verify(self, subject: str | None = None, *, connection: Connection[Any] | None = None) -> tuple[Drift, ...]:
        """What does not agree between balances, holds and journal, or was tampered with; empty when all is well.

        In one snapshot, of one subject or of all. The journal's hash chain is followed from what was pruned to its end.
        """
        return self._transport.run(_operations.verify(subject), connection)

    def repair(
        self,
        reason: str,
        *,
        subject: str | None = None,
        actor: str | None = None,
        connection: Connection[Any] | None = None,
    ) -> tuple[Repair, ...]:
        """Makes balances, holds and journal agree, by adjustments in the journal; safe beside live traffic.

        What the holds say is right. A broken hash chain is evidence and stays as it is.

        Args:
            reason: Why, for the journal, which also gets what was found.
            subject: Only his; None: whoever drifted.
            actor: Who repairs, for the journal.
            connection: The caller's own connection.

        Raises:
            InvalidRequest: No reason.
        """
        return self._transport.run(_operations.repair(reason, subject=subject, actor=actor), connection)

    def set_aside(self, *, connection: Connection[Any] | None = None) -> tuple[SetAside, ...]:
        """The overdue items that the sweeper could not roll back, and tries again at their `retry_at`."""
        return self._transport.run(_operations.set_aside(), connection)

    def follow(
        self, cursor: str | None = None, *, max_entries: int = 1000, connection: Connection[Any] | None = None
    ) -> tuple[Followed, ...]:
        """The next entries of everybody's journal: each once, none missed, every subject's in the order of `seq`.

        Entries appear when no transaction that began before them is still running anywhere on the server. Ask again
        with the last one's cursor, which may be stored; an empty answer means that nothing new is there yet.

        Args:
            cursor: Of the last entry that was taken; None for the beginning of what is kept.
            max_entries: At most, up to 10000.
            connection: The caller's own connection.

        Raises:
            InvalidRequest: Not a cursor.
        """
        return self._transport.run(_operations.journal_since(cursor, max_entries), connection)

    def journal_export(
        self,
        subject: str,
        *,
        after_seq: int = 0,
        max_entries: int = 1000,
        connection: Connection[Any] | None = None,
    ) -> tuple[dict[str, Any], ...]:
        """The subject's journal as JSON values, oldest first, with all that `earmark.ledger.chain.verify_export` needs.

        At most 10000 entries; the next page is `after_seq` the last one's. Times are microseconds since 1970.
        """
        return self._transport.run(_operations.journal_export(subject, after_seq, max_entries), connection)

    def prune_settled(
        self,
        before: datetime | None = None,
        *,
        max_reservations: int = 1000,
        connection: Connection[Any] | None = None,
    ) -> Pruned:
        """Removes reservations settled before a moment, with the outcomes under their keys; use stays counted.

        One pass over all, in batches, each a transaction of its own. What could still be refunded stays, and so does
        what others have locked, until the next pass.

        Args:
            before: None: as the retention says; see `configure_retention`.
            max_reservations: Looked at in one batch.
            connection: The caller's own connection, whose transaction all batches join.
        """
        reservations = holds = 0
        after: UUID | None = None
        while True:
            call = _operations.prune_settled(before, max_reservations, after)
            removed, of_holds, after = self._transport.run(call, connection)
            reservations += removed
            holds += of_holds
            if after is None:
                return Pruned(reservations, holds)

    def prune_journal(
        self,
        before: datetime | None = None,
        *,
        max_entries: int = 10_000,
        connection: Connection[Any] | None = None,
    ) -> int:
        """Removes journal entries older than a moment; the rest of each chain stays verifiable. How many were removed.

        One pass over all subjects, in batches, each a transaction of its own.

        Args:
            before: None: as the retention says, which is to keep the journal for good until it is configured.
            max_entries: Removed in one batch.
            connection: The caller's own connection, whose transaction all batches join.
        """
        removed = 0
        after: str | None = None
        while True:
            entries, after = self._transport.run(_operations.prune_journal(before, max_entries, after), connection)
            removed += entries
            if after is None:
                return removed

    def configure_retention(
        self,
        *,
        reservations: timedelta | None,
        journal: timedelta | None,
        connection: Connection[Any] | None = None,
    ) -> None:
        """Sets how long settled reservations, with their keys, and the journal are kept; None: for good.

        Raises:
            InvalidRequest: A time not above zero.
        """
        self._transport.run(_operations.configure_retention(reservations, journal), connection)

    def adopt(
        self,
        counted: Sequence[Counted],
        *,
        key: str,
        reason: str,
        actor: str,
        dry_run: bool = False,
        connection: Connection[Any] | None = None,
    ) -> tuple[Adopted, ...]:
        """Takes over what another system has counted, all of it or nothing: plans, own quotas, and use, as adjustments.

        Use is added in the current period, at the subject and all above him.

        Args:
            counted: Each subject and resource once.
            key: Of the whole import, up to 100 characters: under it each subject and resource is adopted once.
            reason: Why, for the journal.
            actor: Who says so, for the journal.
            dry_run: Only tells what would become of each.
            connection: The caller's own connection.

        Raises:
            InvalidRequest: Use below zero, something named twice, or a key, reason or actor out of range.
            UnknownPlan: There is no such plan.
            UnknownResource: The subject's plan does not count this resource.
            UnknownSubject: A new subject without a plan, and no default plan.
        """
        call = _operations.adopt(counted, key=key, reason=reason, actor=actor, dry_run=dry_run)
        return self._transport.run(call, connection)

    def health(self, *, connection: Connection[Any] | None = None) -> Health:
        """How the ledger and the uploads are doing: what is open and overdue, what has happened, what checks found."""
        return self._transport.run(_operations.health(), connection)

    def tally(self, *, max_entries: int = 10_000, connection: Connection[Any] | None = None) -> int:
        """Counts what was added to the journal since the last time, for `health`; how many entries those were.

        One pass in batches, each a transaction of its own. While another process counts, there is nothing to do.

        Args:
            max_entries: In one batch, about.
            connection: The caller's own connection, whose transaction all batches join.
        """
        counted = 0
        while True:
            batch = self._transport.run(_operations.tally(max_entries), connection)
            counted += batch
            if batch < max(max_entries, 1):
                return counted

    def record_check(self, name: str, findings: int, *, connection: Connection[Any] | None = None) -> None:
        """Notes what a check of the whole ledger has found, for `health`.

        Args:
            name: The check's, such as `verify`: small letters and underscores.
            findings: How many; 0 when all is well.
            connection: The caller's own connection.

        Raises:
            InvalidRequest: Another name, or less than nothing.
        """
        self._transport.run(_operations.record_check(name, findings), connection)

    def journal_position(self, *, connection: Connection[Any] | None = None) -> str:
        """The cursor with which `follow` gives what comes from now on."""
        return self._transport.run(_operations.journal_position(), connection)

    def subjects_like(
        self, part: str, *, limit: int = 20, connection: Connection[Any] | None = None
    ) -> tuple[FoundSubject, ...]:
        """Subjects whose name contains the text, in whatever case; the one of that name first."""
        return self._transport.run(_overviews.subjects_like(part, limit=limit), connection)

    def use_over_time(
        self, subject: str, *, since: datetime, points: int = 120, connection: Connection[Any] | None = None
    ) -> tuple[UseAt, ...]:
        """What a subject used at evenly spaced moments from then until now, by resource and time.

        Args:
            subject: Whose use; of somebody never seen there is none.
            since: A moment in the past. Before what his journal still has, nothing is told.
            points: Into how many steps the time is divided, up to 1000.
            connection: The caller's own connection.

        Raises:
            InvalidRequest: `since` is not in the past, or there are too many points.
        """
        return self._transport.run(_overviews.use_over_time(subject, since=since, points=points), connection)

    def rollbacks_over_time(
        self, *, since: datetime, step: Literal["hour", "day"] = "day", connection: Connection[Any] | None = None
    ) -> tuple[RollbacksAt, ...]:
        """How many items were rolled back in each hour or day (UTC) since then, whoever's; as of the last tally."""
        return self._transport.run(_overviews.rollbacks_over_time(since=since, step=step), connection)
