"""The pruner: removes what is older than its retention: reservations, journal entries, answers to deliveries."""

from collections.abc import Mapping

from earmark.ledger import AsyncLedger
from earmark.uploads import _calls
from earmark.uploads.flow import Uploads

INTERVAL_SECONDS = 3600.0
DELIVERIES_KEPT_SECONDS = 7 * 86_400.0
"""Longer than anybody delivers again; after that the state of the image answers."""


async def prune_ledger_once(ledger: AsyncLedger) -> Mapping[str, object]:
    """One pass over everything; what was removed, empty when nothing."""
    settled = await ledger.prune_settled()
    entries = await ledger.prune_journal()
    removed = {"reservations": settled.reservations, "holds": settled.holds, "journal_entries": entries}
    return removed if any(removed.values()) else {}


async def prune_deliveries_once(uploads: Uploads) -> Mapping[str, object]:
    """One pass over what deliveries were answered; how many were forgotten, empty when none."""
    forgotten = 0
    async with uploads.pool.connection() as connection:
        while removed := await _calls.prune_deliveries(connection, DELIVERIES_KEPT_SECONDS):
            forgotten += removed
    return {"deliveries": forgotten} if forgotten else {}
