"""`earmark status`: whether the background keeps up, at a glance."""

from dataclasses import asdict
from datetime import datetime

import psycopg

from earmark.cli.database import database
from earmark.cli.json_output import print_json
from earmark.cli.quota import Home, Json, settings_of
from earmark.cli.tables import print_rows
from earmark.config import Settings
from earmark.uploads.status import Backlog, CheckRun, DutyRun, RollbackFailures, Status, read_status

Row = tuple[str, str, str]


def status(*, home: Home = None, as_json: Json = False) -> None:
    """Show what is overdue, what failed, how long the queue is, and when the sweeper last ran."""
    settings = settings_of(home)
    with database(settings) as found, psycopg.connect(found.url, autocommit=True) as connection:
        shown = read_status(connection)
    if as_json:
        print_json(asdict(shown))
    else:
        print_rows(("what", "now", "detail"), _rows(shown, settings))


def _rows(shown: Status, settings: Settings) -> list[Row]:
    queue, at = shown.queue, shown.at
    late = shown.sweep_is_late(settings.sweep_interval_seconds)
    jobs = f"{queue.waiting:,} waiting, {queue.scheduled:,} scheduled, {queue.running:,} running"
    seen = f"last seen {_ago(at, queue.workers[0])}" if queue.workers else "no worker was ever seen"
    return [
        ("overdue holds", *_backlog(shown.overdue_holds, at)),
        ("overdue images", *_backlog(shown.overdue_images, at)),
        ("set aside", *_backlog(shown.set_aside, at)),
        ("failed rollbacks", *_failures(shown.failed_rollbacks, at)),
        ("queue", jobs, f"oldest job: {_ago(at, queue.oldest)}" if queue.oldest else ""),
        ("workers", f"{shown.workers_alive:,} alive", seen),
        *((f"check {name}", *_check(name, run, at)) for name, run in sorted(shown.checks.items())),
        *(
            (f"duty {name}", *_duty(run, at, late=late and name == "sweep"))
            for name, run in sorted(shown.duties.items())
        ),
        *(
            []
            if "sweep" in shown.duties
            else [("duty sweep", "never ran", "start `earmark serve` or `earmark worker`")]
        ),
    ]


def _backlog(backlog: Backlog, at: datetime) -> tuple[str, str]:
    if not backlog.count:
        return "none", ""
    detail = f"oldest: {_ago(at, backlog.oldest)}" if backlog.oldest else ""
    return f"{backlog.count:,}", f"{detail}; {backlog.error}" if backlog.error else detail


def _failures(failed: RollbackFailures, at: datetime) -> tuple[str, str]:
    if not failed.count or failed.last is None:
        return "none", ""
    return (
        f"{failed.open:,} open of {failed.count:,}",
        f"{failed.attempts:,} attempts, last failure {_ago(at, failed.last)}: {failed.error}",
    )


def _check(name: str, run: CheckRun, at: datetime) -> tuple[str, str]:
    if not run.findings:
        return "ok", f"checked {_ago(at, run.at)}"
    found = f"{run.findings:,} {'thing does' if run.findings == 1 else 'things do'} not agree"
    return found, f"checked {_ago(at, run.at)}; `earmark {name}` says what, and looks again"


def _duty(run: DutyRun, at: datetime, *, late: bool) -> tuple[str, str]:
    ran = f"ran {_ago(at, run.ran_at)}" if run.ran_at else "never ran"
    if run.is_failing:
        return "failing", f"{ran}; {run.error}"
    return ("late: is a worker running?" if late else "ok"), ran


def _ago(at: datetime, then: datetime | None) -> str:
    if then is None:
        return "never"
    seconds = round((at - then).total_seconds())
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= 2 * size:
            return f"{abs(seconds) // size} {unit} ago" if seconds > 0 else f"in {abs(seconds) // size} {unit}"
    return f"{seconds} s ago" if seconds >= 0 else f"in {-seconds} s"
