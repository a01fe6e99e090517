"""The sweeper: overdue images by their evidence, overdue holds, objects that are left over."""

from collections.abc import Mapping

from earmark.uploads.flow import Uploads
from earmark.uploads.recovery import sweep


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
