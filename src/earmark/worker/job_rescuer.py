"""Looks after jobs that their workers have left: because they died, or because the database was away when they ended.

What was done already, the image's state and attempt tell, so that a job too many does no harm.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

from procrastinate.jobs import Status
from psycopg.rows import tuple_row

from earmark.errors import NotFound
from earmark.uploads.flow import Uploads
from earmark.uploads.model import State
from earmark.uploads.queue import QUEUE

INTERVAL_SECONDS = 10.0
ENDED_SECONDS = 60
"""A job that was begun so long ago and whose image is over has ended: who works on such a one stops within a second."""
LOST_SECONDS = 180
"""A job that was begun so long ago and whose image still waits to be started is lost."""
_BEGUN = """
SELECT j.id, (j.args->>'image')::uuid, extract(epoch FROM now() - max(e.at))
FROM procrastinate.procrastinate_jobs j
JOIN procrastinate.procrastinate_events e ON e.job_id = j.id AND e.type = 'started'
WHERE j.queue_name = %s AND j.status = 'doing'
GROUP BY j.id HAVING max(e.at) < now() - %s * interval '1 second' ORDER BY j.id
"""


async def rescue_once(uploads: Uploads) -> Mapping[str, object]:
    """One round: how many jobs were put back and how many had ended, empty when none.

    A worker is dead after 30 s without a sign of life.
    """
    jobs = uploads.queue.job_manager
    stalled = list(await jobs.get_stalled_jobs(queue=QUEUE))
    for job in stalled:
        await jobs.retry_job(job)
    rescued, ended = len(stalled), 0
    async with uploads.pool.connection() as connection, connection.cursor(row_factory=tuple_row) as cursor:
        begun = await (await cursor.execute(_BEGUN, (QUEUE, ENDED_SECONDS))).fetchall()
    for number, image, seconds in begun:
        state = await _state(uploads, image)
        if state is None:
            await jobs.finish_job_by_id_async(number, Status.FAILED, delete_job=True)
            ended += 1
        elif state is State.UPLOADED and seconds > LOST_SECONDS:
            await jobs.retry_job_by_id_async(number, retry_at=datetime.now(UTC))
            rescued += 1
    found = {"rescued_jobs": rescued, "ended_jobs": ended}
    return {name: count for name, count in found.items() if count}


async def _state(uploads: Uploads, image: UUID) -> State | None:
    """Where an image is that still waits for something; None for one that is over."""
    try:
        found = await uploads.image(image)
    except NotFound:
        return None
    return found.state if found.is_open else None
