"""What the sweeper cannot roll back: recorded, retried with growing patience, and gone once it is settled."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from earmark import Cause, Ledger


@pytest.fixture
def broken(books: Any, scratch: psycopg.Connection, scratch_clock: Any) -> UUID:
    """An overdue reservation of `broken`, whose balance does not know of it; `a` has a sound one."""
    reservation = books.reserve("broken", {"images": 1, "storage_bytes": 5}, ttl=timedelta(minutes=1)).id
    books.reserve("a", {"images": 1}, ttl=timedelta(minutes=1))
    scratch.execute("UPDATE earmark._private_balance SET held = 0 WHERE (subject, resource) = ('broken', 'images')")
    scratch_clock.advance(60)
    return reservation


def mend(scratch: psycopg.Connection) -> None:
    scratch.execute("UPDATE earmark._private_balance SET held = 1 WHERE (subject, resource) = ('broken', 'images')")


def test_it_is_listed_with_its_error(books: Any, scratch: psycopg.Connection, broken: UUID) -> None:
    assert [hold.subject for hold in books.sweep()] == ["a"]
    (aside,) = books.set_aside()
    assert (aside.subject, aside.reservation, aside.item, aside.times) == ("broken", broken, "1", 1)
    assert aside.error.startswith("23514: ")
    assert aside.retry_at - aside.at == timedelta(minutes=1)
    assert aside.expires_at == aside.at
    assert books.sweep() == ()
    mend(scratch)


def test_patience_doubles_up_to_a_bound(
    books: Any, scratch: psycopg.Connection, scratch_clock: Any, broken: UUID
) -> None:
    waits = []
    first = None
    for _ in range(12):
        books.sweep()
        (aside,) = books.set_aside()
        first = first or aside.expires_at
        assert aside.expires_at == first
        waits.append((aside.retry_at - aside.at) // timedelta(minutes=1))
        assert books.sweep() == ()
        scratch_clock.set(aside.retry_at)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360]
    assert aside.times == 12
    mend(scratch)


def test_repair_leaves_a_deadline_that_was_moved_since_where_it_is(
    books: Any, scratch: psycopg.Connection, broken: UUID
) -> None:
    books.sweep()
    books.extend(broken, ttl=timedelta(hours=3))
    moved = books.reservation(broken).items["1"].expires_at
    books.repair("by hand")
    assert books.reservation(broken).items["1"].expires_at == moved


def test_success_clears_the_record(books: Any, scratch: psycopg.Connection, scratch_clock: Any, broken: UUID) -> None:
    books.sweep()
    mend(scratch)
    scratch_clock.advance(60)
    assert {hold.reservation for hold in books.sweep()} == {broken}
    assert books.set_aside() == ()
    assert scratch.execute("SELECT count(*) FROM earmark._private_set_aside").fetchone() == (0,)


def test_settled_by_somebody_else_it_is_no_longer_listed(
    books: Any, scratch: psycopg.Connection, scratch_clock: Any, broken: UUID
) -> None:
    books.sweep()
    mend(scratch)
    assert books.rollback(broken, cause=Cause.ADMIN).outcome == "rolled_back"
    assert books.set_aside() == ()
    scratch_clock.advance(86_400)
    moment = scratch.execute("SELECT earmark._private_now()").fetchone()
    assert moment is not None
    books.prune_settled(moment[0])
    assert scratch.execute("SELECT count(*) FROM earmark._private_set_aside").fetchone() == (0,)


def test_after_a_repair_it_is_swept_at_once(books: Any, scratch: psycopg.Connection, broken: UUID) -> None:
    books.sweep()
    books.repair("held was lost", subject="broken")
    assert {hold.reservation for hold in books.sweep()} == {broken}
    assert books.set_aside() == ()


def test_an_error_of_another_kind_sets_aside_too(books: Any, scratch: psycopg.Connection, broken: UUID) -> None:
    """Here a trigger that somebody put on the table."""
    mend(scratch)
    scratch.execute(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF OLD.subject = 'broken' THEN RAISE 'no %', OLD.item; END IF; RETURN NEW; END $$"
    )
    scratch.execute(
        "CREATE TRIGGER refuse BEFORE UPDATE OF state ON earmark._private_hold "
        "FOR EACH ROW EXECUTE FUNCTION public.refuse()"
    )
    assert [hold.subject for hold in books.sweep()] == ["a"]
    assert [aside.error for aside in books.set_aside()] == ["P0001: no 1"]


@pytest.mark.parametrize("state", ["40P01", "53200", "57014", "58030"])
def test_an_error_of_the_server_sets_nothing_aside(
    books: Any, scratch: psycopg.Connection, broken: UUID, state: str
) -> None:
    """It is heard of, and the whole batch is done again later."""
    mend(scratch)
    scratch.execute(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE 'no' USING ERRCODE = '{state}'; END $$"  # type: ignore[arg-type]
    )
    scratch.execute(
        "CREATE TRIGGER refuse BEFORE UPDATE OF state ON earmark._private_hold "
        "FOR EACH ROW EXECUTE FUNCTION public.refuse()"
    )
    with pytest.raises(psycopg.Error) as caught:
        books.sweep()
    assert caught.value.sqlstate == state
    assert books.set_aside() == ()


def test_more_broken_items_than_a_batch_stop_nobody(
    books: Any, scratch: psycopg.Connection, scratch_clock: Any, broken: UUID
) -> None:
    scratch.execute(
        "UPDATE earmark._private_hold SET expires_at = expires_at - interval '1 s' WHERE subject = 'broken'"
    )
    assert [hold.subject for hold in books.sweep(max_holds=1)] == ["a"]
    assert [aside.subject for aside in books.set_aside()] == ["broken"]
    mend(scratch)


def test_a_broken_item_of_his_own_is_a_denial_and_no_error(
    books: Any, scratch: psycopg.Connection, scratch_clock: Any, broken: UUID
) -> None:
    """Nor does it cost those in the same batch anything."""
    books.configure_subject("broken", quotas={"storage_bytes": 5})
    asked = [{"subject": name, "items": {"1": {"storage_bytes": 1}}} for name in ("broken", "a")]
    answers = scratch.execute("SELECT outcome FROM earmark.reserve(%s)", (Jsonb(asked),)).fetchall()
    assert answers == [("denied",), ("granted",)]
    assert [aside.subject for aside in books.set_aside()] == ["broken"]
    mend(scratch)
    scratch_clock.advance(60)
    assert books.reserve("broken", {"storage_bytes": 1}).granted


def test_a_hold_without_its_reservation_is_found_and_comes_back(
    books: Any, scratch: psycopg.Connection, scratch_clock: Any, broken: UUID
) -> None:
    """Nothing can settle it; neither the sweep nor his own reserve may stop at it."""
    mend(scratch)
    scratch.execute("DELETE FROM earmark._private_reservation WHERE reservation = %s", (broken,))
    scratch.execute(
        "UPDATE earmark._private_hold SET expires_at = expires_at - interval '1 s' WHERE subject = 'broken'"
    )
    assert [hold.subject for hold in books.sweep(max_holds=1)] == ["a"]
    books.configure_subject("broken", quotas={"images": 1})
    assert books.reserve("broken", {"images": 1}).granted is False
    assert {(drift.subject, drift.resource, drift.figure) for drift in books.verify()} == {
        ("broken", "images", "state"),
        ("broken", "storage_bytes", "state"),
    }
    repaired = books.repair("found by the auditor", subject="broken")
    assert {one.reason for one in repaired} == {"found by the auditor: the hold is held, its reservation was missing"}
    assert books.verify() == ()
    assert {hold.reservation for hold in books.sweep()} == {broken}
    assert books.reserve("broken", {"images": 1}).granted


def test_an_error_of_the_system_in_the_midst_of_items_one_by_one_sets_nothing_aside(
    connection: psycopg.Connection, clock: Any, ledger: Ledger
) -> None:
    """All together fail as one of them cannot be; one by one, the database itself fails: that is no item's fault."""
    for _ in range(3):
        ledger.reserve("a", {"images": 1}, ttl=timedelta(minutes=1))
    clock.advance(60)
    connection.execute(
        "CREATE SEQUENCE tried;"
        "CREATE FUNCTION test_break() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'out of order' USING ERRCODE = "
        "CASE nextval('public.tried') WHEN 1 THEN '23514' ELSE '53200' END; END $$;"
        "CREATE TRIGGER test_break BEFORE UPDATE ON earmark._private_hold FOR EACH ROW "
        "WHEN (NEW.state = 'rolled_back') EXECUTE FUNCTION test_break()"
    )
    with pytest.raises(psycopg.errors.OutOfMemory):
        ledger.sweep()
    assert ledger.set_aside() == ()
    assert connection.execute("SELECT last_value FROM tried").fetchone() == (2,)
    connection.execute("DROP TRIGGER test_break ON earmark._private_hold")
    assert len(ledger.sweep()) == 3
