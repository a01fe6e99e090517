"""The job loop: takes images off the queue and processes them."""

import asyncio
import logging
import math
from uuid import UUID

import procrastinate

from earmark.uploads.outside import Jobs
from earmark.uploads.queue import QUEUE, TASK

POLL_SECONDS = 0.5
"""Scheduled retries start on a poll; new jobs are announced and start at once."""
GRACE_SECONDS = 5.0
"""What running jobs get to finish when the worker is told to stop; after that they are handed to the next one."""

_logger = logging.getLogger("earmark.jobs")


COMES_AGAIN_SECONDS, COMES_AGAIN_TIMES = 5, 20
"""When, and how often, a job comes again that ended in an error; the image's state tells what is left to do."""
PROCESSES_PER_JOB_AHEAD = 4
"""For so many processes one more job is begun than they can work on, so that its file is there when one is free.

No more: another worker may be idle.
"""


async def run_jobs(queue: procrastinate.App, jobs: Jobs, *, processes: int) -> None:
    """Works until cancelled, on so many processes. The queue's application must be open."""

    async def process_image(image: str) -> None:
        await jobs.run(UUID(image))

    again = procrastinate.RetryStrategy(
        max_attempts=COMES_AGAIN_TIMES, wait=COMES_AGAIN_SECONDS, retry_exceptions=[Exception]
    )
    queue.task(name=TASK, queue=QUEUE, retry=again)(process_image)
    try:
        await queue.run_worker_async(
            queues=[QUEUE],
            name="earmark",
            concurrency=processes + math.ceil(processes / PROCESSES_PER_JOB_AHEAD),
            fetch_job_polling_interval=POLL_SECONDS,
            shutdown_graceful_timeout=GRACE_SECONDS,
            delete_jobs="always",
            install_signal_handlers=False,
        )
    except procrastinate.exceptions.ConnectorException as error:
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            raise
        _logger.warning("stopped_without_database", extra={"error": str(error.__cause__ or error)})
        raise asyncio.CancelledError from error
