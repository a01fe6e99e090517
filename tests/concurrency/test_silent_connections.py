"""Connections that a network loses silently: nobody waits for their answers without end."""

import asyncio

import psycopg
from psycopg.conninfo import make_conninfo

from earmark.ledger import service_pool
from earmark.ledger.service_pool import LIVELINESS, ServicePool, answers_within
from earmark.uploads.queue_app import queue_app
from fixtures.relay import relay_to

PID = "SELECT pg_backend_pid()"


async def ended(work) -> BaseException | None:
    """With what a task has ended; that is waited for a bounded time."""
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait({task}, timeout=30)
    assert done
    return asyncio.CancelledError() if task.cancelled() else task.exception()


async def ask(pool, query=PID):
    async with pool.connection() as connection:
        return (await (await connection.execute(query)).fetchone())[0]


async def each_of(pool):
    """The processes behind all its connections."""
    held = [await pool.getconn() for _ in range(pool.max_size)]
    for connection in held:
        await pool.putconn(connection)
    return {connection.info.backend_pid for connection in held}


def test_a_statement_without_an_answer_ends_and_all_connections_are_replaced(database, monkeypatch):
    monkeypatch.setattr(service_pool, "CANCEL_SECONDS", 0.2)

    async def run():
        async with relay_to(database) as relay, ServicePool(relay.url, min_size=3, max_size=3, open=False) as pool:
            before = await each_of(pool)
            relay.fall_silent()
            with answers_within(0.2):
                error = await ended(ask(pool))
            assert isinstance(error, psycopg.OperationalError)
            assert "no answer within 0.2 s" in str(error)
            assert await ended(each_of(pool)) is None
            assert not before & await each_of(pool)

    asyncio.run(run())


def test_a_cancelled_statement_that_gets_no_answer_ends(database, monkeypatch):
    monkeypatch.setattr(service_pool, "CANCEL_SECONDS", 0.2)

    async def run():
        async with relay_to(database) as relay, ServicePool(relay.url, min_size=1, max_size=1, open=False) as pool:
            before = await each_of(pool)
            relay.fall_silent()
            asking = asyncio.create_task(ask(pool))
            await asyncio.wait({asking}, timeout=0.1)
            asking.cancel()
            assert isinstance(await ended(asking), asyncio.CancelledError)
            assert not before & await each_of(pool)

    asyncio.run(run())


def test_a_slow_statement_is_cancelled_and_its_connection_kept(database, connection):
    async def run():
        async with ServicePool(database, min_size=1, max_size=1, open=False) as pool:
            before = await each_of(pool)
            with answers_within(0.2):
                error = await ended(ask(pool, "SELECT count(pg_sleep(3600))"))
            assert "no answer within 0.2 s" in str(error)
            assert await each_of(pool) == before

    asyncio.run(run())
    active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()"
    assert connection.execute(active).fetchone() == (0,)


def test_every_connection_of_the_service_notices_that_its_peer_is_gone(database):
    async def run():
        async with queue_app(database).open_async() as app:
            for opening in (app.connector.pool.connection(), app.connector._get_standalone_connection()):
                async with opening as connection:
                    said = connection.info.get_parameters()
                    assert {name: int(said.get(name, 0)) for name in LIVELINESS} == LIVELINESS

    asyncio.run(run())


def test_what_the_url_or_the_environment_says_counts(database, monkeypatch):
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "7")

    async def run():
        url = make_conninfo(database, keepalives_idle=99)
        async with ServicePool(url, min_size=1, open=False) as pool, pool.connection() as connection:
            said = connection.info.get_parameters()
            assert said["keepalives_idle"] == "99"
            assert said["connect_timeout"] == "7"
            assert int(said["tcp_user_timeout"]) == LIVELINESS["tcp_user_timeout"]

    asyncio.run(run())


def test_a_queue_that_is_told_to_stop_while_it_opens_leaves_nothing_behind(database):
    """A pool's task that connects would outlive the cancellation at the end of the event loop, and that wait for it."""

    async def run():
        async with relay_to(database) as relay:
            relay.lets_in = False
            opening = asyncio.ensure_future(queue_app(relay.url).open_async().__aenter__())
            await asyncio.wait({opening}, timeout=0.1)
            opening.cancel()
            assert isinstance(await ended(opening), asyncio.CancelledError)
            for task in (tasks := {task for task in asyncio.all_tasks() if "-worker-" in task.get_name()}):
                task.cancel()
            if tasks:
                _, left = await asyncio.wait(tasks, timeout=1)
                for task in left:
                    task.cancel()
                assert not left

    asyncio.run(run())
