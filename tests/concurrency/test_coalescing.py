"""AsyncLedger sends the calls that arrive while one is in flight together, and each caller still fares alone."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from earmark import AsyncLedger, Cause, InvalidRequest, KeyConflict, Ledger, UnknownResource
from earmark.ledger._batching import TIMEOUTS
from earmark.ledger._calls import Batched, Row, reserve
from earmark.local_postgres import LocalPostgres
from earmark.migrate import migrate
from earmark.model import Grant

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def async_ledger(database: str) -> AsyncIterator[AsyncLedger]:
    """One connection, so that what arrives while it is busy must wait."""
    async with AsyncLedger(database, max_connections=1) as ledger:
        yield ledger


@asynccontextmanager
async def subject_locked(database: str, subject: str) -> AsyncIterator[None]:
    """Holds up every call for this subject."""
    async with await psycopg.AsyncConnection.connect(database) as busy:
        await busy.execute("SELECT FROM earmark._private_subject WHERE subject = %s FOR UPDATE", (subject,))
        yield


async def until_waiting(database: str) -> int:
    """The backend that waits for a lock; polled, as nothing announces it."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as watcher:
        for _ in range(2000):
            cursor = await watcher.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            row = await cursor.fetchone()
            if row is not None:
                return int(row[0])
            await asyncio.sleep(0)
    raise AssertionError("nobody waits")


async def test_what_arrives_meanwhile_is_sent_as_one_batch(
    async_ledger: AsyncLedger, database: str, connection: psycopg.Connection
) -> None:
    await async_ledger.reserve("a", {"images": 1})
    async with subject_locked(database, "a"):
        first = asyncio.ensure_future(async_ledger.reserve("a", {"images": 1}))
        await until_waiting(database)
        others = [asyncio.ensure_future(async_ledger.reserve(f"s{n}", {"images": 1})) for n in range(100)]
        await asyncio.sleep(0)
        assert not any(other.done() for other in others)
    assert all(await asyncio.gather(first, *others))
    transactions = connection.execute(
        "SELECT count(DISTINCT transaction) FROM earmark._private_journal WHERE subject LIKE 's%'"
    ).fetchone()
    assert transactions == (1,)


async def test_a_call_that_waits_for_a_lock_holds_up_nobody_else(database: str) -> None:
    """The lock may be that of a transaction of this very process, which could not end if others had to wait."""
    async with AsyncLedger(database) as ledger:
        await ledger.reserve("a", {"images": 1})
        async with subject_locked(database, "a"):
            locked = [asyncio.ensure_future(ledger.reserve("a", {"images": 1})) for _ in range(3)]
            await until_waiting(database)
            for _ in range(3):
                free = await ledger.reserve("b", {"images": 1})
                assert (await ledger.rollback(free.id, cause=Cause.CANCELLED)).outcome == "rolled_back"
            assert not any(call.done() for call in locked)
        assert all(await asyncio.gather(*locked))


@pytest.mark.parametrize("kind", [AsyncLedger, Ledger])
async def test_a_call_that_waited_succeeds_whatever_isolation_is_the_default(
    database: str, connection: psycopg.Connection, kind: type[AsyncLedger] | type[Ledger]
) -> None:
    """Under REPEATABLE READ most calls of a busy subject would fail."""
    connection.execute(
        sql.SQL("ALTER DATABASE {} SET default_transaction_isolation TO 'repeatable read'").format(
            sql.Identifier(connection.info.dbname)
        )
    )
    with Ledger(database) as ledger:
        ledger.reserve("a", {"images": 1})

    def ask() -> bool:
        with Ledger(database) as ledger:
            return bool(ledger.reserve("a", {"images": 1}))

    async def ask_async() -> bool:
        async with AsyncLedger(database) as ledger:
            return bool(await ledger.reserve("a", {"images": 1}))

    async with await psycopg.AsyncConnection.connect(database) as busy:
        await busy.execute("UPDATE earmark._private_subject SET changes = changes + 1 WHERE subject = 'a'")
        waiting = asyncio.ensure_future(ask_async() if kind is AsyncLedger else asyncio.to_thread(ask))
        await until_waiting(database)
        await busy.commit()
    assert await waiting


@pytest.mark.parametrize("kind", [AsyncLedger, Ledger])
async def test_moments_are_read_whatever_style_is_the_default(
    database: str, connection: psycopg.Connection, kind: type[AsyncLedger] | type[Ledger]
) -> None:
    name = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("ALTER DATABASE {} SET datestyle TO 'German, DMY'").format(name))
    if kind is Ledger:
        with Ledger(database) as ledger:
            deadline = ledger.reserve("a", {"images": 1}).expires_at
    else:
        async with AsyncLedger(database) as ledger:
            deadline = (await ledger.reserve("a", {"images": 1})).expires_at
    assert deadline is not None
    assert deadline.tzinfo is not None


async def test_many_that_wait_are_sent_beside_the_one_in_flight(database: str, connection: psycopg.Connection) -> None:
    async with AsyncLedger(database) as ledger:
        await asyncio.gather(*[ledger.reserve(f"s{n}", {"images": 1}) for n in range(80)])
    sizes = connection.execute(
        "SELECT count(*) FROM earmark._private_journal GROUP BY xmin::text ORDER BY 1"
    ).fetchall()
    assert sizes == [(40,), (40,)]


async def test_a_malformed_request_fails_alone(async_ledger: AsyncLedger) -> None:
    calls: list[Any] = [async_ledger.reserve("a", {"images": 1}) for _ in range(20)]
    bad = [
        async_ledger.reserve("a", {"images": -1}),
        async_ledger.reserve("a", {"sandwiches": 1}),
        async_ledger.reserve("a", {"images": Decimal(1)}),  # type: ignore[dict-item]
        async_ledger.reserve("a\0", {"images": 1}),
    ]
    await async_ledger.reserve("a", {"images": 1}, key="k")
    conflict = async_ledger.reserve("a", {"images": 2}, key="k")
    answers = await asyncio.gather(*calls[:7], *bad, conflict, *calls[7:], return_exceptions=True)
    kinds = [type(answer) for answer in answers[7:12]]
    assert kinds == [InvalidRequest, UnknownResource, InvalidRequest, InvalidRequest, KeyConflict]
    assert all(answers[:7] + answers[12:])
    assert (await async_ledger.usage("a")).resources["images"].held == 21


async def test_with_a_lock_timeout_only_the_locked_subjects_call_fails(database: str) -> None:
    name = sql.Identifier(str(psycopg.conninfo.conninfo_to_dict(database)["dbname"]))
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute(sql.SQL("ALTER DATABASE {} SET lock_timeout = '50ms'").format(name))
    subjects = [f"s{number}" for number in range(20)]
    async with AsyncLedger(database, max_connections=1) as ledger:
        await asyncio.gather(*(ledger.reserve(subject, {"images": 1}) for subject in subjects))
        async with subject_locked(database, "s7"):
            answers = await asyncio.gather(
                *(ledger.reserve(subject, {"images": 1}) for subject in subjects), return_exceptions=True
            )
        errors = {
            subject: type(answer)
            for subject, answer in zip(subjects, answers, strict=True)
            if isinstance(answer, BaseException)
        }
        assert errors == {"s7": psycopg.errors.LockNotAvailable}
        assert {subject: (await ledger.usage(subject)).resources["images"].held for subject in subjects} == {
            **dict.fromkeys(subjects, 2), "s7": 1,
        }  # fmt: skip


async def test_where_all_are_locked_a_call_that_times_out_is_sent_again_a_bounded_number_of_times(
    database: str,
) -> None:
    name = sql.Identifier(str(psycopg.conninfo.conninfo_to_dict(database)["dbname"]))
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute(sql.SQL("ALTER DATABASE {} SET lock_timeout = '1ms'").format(name))
        await connection.execute("CREATE SEQUENCE tried")
        await connection.execute(
            "ALTER FUNCTION earmark.reserve(jsonb) RENAME TO _private_reserve;"
            "CREATE FUNCTION earmark.reserve(requests jsonb) RETURNS TABLE (ordinal int, outcome text, "
            "reservation uuid, expires_at timestamptz, replayed boolean, detail jsonb) LANGUAGE plpgsql AS $$ BEGIN "
            "PERFORM nextval('public.tried'); RETURN QUERY SELECT * FROM earmark._private_reserve(requests); END $$"
        )
    async with AsyncLedger(database, max_connections=1) as ledger:
        async with await psycopg.AsyncConnection.connect(database) as busy:
            await busy.execute("LOCK TABLE earmark._private_subject")
            answers = await asyncio.gather(
                *(ledger.reserve(f"s{number}", {"images": 1}) for number in range(200)), return_exceptions=True
            )
        assert {type(answer) for answer in answers} == {psycopg.errors.LockNotAvailable}
    async with await psycopg.AsyncConnection.connect(database) as connection:
        tried = await (await connection.execute("SELECT last_value FROM tried")).fetchone()
    assert tried is not None
    assert tried[0] <= 2 * TIMEOUTS + 1


async def test_a_malformed_request_delays_the_others_little(
    async_ledger: AsyncLedger, connection: psycopg.Connection
) -> None:
    """Its batch is halved until it stands alone; sent one by one, a bad request a batch would slow everybody down."""
    calls: list[Any] = [async_ledger.reserve(f"s{number}", {"images": 1}) for number in range(100)]
    calls.insert(37, async_ledger.reserve("a", {"sandwiches": 1}))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [UnknownResource]
    (transactions,) = connection.execute(
        "SELECT count(DISTINCT transaction) FROM earmark._private_journal WHERE subject LIKE 's%'"
    ).fetchone() or (0,)
    assert transactions <= 10


async def test_an_answer_that_cannot_be_read_fails_its_caller_alone(async_ledger: AsyncLedger) -> None:
    """Nobody waits for ever, whatever goes wrong on the way back."""

    def unreadable(_: object) -> None:
        raise LookupError("no such column")

    readable = reserve("a", {"1": {"images": 1}}, key=None, ttl=timedelta(minutes=1), actor=None)
    calls = [readable, Batched("reserve", readable.request, unreadable), readable]
    sent = asyncio.gather(*[async_ledger._transport.run(call) for call in calls], return_exceptions=True)
    answers = await asyncio.wait_for(sent, timeout=30)
    assert [type(answer).__name__ for answer in answers] == ["Grant", "LookupError", "Grant"]


async def test_a_cancelled_caller_does_not_sink_the_others(async_ledger: AsyncLedger, database: str) -> None:
    await async_ledger.reserve("a", {"images": 1})
    async with subject_locked(database, "a"):
        calls = [asyncio.ensure_future(async_ledger.reserve("a", {"images": 1})) for _ in range(10)]
        await until_waiting(database)
        calls[0].cancel()  # alone in flight
        calls[5].cancel()  # waiting
        await asyncio.sleep(0)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in (answers[0], answers[5])] == [asyncio.CancelledError] * 2
    assert all(answer for number, answer in enumerate(answers) if number not in (0, 5))
    assert (await async_ledger.reserve("a", {"images": 1})).granted


@pytest.fixture
async def wide_ledger(database: str) -> AsyncIterator[AsyncLedger]:
    async with AsyncLedger(database) as ledger:
        await ledger.configure_subject("a", plan="pro")
        yield ledger


async def test_a_cancelled_reserve_gives_back_what_it_took(
    wide_ledger: AsyncLedger, database: str, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody knows its id: what was not sent yet never is, and what was sent comes back at once."""
    with caplog.at_level(logging.INFO, "earmark"):
        async with subject_locked(database, "a"):
            sent = asyncio.ensure_future(wide_ledger.reserve("a", {"images": 3}))
            await until_waiting(database)
            waiting = asyncio.ensure_future(wide_ledger.reserve("a", {"images": 5}))
            await asyncio.sleep(0)
            for call in (sent, waiting):
                call.cancel()
            await asyncio.wait([sent, waiting])
            assert sent.cancelled()
            assert waiting.cancelled()
        await wide_ledger.close()
    assert [(entry.kind, entry.cause) for entry in ledger.history("a")] == [
        ("rollback", Cause.CANCELLED),
        ("reserve", None),
    ]
    assert [record.message for record in ours(caplog)] == ["rollback"]


async def test_a_reserve_cancelled_as_its_answer_comes_is_given_back(wide_ledger: AsyncLedger, ledger: Ledger) -> None:
    call = reserve("a", {"1": {"images": 3}}, key=None, ttl=timedelta(minutes=1), actor=None)

    def decode(row: Row) -> Grant:
        asyncio.get_running_loop().call_soon(task.cancel)  # before the caller's turn, after the answer is his
        return call.decode(row)

    task = asyncio.ensure_future(wide_ledger._transport.run(replace(call, decode=decode)))
    await asyncio.wait([task])
    assert task.cancelled()
    await wide_ledger.close()
    assert [entry.kind for entry in ledger.history("a")] == ["rollback", "reserve"]


async def test_a_cancelled_reserve_under_a_key_stays(wide_ledger: AsyncLedger, database: str) -> None:
    """Whoever has the key asks again, and gets what was taken."""
    async with subject_locked(database, "a"):
        call = asyncio.ensure_future(wide_ledger.reserve("a", {"images": 3}, key="k"))
        await until_waiting(database)
        call.cancel()
        await asyncio.wait([call])
    again = await wide_ledger.reserve("a", {"images": 3}, key="k")
    assert again.grant.replayed
    assert (await again.commit()).outcome == "committed"


async def test_a_lost_connection_is_told_to_all_and_the_next_call_works(
    async_ledger: AsyncLedger, database: str, connection: psycopg.Connection
) -> None:
    await async_ledger.reserve("a", {"images": 1})
    async with subject_locked(database, "a"):
        first = asyncio.ensure_future(async_ledger.reserve("a", {"images": 1}))
        backend = await until_waiting(database)
        connection.execute("SELECT pg_terminate_backend(%s)", (backend,))
        answers = await asyncio.gather(first, return_exceptions=True)
    assert isinstance(answers[0], psycopg.OperationalError)
    answers = await asyncio.gather(*[async_ledger.reserve("a", {"images": 1}) for _ in range(5)])
    assert all(answers)
    assert (await async_ledger.usage("a")).resources["images"].held == 6


async def test_a_lost_batch_fails_every_caller_in_it(
    async_ledger: AsyncLedger, database: str, connection: psycopg.Connection
) -> None:
    await async_ledger.reserve("a", {"images": 1})
    await async_ledger.reserve("b", {"images": 1})
    async with subject_locked(database, "b"):
        async with subject_locked(database, "a"):
            first = asyncio.ensure_future(async_ledger.reserve("a", {"images": 1}))
            await until_waiting(database)
            batch = [asyncio.ensure_future(async_ledger.reserve("b", {"images": 1})) for _ in range(8)]
            await asyncio.sleep(0)
        assert (await first).granted
        connection.execute("SELECT pg_terminate_backend(%s)", (await until_waiting(database),))
        answers = await asyncio.gather(*batch, return_exceptions=True)
    assert all(isinstance(answer, psycopg.OperationalError) for answer in answers)
    assert (await async_ledger.usage("b")).resources["images"].held == 1


async def test_a_rollback_outlives_a_lost_connection(
    async_ledger: AsyncLedger, database: str, connection: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    reservation = (await async_ledger.reserve("a", {"images": 3})).id
    with caplog.at_level(logging.INFO, "earmark"):
        async with subject_locked(database, "a"):
            rollback = asyncio.ensure_future(async_ledger.rollback(reservation, cause=Cause.UPLOAD_FAILED, reason="r"))
            connection.execute("SELECT pg_terminate_backend(%s)", (await until_waiting(database),))
            await until_waiting(database)
        assert (await rollback).outcome == "rolled_back"
    records = ours(caplog)
    assert [record.message for record in records] == ["database_unreachable", "rollback"]
    logged = vars(records[-1])
    expected = {
        "subject": "a",
        "reservation": str(reservation),
        "item": "1",
        "amounts": {"images": 3},
        "cause": "upload_failed",
        "actor": "a",
        "trigger": "r",
    }
    assert {name: logged[name] for name in expected} == expected


async def test_a_rollback_finishes_though_its_caller_is_cancelled(
    async_ledger: AsyncLedger, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    reservation = (await async_ledger.reserve("a", {"images": 3})).id
    with caplog.at_level(logging.INFO, "earmark"):
        async with subject_locked(database, "a"):
            rollback = asyncio.ensure_future(async_ledger.rollback(reservation, cause=Cause.CANCELLED))
            await until_waiting(database)
            for _ in range(3):
                rollback.cancel()
                await asyncio.sleep(0)
            assert not rollback.done()
        with pytest.raises(asyncio.CancelledError):
            await rollback
    assert [record.message for record in ours(caplog)] == ["rollback"]
    assert (await async_ledger.usage("a")).resources["images"].held == 0


def ours(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name.startswith("earmark")]


FIELDS = {
    "subject": "a",
    "items": None,
    "cause": "processing_failed",
    "actor": None,
    "action": "none needed: the quota returns at the deadline; sooner with `earmark rollback`",
}


def check_failure(records: list[logging.LogRecord], target: str) -> None:
    assert [record.message for record in records] == ["database_unreachable"] * 3 + ["rollback_failed"]
    failed = vars(records[-1])
    assert failed["levelno"] == logging.ERROR
    assert failed["target"] == target
    assert failed["error"]
    assert {name: failed[name] for name in FIELDS} == FIELDS


def dead(tmp_path: Path) -> str:
    return f"host={tmp_path} dbname=nowhere user=nobody"


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_rollback_that_stays_without_a_database_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_cancelled: bool
) -> None:
    reservation = uuid4()
    pool = AsyncConnectionPool(dead(tmp_path), min_size=0, max_size=1, open=False, timeout=0.05, reconnect_timeout=0.01)
    await pool.open()
    try:
        with caplog.at_level(logging.INFO, "earmark"):
            rollback = AsyncLedger(pool).rollback(reservation, cause=Cause.PROCESSING_FAILED, subject="a")
            task = asyncio.ensure_future(rollback)
            await asyncio.sleep(0)
            if is_cancelled:
                task.cancel()
            with pytest.raises(asyncio.CancelledError if is_cancelled else PoolTimeout):
                await task
    finally:
        await pool.close()
    check_failure(ours(caplog), str(reservation))


def work(interrupted_by: Callable[[], None]) -> None:
    interrupted_by()
    raise ZeroDivisionError


def test_the_error_of_the_block_is_heard_though_its_rollback_failed(
    tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """The server goes away in the middle of the work and does not come back."""
    server = LocalPostgres(tmp_path_factory.mktemp("gone"), settings={"fsync": "off"})
    server.start()
    try:
        with psycopg.connect(server.url, autocommit=True) as connection:
            migrate(connection, default_plan="pro")
        with (
            ConnectionPool(server.url, min_size=1, open=True, timeout=0.05, kwargs={"autocommit": True}) as pool,
            caplog.at_level(logging.INFO, "earmark"),
        ):
            pool.wait()
            reservation = Ledger(pool).reserve("a", {"images": 1})
            with pytest.raises(ZeroDivisionError) as caught, reservation:
                work(server.stop)
    finally:
        server.stop()
    assert str(reservation.expires_at) in caught.value.__notes__[0]
    check_failure(ours(caplog), str(reservation.id))
