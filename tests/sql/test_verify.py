"""What verify finds, and what repair makes of it."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, LiteralString

import psycopg
import pytest

from earmark import Cause, InvalidRequest, Ledger
from earmark.model import Drift


@pytest.fixture
def kept(ledger: Ledger) -> Ledger:
    """`a` has in all states something, `b` a little."""
    amounts = {"images": 2, "storage_bytes": 100}
    first, second, third, _ = [ledger.reserve("a", amounts, key=f"k{number}").id for number in range(4)]
    ledger.commit(first)
    ledger.commit(second)
    ledger.refund(second)
    ledger.rollback(third, cause=Cause.CANCELLED)
    ledger.reserve("b", {"images": 1})
    assert ledger.verify() == ()
    return ledger


@pytest.fixture
def tampering(connection: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A transaction that is rolled back, in which no trigger stops anybody."""
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL session_replication_role = replica")
        yield connection


def seqs(drift: tuple[Drift, ...]) -> list[int | None]:
    assert {found.figure for found in drift} <= {"chain"}
    return [found.seq for found in drift if found.figure == "chain"]


EDITS = [
    "actor = 'mallory'",
    "reason = 'x'",
    "at = at + interval '1 microsecond'",
    "item = '2'",
    "reservation = gen_random_uuid()",
    "kind = 'adjust', reservation = NULL",
]


@pytest.mark.parametrize("change", EDITS)
def test_an_edited_entry_is_named(kept: Ledger, tampering: psycopg.Connection, change: LiteralString) -> None:
    tampering.execute("UPDATE earmark._private_journal SET " + change + " WHERE subject = 'a' AND seq = 3")  # noqa: S608
    for subject in (None, "a"):
        found = [drift.seq for drift in kept.verify(subject, connection=tampering) if drift.figure == "chain"]
        assert found == [3]
    assert kept.verify("b", connection=tampering) == ()


def test_an_entry_edited_with_its_hash_breaks_the_next(kept: Ledger, tampering: psycopg.Connection) -> None:
    tampering.execute(
        "UPDATE earmark._private_journal SET hash = '\\x00' WHERE subject = 'a' AND seq = 3",
    )
    assert seqs(kept.verify(connection=tampering)) == [3, 4]


@pytest.mark.parametrize("removed", [1, 3])
def test_a_removed_entry_is_named(kept: Ledger, tampering: psycopg.Connection, removed: int) -> None:
    tampering.execute("DELETE FROM earmark._private_journal WHERE subject = 'a' AND seq = %s", (removed,))
    assert [drift.seq for drift in kept.verify(connection=tampering) if drift.figure == "chain"] == [removed]


def test_a_cut_off_end_is_named(kept: Ledger, tampering: psycopg.Connection) -> None:
    last = kept.history("a")[0].seq
    tampering.execute("DELETE FROM earmark._private_journal WHERE subject = 'a' AND seq >= %s", (last - 1,))
    assert last - 1 in [drift.seq for drift in kept.verify(connection=tampering)]


def test_a_head_that_is_not_the_last_hash_is_named(kept: Ledger, tampering: psycopg.Connection) -> None:
    tampering.execute("UPDATE earmark._private_subject SET head = '\\x00' WHERE subject = 'a'")
    assert seqs(kept.verify(connection=tampering)) == [kept.history("a")[0].seq]


@pytest.mark.parametrize(("root", "subject", "after"), [("a", "a", 1), ("a", "a", 2), ("z", "a", 0), ("a", "a", -99)])
def test_an_inserted_entry_is_named(
    kept: Ledger, tampering: psycopg.Connection, root: str, subject: str, after: int
) -> None:
    """Even one that is well-formed, with the hash it should have, and that adds nothing."""
    seq = kept.history("a")[0].seq + after
    tampering.execute(
        "INSERT INTO earmark._private_journal (root, subject, seq, at, kind, resource, period_start, committed, held, "
        "actor, hash) SELECT %(root)s, %(subject)s, %(seq)s, now(), 'adjust', 'images', '-infinity', 0, 0, 'm', "
        "sha256(head || earmark._private_entry_content(%(root)s, %(subject)s, %(seq)s, now(), 'adjust', 'images', "
        "'-infinity', NULL, NULL, 0, 0, NULL, 'm', NULL)) FROM earmark._private_subject WHERE subject = 'a'",
        {"root": root, "subject": subject, "seq": seq},
    )
    assert seq in seqs(kept.verify(connection=tampering))


def test_a_hold_that_was_settled_behind_the_journal_after_it_was_extended_is_named(
    kept: Ledger, tampering: psycopg.Connection
) -> None:
    held = kept.reserve("c", {"images": 1}, connection=tampering).id
    kept.extend(held, ttl=timedelta(hours=2), reason="slow", connection=tampering)
    tampering.execute(
        "UPDATE earmark._private_hold SET state = 'committed', settled_at = now(), settled_by = 'm' WHERE subject = 'c'"
    )
    assert "state" in {drift.figure for drift in kept.verify("c", connection=tampering)}


def test_a_repair_that_was_extended_and_settled_since_is_explained(kept: Ledger, tampering: psycopg.Connection) -> None:
    held = kept.reserve("c", {"images": 2}, connection=tampering).id
    tampering.execute("UPDATE earmark._private_hold SET amount = 5 WHERE subject = 'c'")
    kept.repair("five it is", subject="c", connection=tampering)
    kept.extend(held, ttl=timedelta(hours=2), reason="slow", connection=tampering)
    assert kept.verify("c", connection=tampering) == ()
    assert kept.commit(held, connection=tampering).committed == {"images": 5}
    assert kept.verify("c", connection=tampering) == ()


@pytest.fixture
def nested(ledger: Ledger) -> Ledger:
    """`kid`, below `team`, has something held and something rolled back."""
    ledger.configure_subject("team", plan="pro")
    ledger.configure_subject("kid", plan="pro", parent="team")
    ledger.rollback(ledger.reserve("kid", {"images": 1}).id, cause=Cause.CANCELLED)
    ledger.reserve("kid", {"images": 1})
    return ledger


def test_a_hold_at_a_parent_is_settled_as_the_journal_says(nested: Ledger, tampering: psycopg.Connection) -> None:
    tampering.execute("UPDATE earmark._private_hold SET cause = 'admin' WHERE subject = 'team' AND cause IS NOT NULL")
    assert [(drift.subject, drift.figure) for drift in nested.verify(connection=tampering)] == [("team", "state")]
    nested.repair("by hand", connection=tampering)
    assert nested.verify(connection=tampering) == ()


@pytest.mark.parametrize(
    "tamper",
    [
        "UPDATE earmark._private_hold SET level = 1 - level WHERE state = 'held'",
        "UPDATE earmark._private_reservation SET subject = 'team'",
    ],
)
def test_a_hold_that_is_not_its_owners_is_named_and_stays(
    nested: Ledger, tampering: psycopg.Connection, tamper: LiteralString
) -> None:
    """Whose it was, nothing in the journal tells: it is put back by hand."""
    tampering.execute(tamper)
    found = nested.verify(connection=tampering)
    assert {(drift.subject, drift.figure) for drift in found} == {("kid", "owner"), ("team", "owner")}
    assert nested.repair("by hand", connection=tampering) == ()
    assert nested.verify(connection=tampering) == found


def test_a_journal_that_goes_on_beyond_what_its_subject_counts_stops_him_no_longer_once_repaired(
    kept: Ledger, tampering: psycopg.Connection
) -> None:
    last = kept.history("a")[0].seq
    tampering.execute("UPDATE earmark._private_subject SET entries = 1 WHERE subject = 'a'")
    assert {drift.figure for drift in kept.verify("a", connection=tampering)} == {"chain"}
    [repair] = kept.repair("INC-8", actor="ops", connection=tampering)
    assert (repair.seq, repair.committed_after, repair.held_after) == (
        last + 1, repair.committed_before, repair.held_before,
    )  # fmt: skip
    assert f"counted 1, and went to {last}" in repair.reason
    assert kept.reserve("a", {"images": 1}, connection=tampering).granted
    assert kept.verify(connection=tampering) == ()


def test_repair_leaves_nothing_below_zero_and_the_last_grants_ceiling(
    kept: Ledger, tampering: psycopg.Connection
) -> None:
    """A hold is gone whose use was corrected down since: more was taken away than there is."""
    kept.commit(kept.reserve("c", {"images": 5}, connection=tampering).id, connection=tampering)
    kept.adjust("c", "images", -3, reason="r", actor="a", connection=tampering)
    tampering.execute("DELETE FROM earmark._private_hold WHERE subject = 'c'")
    kept.repair("restored", subject="c", connection=tampering)
    balance = tampering.execute("SELECT committed, held, ceiling FROM earmark._private_balance WHERE subject = 'c'")
    assert balance.fetchall() == [(0, 0, 500)]
    assert kept.verify("c", connection=tampering) == ()


TAMPERINGS: list[tuple[LiteralString, set[str]]] = [
    ("UPDATE earmark._private_balance SET held = held + 1 WHERE resource = 'images'", {"held"}),
    ("UPDATE earmark._private_balance SET committed = committed + 1", {"committed"}),
    ("UPDATE earmark._private_balance SET committed = 0, held = 0, ceiling = 0", {"committed", "held"}),
    ("DELETE FROM earmark._private_balance", {"committed", "held"}),
    ("DELETE FROM earmark._private_hold WHERE state = 'held'", {"held", "state"}),
    ("DELETE FROM earmark._private_hold WHERE state = 'committed'", {"committed", "state"}),
    ("DELETE FROM earmark._private_hold WHERE state = 'rolled_back'", {"state"}),
    ("UPDATE earmark._private_hold SET amount = amount + 7 WHERE state = 'held'", {"held", "state"}),
    ("UPDATE earmark._private_hold SET amount = amount + 7 WHERE state <> 'held'", {"state"}),
    ("UPDATE earmark._private_hold SET cause = 'admin' WHERE state = 'rolled_back'", {"state"}),
    ("UPDATE earmark._private_hold SET settled_by = 'm' WHERE state <> 'held'", {"state"}),
    ("UPDATE earmark._private_hold SET settled_at = settled_at - interval '1 day' WHERE state = 'refunded'", {"state"}),
    ("UPDATE earmark._private_hold SET committed = committed - 1 WHERE state = 'refunded'", {"state"}),
    ("UPDATE earmark._private_reservation SET outcome = 'denied'", {"state"}),
    ("UPDATE earmark._private_subject SET entries = entries - 2 WHERE subject = 'a'", {"chain"}),
    (
        """UPDATE earmark._private_hold
        SET state = 'committed', committed = amount, settled_at = now(), settled_by = 'm' WHERE state = 'held'""",
        {"committed", "held", "state"},
    ),
    (
        """UPDATE earmark._private_hold
        SET state = 'held', committed = 0, settled_at = NULL, settled_by = NULL, cause = NULL WHERE state <> 'held'""",
        {"committed", "held", "state"},
    ),
    (
        "UPDATE earmark._private_hold SET state = 'refunded' WHERE state = 'committed'",
        {"committed", "state"},
    ),
]


@pytest.mark.parametrize(("tamper", "figures"), TAMPERINGS)
def test_what_disagrees_is_found_and_repaired(
    kept: Ledger, tampering: psycopg.Connection, tamper: LiteralString, figures: set[str]
) -> None:
    tampering.execute(tamper)
    drift = kept.verify(connection=tampering)
    assert {found.figure for found in drift} == figures
    before = {name: kept.history(name, connection=tampering) for name in "ab"}
    repairs = kept.repair("INC-7", actor="ops", connection=tampering)
    assert kept.verify(connection=tampering) == ()
    assert kept.repair("again", connection=tampering) == ()
    written = [
        (name, entry) for name in "ab" for entry in kept.history(name, connection=tampering)[: -len(before[name])]
    ]
    assert len(written) == len(repairs) > 0
    assert {(repair.subject, repair.seq) for repair in repairs} == {(name, entry.seq) for name, entry in written}
    assert all(entry.kind == "adjust" and entry.actor == "ops" for _, entry in written)
    assert all("INC-7" in (entry.reason or "") for _, entry in written)


def test_the_holds_are_right(kept: Ledger, tampering: psycopg.Connection) -> None:
    """A balance that was set by hand is set back, whatever the journal can be made to say."""
    before = kept.usage("a", connection=tampering)
    tampering.execute("UPDATE earmark._private_balance SET held = 99, committed = 50 WHERE subject = 'a'")
    repairs = kept.repair("by hand", subject="a", connection=tampering)
    assert kept.usage("a", connection=tampering) == before
    images = next(repair for repair in repairs if repair.resource == "images")
    assert (images.committed_before, images.held_before) == (50, 99)
    assert (images.committed_after, images.held_after) == (
        before.resources["images"].committed, before.resources["images"].held,
    )  # fmt: skip
    assert "balance 50 + 99" in images.reason


def test_adjustments_count_beside_the_holds(kept: Ledger, tampering: psycopg.Connection) -> None:
    """A repair does not undo them, nor do they hide what is wrong."""
    tampering.execute(
        "SELECT earmark._private_post(ARRAY[ROW('a', 'a', 'adjust', 'images', period_start, NULL, NULL, 3, 0, NULL, "
        "'ops', 'gift')::earmark._private_entry], now()) FROM earmark._private_balance "
        "WHERE (subject, resource) = ('a', 'images')"
    )
    assert kept.verify(connection=tampering) == ()
    used = kept.usage("a", connection=tampering).resources["images"].committed
    tampering.execute(
        "UPDATE earmark._private_hold SET committed = 1 WHERE (resource, state) = ('images', 'committed')"
    )
    drifts = [drift for drift in kept.verify(connection=tampering) if drift.figure == "committed"]
    found = [(drift.balance, drift.holds, drift.journal) for drift in drifts]
    assert found == [(used, used - 2, used)]
    kept.repair("fewer", connection=tampering)
    assert kept.verify(connection=tampering) == ()
    held = tampering.execute(
        "SELECT sum(committed)::bigint FROM earmark._private_hold WHERE (resource, state) = ('images', 'committed')"
    ).fetchone()
    assert held is not None
    assert kept.usage("a", connection=tampering).resources["images"].committed == held[0] + 3
    tampering.execute(
        "UPDATE earmark._private_balance SET committed = committed + 1 WHERE (subject, resource) = ('a', 'images')"
    )
    kept.repair("and again", connection=tampering)
    assert kept.usage("a", connection=tampering).resources["images"].committed == held[0] + 3


def test_a_broken_chain_is_not_repaired_away(kept: Ledger, tampering: psycopg.Connection) -> None:
    tampering.execute("UPDATE earmark._private_journal SET held = held + 5 WHERE subject = 'a' AND seq = 2")
    kept.repair("found edited", connection=tampering)
    assert seqs(kept.verify(connection=tampering)) == [2]


def test_repair_of_what_is_well_does_nothing(kept: Ledger) -> None:
    assert kept.repair("just looking") == ()
    assert kept.repair("just looking", subject="nobody") == ()
    with pytest.raises(InvalidRequest):
        kept.repair(" ")


def test_only_a_service_repairs(kept: Ledger, tampering: psycopg.Connection) -> None:
    claims = json.dumps({"sub": "a", "role": "authenticated"})
    tampering.execute("SELECT set_config('request.jwt.claims', %s, true)", (claims,))
    statements: list[Any] = [
        "SELECT * FROM earmark.repair('x', 'a')", "SELECT * FROM earmark.journal_since()",
        "SELECT * FROM earmark.set_aside()", "SELECT * FROM earmark.prune_settled(now())",
        "SELECT * FROM earmark.prune_journal(now())", "SELECT earmark.configure_retention(NULL, NULL)",
        "SELECT * FROM earmark.journal_export('b')",
    ]  # fmt: skip
    for statement in statements:
        with pytest.raises(psycopg.Error) as caught, tampering.transaction():
            tampering.execute(statement)
        assert caught.value.sqlstate == "QT005"
    assert tampering.execute("SELECT count(*) > 0 FROM earmark.journal_export('a')").fetchone() == (True,)
    tampering.execute("SELECT set_config('request.jwt.claims', '', true)")
