"""The pruner: removes reservations and journal entries that are older than their retention."""

from collections.abc import Mapping

from earmark.ledger import AsyncLedger

INTERVAL_SECONDS = 3600.0


async def prune_ledger_once(ledger: AsyncLedger) -> Mapping[str, object]:
    """One pass over everything; what was removed, empty when nothing."""
    settled = await ledger.prune_settled()
    entries = await ledger.prune_journal()
    removed = {"reservations": settled.reservations, "holds": settled.holds, "journal_entries": entries}
    return removed if any(removed.values()) else {}
