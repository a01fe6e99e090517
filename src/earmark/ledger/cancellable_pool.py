"""What all our pools for asyncio are: `asyncio.wait_for`, by which psycopg's wait, may forget a cancellation.

It does until Python 3.12, where the connection comes in the same turn of the loop (CPython issue 86296): whoever ends a
task then waits for it for ever.
"""

import asyncio
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool


class CancellablePool(AsyncConnectionPool):
    """A pool which a cancelled task leaves, even where it gets its connection in the same moment."""

    async def getconn(self, timeout: float | None = None) -> AsyncConnection[Any]:  # noqa: ASYNC109 - the base class's
        """A connection, as the base class says."""
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        connection = await super().getconn(timeout)
        if task and task.cancelling() > before:
            await self.putconn(connection)
            raise asyncio.CancelledError
        return connection
