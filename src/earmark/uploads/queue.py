"""The processing queue: procrastinate, in the same database and in a schema of its own.

A job is enqueued inside the transaction that makes it necessary, and names nothing but the image. Correctness never
hangs on it: a job that is lost, repeated or late finds the image's state and fencing number in its way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, sql

QUEUE = "images"
TASK = "earmark.process_image"
SCHEMA = "procrastinate"
_JOB = f"""
outside AS MATERIALIZED (SELECT image, delay, current_setting('search_path') AS path FROM waiting),
inside AS MATERIALIZED (SELECT image, delay, path, set_config('search_path', '{SCHEMA}', true) FROM outside),
deferred AS MATERIALIZED (
    SELECT path, {SCHEMA}.procrastinate_defer_jobs_v1(ARRAY[(
        '{QUEUE}', '{TASK}', 0, NULL, NULL, jsonb_build_object('image', image),
        clock_timestamp() + nullif(delay, 0) * interval '1 second'
    )::{SCHEMA}.procrastinate_job_to_defer_v1])
    FROM inside
),
queued AS MATERIALIZED (SELECT set_config('search_path', path, true) FROM deferred)
"""  # noqa: S608 - our own schema's name
"""Adds a job for each row of `waiting`, when `queued` is read. Its function names its tables without a schema. One
statement, so one trip: each step waits for the one before."""
_ENQUEUE = f"""
WITH waiting AS (SELECT %s::uuid AS image, %s::float8 AS delay), {_JOB}
SELECT count(*) FROM queued
"""  # noqa: S608 - our own text
_LOCK = 0x6561726D71756575  # "earmqueu" in ASCII


@dataclass(frozen=True, slots=True)
class QueueHealth:
    """How many jobs wait for a worker and how many are worked on; how long the oldest could have been started on."""

    waiting: int
    working: int
    oldest_waiting_seconds: float


async def queue_health(connection: AsyncConnection[Any]) -> QueueHealth:
    """How the queue is doing now."""
    cursor = await connection.execute(
        f"""
        SELECT count(*) FILTER (WHERE j.status = 'todo'), count(*) FILTER (WHERE j.status = 'doing'),
            coalesce(extract(epoch FROM clock_timestamp() - min(coalesce(j.scheduled_at, e.at))
                FILTER (WHERE j.status = 'todo'))::float8, 0)
        FROM {SCHEMA}.procrastinate_jobs j
        LEFT JOIN {SCHEMA}.procrastinate_events e ON e.job_id = j.id AND e.type = 'deferred'
        WHERE j.queue_name = %s AND j.status IN ('todo', 'doing')
        """,  # noqa: S608 - our own schema's name
        (QUEUE,),
    )
    waiting, working, oldest = await cursor.fetchone() or (0, 0, 0.0)
    return QueueHealth(waiting, working, max(oldest, 0.0))


def migrate_queue(connection: psycopg.Connection[Any]) -> bool:
    """Creates the queue's schema where it is missing; whether it did. Safe to call from many processes at once."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        exists = connection.execute(f"SELECT to_regclass('{SCHEMA}.procrastinate_jobs') IS NOT NULL").fetchone()
        if exists == (True,):
            return False
        from procrastinate.schema import SchemaManager  # noqa: PLC0415 - commands start faster without it

        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        connection.execute(f"SET LOCAL search_path = {SCHEMA}")
        schema: Any = SchemaManager.get_schema()
        connection.execute(schema)
        return True


def grant_queue(connection: psycopg.Connection[Any], *, service: Sequence[str] = (), user: Sequence[str] = ()) -> None:
    """Gives services the queue, and takes it from users; beside `earmark.access.grant`. Safe to repeat.

    Args:
        connection: Of the schema's owner.
        service: Roles that serve the flow or work on its jobs.
        user: Roles that have no business with jobs.
    """
    schema = sql.Identifier(SCHEMA)
    with connection.transaction():
        for role in (*service, *user):
            given = "GRANT {what} {schema} TO {role}" if role in service else "REVOKE {what} {schema} FROM {role}"
            for what in (
                "USAGE ON SCHEMA",
                "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA",
                "USAGE ON ALL SEQUENCES IN SCHEMA",
                "EXECUTE ON ALL FUNCTIONS IN SCHEMA",
            ):
                connection.execute(sql.SQL(given).format(what=sql.SQL(what), schema=schema, role=sql.Identifier(role)))


async def enqueue(connection: AsyncConnection[Any], image: UUID, *, delay_seconds: float = 0) -> None:
    """Adds the image's job within the caller's transaction; no worker starts on it before `delay_seconds`."""
    await connection.execute(_ENQUEUE, (image, delay_seconds))


def with_job(transition: str, outcome: str) -> str:
    """SQL that makes a transition and, where this is its outcome, adds the image's job: one trip, one transaction.

    Args:
        transition: A query that answers `outcome` and `document`, as this one does.
        outcome: After which the image waits for a worker.
    """
    # Its last condition is always true: what nobody asks about is not carried out.
    return f"""
        WITH moved AS MATERIALIZED ({transition}),
        waiting AS (
            SELECT (document ->> 'image')::uuid AS image, 0::float8 AS delay FROM moved WHERE outcome = '{outcome}'
        ), {_JOB}
        SELECT outcome, document FROM moved WHERE (SELECT count(*) FROM queued) >= 0
    """  # noqa: S608 - our own text
