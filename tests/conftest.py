"""What every test stands on: one real server per pytest process, and a database of its own per test."""

from collections.abc import Iterator
from datetime import datetime
from itertools import count
from pathlib import Path

import psycopg
import pytest
import structlog
from psycopg import sql
from psycopg.conninfo import make_conninfo

from earmark import Ledger
from earmark.local_postgres import LocalPostgres
from earmark.migrate import migrate
from earmark.uploads.queue import migrate_queue

pytest_plugins = [
    "fixtures.object_store",
    "fixtures.breakable",
    "fixtures.outside",
    "fixtures.races",
    "fixtures.service",
    "fixtures.small_disk",
]

TEMPLATE = "earmark_template"
MOSTLY_WAITING = {"cli", "crash", "docs", "web"}
"""Folders whose tests spend their time on browsers, and on processes that start and end."""
_numbers = count()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Has the report of a failure show all that the logs told: the fields of a record too, not only its event."""
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.ExtraAdder(),
        ],
        processor=structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    )
    session.config.pluginmanager.getplugin("logging-plugin").report_handler.setFormatter(formatter)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What mostly waits comes first, so that other tests work beside it; at the end it would leave processors idle."""
    items.sort(key=lambda item: item.path.relative_to(Path(__file__).parent).parts[0] not in MOSTLY_WAITING)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server's own database, from which others are made.

    Its disk is not synchronised: no test needs it. Nor does it vacuum by
    itself, in transactions that followers wait for.
    """
    home: Path = tmp_path_factory.mktemp("postgres")
    settings = {"fsync": "off", "synchronous_commit": "off", "max_connections": "150", "autovacuum": "off"}
    with LocalPostgres(home, settings=settings) as local:
        yield local.url


@pytest.fixture(scope="session")
def template(server: str) -> str:
    """Name of a migrated database, default plan `pro`, to be copied."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    with psycopg.connect(make_conninfo(server, dbname=TEMPLATE), autocommit=True) as connection:
        migrate(connection, default_plan="pro")
        migrate_queue(connection)
    return TEMPLATE


@pytest.fixture
def database(server: str, template: str) -> Iterator[str]:
    """Connection string of a migrated database of this test's own."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        yield make_conninfo(server, dbname=name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    """An autocommit connection to the test's database."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def ledger(database: str) -> Iterator[Ledger]:
    """A ledger on the test's database."""
    with Ledger(database) as ledger:
        yield ledger


class Clock:
    """The database's idea of now, moved by the test."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        connection.execute("CREATE TABLE test_clock (at timestamptz, shift interval NOT NULL DEFAULT '0')")
        connection.execute("INSERT INTO test_clock DEFAULT VALUES")
        connection.execute(
            "CREATE OR REPLACE FUNCTION earmark._private_now() RETURNS timestamptz LANGUAGE sql VOLATILE "
            "AS 'SELECT coalesce(at, clock_timestamp()) + shift FROM public.test_clock'"
        )

    def set(self, moment: datetime | str) -> None:
        """Stands still at this moment from now on."""
        self._connection.execute("UPDATE test_clock SET at = %s, shift = '0'", (moment,))

    def advance(self, seconds: float) -> None:
        """Moves ahead."""
        self._connection.execute("UPDATE test_clock SET shift = shift + %s * interval '1 second'", (seconds,))


@pytest.fixture
def clock(connection: psycopg.Connection) -> Clock:
    """Control over the database's clock."""
    return Clock(connection)


@pytest.fixture(scope="session")
def clock_of() -> type[Clock]:
    """Makes the clock of the database behind a connection."""
    return Clock


@pytest.fixture(autouse=True)
def books_agree(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test that had a database, balances, holds and journal agree."""
    if "database" not in request.fixturenames:
        yield
        return
    database = request.getfixturevalue("database")
    yield
    with psycopg.connect(database, autocommit=True) as connection:
        assert connection.execute("SELECT * FROM earmark.verify()").fetchall() == []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--strict-skips", action="store_true", help="a skipped test fails the run")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Under --strict-skips a test that was skipped has failed: CI has all that any test needs."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.config.getoption("--strict-skips"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr[2]}"
    return report
