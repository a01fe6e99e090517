"""Migrations and functions: applied once, re-applied when changed, refused when foreign."""

from collections.abc import Iterator
from importlib.resources import files

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from earmark import EarmarkError, Ledger, SchemaMismatch, UnknownPlan, UnknownSubject
from earmark import migrate as migrate_module
from earmark.migrate import check_schema, migrate, refuse_old, scripts


@pytest.fixture
def empty(server: str, request: pytest.FixtureRequest) -> Iterator[psycopg.Connection]:
    """A connection to a database with nothing in it."""
    name = sql.Identifier(f"empty_{abs(hash(request.node.nodeid))}")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        with psycopg.connect(make_conninfo(server, dbname=name.as_string().strip('"')), autocommit=True) as inside:
            yield inside
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def test_a_first_run_applies_every_file_and_a_second_none(empty: psycopg.Connection) -> None:
    folder = files("earmark") / "sql"
    wanted = sorted(f"{part.name}/{file.name}" for part in folder.iterdir() if part.is_dir() for file in part.iterdir())
    with pytest.raises(SchemaMismatch, match="earmark migrate"):
        check_schema(empty)
    assert sorted(migrate(empty, default_plan="free")) == wanted
    assert migrate(empty) == []
    check_schema(empty)
    assert empty.execute("SELECT plan FROM earmark.usage('a') LIMIT 1").fetchone() == ("free",)
    for function in scripts("functions", "compat"):
        name = function.file.split("/")[1].removesuffix(".sql")
        qualified = f"earmark.{'_private' if name.startswith('_') else ''}{name}"
        assert empty.execute("SELECT to_regproc(%s) IS NOT NULL", (qualified,)).fetchone() == (True,), name


def test_a_changed_function_is_applied_again(connection: psycopg.Connection) -> None:
    connection.execute("UPDATE earmark._private_migration SET sha256 = 'old' WHERE file = 'functions/plans.sql'")
    connection.execute(
        "CREATE OR REPLACE FUNCTION earmark._private_now() RETURNS timestamptz "
        "LANGUAGE sql AS 'SELECT NULL::timestamptz'"
    )
    connection.execute("UPDATE earmark._private_migration SET sha256 = 'old' WHERE file = 'functions/_now.sql'")
    assert migrate(connection) == ["functions/_now.sql", "functions/plans.sql"]
    assert connection.execute("SELECT earmark._private_now() IS NULL").fetchone() == (False,)
    assert migrate(connection) == []


def test_a_function_applied_anew_stays_closed_to_the_public(connection: psycopg.Connection) -> None:
    connection.execute("DROP FUNCTION earmark.plans")
    connection.execute("DELETE FROM earmark._private_migration WHERE file = 'functions/plans.sql'")
    with pytest.raises(SchemaMismatch, match="older than this Earmark") as caught:
        check_schema(connection)
    assert caught.value.detail == {"missing": ["functions/plans.sql"]}
    assert migrate(connection) == ["functions/plans.sql"]
    row = connection.execute("SELECT has_function_privilege('public', 'earmark.plans()', 'EXECUTE')").fetchone()
    assert row == (False,)


@pytest.mark.parametrize("fault", ["newer", "changed"])
def test_a_foreign_migration_is_refused(connection: psycopg.Connection, fault: str) -> None:
    if fault == "newer":
        connection.execute("INSERT INTO earmark._private_migration VALUES ('migrations/9999_future.sql', 'x')")
        unknown = "migrations/9999_future.sql"
    else:
        connection.execute(
            "UPDATE earmark._private_migration SET sha256 = 'x' WHERE file = 'migrations/0001_ledger.sql'"
        )
        unknown = "migrations/0001_ledger.sql"
    for check in (migrate, check_schema):
        with pytest.raises(SchemaMismatch, match="another version of Earmark") as caught:
            check(connection)
        assert caught.value.detail == {"unknown": [unknown]}


def test_the_default_plan_is_set_changed_and_checked(connection: psycopg.Connection, ledger: Ledger) -> None:
    assert ledger.usage("a").plan == "pro"
    assert migrate(connection, default_plan="enterprise") == []
    assert ledger.usage("a").plan == "enterprise"
    with pytest.raises(UnknownPlan, match="'gold'"):
        migrate(connection, default_plan="gold")
    assert ledger.usage("a").plan == "enterprise"
    connection.execute("DELETE FROM earmark._private_setting")
    for call in (lambda: ledger.usage("a"), lambda: ledger.reserve("a", {"images": 1})):
        with pytest.raises(UnknownSubject):
            call()


@pytest.mark.parametrize("ends", [True, False])
def test_a_table_in_use_is_waited_for_while_others_are_served(
    connection: psycopg.Connection, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """A backup reads for as long as it takes; what queues behind a waiting migration would wait as long."""
    new = migrate_module.Script("migrations/9999_next.sql", "ALTER TABLE earmark._private_image ADD COLUMN later text")
    scripts = migrate_module.scripts
    monkeypatch.setattr(
        migrate_module, "scripts", lambda *folders: [*scripts(*folders), *([new] if "migrations" in folders else [])]
    )
    monkeypatch.setattr(migrate_module, "LOCK_SECONDS", 0.05)
    monkeypatch.setattr(migrate_module, "ATTEMPTS", 3)
    pauses = []
    with psycopg.connect(connection.info.dsn, application_name="the backup") as reader:
        reader.execute("SELECT FROM earmark._private_image")

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            assert ledger.reserve("a", {"images": 1})  # nobody queues
            if ends and len(pauses) == 2:
                reader.rollback()

        monkeypatch.setattr(migrate_module.time, "sleep", pause)
        if ends:
            assert migrate(connection) == ["migrations/9999_next.sql"]
            assert len(pauses) == 2
        else:
            with pytest.raises(EarmarkError, match=r"in use by process \d+ \(the backup\), in a transaction since"):
                migrate(connection)
            assert len(pauses) == 3


def test_a_failed_migration_leaves_nothing(empty: psycopg.Connection) -> None:
    with pytest.raises(UnknownPlan):
        migrate(empty, default_plan="gold")
    assert empty.execute("SELECT to_regnamespace('earmark') IS NULL").fetchone() == (True,)


def test_a_server_that_is_too_old_is_told_so() -> None:
    with pytest.raises(SchemaMismatch, match="PostgreSQL 15 or newer, and this server is 14"):
        refuse_old(140_012)
    refuse_old(150_000)
