"""The bookkeeper: counts what is new in the journal, and verifies the books when that is due; for the metrics."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from earmark.ledger import AsyncLedger

LOOK_SECONDS = 60.0
"""Between two looks at whether a verification is due."""
CHECK = "verify"

_logger = logging.getLogger("earmark.bookkeeper")


async def tally_once(ledger: AsyncLedger) -> Mapping[str, object]:
    """Counts all that is new; nothing of it is worth a line in the log."""
    await ledger.tally()
    return {}


async def verify_when_due(ledger: AsyncLedger, every: timedelta) -> Mapping[str, object]:
    """Verifies all the books where nobody has for so long, and notes what was found; empty when it was not due."""
    health = await ledger.health()
    last = next((check.at for check in health.checks if check.name == CHECK), None)
    if last is not None and datetime.now(UTC) - last < every:
        return {}
    drift = await ledger.verify()
    await ledger.record_check(CHECK, len(drift))
    if drift:
        first = drift[0]
        _logger.error("books_disagree", extra={"findings": len(drift), "first": first.subject, "figure": first.figure})
    return {"findings": len(drift)}
