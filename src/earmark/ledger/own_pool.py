"""The pools that ledgers open for themselves. A process that is forked off shares no connection with its parent.

Two processes on one connection read each other's answers, and Celery and `gunicorn --preload` fork with an open ledger.
"""

import os
from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

from psycopg import Connection
from psycopg_pool import ConnectionPool

from earmark.ledger.cancellable_pool import CancellablePool
from earmark.ledger.session import configure_session, configure_session_sync

_SETTINGS: Mapping[str, Any] = {"min_size": 1, "open": False, "kwargs": {"autocommit": True}}


class OwnPool(ConnectionPool):
    """A pool that a forked process opens anew where it first uses it."""

    def __init__(self, database: str, *, max_connections: int) -> None:
        super().__init__(database, max_size=max_connections, configure=configure_session_sync, **_SETTINGS)
        self._made_with = (database, max_connections)
        self._opens_at_use = False
        _POOLS.add(self)

    def getconn(self, timeout: float | None = None) -> Connection[Any]:
        """A connection, as the base class says."""
        if self._opens_at_use:
            self.open()
            self._opens_at_use = False
        return super().getconn(timeout)

    def start_anew(self) -> None:
        """Lets go of everything that is the parent's; psycopg closes no connection of another process."""
        opens_at_use = self._opens_at_use or not self.closed
        database, max_connections = self._made_with
        OwnPool.__init__(self, database, max_connections=max_connections)
        self._opens_at_use = opens_at_use


class AsyncOwnPool(CancellablePool):
    """The same for asyncio; a forked process has another event loop, in which the ledger is to be opened again."""

    def __init__(self, database: str, *, max_connections: int) -> None:
        super().__init__(database, max_size=max_connections, configure=configure_session, **_SETTINGS)
        self._made_with = (database, max_connections)
        _POOLS.add(self)

    def start_anew(self) -> None:
        """As in `OwnPool`. The parent's tasks are kept: asyncio complains of unfinished ones that are collected."""
        _OF_PARENTS.append(vars(self).copy())
        database, max_connections = self._made_with
        AsyncOwnPool.__init__(self, database, max_connections=max_connections)


_POOLS: WeakSet[OwnPool | AsyncOwnPool] = WeakSet()
_OF_PARENTS: list[dict[str, Any]] = []


def _start_anew() -> None:
    for pool in list(_POOLS):
        pool.start_anew()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_start_anew)
