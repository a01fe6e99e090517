"""What an operator watches is counted from the journal: every entry once, whoever wrote it, whenever it committed."""

from collections import Counter
from datetime import timedelta

import psycopg
import pytest

from earmark import Cause, InvalidRequest, Ledger

ONE = {"images": 1, "storage_bytes": 5}


def tallied(ledger):
    """What has happened so far, as counted; the buckets left out."""
    found = Counter()
    for tally in ledger.health().tallies:
        if not tally.metric.startswith("give_back"):
            found[f"{tally.metric} {tally.cause}".strip()] += int(tally.value)
    return dict(found)


def test_what_happens_is_counted_once(ledger):
    for item in range(3):
        ledger.commit(ledger.reserve("a", items={"x": ONE, "y": ONE}, key=f"k{item}").id)
    ledger.reserve("a", items={"x": ONE, "y": ONE}, key="k0")  # a replay is not granted again
    ledger.rollback(ledger.reserve("a", ONE).id, cause=Cause.CANCELLED)
    ledger.rollback(ledger.reserve("b", items={"x": ONE, "y": ONE}).id, cause=Cause.UPLOAD_FAILED)
    paid = ledger.reserve("a", ONE).id
    ledger.commit(paid)
    ledger.refund(paid)
    ledger.adjust("a", "images", 5, reason="r", actor="o")

    ledger.tally()
    expected = {
        "granted": 6, "committed": 7, "rolled_back cancelled": 1, "rolled_back upload_failed": 2, "refunded": 1,
        "adjusted": 1,
    }  # fmt: skip
    assert tallied(ledger) == expected
    assert ledger.tally() == 0
    assert tallied(ledger) == expected


@pytest.mark.parametrize("max_entries", [1, 2, 3, 7, 1000])
def test_small_batches_cut_no_reservation_in_two(ledger, max_entries):
    for _ in range(5):
        reservation = ledger.reserve("a", items={"x": ONE, "y": ONE, "z": ONE}).id
        ledger.rollback(reservation, cause=Cause.CANCELLED)
    assert ledger.tally(max_entries=max_entries) == 60
    assert tallied(ledger) == {"granted": 5, "rolled_back cancelled": 15}


def test_what_commits_late_is_counted_when_it_does(ledger, database):
    with psycopg.connect(database) as slow:
        ledger.reserve("a", ONE, connection=slow)
        ledger.reserve("b", ONE)  # a later transaction, over before the earlier one
        assert ledger.tally() == 0
        slow.commit()
    assert ledger.tally() == 4
    assert tallied(ledger) == {"granted": 2}


def test_one_counts_at_a_time(ledger, database):
    ledger.reserve("a", ONE)
    with psycopg.connect(database) as other:
        assert ledger.tally(connection=other) == 2
        assert ledger.tally() == 0  # it does not wait
        other.rollback()
    assert ledger.tally() == 2


def test_a_commit_that_takes_anew_what_expired_is_no_second_grant(ledger, clock):
    clock.set("2026-03-10T12:00:00Z")
    reservation = ledger.reserve("a", ONE, ttl=timedelta(seconds=60)).id
    clock.advance(61)
    ledger.sweep()
    assert ledger.commit(reservation).outcome == "committed"
    ledger.tally()
    assert tallied(ledger) == {"granted": 1, "rolled_back expired": 1, "committed": 1}


def test_time_to_give_back(ledger, clock):
    clock.set("2026-03-10T12:00:00Z")
    for seconds in (0.5, 4, 70, 90_000):
        reservation = ledger.reserve("a", ONE, ttl=timedelta(days=2)).id
        clock.advance(seconds)
        ledger.rollback(reservation, cause=Cause.PROCESSING_FAILED)
    ledger.tally()
    buckets = {tally.le: tally.value for tally in ledger.health().tallies if tally.metric == "give_back"}
    assert buckets == {1: 1, 5: 1, 300: 1, None: 1}
    (total,) = [tally for tally in ledger.health().tallies if tally.metric == "give_back_seconds"]
    assert (total.cause, total.value) == ("processing_failed", 90_074.5)


def test_health_tells_what_is_open_and_what_is_overdue(ledger, clock):
    clock.set("2026-03-10T12:00:00Z")
    nothing = ledger.health()
    assert (nothing.holds, nothing.holds_overdue, nothing.holds_overdue_seconds, nothing.checks) == (0, 0, 0, ())
    ledger.reserve("a", ONE, ttl=timedelta(seconds=60))
    ledger.reserve("b", {"images": 1}, ttl=timedelta(seconds=600))
    clock.advance(90)
    health = ledger.health()
    assert (health.holds, health.holds_overdue, health.holds_overdue_seconds) == (3, 2, 30)
    ledger.sweep()
    assert (ledger.health().holds, ledger.health().holds_overdue_seconds) == (1, 0)


def test_a_check_is_noted_with_the_last_of_its_findings(ledger):
    ledger.record_check("verify", 3)
    ledger.record_check("reconcile", 0)
    ledger.record_check("verify", 0)
    assert {check.name: check.findings for check in ledger.health().checks} == {"verify": 0, "reconcile": 0}
    for name, findings in (("Verify", 0), ("", 0), ("verify", -1)):
        with pytest.raises(InvalidRequest):
            ledger.record_check(name, findings)


def test_the_position_is_where_following_from_now_on_begins(ledger):
    ledger.reserve("a", ONE)
    position = ledger.journal_position()
    assert ledger.follow(position) == ()
    ledger.reserve("b", {"images": 1})
    assert [(one.subject, one.entry.resource) for one in ledger.follow(position)] == [("b", "images")]


def test_a_user_is_told_nothing_of_it(database):
    with psycopg.connect(database) as connection, Ledger(database) as ledger:
        connection.execute("SELECT set_config('request.jwt.claims', '{\"sub\": \"a\"}', true)")
        for call in ("health()", "tally()", "record_check('verify', 0)", "journal_position()"):
            with pytest.raises(psycopg.Error, match="name yourself"), connection.transaction():
                connection.execute(f"SELECT earmark.{call}")
        assert ledger.health().checks == ()
