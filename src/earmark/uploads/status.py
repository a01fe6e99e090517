"""How the background is doing: what is overdue, what failed, how long the queue is, and who works."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString

import msgspec
import psycopg

from earmark.errors import translated
from earmark.uploads.queue import QUEUE, SCHEMA

_QUEUE = f"""
SELECT count(*) FILTER (WHERE j.status = 'todo' AND coalesce(j.scheduled_at, '-infinity') <= clock_timestamp()),
    count(*) FILTER (WHERE j.status = 'todo' AND j.scheduled_at > clock_timestamp()),
    count(*) FILTER (WHERE j.status = 'doing'),
    min(coalesce(j.scheduled_at, e.at)) FILTER (WHERE j.status = 'todo')
FROM {SCHEMA}.procrastinate_jobs j
LEFT JOIN {SCHEMA}.procrastinate_events e ON e.job_id = j.id AND e.type = 'deferred'
WHERE j.queue_name = %s
"""  # noqa: S608 - the schema's name is ours
_WORKERS = f"SELECT last_heartbeat FROM {SCHEMA}.procrastinate_workers ORDER BY last_heartbeat DESC"  # noqa: S608

_QUERIES: tuple[tuple[LiteralString, tuple[str, ...]], ...] = (
    ("SELECT earmark.status()", ()),
    (_QUEUE, (QUEUE,)),
    (_WORKERS, ()),
)

STALE_WORKER = timedelta(seconds=30)
"""A worker says every 10 seconds that it is alive."""
MISSED_SWEEPS = 5
"""A sweeper that has missed as many sweeps is not running."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Things that should not be waiting any more; `oldest` is when the first of them was due, `error` the last one."""

    count: int
    oldest: datetime | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class RollbackFailures:
    """Rollbacks that failed at first, within 30 days.

    Attributes:
        count: How many.
        open: Those that have not ended yet.
        attempts: How many times they were tried in all.
        last: When the latest of them first failed.
        error: Why it did.
    """

    count: int
    open: int
    attempts: int
    last: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True)
class DutyRun:
    """When a background duty was last done, last failed, and why."""

    ran_at: datetime | None
    failed_at: datetime | None
    error: str | None

    @property
    def is_failing(self) -> bool:
        """Whether it failed the last time it was tried."""
        return self.failed_at is not None and (self.ran_at is None or self.ran_at < self.failed_at)


@dataclass(frozen=True, slots=True)
class CheckRun:
    """What a check of the books, such as verify or reconcile, last found; `findings` is 0 when all was well."""

    findings: int
    at: datetime


@dataclass(frozen=True, slots=True)
class QueueState:
    """The processing queue.

    Attributes:
        waiting: Jobs that a free worker would start now.
        scheduled: Retries whose time has not come.
        running: Jobs that are being worked on.
        oldest: Since when the longest waiting job waits, or when it is to start; None where none waits.
        workers: The last sign of life of each worker, latest first.
    """

    waiting: int
    scheduled: int
    running: int
    oldest: datetime | None
    workers: tuple[datetime, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """What `earmark status` shows; `at` is the database's time."""

    at: datetime
    overdue_holds: Backlog
    overdue_images: Backlog
    set_aside: Backlog
    failed_rollbacks: RollbackFailures
    queue: QueueState
    duties: Mapping[str, DutyRun]
    checks: Mapping[str, CheckRun]

    @property
    def workers_alive(self) -> int:
        """How many workers have lately given a sign of life."""
        return sum(self.at - beat <= STALE_WORKER for beat in self.queue.workers)

    def sweep_is_late(self, interval_seconds: float) -> bool:
        """Whether the sweeper, which is to run at this interval, seems not to be running."""
        ran_at = self.duties["sweep"].ran_at if "sweep" in self.duties else None
        patience = max(timedelta(seconds=MISSED_SWEEPS * interval_seconds), STALE_WORKER)
        return ran_at is None or self.at - ran_at > patience


def read_status(connection: psycopg.Connection[Any]) -> Status:
    """How the background of this database is doing now.

    Raises:
        Forbidden: The connection's role is no service.
        SchemaMismatch: The database needs `earmark migrate`.
    """
    with translated(), connection.transaction():
        return _status([connection.execute(query, parameters).fetchall() for query, parameters in _QUERIES])


async def status_of(connection: psycopg.AsyncConnection[Any]) -> Status:
    """As `read_status`."""
    with translated():
        async with connection.transaction():
            found = [await connection.execute(query, parameters) for query, parameters in _QUERIES]
            return _status([await cursor.fetchall() for cursor in found])


def _status(found: list[list[tuple[Any, ...]]]) -> Status:
    ((told,),), ((waiting, scheduled, running, oldest),), beats = found
    queue = QueueState(waiting, scheduled, running, oldest, tuple(beat for (beat,) in beats))
    return msgspec.convert({**told, "queue": msgspec.to_builtins(queue)}, Status)
