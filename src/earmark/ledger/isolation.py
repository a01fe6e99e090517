"""The isolation that the ledger's functions are written for, whatever the default of the database or the role is.

They lock and then read: where a transaction sees what was there as it began, each call that waited for another fails.
"""

from typing import Any

import psycopg

_READ_COMMITTED = "SET default_transaction_isolation TO 'read committed'"


async def read_committed(connection: psycopg.AsyncConnection[Any]) -> None:
    """Makes READ COMMITTED the default of a connection; a pool's `configure`."""
    await connection.execute(_READ_COMMITTED)


def read_committed_sync(connection: psycopg.Connection[Any]) -> None:
    """The same without asyncio."""
    connection.execute(_READ_COMMITTED)
