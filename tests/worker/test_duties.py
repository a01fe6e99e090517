"""Background duties: one that the database does not answer is reported, and tried again."""

import asyncio

from earmark.ledger import service_pool
from earmark.ledger.service_pool import ServicePool
from earmark.worker.duties import Duty, run_duties
from fixtures.relay import relay_to


async def until_noted(duty) -> list[str | None]:
    """What is noted of it, up to the first time that it is done."""
    noted: list[str | None] = []
    done = asyncio.Event()

    async def note(_: str, error: str | None) -> None:
        noted.append(error)
        if error is None:
            done.set()

    running = asyncio.create_task(run_duties([duty], note))
    async with asyncio.timeout(30):
        await done.wait()
    running.cancel()
    await asyncio.wait({running})
    return noted


def test_one_that_gets_no_answer_fails_and_is_tried_again(database, monkeypatch, caplog):
    monkeypatch.setattr(service_pool, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(service_pool, "CANCEL_SECONDS", 0.2)

    async def run():
        async with relay_to(database) as relay, ServicePool(relay.url, min_size=1, max_size=1, open=False) as pool:

            async def ask():
                async with pool.connection() as connection:
                    await connection.execute("SELECT 1")
                return {}

            await ask()
            relay.fall_silent()
            return await until_noted(Duty("ask", 0.01, ask))

    noted = asyncio.run(run())
    assert noted[0] == "OperationalError: no answer within 0.5 s"
    assert "duty_failed" in caplog.messages


def test_one_that_takes_longer_says_so(database, monkeypatch):
    monkeypatch.setattr(service_pool, "ANSWER_SECONDS", 0.05)

    async def run():
        async with ServicePool(database, min_size=1, open=False) as pool:

            async def ask():
                async with pool.connection() as connection:
                    await connection.execute("SELECT pg_sleep(0.2)")
                return {}

            return await until_noted(Duty("ask", 3600, ask, answer_seconds=30))

    assert asyncio.run(run()) == [None]
