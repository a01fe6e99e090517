"""The ledger's methods for its operator. `_sync_operations.py` is generated from this file; edit only this one."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from psycopg import AsyncConnection

from earmark.ledger import _calls, _overviews
from earmark.ledger._batching import AsyncTransport
from earmark.model import Adopted, Counted, FoundSubject, Health, RollbacksAt, UseAt


class AsyncOperations:
    """What is watched and moved from outside, beside the quota itself."""

    _transport: AsyncTransport

    async def adopt(
        self,
        counted: Sequence[Counted],
        *,
        key: str,
        reason: str,
        actor: str,
        dry_run: bool = False,
        connection: AsyncConnection[Any] | None = None,
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
        call = _calls.adopt(counted, key=key, reason=reason, actor=actor, dry_run=dry_run)
        return await self._transport.run(call, connection)

    async def health(self, *, connection: AsyncConnection[Any] | None = None) -> Health:
        """How the ledger and the uploads are doing: what is open and overdue, what has happened, what checks found."""
        return await self._transport.run(_calls.health(), connection)

    async def tally(self, *, max_entries: int = 10_000, connection: AsyncConnection[Any] | None = None) -> int:
        """Counts what was added to the journal since the last time, for `health`; how many entries those were.

        One pass in batches, each a transaction of its own. While another process counts, there is nothing to do.

        Args:
            max_entries: In one batch, about.
            connection: The caller's own connection, whose transaction all batches join.
        """
        counted = 0
        while True:
            batch = await self._transport.run(_calls.tally(max_entries), connection)
            counted += batch
            if batch < max(max_entries, 1):
                return counted

    async def record_check(self, name: str, findings: int, *, connection: AsyncConnection[Any] | None = None) -> None:
        """Notes what a check of the whole ledger has found, for `health`.

        Args:
            name: The check's, such as `verify`: small letters and underscores.
            findings: How many; 0 when all is well.
            connection: The caller's own connection.

        Raises:
            InvalidRequest: Another name, or less than nothing.
        """
        await self._transport.run(_calls.record_check(name, findings), connection)

    async def journal_position(self, *, connection: AsyncConnection[Any] | None = None) -> str:
        """The cursor with which `follow` gives what comes from now on."""
        return await self._transport.run(_calls.journal_position(), connection)

    async def subjects_like(
        self, part: str, *, limit: int = 20, connection: AsyncConnection[Any] | None = None
    ) -> tuple[FoundSubject, ...]:
        """Subjects whose name contains the text, in whatever case; the one of that name first."""
        return await self._transport.run(_overviews.subjects_like(part, limit=limit), connection)

    async def use_over_time(
        self, subject: str, *, since: datetime, points: int = 120, connection: AsyncConnection[Any] | None = None
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
        return await self._transport.run(_overviews.use_over_time(subject, since=since, points=points), connection)

    async def rollbacks_over_time(
        self, *, since: datetime, step: Literal["hour", "day"] = "day", connection: AsyncConnection[Any] | None = None
    ) -> tuple[RollbacksAt, ...]:
        """How many items were rolled back in each hour or day (UTC) since then, whoever's; as of the last tally."""
        return await self._transport.run(_overviews.rollbacks_over_time(since=since, step=step), connection)
