"""A schema that grew step by step is the one of a fresh install; one that is not the library's own is told as such."""

import asyncio
import difflib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from earmark import AsyncLedger, Ledger, SchemaMismatch
from earmark.migrate import _BOOTSTRAP, check_schema, migrate, scripts

TOOL = Path(__file__).parents[2] / "tools/schema_snapshot.py"
OUTGROWN = """
INSERT INTO earmark._private_plan (plan, features) VALUES ('team', '{"max_bulk_upload": 5}');
INSERT INTO earmark._private_plan_quota (plan, resource, quota, period) VALUES ('team', 'images', 3, 'P1M');
INSERT INTO earmark._private_setting (name, value) VALUES ('default_plan', 'team');
INSERT INTO earmark._private_subject (root, subject, ancestors, plan) VALUES ('old', 'old', '{old}', 'team');
INSERT INTO earmark._private_subject_quota (root, subject, resource, quota) VALUES ('old', 'old', 'images', 2);
INSERT INTO earmark._private_reservation (root, reservation, subject, key, request, outcome, detail, expires_at,
    created_at)
VALUES ('old', '00000000-0000-8000-8000-000000000001', 'old', 'k',
    '{"items": {"1": {"images": 9}}, "ttl_seconds": 900.0}', 'denied',
    '{"short": [{"subject": "old", "resource": "images", "requested": 9, "quota_limit": 2, "used": 0,
        "remaining": 2}]}', now(), now());
"""


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """`tools/schema_snapshot.py`."""
    spec = importlib.util.spec_from_file_location("schema_snapshot", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def empty_url(server: str) -> Iterator[str]:
    """Connection string of a database with nothing in it."""
    name = sql.Identifier("upgraded")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        yield make_conninfo(server, dbname="upgraded")
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def empty(empty_url: str) -> Iterator[psycopg.Connection]:
    """A connection to it."""
    with psycopg.connect(empty_url, autocommit=True) as connection:
        yield connection


def test_the_schema_is_the_one_in_git(connection: psycopg.Connection, tool: ModuleType) -> None:
    kept, found = tool.SNAPSHOT.read_text(encoding="utf-8"), tool.snapshot(connection)
    drift = "\n".join(difflib.unified_diff(kept.splitlines(), found.splitlines(), "git", "database", n=0, lineterm=""))
    assert not drift, f"the schema has changed; if it is meant to, run `{tool.REGENERATE}`:\n{drift}"


@pytest.mark.parametrize("steps", range(1, len(scripts("migrations")) + 1))
def test_an_older_database_with_data_in_it_becomes_what_a_fresh_one_is(
    empty: psycopg.Connection, empty_url: str, tool: ModuleType, steps: int
) -> None:
    """The first migrations alone, without any function; then data; then the rest."""
    empty.execute(_BOOTSTRAP)
    empty.execute("SET check_function_bodies = off")
    for step, script in enumerate(scripts("migrations")[:steps]):
        empty.execute(script.text)
        empty.execute("INSERT INTO earmark._private_migration VALUES (%s, %s)", (script.file, script.sha256))
        if step == 0:
            empty.execute(OUTGROWN)
    with pytest.raises(SchemaMismatch, match="older than this Earmark"):
        check_schema(empty)
    assert len(migrate(empty)) == len(scripts("migrations", "functions", "compat", "views")) - steps
    check_schema(empty)
    assert tool.snapshot(empty) == tool.SNAPSHOT.read_text(encoding="utf-8")
    with Ledger(empty_url) as ledger:
        assert ledger.usage("old").resources["images"].quota_limit == 2
        assert not ledger.reserve("old", {"images": 9}, key="k")
        assert ledger.reserve("old", {"images": 2}).commit().outcome == "committed"
        assert ledger.usage("new").plan == "team"
        assert ledger.verify() == ()


def sync(url: str) -> None:
    with Ledger(url) as ledger:
        ledger.reserve("a", {"images": 1})


def batched(url: str) -> None:
    async def reserve() -> None:
        async with AsyncLedger(url) as ledger:
            await ledger.reserve("a", {"images": 1})

    asyncio.run(reserve())


def reading(url: str) -> None:
    async def usage() -> None:
        async with AsyncLedger(url) as ledger:
            await ledger.usage("a")

    asyncio.run(usage())


@pytest.mark.parametrize("use", [sync, batched, reading])
def test_a_database_without_the_schema_says_what_to_do(
    empty: psycopg.Connection, empty_url: str, use: Callable[[str], Any]
) -> None:
    assert empty.execute("SELECT to_regnamespace('earmark')").fetchone() == (None,)
    with pytest.raises(SchemaMismatch, match="run `earmark migrate`"):
        use(empty_url)


@pytest.mark.parametrize("use", [sync, batched, reading])
def test_a_client_older_or_newer_than_the_schema_hears_so_at_its_first_call(
    connection: psycopg.Connection, database: str, use: Callable[[str], Any]
) -> None:
    """The functions it knows are not there, or answer other columns."""
    name, parameter = ("usage", "text") if use is reading else ("reserve", "jsonb")
    connection.execute(f"ALTER FUNCTION earmark.{name} RENAME TO superseded")  # type: ignore[arg-type]
    with pytest.raises(SchemaMismatch, match="upgrade this Earmark") as caught:
        use(database)
    assert isinstance(caught.value.__cause__, psycopg.errors.UndefinedFunction)
    connection.execute(
        f"CREATE FUNCTION earmark.{name}({parameter}) RETURNS TABLE (novel int) "  # type: ignore[arg-type]
        "LANGUAGE sql AS 'SELECT 1'"
    )
    with pytest.raises(SchemaMismatch, match="column") as caught:
        use(database)
    assert isinstance(caught.value.__cause__, psycopg.errors.UndefinedColumn)


def test_what_else_is_missing_is_psycopgs_to_tell(connection: psycopg.Connection, ledger: Ledger) -> None:
    with ledger.reserve("a", {"images": 1}, connection=connection), pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("SELECT * FROM business")
