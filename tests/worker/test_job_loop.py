"""The job loop outlives what becomes of its connections: it starts again, and goes on showing that it lives."""

import asyncio
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import psycopg
import pytest

from earmark.ledger import service_pool
from earmark.worker import job_loop
from earmark.worker.job_loop import run_jobs
from fixtures.pictures import picture
from fixtures.relay import relay_to

JPEG = picture()
LISTENS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'LISTEN%'"
LISTENING = LISTENS.replace("pid", "pg_terminate_backend(pid)", 1)
BLOCKED = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE %s
"""
BEATEN = "SELECT true FROM procrastinate.procrastinate_workers WHERE last_heartbeat > %s"


@pytest.fixture
def working(flow_of, eventually, connection):
    """Opens a flow whose job loop is waiting for jobs, and at the end goes on working until it is cancelled."""

    @asynccontextmanager
    async def open_loop():
        async with flow_of() as flow, flow.uploads.queue.open_async():
            loop = asyncio.create_task(run_jobs(flow.uploads.queue, flow.jobs(), processes=1))
            await eventually(lambda: found(connection, LISTENS))
            yield
            for _ in range(3):  # the first it may have finished on its way out
                image = await flow.uploaded(JPEG)
                await eventually(lambda image=image: completed(flow, image))
            loop.cancel()
            with pytest.raises(asyncio.CancelledError):
                await loop

    return open_loop


async def found(connection, query, *parameters):
    connection.execute("SELECT pg_stat_clear_snapshot()")  # else a transaction sees who is active only once
    return connection.execute(query, parameters or None).fetchall()


async def completed(flow, image):
    return await flow.state(image) == "completed"


async def cut(connection, eventually, table, asked):
    """Whoever asks for a table's rows waits for a lock, and then loses its connection."""
    with connection.transaction():
        lock = f"LOCK TABLE procrastinate.{table} IN ACCESS EXCLUSIVE MODE"
        await asyncio.to_thread(connection.execute, lock)  # the loop may yet have to commit before it is given
        await eventually(lambda: found(connection, BLOCKED, f"%{asked}%"))


def test_its_connection_ends_as_it_asks_for_a_job(working, eventually, connection):
    async def run():
        async with working():
            await cut(connection, eventually, "procrastinate_jobs", "fetch_job")

    asyncio.run(run())


def test_its_connection_ends_as_it_listens(working, eventually, connection):
    async def run():
        async with working():
            assert await found(connection, LISTENING)

    asyncio.run(run())


def test_its_connection_ends_as_it_shows_that_it_lives(working, eventually, connection, monkeypatch):
    monkeypatch.setattr(job_loop, "BEAT_SECONDS", 0.05)

    async def run():
        async with working():
            await cut(connection, eventually, "procrastinate_workers", "update_heartbeat")
            since = connection.execute("SELECT clock_timestamp()").fetchone()[0]
            await eventually(lambda: found(connection, BEATEN, since))

    asyncio.run(run())


class NeverEnds:
    """A job that is still told to somebody outside who does not answer."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.images: list[UUID] = []

    async def run(self, image_id: UUID) -> str:
        self.images.append(image_id)
        self.begun.set()
        await asyncio.Event().wait()
        return "told"


def test_a_job_that_a_shutdown_cuts_short_comes_again(flow_of, monkeypatch):
    """Else the image would wait for its deadline, an hour, as no attempt of it had begun."""
    monkeypatch.setattr(job_loop, "GRACE_SECONDS", 0.01)

    async def run():
        async with flow_of() as flow, flow.uploads.queue.open_async():
            image, jobs = await flow.uploaded(JPEG), NeverEnds()
            loop = asyncio.create_task(run_jobs(flow.uploads.queue, jobs, processes=1))
            await jobs.begun.wait()
            loop.cancel()
            with pytest.raises(asyncio.CancelledError):
                await loop
            assert await flow.jobs_waiting() == jobs.images == [image.image]

    asyncio.run(run())


@pytest.fixture
def relayed(database, flow_of):
    """Opens a flow whose database is behind a relay that can fall silent."""

    @asynccontextmanager
    async def open_flow():
        async with relay_to(database) as relay, flow_of(url=relay.url) as flow, flow.uploads.queue.open_async():
            yield flow, relay

    return open_flow


def test_its_connections_fall_silent(relayed, eventually, connection, monkeypatch, caplog):
    monkeypatch.setattr(service_pool, "ANSWER_SECONDS", 1)
    monkeypatch.setattr(service_pool, "CANCEL_SECONDS", 0.2)

    async def run():
        async with relayed() as (flow, relay):
            loop = asyncio.create_task(run_jobs(flow.uploads.queue, flow.jobs(), processes=1))
            await eventually(lambda: found(connection, LISTENS))
            relay.fall_silent()
            await eventually(lambda: restarts(caplog))
            await eventually(lambda: answers(flow))
            for _ in range(3):
                image = await flow.uploaded(JPEG)
                await eventually(lambda image=image: completed(flow, image))
            loop.cancel()
            with pytest.raises(asyncio.CancelledError):
                await loop

    asyncio.run(run())
    assert "no answer within 1 s" in next(r.error for r in caplog.records if r.message == "job_loop_starts_again")


async def answers(flow):
    with suppress(psycopg.OperationalError):
        return await flow.used() is not None


async def restarts(caplog):
    return "job_loop_starts_again" in caplog.messages


@pytest.mark.parametrize("state", ["silent", "frozen", "down"])
def test_it_stops_though_the_database_does_not_answer(relayed, eventually, connection, monkeypatch, caplog, state):
    """Nor does it to new connections where the server's processes are stopped, or dead."""
    monkeypatch.setattr(job_loop, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(job_loop, "LEAVING_SECONDS", 0.2)
    monkeypatch.setattr(service_pool, "CANCEL_SECONDS", 0.2)

    async def run():
        async with relayed() as (flow, relay):
            loop = asyncio.create_task(run_jobs(flow.uploads.queue, flow.jobs(), processes=1))
            await eventually(lambda: found(connection, LISTENS))
            relay.lets_in = {"silent": True, "frozen": False, "down": None}[state]
            if state == "down":
                relay.cut()
            else:
                relay.fall_silent()
            await asyncio.wait({loop}, timeout=2 * job_loop.POLL_SECONDS)  # it asks for a job meanwhile
            loop.cancel()
            done, _ = await asyncio.wait({loop}, timeout=15)
            assert done, "it waits for the database"
            assert loop.cancelled()

    asyncio.run(run())
    assert "stopped_without_database" in caplog.messages
