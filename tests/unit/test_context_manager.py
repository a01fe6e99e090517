"""A reservation as a context manager: work that ends well is paid for, work that does not gives its quota back."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from earmark import (
    AlreadySettled,
    AsyncLedger,
    AsyncReservation,
    Cause,
    InvalidRequest,
    Ledger,
    QuotaExceeded,
    Reservation,
)
from earmark.access import grant


class NotAnImage(Exception):  # noqa: N818 - an example of a user's own
    cause = Cause.VALIDATION_FAILED


class Spelled(Exception):  # noqa: N818 - an example of one that does without ours
    cause = "validation_failed"


class Odd(Exception):  # noqa: N818 - its cause is not one of ours
    cause = "because"


Block = Callable[[Reservation], None]


class Sync:
    """Runs a block over the sync ledger."""

    def __init__(self, database: str) -> None:
        self.database = database

    def run(self, block: Block, subject: str = "a", **options: Any) -> None:
        with Ledger(self.database) as ledger, ledger.reserve(subject, {"images": 2}, **options) as reservation:
            block(reservation)


class Async(Sync):
    """The same over the async ledger: the block's calls on the reservation are awaited for it."""

    def run(self, block: Block, subject: str = "a", **options: Any) -> None:
        async def main() -> None:
            async with (
                AsyncLedger(self.database) as ledger,
                await ledger.reserve(subject, {"images": 2}, **options) as reservation,
            ):
                loop = asyncio.get_running_loop()
                await asyncio.to_thread(block, Bridge(reservation, loop))  # type: ignore[arg-type]

        asyncio.run(main())


class Bridge:
    """An async reservation as seen from another thread."""

    def __init__(self, reservation: AsyncReservation, loop: asyncio.AbstractEventLoop) -> None:
        self._reservation = reservation
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._reservation, name)
        if not asyncio.iscoroutinefunction(value):
            return value

        def call(*arguments: Any, **options: Any) -> Any:
            pending: Awaitable[Any] = value(*arguments, **options)
            return asyncio.run_coroutine_threadsafe(pending, self._loop).result()  # type: ignore[arg-type]

        return call


@pytest.fixture(params=[Sync, Async])
def runner(request: pytest.FixtureRequest, database: str) -> Sync:
    made: Sync = request.param(database)
    return made


def figures(ledger: Ledger) -> tuple[int, int]:
    usage = ledger.usage("a").resources["images"]
    return usage.committed, usage.held


def raising(error: BaseException) -> Block:
    def block(_: Reservation) -> None:
        raise error

    return block


def test_leaving_normally_commits(runner: Sync, ledger: Ledger) -> None:
    seen = []
    runner.run(lambda _: seen.append(figures(ledger)))
    assert (seen, figures(ledger)) == ([(0, 2)], (2, 0))


@pytest.mark.parametrize(
    ("error", "options", "cause"),
    [
        (ValueError("x"), {}, Cause.PROCESSING_FAILED),
        (ValueError("x"), {"on_error": Cause.UPLOAD_FAILED}, Cause.UPLOAD_FAILED),
        (NotAnImage(), {"on_error": Cause.UPLOAD_FAILED}, Cause.VALIDATION_FAILED),
        (Odd(), {}, Cause.PROCESSING_FAILED),
        (Spelled(), {}, Cause.VALIDATION_FAILED),
    ],
)
def test_an_exception_rolls_back_with_its_cause(
    runner: Sync, ledger: Ledger, error: Exception, options: dict[str, Any], cause: Cause
) -> None:
    with pytest.raises(type(error)):
        runner.run(raising(error), **options)
    assert figures(ledger) == (0, 0)
    entry = ledger.history("a", limit=1)[0]
    assert (entry.kind, entry.cause, entry.reason) == ("rollback", cause, type(error).__name__)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit()])
def test_an_interruption_is_a_cancellation(ledger: Ledger, error: BaseException) -> None:
    with pytest.raises(type(error)), ledger.reserve("a", {"images": 2}):
        raise error
    assert ledger.history("a", limit=1)[0].cause == Cause.CANCELLED


def test_a_cancelled_task_is_a_cancellation(database: str, ledger: Ledger) -> None:
    async def main() -> None:
        inside = asyncio.Event()

        async def work(books: AsyncLedger) -> None:
            async with await books.reserve("a", {"images": 2}):
                inside.set()
                await asyncio.Event().wait()

        async with AsyncLedger(database) as books:
            task = asyncio.ensure_future(work(books))
            await inside.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert figures(ledger) == (0, 0)
    assert ledger.history("a", limit=1)[0].cause == Cause.CANCELLED


def test_a_detached_hold_outlives_its_block(runner: Sync, ledger: Ledger) -> None:
    kept = []
    runner.run(lambda reservation: kept.append(reservation.detach()))
    assert figures(ledger) == (0, 2)

    def fail(reservation: Reservation) -> None:
        kept.append(reservation.detach())
        raise Odd

    with pytest.raises(Odd):
        runner.run(fail)
    assert figures(ledger) == (0, 4)
    for reservation in kept:
        assert ledger.commit(reservation).outcome == "committed"


def test_a_denied_reservation_cannot_be_entered(runner: Sync, ledger: Ledger) -> None:
    ledger.configure_subject("a", quotas={"images": 1})
    entered = []
    with pytest.raises(QuotaExceeded, match="2 images with 1 left") as caught:
        runner.run(entered.append)
    assert not entered
    missing = {"subject": "a", "resource": "images", "requested": 2, "quota_limit": 1, "used": 0, "remaining": 1}
    assert caught.value.detail == {**missing, "short": [missing]}
    assert figures(ledger) == (0, 0)


def test_a_denied_reservation_says_so(ledger: Ledger) -> None:
    ledger.configure_subject("a", quotas={"images": 1})
    denied = ledger.reserve("a", {"images": 2})
    assert (bool(denied), denied.granted, denied.expires_at) == (False, False, None)
    with pytest.raises(QuotaExceeded):
        denied.commit()


def test_a_denial_that_is_repeated_says_so(ledger: Ledger) -> None:
    ledger.configure_subject("a", quotas={"images": 0})
    assert not ledger.reserve("a", {"images": 1}, key="k")
    ledger.configure_subject("a", quotas={"images": 9})
    with pytest.raises(QuotaExceeded, match="1 images with 0 left when this key was first used") as caught:
        _ = ledger.reserve("a", {"images": 1}, key="k").id
    assert caught.value.detail["replayed"] is True


def test_work_that_outlived_its_hold_takes_quota_anew(runner: Sync, ledger: Ledger, clock: Any) -> None:
    def late(_: Reservation) -> None:
        clock.advance(901)
        ledger.sweep()

    runner.run(late)
    assert figures(ledger) == (2, 0)


def test_work_that_outlived_its_hold_is_told_where_there_is_no_room(runner: Sync, ledger: Ledger, clock: Any) -> None:
    ledger.configure_subject("a", quotas={"images": 2})

    def late(_: Reservation) -> None:
        clock.advance(901)
        assert ledger.reserve("a", {"images": 1})

    with pytest.raises(AlreadySettled, match="not paid for") as caught:
        runner.run(late)
    assert caught.value.detail["outcome"] == "denied"
    assert figures(ledger) == (0, 1)


def test_a_hold_that_somebody_else_rolled_back_is_told(runner: Sync, ledger: Ledger) -> None:
    with pytest.raises(AlreadySettled) as caught:
        runner.run(lambda reservation: ledger.rollback(reservation.id, cause=Cause.ADMIN))  # type: ignore[arg-type,return-value]
    assert caught.value.detail["outcome"] == "already_rolled_back"


def test_one_item_rolled_back_by_somebody_else_is_told(ledger: Ledger) -> None:
    with (
        pytest.raises(AlreadySettled),
        ledger.reserve("a", items={"1": {"images": 1}, "2": {"images": 1}}) as reservation,
    ):
        ledger.rollback(reservation.id, items=["1"], cause=Cause.ADMIN)
    assert figures(ledger) == (1, 0)


def test_items_are_settled_one_by_one_inside(ledger: Ledger) -> None:
    items = {name: {"images": 1} for name in "1234"}
    with ledger.reserve("a", items=items) as reservation:
        assert reservation.commit(items=["1"]).committed == {"images": 1}
        assert reservation.rollback(Cause.UPLOAD_FAILED, items=["2"]).returned == {"images": 1}
        assert reservation.commit(items={"3": {"images": 0}}).returned == {"images": 1}
        assert figures(ledger) == (1, 1)
    assert figures(ledger) == (2, 0)


def test_what_was_given_back_inside_needs_no_payment(ledger: Ledger) -> None:
    with ledger.reserve("a", items={"1": {"images": 1}, "2": {"images": 1}}) as reservation:
        reservation.rollback(items=["1"])
        reservation.rollback(items=["2"])
    with ledger.reserve("a", {"images": 1}) as reservation:
        reservation.rollback()
    assert figures(ledger) == (0, 0)


def test_a_rollback_whose_answer_was_lost_counts_as_the_blocks_own(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run, lost = ledger._transport.run, []

    def lose(call: Any, connection: Any = None) -> Any:
        answer = run(call, connection)
        if getattr(call, "verb", "") == "rollback" and not lost:
            lost.append(answer)
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return answer

    monkeypatch.setattr(ledger._transport, "run", lose)
    with (
        caplog.at_level("INFO", "earmark.rollback"),
        ledger.reserve("a", items={"1": {"images": 1}, "2": {"images": 1}}) as reservation,
    ):
        reservation.rollback(items=["1"])
    assert figures(ledger) == (1, 0)
    told = [vars(record) for record in caplog.records if record.name == "earmark.rollback"]
    assert [(one["message"], one["item"]) for one in told] == [("rollback", "1")]


def test_a_cause_that_is_none_is_refused_before_anything_is_taken(ledger: Ledger) -> None:
    with pytest.raises(InvalidRequest, match="on_error must be one of"):
        ledger.reserve("a", {"images": 1}, on_error="typo")  # type: ignore[arg-type]
    assert figures(ledger) == (0, 0)


@pytest.mark.parametrize("is_minded", [True, False])
def test_a_rollback_that_was_refused_is_made_good_at_the_end(runner: Sync, ledger: Ledger, is_minded: bool) -> None:
    def block(reservation: Reservation) -> None:
        with pytest.raises(InvalidRequest, match="reason") if not is_minded else nullcontext():
            reservation.rollback(Cause.PROCESSING_FAILED, reason="x" * 501)

    with pytest.raises(InvalidRequest, match="reason") if is_minded else nullcontext():
        runner.run(block)
    assert figures(ledger) == (0, 0)


def fail_after(trouble: Callable[[], None]) -> None:
    trouble()
    raise ZeroDivisionError


@pytest.mark.parametrize("trouble", ["REVOKE EXECUTE ON FUNCTION earmark.rollback FROM worker",
                                     "ALTER FUNCTION earmark.rollback RENAME TO gone"])  # fmt: skip
def test_the_blocks_own_error_is_heard_whatever_its_rollback_meets(
    database: str, ledger: Ledger, connection: psycopg.Connection, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    connection.execute("CREATE ROLE worker")
    try:
        grant(connection, service=["worker"])
        with Ledger(make_conninfo(database, options="-c role=worker")) as theirs:
            reservation = theirs.reserve("a", {"images": 1})
            with pytest.raises(ZeroDivisionError) as caught, reservation:
                fail_after(lambda: connection.execute(trouble))  # type: ignore[arg-type,return-value]
    finally:
        connection.execute("DROP OWNED BY worker")
        connection.execute("DROP ROLE worker")
    assert "could not be rolled back" in caught.value.__notes__[0]
    assert "rollback_failed" in [record.message for record in caplog.records]
    assert figures(ledger) == (0, 1)


def test_a_database_that_takes_no_changes_for_a_moment_is_waited_for(
    database: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a failover, or where a provider guards a full disk."""
    with Ledger(database, max_connections=1) as theirs:

        def let_it(word: str) -> None:
            with theirs._transport._pool.connection() as pooled:
                pooled.execute(f"SET default_transaction_read_only = {word}")  # type: ignore[call-overload]

        monkeypatch.setattr("earmark.ledger.retrying.time.sleep", lambda _: let_it("off"))
        reservation = theirs.reserve("a", {"images": 1})
        with pytest.raises(ZeroDivisionError), reservation:
            fail_after(lambda: let_it("on"))
    assert figures(ledger) == (0, 0)


def test_less_can_be_committed_inside(runner: Sync, ledger: Ledger) -> None:
    runner.run(lambda reservation: reservation.commit(amounts={"images": 1}))  # type: ignore[arg-type,return-value]
    assert figures(ledger) == (1, 0)


def test_a_heartbeat_moves_the_deadline(runner: Sync, ledger: Ledger, clock: Any) -> None:
    def long_work(reservation: Reservation) -> None:
        reservation.extend(timedelta(hours=1))
        clock.advance(3599)
        assert ledger.sweep() == ()

    runner.run(long_work)
    assert figures(ledger) == (2, 0)


def test_a_replayed_reservation_is_not_paid_twice(runner: Sync, ledger: Ledger) -> None:
    for _ in range(2):
        runner.run(lambda _: None, key="k")
    assert figures(ledger) == (2, 0)


def test_a_business_row_and_its_reservation_are_one_transaction(ledger: Ledger, connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE photo (id uuid)")

    def upload(*, fails: bool) -> None:
        with connection.transaction(), ledger.reserve("a", {"images": 2}, connection=connection) as reservation:
            connection.execute("INSERT INTO photo VALUES (%s)", (reservation.id,))
            if fails:
                raise Odd

    with pytest.raises(Odd):
        upload(fails=True)
    assert (figures(ledger), ledger.history("a")) == ((0, 0), ())
    assert connection.execute("SELECT * FROM photo").fetchall() == []
    upload(fails=False)
    assert figures(ledger) == (2, 0)
    assert connection.execute("SELECT count(*) FROM photo").fetchone() == (1,)


def test_a_detached_reservation_lives_and_dies_with_its_transaction(
    ledger: Ledger, connection: psycopg.Connection
) -> None:
    with connection.transaction(force_rollback=True):
        lost = ledger.reserve("a", {"images": 2}, connection=connection).detach()
        assert ledger.usage("a", connection=connection).resources["images"].held == 2
        assert figures(ledger) == (0, 0)
    assert ledger.rollback(lost, cause=Cause.CANCELLED).outcome == "not_found"
    with connection.transaction():
        kept = ledger.reserve("a", {"images": 2}, connection=connection).detach()
    assert ledger.commit(kept).outcome == "committed"


def test_the_error_of_a_failed_transaction_is_the_one_that_is_heard(
    ledger: Ledger, connection: psycopg.Connection
) -> None:
    with (
        pytest.raises(psycopg.errors.DivisionByZero) as caught,
        connection.transaction(),
        ledger.reserve("a", {"images": 2}, connection=connection),
    ):
        connection.execute("SELECT 1/0")
    assert "failed transaction" in caught.value.__notes__[0]
    assert (figures(ledger), ledger.history("a")) == ((0, 0), ())


def test_a_block_whose_reservation_was_undone_is_told(ledger: Ledger, connection: psycopg.Connection) -> None:
    with connection.transaction(force_rollback=True):
        undone = ledger.reserve("a", {"images": 2}, connection=connection)
    with pytest.raises(AlreadySettled) as caught, undone:
        pass
    assert caught.value.detail["outcome"] == "not_found"
