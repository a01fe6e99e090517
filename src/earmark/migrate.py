"""Brings a database's `earmark` schema to this library's version, and tells whether it is there.

Migrations are numbered and forward-only; functions and views are one file each and re-applied when their text has
changed. Everything happens in one transaction under one advisory lock, so any number of migrators may start at once.
Roles that could call everything before still can afterwards, as `earmark.access` grants it; nothing becomes public.
"""

import hashlib
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from earmark.access import grant, granted
from earmark.errors import EarmarkError, SchemaMismatch, UnknownPlan

OLDEST_SERVER = 15
"""PostgreSQL's major version from which on the functions can be made."""
LOCK_SECONDS = 1.0
"""How long it waits for a table in use, as by a backup; whoever comes after it waits, too."""
PAUSE_SECONDS = 4.0
"""Until it tries again, during which the others are served."""
ATTEMPTS = 60
_LOCK = 0x6561726D61726B  # "earmark" in ASCII
_HOLDERS = """
SELECT DISTINCT a.pid, a.application_name, a.xact_start
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_stat_activity a ON a.pid = l.pid
WHERE n.nspname = 'earmark' AND l.granted AND l.pid <> pg_backend_pid() AND a.xact_start IS NOT NULL
ORDER BY a.xact_start LIMIT 1
"""
_logger = logging.getLogger("earmark.migrate")
_SQL = files("earmark") / "sql"
_REAPPLIED = ("functions", "compat", "views")

_BOOTSTRAP = """
CREATE SCHEMA IF NOT EXISTS earmark;
CREATE TABLE IF NOT EXISTS earmark._private_migration (
    file text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""


@dataclass(frozen=True, slots=True)
class Script:
    """One SQL file: its path below `sql/`, and its text."""

    file: str
    text: LiteralString

    @property
    def sha256(self) -> str:
        """Hex digest of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def scripts(*folders: str) -> list[Script]:
    """The SQL files of these folders, in the order of their names within each folder."""

    def read(folder: str, file: Traversable) -> Script:
        return Script(f"{folder}/{file.name}", file.read_text(encoding="utf-8"))

    return [
        read(folder, file)
        for folder in folders
        for file in sorted((_SQL / folder).iterdir(), key=lambda file: file.name)
        if file.name.endswith(".sql")
    ]


def migrate(connection: psycopg.Connection[Any], *, default_plan: str | None = None) -> list[str]:
    """Applies what is missing, in one transaction; for minutes again where somebody else's keeps a table in use.

    Args:
        connection: Of a role that may create a schema; not inside a transaction of its own.
        default_plan: Plan of subjects seen for the first time; None leaves the setting as it is.

    Returns:
        The files applied, in order; empty where the schema was current.

    Raises:
        SchemaMismatch: The database was migrated by a newer Earmark, a released migration's text has changed, or the
            server is older than PostgreSQL 15.
        UnknownPlan: `default_plan` does not exist.
        EarmarkError: A table was in use all the time; nothing was changed.
    """
    refuse_old(connection.info.server_version)
    for _ in range(ATTEMPTS):
        with suppress(psycopg.errors.LockNotAvailable):
            return _migrate_once(connection, default_plan)
        _logger.warning("migration waits for a table of Earmark's that is used by %s", _user_of_a_table(connection))
        time.sleep(PAUSE_SECONDS)
    used = f"A table of Earmark's stayed in use by {_user_of_a_table(connection)}"
    raise EarmarkError(f"{used}. Nothing was changed; run the migration again when that has ended.")


def _user_of_a_table(connection: psycopg.Connection[Any]) -> str:
    with connection.transaction():
        found = connection.execute(_HOLDERS).fetchone()
    return "nobody any more" if found is None else "process {} ({}), in a transaction since {}".format(*found)


def _migrate_once(connection: psycopg.Connection[Any], default_plan: str | None) -> list[str]:
    with connection.transaction():
        # Whatever the default is: who waits for the lock must see what was done meanwhile.
        connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{LOCK_SECONDS}s",))
        connection.execute(_BOOTSTRAP)
        connection.execute("SET LOCAL check_function_bodies = off")
        applied = dict(connection.execute("SELECT file, sha256 FROM earmark._private_migration").fetchall())
        _refuse_foreign(applied)
        done = [script for script in scripts("migrations") if script.file not in applied]
        done += [script for script in scripts(*_REAPPLIED) if applied.get(script.file) != script.sha256]
        if done:
            service, user = granted(connection)
            for script in done:
                connection.execute(script.text)
                connection.execute(
                    "INSERT INTO earmark._private_migration (file, sha256) VALUES (%s, %s) "
                    "ON CONFLICT (file) DO UPDATE SET sha256 = excluded.sha256, applied_at = clock_timestamp()",
                    (script.file, script.sha256),
                )
            connection.execute("REVOKE ALL ON ALL ROUTINES IN SCHEMA earmark FROM PUBLIC")
            grant(connection, service=service, user=user)
        if default_plan is not None:
            _set_default_plan(connection, default_plan)
    return [script.file for script in done]


def check_schema(connection: psycopg.Connection[Any]) -> None:
    """Raises SchemaMismatch, saying what to do, unless the database's schema is the one this library was made for.

    The owner's and a service's role may ask.
    """
    found = connection.execute(
        "SELECT n.oid IS NOT NULL, p.oid IS NOT NULL FROM (SELECT) one "
        "LEFT JOIN pg_namespace n ON n.nspname = 'earmark' "
        "LEFT JOIN pg_proc p ON (p.pronamespace, p.proname) = (n.oid, 'schema_files')"
    ).fetchone()
    exists, tells = found or (False, False)
    if not exists:
        raise SchemaMismatch("The database has no earmark schema yet: run `earmark migrate`.")
    rows = connection.execute("SELECT file, sha256 FROM earmark.schema_files()").fetchall() if tells else []
    applied = dict(rows)
    _refuse_foreign(applied)
    missing = [script.file for script in scripts("migrations", *_REAPPLIED) if script.file not in applied]
    if missing:
        raise SchemaMismatch(
            "The database's schema is older than this Earmark: run `earmark migrate`.", {"missing": missing}
        )


def refuse_old(server_version: int) -> None:
    """Raises SchemaMismatch for a server that is too old; its version as libpq tells it, such as 140012."""
    major = server_version // 10_000
    if major < OLDEST_SERVER:
        raise SchemaMismatch(
            f"Earmark needs PostgreSQL {OLDEST_SERVER} or newer, and this server is {major}: upgrade it.",
            {"server": major},
        )


def _refuse_foreign(applied: dict[str, str]) -> None:
    ours = {script.file: script.sha256 for script in scripts("migrations")}
    foreign = [
        file for file, sha256 in applied.items() if file.startswith("migrations/") and ours.get(file, "") != sha256
    ]
    if foreign:
        raise SchemaMismatch(
            "The database was migrated by another version of Earmark: upgrade this one.", {"unknown": sorted(foreign)}
        )


def _set_default_plan(connection: psycopg.Connection[Any], plan: str) -> None:
    if connection.execute("SELECT FROM earmark.plans() WHERE plan = %s", (plan,)).fetchone() is None:
        raise UnknownPlan(f"There is no plan {plan!r}; create it first, or take one of free, pro, enterprise.")
    connection.execute(
        sql.SQL(
            "INSERT INTO earmark._private_setting (name, value) VALUES ('default_plan', {plan}) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        ).format(plan=sql.Literal(plan))
    )
