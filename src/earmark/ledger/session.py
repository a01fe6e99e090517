"""The settings that calls and their decoding are written for, whatever the defaults of the database or the role are.

The functions lock and then read: where a transaction sees what was there as it began, each call that waited for another
fails. psycopg reads moments in the ISO style alone.
"""

from typing import Any

import psycopg

_SETTINGS = "SET default_transaction_isolation TO 'read committed'; SET datestyle TO 'ISO'"


async def configure_session(connection: psycopg.AsyncConnection[Any]) -> None:
    """Gives a connection these settings; a pool's `configure`."""
    await connection.execute(_SETTINGS)


def configure_session_sync(connection: psycopg.Connection[Any]) -> None:
    """The same without asyncio."""
    connection.execute(_SETTINGS)
