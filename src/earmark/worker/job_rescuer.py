"""Puts jobs whose worker has died back on the queue; what was done already, the image's state and attempt tell."""

from collections.abc import Mapping

import procrastinate

INTERVAL_SECONDS = 10.0


async def rescue_once(queue: procrastinate.App) -> Mapping[str, object]:
    """One round: how many jobs were put back, empty when none; a worker is dead after 30 s without a sign of life."""
    stalled = list(await queue.job_manager.get_stalled_jobs())
    for job in stalled:
        await queue.job_manager.retry_job(job)
    return {"rescued_jobs": len(stalled)} if stalled else {}
