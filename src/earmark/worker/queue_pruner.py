"""Removes queue entries whose worker died; their images come back through their own deadlines."""

from collections.abc import Mapping

import procrastinate
from procrastinate.jobs import Status

INTERVAL_SECONDS = 60.0


async def prune_once(queue: procrastinate.App) -> Mapping[str, object]:
    """One round; how many entries were removed, empty when none."""
    stalled = list(await queue.job_manager.get_stalled_jobs())
    for job in stalled:
        await queue.job_manager.finish_job(job, status=Status.FAILED, delete_job=True)
    return {"stalled_jobs": len(stalled)} if stalled else {}
