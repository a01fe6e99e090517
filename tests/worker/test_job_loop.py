"""The job loop outlives what becomes of its connections: it starts again, and goes on showing that it lives."""

import asyncio
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from earmark.worker import job_loop
from earmark.worker.job_loop import run_jobs
from fixtures.pictures import picture

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
