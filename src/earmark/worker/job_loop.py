"""The job loop: takes images off the queue and processes them."""

import asyncio
import logging
import math
from contextlib import suppress
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
        await jobs.run(UUID(image))

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
        try:
            await worker.run()  # type: ignore[no-untyped-call] # procrastinate types its arguments only
            reason = "it stopped"
        except procrastinate.exceptions.ConnectorException as error:
            reason = str(error.__cause__ or error)
        finally:
            beat.cancel()
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            _logger.warning("stopped_without_database", extra={"error": reason})
            raise asyncio.CancelledError
        _logger.warning("job_loop_starts_again", extra={"error": reason})
        await asyncio.sleep(RESTART_SECONDS)


async def _beat(worker: Worker) -> None:
    """Says that the worker lives, in place of procrastinate's own heartbeat, which ends at its first error."""
    while True:
        await asyncio.sleep(BEAT_SECONDS)
        if worker.worker_id is not None:
            with suppress(procrastinate.exceptions.ConnectorException):
                await worker.app.job_manager.update_heartbeat(worker.worker_id)
