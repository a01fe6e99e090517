"""A database shared by the tests of a module, each in a transaction that is rolled back."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from earmark import Ledger

_numbers = count()


@pytest.fixture(scope="module")
def shared_database(server: str, template: str) -> Iterator[str]:
    """Connection string of a migrated database in which nothing is ever committed."""
    name = sql.Identifier(f"shared_{next(_numbers)}")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(template)))
        yield make_conninfo(server, dbname=name.as_string().strip('"'))
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def scratch(shared_database: str) -> Iterator[psycopg.Connection]:
    """A connection inside a transaction that is rolled back, once the books were found to agree."""
    with psycopg.connect(shared_database) as connection, connection.transaction(force_rollback=True):
        yield connection
        connection.execute("RESET ROLE")
        connection.execute("SELECT set_config('request.jwt.claims', '', true)")
        assert connection.execute("SELECT * FROM earmark.verify()").fetchall() == []


class Books:
    """The ledger's methods on a connection in a transaction, each in a savepoint."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._ledger = Ledger("")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._ledger, name)

        def call(*arguments: object, **options: object) -> Any:
            with self._connection.transaction():
                return method(*arguments, connection=self._connection, **options)

        return call


@pytest.fixture
def books(scratch: psycopg.Connection) -> Books:
    """A ledger in the transaction of `scratch`."""
    return Books(scratch)


@pytest.fixture
def scratch_clock(scratch: psycopg.Connection, clock_of: Callable[[psycopg.Connection], Any]) -> Any:
    """Control over the clock in the transaction of `scratch`, which stands at noon on 10 March 2026."""
    clock = clock_of(scratch)
    clock.set("2026-03-10T12:00:00Z")
    return clock
