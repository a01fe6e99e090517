"""Many who ask for usage at once get theirs with few calls, and never one that was sent before they asked."""

import asyncio
from pathlib import Path

import psycopg
import pytest

from earmark.errors import UnknownSubject
from earmark.http_api.usage_reader import UsageReader
from http_api.harness import opened

pytestmark = pytest.mark.anyio


async def test_everybody_gets_his_own(database: str, tmp_path: Path, connection: psycopg.Connection):
    async with opened(database, tmp_path) as services:
        reader = UsageReader(services.ledger)
        for number in range(20):
            await services.ledger.reserve(f"u{number}", {"images": number + 1})
        found = await asyncio.gather(*(reader.usage(f"u{number % 20}") for number in range(60)))
        assert [one.subject for one in found] == [f"u{number % 20}" for number in range(60)]
        assert [one.resources["images"].held for one in found] == [number % 20 + 1 for number in range(60)]


async def test_what_he_did_himself_is_in_it(database: str, tmp_path: Path):
    async with opened(database, tmp_path) as services:
        reader = UsageReader(services.ledger)

        async def act(number: int) -> None:
            for held in range(1, 6):
                await services.ledger.reserve(f"u{number}", {"images": 1})
                assert (await reader.usage(f"u{number}")).resources["images"].held == held

        await asyncio.gather(*(act(number) for number in range(12)))


async def test_somebody_unknown_and_somebody_who_leaves_disturb_nobody(
    database: str, tmp_path: Path, connection: psycopg.Connection
):
    async with opened(database, tmp_path) as services:
        await services.ledger.configure_subject("alice", plan="pro")
        connection.execute("DELETE FROM earmark._private_setting WHERE name = 'default_plan'")
        reader = UsageReader(services.ledger)
        asked = [asyncio.create_task(reader.usage(name)) for name in ("alice", "nobody", "alice", "alice")]
        await asyncio.sleep(0)
        asked[3].cancel()
        alice, nobody, again, left = await asyncio.gather(*asked, return_exceptions=True)
        assert alice == again
        assert alice.plan == "pro"
        assert isinstance(nobody, UnknownSubject)
        assert isinstance(left, asyncio.CancelledError)
        assert (await reader.usage("alice")).plan == "pro"
