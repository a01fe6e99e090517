"""The queue under roles that do not own it: a service serves and works on what its grants let it, a user nothing."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from earmark.access import grant
from earmark.uploads.queue import grant_queue
from earmark.worker.job_loop import run_jobs
from earmark.worker.job_rescuer import rescue_once
from fixtures.pictures import picture

JPEG = picture()
JOBS = "SELECT count(*) FROM procrastinate.procrastinate_jobs"
CLOSE_OTHERS = """
SELECT bool_and(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@pytest.fixture
def role(connection: psycopg.Connection) -> Iterator[str]:
    name = f"{connection.info.dbname} role"
    connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(sql.Identifier(name)))
    yield name
    connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
    connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def give(connection: psycopg.Connection, **roles: list[str]) -> None:
    grant(connection, **roles)
    grant_queue(connection, **roles)


def test_a_service_that_owns_nothing_enqueues_works_and_rescues(flow_of, eventually, connection, database, role):
    give(connection, service=[role])
    url = make_conninfo(database, user=role, password="secret")

    async def run():
        async with flow_of(url=url) as flow, flow.uploads.queue.open_async():
            loop = asyncio.create_task(run_jobs(flow.uploads.queue, flow.jobs(), processes=1))
            image = await flow.uploaded(JPEG)

            async def completed():
                return await flow.state(image) == "completed"

            await eventually(completed)
            loop.cancel()
            with pytest.raises(asyncio.CancelledError):
                await loop
            assert await flow.used() == (1, 0, len(JPEG), 0)
            assert await rescue_once(flow.uploads) == {}

    asyncio.run(run())


def test_a_queue_whose_connections_the_server_has_closed_opens_others(flow_of, connection):
    async def run():
        async with flow_of() as flow, flow.uploads.queue.open_async():
            jobs = flow.uploads.queue.job_manager
            image = await flow.uploaded(JPEG)
            assert connection.execute(CLOSE_OTHERS).fetchone() == (True,)
            found = await jobs.fetch_job(queues=None, worker_id=await jobs.register_worker())
            assert found.task_kwargs == {"image": str(image.image)}

    asyncio.run(run())


def test_a_user_and_a_service_that_became_one_reach_no_job(connection, database, role):
    give(connection, service=[role])
    with psycopg.connect(make_conninfo(database, user=role, password="secret"), autocommit=True) as own:
        assert own.execute(JOBS).fetchone() == (0,)
        give(connection, user=[role])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            own.execute(JOBS)
