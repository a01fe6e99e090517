"""The worker counts the journal, and verifies the books when that is due."""

from datetime import timedelta

import pytest

from earmark import AsyncLedger
from earmark.worker.bookkeeper import tally_once, verify_when_due

pytestmark = pytest.mark.anyio
DAY = timedelta(days=1)


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_the_journal_is_counted(database):
    async with AsyncLedger(database) as ledger:
        await ledger.reserve("a", {"images": 1})
        assert await tally_once(ledger) == {}
        assert [(one.metric, one.value) for one in (await ledger.health()).tallies] == [("granted", 1)]


async def test_the_books_are_verified_when_it_is_due(database, connection):
    async with AsyncLedger(database) as ledger:
        await ledger.reserve("a", {"images": 1})
        assert await verify_when_due(ledger, DAY) == {"findings": 0}
        assert await verify_when_due(ledger, DAY) == {}  # somebody has, a moment ago
        connection.execute("UPDATE earmark._private_check SET at = at - interval '1 day'")
        connection.execute("UPDATE earmark._private_balance SET held = held + 1")
        assert await verify_when_due(ledger, DAY) == {"findings": 1}
        (check,) = (await ledger.health()).checks
        assert (check.name, check.findings) == ("verify", 1)
        await ledger.repair("found by the test")


async def test_what_disagrees_is_an_error_in_the_log(database, connection, caplog):
    async with AsyncLedger(database) as ledger:
        await ledger.reserve("a", {"images": 1})
        connection.execute("UPDATE earmark._private_balance SET held = held + 1")
        await verify_when_due(ledger, DAY)
        (record,) = [record for record in caplog.records if record.message == "books_disagree"]
        assert (record.findings, record.first, record.figure) == (1, "a", "held")
        await ledger.repair("found by the test")
