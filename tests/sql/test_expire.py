"""The sweeper: bounded, shared, and stopped by nobody."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from earmark import Cause, Ledger


def overdue(ledger: Ledger, connection: psycopg.Connection, *subjects: str) -> None:
    """Each has one image whose deadline has passed, the first the longest ago."""
    for age, subject in enumerate(subjects):
        reservation = ledger.reserve(subject, {"images": 1}).id
        connection.execute(
            "UPDATE earmark._private_hold SET expires_at = now() - %s WHERE reservation = %s",
            (timedelta(hours=len(subjects) - age), reservation),
        )


def deadlines_read(connection: psycopg.Connection) -> int:
    """Entries of the index of deadlines that this transaction has read."""
    query = "SELECT pg_stat_get_xact_tuples_returned('earmark._private_hold_deadline'::regclass)"
    (read,) = connection.execute(query).fetchone() or (0,)
    return int(read)


def test_it_sweeps_in_batches_until_nothing_is_left(ledger: Ledger, connection: psycopg.Connection) -> None:
    overdue(ledger, connection, *"abcde")
    assert [hold.subject for hold in ledger.sweep(max_holds=2, max_batches=1)] == ["a", "b"]
    swept = ledger.sweep(max_holds=2)
    assert {(hold.subject, hold.resource, hold.amount) for hold in swept} == {(name, "images", 1) for name in "cde"}
    assert ledger.sweep() == ()
    assert [entry.cause for entry in ledger.history("a")] == [Cause.EXPIRED, None]


def test_a_subject_in_use_is_passed_over_and_delays_nobody(
    ledger: Ledger, connection: psycopg.Connection, database: str
) -> None:
    """Even where what he has overdue would fill the batch."""
    overdue(ledger, connection, "a", "a", "b")
    with psycopg.connect(database) as busy:
        busy.execute("SELECT FROM earmark._private_subject WHERE subject = 'a' FOR UPDATE")
        assert [hold.subject for hold in ledger.sweep(max_holds=1)] == ["b"]
    assert [hold.subject for hold in ledger.sweep(max_holds=1)] == ["a", "a"]


def test_what_was_extended_is_left_alone(ledger: Ledger, connection: psycopg.Connection) -> None:
    overdue(ledger, connection, "a")
    hold = connection.execute("SELECT reservation FROM earmark._private_hold").fetchone()
    assert hold is not None
    ledger.extend(hold[0], ttl=timedelta(hours=1))
    assert ledger.sweep() == ()


def test_his_own_overdue_holds_never_block_a_subject(ledger: Ledger, connection: psycopg.Connection) -> None:
    ledger.configure_subject("a", quotas={"images": 2})
    overdue(ledger, connection, "a", "a")
    assert ledger.usage("a").resources["images"].remaining == 2
    assert ledger.reserve("a", {"images": 2})
    assert ledger.usage("a").resources["images"].held == 2


@pytest.mark.parametrize("max_holds", [1, 1000])
def test_a_broken_row_is_set_aside_and_reported(ledger: Ledger, connection: psycopg.Connection, max_holds: int) -> None:
    overdue(ledger, connection, "broken", "a", "b")
    connection.execute("UPDATE earmark._private_balance SET held = 0 WHERE subject = 'broken'")
    swept = ledger.sweep(max_holds=max_holds) + ledger.sweep(max_holds=max_holds)
    assert {hold.subject for hold in swept} == {"a", "b"}
    assert ledger.sweep() == ()
    assert {drift.subject for drift in ledger.verify()} == {"broken"}
    notices: list[str] = []
    connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    connection.execute("UPDATE earmark._private_hold SET expires_at = now() WHERE subject = 'broken'")
    assert connection.execute("SELECT * FROM earmark.expire()").fetchall() == []
    assert any("broken" in notice for notice in notices)

    connection.execute("UPDATE earmark._private_balance SET held = 1 WHERE subject = 'broken'")
    connection.execute("UPDATE earmark._private_hold SET expires_at = now() WHERE subject = 'broken'")
    assert [hold.subject for hold in ledger.sweep()] == ["broken"]


def test_a_long_sweep_reads_each_deadline_once(ledger: Ledger, connection: psycopg.Connection) -> None:
    """Not what it swept before, again with every batch: here, as under any old snapshot, the index still lists it."""
    overdue(ledger, connection, *(f"s{number}" for number in range(40)))
    with connection.transaction():
        assert len(ledger.sweep(max_holds=2, connection=connection)) == 40
        assert 40 <= deadlines_read(connection) <= 120


def test_a_batch_reads_no_more_than_it_sweeps(ledger: Ledger, connection: psycopg.Connection) -> None:
    """However many are overdue, and even where the planner knows it: it would rather sort them all, for each batch."""
    ledger.configure_subject("a", quotas={"images": 5000})
    ledger.reserve("a", items={str(number): {"images": 1} for number in range(5000)})
    connection.execute("UPDATE earmark._private_hold SET expires_at = now() - interval '1 hour' * random()")
    connection.execute("ANALYZE earmark._private_hold")
    with connection.transaction():
        assert len(ledger.sweep(max_holds=10, max_batches=1, connection=connection)) == 10
        assert 10 <= deadlines_read(connection) <= 100


def test_it_goes_on_from_a_deadline(ledger: Ledger, connection: psycopg.Connection) -> None:
    overdue(ledger, connection, *"abc")
    first, second = connection.execute("SELECT expires_at FROM earmark._private_hold ORDER BY 1 LIMIT 2").fetchall()
    swept = connection.execute("SELECT subject FROM earmark.expire(1, after => %s)", second).fetchall()
    assert swept == [("b",)]
    swept = connection.execute("SELECT subject FROM earmark.expire(5, after => %s)", first).fetchall()
    assert sorted(swept) == [("a",), ("c",)]


def test_what_became_overdue_after_a_moment_may_be_left_alone(ledger: Ledger, connection: psycopg.Connection) -> None:
    overdue(ledger, connection, *"abc")
    deadlines = connection.execute("SELECT expires_at FROM earmark._private_hold ORDER BY 1").fetchall()
    assert [hold.subject for hold in ledger.sweep(before=deadlines[1][0])] == ["a", "b"]
    assert [hold.subject for hold in ledger.sweep(before=datetime.now(UTC) + timedelta(days=1))] == ["c"]
    ledger.reserve("a", {"images": 1})
    assert ledger.sweep(before=datetime.now(UTC) + timedelta(days=1000)) == (), "nothing is due before its time"
