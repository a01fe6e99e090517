"""Which database a command works on: the one that is configured, or the embedded one of the home folder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from earmark.config import Settings
from earmark.migrate import check_schema, migrate
from earmark.uploads.queue import migrate_queue


@dataclass(frozen=True, slots=True)
class Database:
    """A database that can be used.

    Attributes:
        url: For libpq.
        keep_running: Starts the embedded server again if it has died; None where the server is not ours.
    """

    url: str
    keep_running: Callable[[], None] | None = None


@contextmanager
def database(settings: Settings, *, migrated: bool = True, may_create: bool = False) -> Iterator[Database]:
    """The database, for the duration of the block.

    The embedded server is used if it is running under the home folder, else started for this block, and brought to
    this version's schema.

    Args:
        settings: Where it is.
        migrated: Whether the schema must be there; False for the command that makes it.
        may_create: Whether an embedded database that is not there is made. A command that tells of one must not: of an
            empty one, made because it was looked for in the wrong folder, it would say that all is well.

    Raises:
        SchemaMismatch: The configured database needs `earmark migrate`.
        LocalPostgresError: The embedded server does not start, or has no data; the message says what to do.
    """
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        if migrated:
            with psycopg.connect(url) as connection:
                check_schema(connection)
        yield Database(url)
        return
    from earmark.local_postgres import (  # noqa: PLC0415 - only where the `local` extra is used
        LocalPostgres,
        LocalPostgresError,
        has_data,
    )

    if not may_create and not has_data(settings.home):
        raise LocalPostgresError(
            f"there is no database in {settings.home.absolute()}. Give the --home of the service, set EARMARK_HOME or "
            "EARMARK_DATABASE_URL, or start a new one with `earmark serve`."
        )
    with LocalPostgres(settings.home) as server:
        if migrated:
            bring_up_to_date(server.url, settings.plan_of_newcomers)
        yield Database(server.url, keep_running=server.start)


def bring_up_to_date(url: str, default_plan: str | None) -> list[str]:
    """Migrates the ledger and the queue; the files and schemas that were applied."""
    with psycopg.connect(url, autocommit=True) as connection:
        applied = migrate(connection, default_plan=default_plan)
        if migrate_queue(connection):
            applied.append("procrastinate")
    return applied
