"""The duty that prunes the ledger."""

import asyncio
from datetime import timedelta

import pytest

from earmark import AsyncLedger, Cause, Ledger
from earmark.worker.pruner import prune_ledger_once


@pytest.mark.usefixtures("clock")
def test_one_round_removes_what_is_past_its_retention(ledger: Ledger, database: str, clock) -> None:
    ledger.configure_retention(reservations=timedelta(days=1), journal=timedelta(days=10))
    ledger.rollback(ledger.reserve("a", {"images": 1}).id, cause=Cause.CANCELLED)

    async def rounds() -> list[dict[str, object]]:
        async with AsyncLedger(database) as own:
            reports = []
            for days in (0, 2, 0, 10, 0):
                clock.advance(days * 86_400)
                reports.append(dict(await prune_ledger_once(own)))
            return reports

    first, second, third, fourth, fifth = asyncio.run(rounds())
    assert first == third == fifth == {}
    assert second == {"reservations": 1, "holds": 1, "journal_entries": 0}
    assert fourth == {"reservations": 0, "holds": 0, "journal_entries": 2}
