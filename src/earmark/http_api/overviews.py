"""What an operator is told of many subjects, much time and the background, as it goes over the wire."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct

from earmark.model import FoundSubject, RollbacksAt
from earmark.uploads.status import Backlog, CheckRun, DutyRun, RollbackFailures, Status


class SubjectsAnswer(Struct, frozen=True):
    """Subjects that were found; the one whose name was given first."""

    subjects: Sequence[FoundSubject]


class UsePointAnswer(Struct, frozen=True):
    """What was used at a moment, in the period that it fell in."""

    at: datetime
    committed: int
    held: int


class UseAnswer(Struct, frozen=True):
    """What a subject used of each resource at evenly spaced moments, oldest first."""

    subject: str
    since: datetime
    resources: Mapping[str, Sequence[UsePointAnswer]]


class RollbacksAnswer(Struct, frozen=True):
    """How many items of all subjects were rolled back in each hour or day (UTC), by cause, oldest first."""

    step: Literal["hour", "day"]
    rollbacks: Sequence[RollbacksAt]


class QueueAnswer(Struct, frozen=True, rename="camel"):
    """The processing queue: jobs by what they wait for, since when the longest waits, and who works on them."""

    waiting: int
    scheduled: int
    running: int
    oldest: datetime | None
    workers_alive: int
    worker_seen_at: datetime | None


class DutyAnswer(Struct, frozen=True, rename="camel"):
    """A background duty: when it was last done and last failed; `late` where it should have been done since."""

    state: Literal["ok", "failing", "late"]
    ran_at: datetime | None
    failed_at: datetime | None
    error: str | None


class StatusAnswer(Struct, frozen=True, rename="camel"):
    """How the background is doing; `at` is the database's time."""

    at: datetime
    overdue_holds: Backlog
    overdue_images: Backlog
    set_aside: Backlog
    failed_rollbacks: RollbackFailures
    queue: QueueAnswer
    duties: Mapping[str, DutyAnswer]
    checks: Mapping[str, CheckRun]


def status_answer(status: Status, *, sweep_interval_seconds: float) -> StatusAnswer:
    """A status as it is told; the sweeper is always in it, even where it never ran."""
    late = {"sweep"} if status.sweep_is_late(sweep_interval_seconds) else set()
    duties = {"sweep": DutyRun(None, None, None), **status.duties}
    queue = status.queue
    return StatusAnswer(
        at=status.at,
        overdue_holds=status.overdue_holds,
        overdue_images=status.overdue_images,
        set_aside=status.set_aside,
        failed_rollbacks=status.failed_rollbacks,
        queue=QueueAnswer(
            waiting=queue.waiting,
            scheduled=queue.scheduled,
            running=queue.running,
            oldest=queue.oldest,
            workers_alive=status.workers_alive,
            worker_seen_at=queue.workers[0] if queue.workers else None,
        ),
        duties={name: _duty(run, late=name in late) for name, run in duties.items()},
        checks=status.checks,
    )


def _duty(run: DutyRun, *, late: bool) -> DutyAnswer:
    state: Literal["ok", "failing", "late"] = "failing" if run.is_failing else "late" if late else "ok"
    return DutyAnswer(state, run.ran_at, run.failed_at, run.error)
