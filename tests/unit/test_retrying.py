"""What is taken for a database that is away, for all, and what for one call that it could not carry out."""

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from earmark.ledger.retrying import is_away


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("server closed the connection unexpectedly"),
        psycopg.InterfaceError("the connection is lost"),
        PoolTimeout("couldn't get a connection after 10 sec"),
        psycopg.errors.AdminShutdown("terminating connection"),
        psycopg.errors.ReadOnlySqlTransaction("cannot execute UPDATE in a read-only transaction"),
        psycopg.errors.TooManyConnections("sorry, too many clients already"),
        psycopg.errors.DiskFull("no space left on device"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_away(error: Exception) -> None:
    assert is_away(error)


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.LockNotAvailable("canceling statement due to lock timeout"),
        psycopg.errors.QueryCanceled("canceling statement due to statement timeout"),
        psycopg.errors.IoError("could not read block 7"),
        psycopg.errors.StatementTooComplex("stack depth limit exceeded"),
        psycopg.errors.DataCorrupted("invalid page in block 7"),
        psycopg.errors.CheckViolation("committed"),
        ValueError("no error of a database"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_unable(error: Exception) -> None:
    assert not is_away(error)
