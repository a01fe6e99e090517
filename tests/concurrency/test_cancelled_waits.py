"""Whoever is cancelled while he waits for a connection leaves, even where he gets it in the same moment."""

import asyncio
from contextlib import suppress

import pytest
from procrastinate import PsycopgConnector
from psycopg_pool import AsyncConnectionPool

from earmark.http_api.follower import Watch
from earmark.ledger import AsyncLedger
from earmark.ledger.cancellable_pool import CancellablePool
from earmark.uploads.queue_app import queue_app

TURNS = range(8)
"""Of the event loop, between the moment in which he gets it and the cancellation."""


async def leaves(task: asyncio.Task[None], turns: int) -> bool:
    """Whether it ends where it is cancelled once, after so many turns."""
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    left = task.cancelled()
    task.cancel()
    return left


async def hand_over(pool: AsyncConnectionPool, turns: int) -> bool:
    """Whether a task that is cancelled so many turns after a connection came back was left waiting no more."""
    got_it = False

    async def take() -> None:
        nonlocal got_it
        async with pool.connection():
            got_it = True
        await asyncio.sleep(3600)

    held = [await pool.getconn() for _ in range(pool.max_size)]
    taking = asyncio.create_task(take())
    while not pool.get_stats().get("requests_waiting"):  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    await pool.putconn(held.pop())
    left = await leaves(taking, turns)
    for connection in held:
        await pool.putconn(connection)
    if left and not got_it:  # it went back to the others
        async with pool.connection(5):
            pass
    return left


@pytest.mark.parametrize("turns", TURNS)
def test_a_cancelled_wait_for_a_connection(database, turns):
    async def run() -> bool:
        async with CancellablePool(database, min_size=1, max_size=1, open=False) as pool:
            return await hand_over(pool, turns)

    assert asyncio.run(run())


def test_every_pool_of_ours_is_such_a_pool(database):
    async def run() -> None:
        async with AsyncLedger(database) as ledger:
            assert isinstance(ledger._transport._pool, CancellablePool)
        async with queue_app(database).open_async() as app:
            assert isinstance(app.connector.pool, CancellablePool)

    asyncio.run(run())


def test_a_listener_that_forgets_a_cancellation(database, monkeypatch):
    forgotten = []

    async def listen(*_: object) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        forgotten.append(True)
        await asyncio.sleep(3600)

    async def run() -> None:
        monkeypatch.setattr(PsycopgConnector, "listen_notify", listen)
        listening = asyncio.create_task(queue_app(database).connector.listen_notify(print, ["jobs"]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        listening.cancel()
        await asyncio.wait_for(asyncio.wait({listening}), 30)
        assert listening.cancelled()

    asyncio.run(run())
    assert forgotten == [True]


@pytest.mark.parametrize("turns", TURNS)
def test_a_cancelled_wait_for_what_moves(turns):
    async def run() -> bool:
        watch = Watch()

        async def follow() -> None:
            await watch.moved(60)
            await asyncio.sleep(3600)

        following = asyncio.create_task(follow())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        watch.wake()
        return await leaves(following, turns)

    assert asyncio.run(run())
