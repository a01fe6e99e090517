"""The job loop: takes images off the queue and processes them."""

import asyncio
import logging
import math
from contextlib import suppress
from typing import cast
from uuid import UUID

import procrastinate
from procrastinate.worker import Worker

from earmark.uploads.outside import Jobs
from earmark.uploads.queue import QUEUE, TASK

POLL_SECONDS = 0.5
"""Scheduled retries start on a poll; new jobs are announced and start at once."""
BEAT_SECONDS = 10.0
"""Between two signs of life; a worker without one for 30 s is taken for dead."""
RESTART_SECONDS = 0.5
"""Before the loop starts again where the database broke off."""
COMES_AGAIN_SECONDS, COMES_AGAIN_TIMES = 5, 20
"""When, and how often, a job comes again that an error ended or a shutdown cut short; the image's state tells what is
left to do."""
GRACE_SECONDS = 5.0
"""What running jobs get to finish when the worker is told to stop; after that they are handed to the next one."""
LEAVING_SECONDS = 5.0
"""What handing them on and signing off may take besides; then the loop is broken off."""
BREAKS_MAX, BREAK_SECONDS = 5, 1.0
"""Each takes it out of the wait that it is in; so long it gets to come to the next one, or to its end."""

PROCESSES_PER_JOB_AHEAD = 4
"""For so many processes one more job is begun than they can work on, so that its file is there when one is free.

No more: another worker may be idle.
"""
_NEVER_SECONDS = 1e9

_logger = logging.getLogger("earmark.jobs")


async def run_jobs(queue: procrastinate.App, jobs: Jobs, *, processes: int) -> None:
    """Works until cancelled, on so many processes, also where the database goes away meanwhile.

    The queue's application must be open.
    """

    async def process_image(image: str) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        working.add(task)
        try:
            await jobs.run(UUID(image))
        finally:
            working.discard(task)

    working: set[asyncio.Task[None]] = set()

    again = procrastinate.RetryStrategy(max_attempts=COMES_AGAIN_TIMES, wait=COMES_AGAIN_SECONDS)
    queue.task(name=TASK, queue=QUEUE, retry=again)(process_image)
    while True:
        worker = Worker(
            app=queue,
            queues=[QUEUE],
            name="earmark",
            concurrency=processes + math.ceil(processes / PROCESSES_PER_JOB_AHEAD),
            fetch_job_polling_interval=POLL_SECONDS,
            shutdown_graceful_timeout=GRACE_SECONDS,
            delete_jobs="always",
            install_signal_handlers=False,
            update_heartbeat_interval=_NEVER_SECONDS,
        )
        beat = asyncio.create_task(_beat(worker))
        running: asyncio.Task[None] = asyncio.create_task(
            worker.run()  # type: ignore[no-untyped-call] # procrastinate types its arguments only
        )
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError:
            if (reason := await _leave(running, working)) is not None:
                _logger.warning("stopped_without_database", extra={"error": reason})
            raise
        finally:
            beat.cancel()
        _logger.warning("job_loop_starts_again", extra={"error": _why_it_ended(running) or "it stopped"})
        await asyncio.sleep(RESTART_SECONDS)


async def _leave(running: asyncio.Task[None], working: set[asyncio.Task[None]]) -> str | None:
    """Ends the loop, in order while the database answers; why that was not to be.

    What is left behind then, the rescuer and the sweeper see to.
    """
    running.cancel()
    await asyncio.wait({running}, timeout=LEAVING_SECONDS + (GRACE_SECONDS if working else 0))
    if running.done():
        return _why_it_ended(running)
    for _ in range(BREAKS_MAX):
        for task in (running, *working):
            task.cancel()
        await asyncio.wait({running, *working}, timeout=BREAK_SECONDS)
        if running.done() and not working:
            break
    return "no answer"


def _why_it_ended(running: asyncio.Task[None]) -> str | None:
    try:
        running.result()
    except asyncio.CancelledError:
        return None
    except procrastinate.exceptions.ConnectorException as error:
        return str(error.__cause__ or error)
    return None


async def _beat(worker: Worker) -> None:
    """Says that the worker lives, in place of procrastinate's own heartbeat, which ends at its first error."""
    while True:
        await asyncio.sleep(BEAT_SECONDS)
        if worker.worker_id is not None:
            with suppress(procrastinate.exceptions.ConnectorException):
                await worker.app.job_manager.update_heartbeat(worker.worker_id)
