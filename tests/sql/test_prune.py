"""Pruning: what is old and over goes, and nothing that counts goes with it."""

from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from earmark import Cause, InvalidRequest, Ledger
from earmark.ledger.chain import verify_export
from earmark.model import PlanQuota

DAY = 86_400
MOST = 2**63 - 1


def moment(connection: psycopg.Connection) -> datetime:
    row = connection.execute("SELECT earmark._private_now()").fetchone()
    assert row is not None
    return row[0]


def count(connection: psycopg.Connection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM earmark._private_{table}").fetchone()  # type: ignore[arg-type]  # noqa: S608
    assert row is not None
    return row[0]


@pytest.fixture
def used(books: Any, scratch_clock: Any) -> Any:
    """`a` rolled one image back, committed one, refunded what can be, and holds one; and was denied once."""
    books.configure_subject("a", quotas={"images": 5})
    books.rollback(books.reserve("a", {"images": 1}, key="rolled back").id, cause=Cause.CANCELLED)
    books.commit(books.reserve("a", {"images": 2}, key="committed").id)
    books.commit(books.reserve("a", {"images": 1, "storage_bytes": 100}, key="stored").id)
    books.reserve("a", {"images": 1}, key="held", ttl=timedelta(days=300))
    books.reserve("a", {"images": 9}, key="denied")
    return books


def test_what_is_settled_goes_and_what_it_used_stays(
    used: Any, scratch: psycopg.Connection, scratch_clock: Any
) -> None:
    before = used.usage("a")
    scratch_clock.advance(DAY)
    pruned = used.prune_settled(moment(scratch))
    assert (pruned.reservations, pruned.holds) == (3, 2)
    assert {row[0] for row in scratch.execute("SELECT key FROM earmark._private_reservation")} == {"stored", "held"}
    assert used.usage("a") == before
    assert used.verify() == ()
    assert used.prune_settled(moment(scratch)).reservations == 0


def test_what_was_settled_lately_stays_though_it_was_reserved_long_ago(
    books: Any, scratch: psycopg.Connection, scratch_clock: Any
) -> None:
    reservation = books.reserve("a", {"images": 1}, ttl=timedelta(days=300)).id
    scratch_clock.advance(DAY)
    between = moment(scratch)
    scratch_clock.advance(DAY)
    books.commit(reservation)
    assert books.prune_settled(between).reservations == 0
    assert books.commit(reservation).outcome == "already_committed"


def test_what_can_be_refunded_stays_until_it_was(used: Any, scratch: psycopg.Connection, scratch_clock: Any) -> None:
    stored = used.reserve("a", {"images": 1, "storage_bytes": 100}, key="stored")
    assert stored.grant.replayed
    scratch_clock.advance(DAY)
    used.prune_settled(moment(scratch))
    assert used.refund(stored.id).returned == {"storage_bytes": 100}
    scratch_clock.advance(DAY)
    assert used.prune_settled(moment(scratch)).reservations == 1
    assert used.usage("a").resources["images"].committed == 3
    assert used.usage("a").resources["storage_bytes"].committed == 0
    assert used.verify() == ()
    assert used.refund(stored.id).outcome == "not_found"


def test_a_pruned_key_is_new_again(used: Any, scratch: psycopg.Connection, scratch_clock: Any) -> None:
    assert used.reserve("a", {"images": 9}, key="denied").grant.replayed
    scratch_clock.advance(DAY)
    used.prune_settled(moment(scratch))
    assert used.reserve("a", {"images": 1}, key="denied").granted


def test_what_adjust_answered_under_a_key_goes_too(used: Any, scratch: psycopg.Connection, scratch_clock: Any) -> None:
    request = '[{"subject": "a", "resource": "images", "amount": 1, "reason": "gift", "key": "k", "actor": "ops"}]'
    scratch.execute("SELECT * FROM earmark.adjust(%s::jsonb)", (request,))
    before = used.usage("a")
    used.prune_settled(moment(scratch))
    assert count(scratch, "adjustment") == 1
    scratch_clock.advance(DAY)
    used.prune_settled(moment(scratch))
    assert count(scratch, "adjustment") == 0
    assert used.usage("a") == before


def test_the_retention_decides_by_default(used: Any, scratch: psycopg.Connection, scratch_clock: Any) -> None:
    scratch_clock.advance(89 * DAY)
    assert used.prune_settled().reservations == 0
    scratch_clock.advance(2 * DAY)
    assert used.prune_settled().reservations == 3
    assert used.prune_journal() == 0
    used.configure_retention(reservations=None, journal=timedelta(days=30))
    entries = count(scratch, "journal")
    assert entries > 0
    scratch_clock.advance(900 * DAY)
    assert used.prune_settled().reservations == 0
    assert used.prune_journal() == entries
    assert used.verify() == ()
    with pytest.raises(InvalidRequest):
        used.configure_retention(reservations=timedelta(0), journal=None)


def test_it_looks_at_all_in_bounded_batches(books: Any, scratch: psycopg.Connection, scratch_clock: Any) -> None:
    """Also past what stays."""
    for number in range(7):
        reservation = books.reserve(f"s{number % 3}", {"images": 1}).id
        if number not in {0, 1, 2, 5}:
            books.rollback(reservation, cause=Cause.CANCELLED)
    scratch_clock.advance(DAY)
    row = scratch.execute("SELECT * FROM earmark.prune_settled(%s, 2)", (moment(scratch),)).fetchone()
    assert row is not None
    assert row[0] <= 2
    assert row[2] is not None
    assert row[0] + books.prune_settled(moment(scratch), max_reservations=2).reservations == 3
    assert count(scratch, "hold") == 4


def test_pruning_the_journal_leaves_a_chain(used: Any, scratch: psycopg.Connection, scratch_clock: Any) -> None:
    before = used.usage("a")
    scratch_clock.advance(DAY)
    middle = moment(scratch)
    scratch_clock.advance(1)
    used.reserve("a", {"images": 1})
    whole = used.journal_export("a")
    assert used.prune_journal(middle) == len(whole) - 1
    assert used.verify() == ()
    assert used.verify("a") == ()
    kept = used.journal_export("a")
    assert kept == whole[-1:]
    assert verify_export(kept, previous=whole[-2]["hash"]) is None
    used.reserve("a", {"storage_bytes": 1})
    assert verify_export(used.journal_export("a")) is None
    assert used.usage("a").resources["images"].used == before.resources["images"].used + 1
    scratch_clock.advance(DAY)
    assert used.prune_journal(moment(scratch)) == 2
    assert used.journal_export("a") == ()
    used.prune_settled(moment(scratch))
    assert used.verify() == ()
    used.reserve("a", {"storage_bytes": 1})
    assert [entry["seq"] for entry in used.journal_export("a")] == [len(whole) + 2]


def test_after_pruning_tampering_is_still_found(used: Any, scratch: psycopg.Connection, scratch_clock: Any) -> None:
    scratch_clock.advance(DAY)
    used.prune_journal(moment(scratch), max_entries=3)
    scratch.execute("SELECT FROM earmark.prune_journal(%s, 1)", (moment(scratch),))
    used.reserve("a", {"storage_bytes": 1})
    used.reserve("a", {"storage_bytes": 1})
    first = used.journal_export("a")[0]["seq"]
    with scratch.transaction(force_rollback=True):
        scratch.execute("SET LOCAL session_replication_role = replica")
        scratch.execute("DELETE FROM earmark._private_journal WHERE seq = %s", (first,))
        assert first in {drift.seq for drift in used.verify()}
    for column in ("journal_held", "journal_committed", "holds_committed"):
        with scratch.transaction(force_rollback=True):
            scratch.execute(f"UPDATE earmark._private_carried SET {column} = {column} + 1")  # type: ignore[arg-type]  # noqa: S608
            assert used.verify() != ()


def test_a_broken_entry_is_not_pruned(used: Any, scratch: psycopg.Connection, scratch_clock: Any) -> None:
    scratch_clock.advance(DAY)
    with scratch.transaction(force_rollback=True):
        scratch.execute("SET LOCAL session_replication_role = replica")
        scratch.execute("UPDATE earmark._private_journal SET actor = 'mallory' WHERE seq = 3")
        scratch.execute("SET LOCAL session_replication_role = origin")
        assert used.prune_journal(moment(scratch)) == 2
        assert used.prune_journal(moment(scratch)) == 0
        assert [drift.seq for drift in used.verify()] == [3]


def test_the_journal_goes_in_bounded_batches(books: Any, scratch: psycopg.Connection, scratch_clock: Any) -> None:
    for number in range(9):
        books.reserve(f"s{number % 2}", {"images": 1})
    scratch_clock.advance(DAY)
    row = scratch.execute("SELECT * FROM earmark.prune_journal(%s, 3)", (moment(scratch),)).fetchone()
    assert row == (3, "")
    assert books.verify() == ()
    assert books.prune_journal(moment(scratch), max_entries=2) == 6
    assert count(scratch, "journal") == 0


def test_adjustments_and_repairs_are_carried(used: Any, scratch: psycopg.Connection, scratch_clock: Any) -> None:
    scratch.execute(
        "SELECT earmark._private_post(ARRAY[ROW('a', 'a', 'adjust', 'images', period_start, NULL, NULL, -1, 0, NULL, "
        "'ops', 'gift')::earmark._private_entry], earmark._private_now()) FROM earmark._private_balance "
        "WHERE (subject, resource) = ('a', 'images')"
    )
    scratch.execute("UPDATE earmark._private_balance SET committed = 0 WHERE (subject, resource) = ('a', 'images')")
    used.repair("set by hand")
    assert used.usage("a").resources["images"].committed == 2
    scratch_clock.advance(DAY)
    used.prune_journal(moment(scratch))
    assert count(scratch, "journal") == 0
    assert used.verify() == ()
    scratch.execute("UPDATE earmark._private_balance SET committed = 0 WHERE (subject, resource) = ('a', 'images')")
    used.repair("set by hand")
    assert used.usage("a").resources["images"].committed == 2
    assert used.verify() == ()


def test_a_subject_in_use_is_passed_over(ledger: Ledger, connection: psycopg.Connection, database: str) -> None:
    for name in "ab":
        ledger.rollback(ledger.reserve(name, {"images": 1}).id, cause=Cause.CANCELLED)
    later = moment(connection) + timedelta(days=1)
    with psycopg.connect(database) as busy:
        busy.execute("SELECT FROM earmark._private_subject WHERE subject = 'a' FOR UPDATE")
        assert ledger.prune_settled(later).reservations == 1
        assert ledger.prune_journal(later) == 2
    assert ledger.prune_settled(later).reservations == 1
    assert ledger.prune_journal(later) == 2


def test_a_batch_of_nothing_is_one_of_one(used: Any, scratch: psycopg.Connection, scratch_clock: Any) -> None:
    """Else a pass over all would never end."""
    scratch_clock.advance(DAY)
    one = scratch.execute("SELECT entries FROM earmark.prune_journal(earmark._private_now(), 0)").fetchone()
    assert one == (1,)
    assert used.prune_journal(moment(scratch), max_entries=0) == 8
    assert used.prune_settled(moment(scratch), max_reservations=0).reservations == 3
    assert used.tally(max_entries=0) == 0


@pytest.fixture
def much(books: Any, scratch_clock: Any) -> Any:
    """Twice in one period all that 64 bits hold was used, and taken off again as goodwill."""
    books.configure_plan("basic", quotas={"images": PlanQuota(100, "P1M", refundable=False)})
    books.configure_subject("a", plan="basic", quotas={"images": -1})
    for _ in range(2):
        books.commit(books.reserve("a", {"images": MOST}).id)
        assert books.adjust("a", "images", -MOST, reason="goodwill", actor="root").adjusted
    books.reserve("a", {"images": 7}, ttl=timedelta(days=300))
    scratch_clock.advance(DAY)
    return books


@pytest.mark.parametrize("order", [("settled", "journal"), ("journal", "settled"), ("settled",), ("journal",)])
def test_what_is_carried_may_be_more_than_64_bits_hold(
    much: Any, scratch: psycopg.Connection, order: tuple[str, ...]
) -> None:
    for what in order:
        pruned = {"settled": much.prune_settled, "journal": much.prune_journal}[what](moment(scratch))
        assert pruned
        assert much.verify() == ()
    assert much.usage("a").resources["images"].used == 7


def test_what_was_given_back_beyond_64_bits_may_become_refundable(much: Any) -> None:
    much.configure_plan("basic", quotas={"images": PlanQuota(100, "P1M", refundable=True)})
    assert not much.adjust("a", "images", -1, reason="goodwill", actor="root").adjusted
