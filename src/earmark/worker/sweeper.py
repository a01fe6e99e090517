"""The sweeper: overdue images by their evidence, overdue holds, objects and uploads in parts that are left over."""

from collections.abc import Mapping
from datetime import UTC, datetime

from earmark.uploads.flow import Uploads
from earmark.uploads.reconcile import forgotten_parts
from earmark.uploads.recovery import sweep

FORGOTTEN_PARTS_INTERVAL_SECONDS = 3600.0


async def sweep_once(uploads: Uploads) -> Mapping[str, object]:
    """One sweep; what it did, empty when there was nothing to do."""
    report = await sweep(uploads)
    found = {
        "images": dict(report.images),
        "expired_holds": report.expired_holds,
        "removed": report.removed,
        "failed": dict(report.failed),
    }
    return found if any(found.values()) else {}


async def abort_forgotten_parts_once(uploads: Uploads) -> Mapping[str, object]:
    """Aborts every upload in parts that no image waits for; how many, empty when there were none."""
    found = [drift async for drift in forgotten_parts(uploads, datetime.now(UTC), repair=True)]
    return {"aborted": len(found)} if found else {}
