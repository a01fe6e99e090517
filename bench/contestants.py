"""The contestants of the ledger benchmark: each reserves one image for a user and rolls it back."""

import asyncio
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from earmark import AsyncLedger, Cause
from earmark.migrate import migrate

POOLED_CONNECTIONS = 16
NAMESPACE = uuid.UUID(int=7)


def user_id(number: int) -> uuid.UUID:
    """The id of a user."""
    return uuid.uuid5(NAMESPACE, str(number))


def prepare_ledger(url: str, users: int) -> None:
    """Migrates an empty database and registers users with unlimited images."""
    with psycopg.connect(url, autocommit=True) as connection:
        migrate(connection, default_plan="enterprise")
        query = "SELECT earmark.configure_subject(n::text, 'enterprise') FROM generate_series(0, %s) n"
        connection.execute(query, (users - 1,))
        connection.execute("ANALYZE earmark._private_subject")


class Contestant(ABC):
    """Something that keeps quota.

    `prepare` makes its schema and users in an empty database; `pair` is one reserve and one rollback.
    """

    name: str

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def prepare(self, users: int) -> None: ...

    @abstractmethod
    async def open(self, callers: int) -> None: ...

    @abstractmethod
    async def pair(self, user: int) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    @asynccontextmanager
    async def opened(self, callers: int) -> AsyncIterator[None]:
        """Open for as long as the block lasts: a pool that is not closed keeps its event loop from ending."""
        await self.open(callers)
        try:
            yield
        finally:
            await self.close()


class Pooled(Contestant):
    """Plain calls through pooled connections."""

    async def open(self, callers: int) -> None:
        self._pool = AsyncConnectionPool(
            self.url,
            min_size=min(callers, POOLED_CONNECTIONS),
            max_size=POOLED_CONNECTIONS,
            open=False,
            kwargs={"autocommit": True},
        )
        await self._pool.open(wait=True)

    async def close(self) -> None:
        await self._pool.close()


class Rpcs(Pooled):
    """The requirement's own two RPCs, called through pooled connections."""

    name = "rpcs"

    def prepare(self, users: int) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute((Path(__file__).parent / "requirement_rpcs.sql").read_text())
            with connection.cursor() as cursor, cursor.copy("COPY user_quota (user_id) FROM STDIN") as copy:
                for number in range(users):
                    copy.write_row((user_id(number),))

    async def pair(self, user: int) -> None:
        user_uuid = user_id(user)
        async with self._pool.connection() as connection:
            row = await (
                await connection.execute("SELECT * FROM check_and_reserve_slots(%s, 1)", (user_uuid,))
            ).fetchone()
            assert row[0]
        async with self._pool.connection() as connection:
            await (await connection.execute("SELECT * FROM decrement_user_image_count(%s, 1)", (user_uuid,))).fetchone()


class Neveroversell(Contestant):
    """PyPI's neveroversell, which is synchronous: called from threads, through a pool of the same size."""

    name = "neveroversell"

    def prepare(self, users: int) -> None:
        from neveroversell import Inventory

        with ConnectionPool(self.url, min_size=1, max_size=1, kwargs={"row_factory": dict_row}) as pool:
            Inventory(pool=pool).migrate()
        with (
            psycopg.connect(self.url) as connection,
            connection.cursor() as cursor,
            cursor.copy("COPY nos_resources (id, total) FROM STDIN") as copy,
        ):
            for number in range(users):
                copy.write_row((str(number), 1_000_000_000))

    async def open(self, callers: int) -> None:
        from neveroversell import Inventory

        self._threads = ThreadPoolExecutor(callers)
        self._pool = ConnectionPool(
            self.url,
            min_size=min(callers, POOLED_CONNECTIONS),
            max_size=POOLED_CONNECTIONS,
            kwargs={"row_factory": dict_row, "autocommit": True},
            open=True,
        )
        self._pool.wait()
        self._inventory = Inventory(pool=self._pool)

    async def pair(self, user: int) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, self._pair, str(user))

    def _pair(self, user: str) -> None:
        held = self._inventory.hold(user, 1, user)
        assert held.status == "held", held
        assert self._inventory.release(held.hold.id).status == "released"

    async def close(self) -> None:
        self._threads.shutdown()
        self._pool.close()


class Floor(Pooled):
    """The least that writes the rows Earmark writes, called as the RPCs are; it decides nothing, and is no ledger."""

    name = "floor"

    def prepare(self, users: int) -> None:
        prepare_ledger(self.url, users)
        with psycopg.connect(self.url) as connection:
            connection.execute((Path(__file__).parent / "floor.sql").read_text())

    async def pair(self, user: int) -> None:
        async with self._pool.connection() as connection:
            row = await (await connection.execute("SELECT floor_reserve(%s, 1)", (str(user),))).fetchone()
        async with self._pool.connection() as connection:
            given_back = await (await connection.execute("SELECT floor_rollback(%s)", row)).fetchone()
        assert given_back == (1,)


class Earmark(Contestant):
    """Earmark's AsyncLedger, journal included."""

    name = "earmark"

    def prepare(self, users: int) -> None:
        prepare_ledger(self.url, users)

    async def open(self, callers: int) -> None:  # noqa: ARG002 - few connections carry any number of callers
        self._ledger = AsyncLedger(self.url)
        await self._ledger.open()

    async def pair(self, user: int) -> None:
        reservation = await self._ledger.reserve(str(user), {"images": 1})
        settlement = await self._ledger.rollback(reservation.id, cause=Cause.CANCELLED)
        assert settlement.outcome == "rolled_back"

    async def close(self) -> None:
        await self._ledger.close()


ALL = (Rpcs, Neveroversell, Floor, Earmark)
