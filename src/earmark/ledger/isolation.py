"""What calls and their decoding are written for, whatever the defaults of the database or the role are.

The functions lock and then read: where a transaction sees what was there as it began, each call that waited for another
fails. psycopg reads moments in the ISO style alone.
"""

from typing import Any

import psycopg

_AS_WRITTEN = "SET default_transaction_isolation TO 'read committed'; SET datestyle TO 'ISO'"


async def as_written(connection: psycopg.AsyncConnection[Any]) -> None:
    """Makes that the default of a connection; a pool's `configure`."""
    await connection.execute(_AS_WRITTEN)


def as_written_sync(connection: psycopg.Connection[Any]) -> None:
    """The same without asyncio."""
    connection.execute(_AS_WRITTEN)
