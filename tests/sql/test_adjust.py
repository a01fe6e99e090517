"""Adjustments correct committed use: with a reason, in the journal, once per key, never below zero."""

import json
from typing import Any

import psycopg
import pytest

from earmark import Cause, Forbidden, InvalidRequest, KeyConflict, UnknownResource, UnknownSubject
from earmark.errors import from_database
from earmark.model import AdjustmentBound, PlanQuota

MOST = 2**63 - 1


def adjust(books: Any, amount: int, subject: str = "ann", resource: str = "images", key: str | None = None) -> Any:
    return books.adjust(subject, resource, amount, reason="goodwill", actor="root", key=key)


def committed(books: Any, subject: str = "ann", resource: str = "images") -> int:
    return books.usage(subject).resources[resource].committed


@pytest.fixture
def tree(books: Any) -> Any:
    """`ann` and `ben` under `team`, and the ledger they are in."""
    books.configure_subject("team", plan="pro")
    for name in ("ann", "ben"):
        books.configure_subject(name, plan="pro", parent="team")
    return books


def test_use_is_corrected_both_ways_and_the_figures_are_told(books: Any) -> None:
    books.commit(books.reserve("ann", {"images": 5}).id)
    books.reserve("ann", {"images": 2})
    (level,) = adjust(books, -4).levels
    assert (level.subject, level.committed, level.held, level.used, level.remaining, level.over_by) == (
        "ann",
        1,
        2,
        3,
        497,
        0,
    )
    (level,) = adjust(books, 10).levels
    assert (level.quota_limit, level.committed, level.used, level.remaining) == (500, 11, 13, 487)
    assert committed(books) == 11


def test_the_journal_says_by_whom_and_why(books: Any) -> None:
    books.adjust("ann", "images", 3, reason="counted twice", actor="root")
    (entry,) = books.history("ann")
    assert (entry.kind, entry.resource, entry.committed, entry.held) == ("adjust", "images", 3, 0)
    assert (entry.actor, entry.reason, entry.reservation, entry.cause) == ("root", "counted twice", None, None)


def test_it_is_made_at_every_level(tree: Any) -> None:
    made = adjust(tree, 3)
    assert [(level.subject, level.committed) for level in made.levels] == [("ann", 3), ("team", 3)]
    assert {name: committed(tree, name) for name in ("ann", "ben", "team")} == {"ann": 3, "ben": 0, "team": 3}
    assert tree.history("team")[0].reason == "of ann: goodwill"
    adjust(tree, 1, "team")
    assert {name: committed(tree, name) for name in ("ann", "team")} == {"ann": 3, "team": 4}


def test_it_may_exceed_the_quota_and_then_only_grants_are_refused(tree: Any) -> None:
    tree.configure_subject("ann", quotas={"images": 5})
    held = tree.reserve("ann", {"images": 4}).id
    (level, above) = adjust(tree, 3).levels
    assert (level.used, level.remaining, level.over_by, above.over_by) == (7, 0, 2, 0)
    assert not tree.reserve("ann", {"images": 1})
    assert tree.commit(held).outcome == "committed"
    assert (tree.usage("ann").resources["images"].used, tree.usage("ann").resources["images"].over_by) == (7, 2)
    adjust(tree, -3)
    assert tree.reserve("ann", {"images": 1})
    assert not tree.reserve("ann", {"images": 1})


def test_one_who_is_over_after_a_downgrade_can_be_corrected_down(books: Any) -> None:
    books.commit(books.reserve("ann", {"images": 100}).id)
    books.configure_subject("ann", plan="free")
    (level,) = adjust(books, -30).levels
    assert (level.committed, level.over_by) == (70, 60)


@pytest.mark.parametrize("quota", [0, -1])
def test_zero_and_unlimited_quotas(books: Any, quota: int) -> None:
    books.configure_subject("ann", quotas={"images": quota})
    (level,) = adjust(books, 7).levels
    assert (level.quota_limit, level.remaining, level.over_by) == ((0, 0, 7) if quota == 0 else (-1, -1, 0))
    assert bool(books.reserve("ann", {"images": MOST - 7})) == (quota == -1)


def test_never_below_zero_and_what_is_held_is_out_of_reach(books: Any) -> None:
    books.commit(books.reserve("ann", {"images": 2}).id)
    books.reserve("ann", {"images": 5})
    denied = adjust(books, -3)
    assert (denied.outcome, denied.adjusted, denied.short) == ("denied", False, (AdjustmentBound("ann", lowest=-2),))
    assert (denied.levels[0].committed, denied.levels[0].held) == (2, 5)
    assert [entry.kind for entry in books.history("ann")].count("adjust") == 0
    assert adjust(books, -2).levels[0].committed == 0


def test_denied_at_one_level_changes_none(tree: Any) -> None:
    tree.configure_subject("crew", plan="pro", parent="team")
    adjust(tree, 5)
    tree.configure_subject("ann", parent="crew")
    denied = adjust(tree, -1)
    assert denied.short == (AdjustmentBound("crew", lowest=0),)
    assert {name: committed(tree, name) for name in ("ann", "crew", "team")} == {"ann": 5, "crew": 0, "team": 5}


def test_what_a_refund_may_yet_give_back_is_not_adjusted_away(tree: Any) -> None:
    """Else the refund would take the figures below zero, and the thing could not be deleted."""
    stored = tree.reserve("ann", {"storage_bytes": 50}).id
    tree.commit(stored)
    adjust(tree, 7, resource="storage_bytes")
    denied = adjust(tree, -8, resource="storage_bytes")
    assert denied.short == (AdjustmentBound("ann", lowest=-7), AdjustmentBound("team", lowest=-7))
    assert adjust(tree, -7, resource="storage_bytes").adjusted
    assert tree.refund(stored).outcome == "refunded"
    assert (committed(tree, resource="storage_bytes"), committed(tree, "team", "storage_bytes")) == (0, 0)


def test_what_is_not_refundable_may_be_given_back_as_goodwill(books: Any) -> None:
    reservation = books.reserve("ann", {"images": 3}).id
    books.commit(reservation)
    assert adjust(books, -3).levels[0].committed == 0
    assert books.refund(reservation).outcome == "already_committed"


def test_what_64_bits_cannot_hold_is_denied(books: Any) -> None:
    assert adjust(books, MOST).levels[0].over_by == MOST - 500
    denied = adjust(books, 1)
    assert (denied.outcome, denied.short) == ("denied", (AdjustmentBound("ann", highest=0),))
    assert adjust(books, -MOST).levels[0].committed == 0


def test_it_is_about_the_current_period(books: Any, scratch_clock: Any) -> None:
    adjust(books, 4)
    scratch_clock.set("2026-04-02T00:00:00Z")
    assert not adjust(books, -1).adjusted
    adjust(books, 2)
    assert committed(books) == 2
    scratch_clock.set("2026-03-10T12:00:00Z")
    assert committed(books) == 4


def test_a_key_makes_it_once(books: Any) -> None:
    first = adjust(books, 3, key="k")
    adjust(books, 10)
    again = adjust(books, 3, key="k")
    assert (first.replayed, again.replayed) == (False, True)
    assert (again.outcome, again.levels, again.short) == (first.outcome, first.levels, first.short)
    assert committed(books) == 13


def test_a_denial_under_a_key_stays_denied(books: Any) -> None:
    denied = adjust(books, -3, key="k")
    adjust(books, 10)
    again = adjust(books, -3, key="k")
    assert (again.outcome, again.short, again.levels, again.replayed) == ("denied", denied.short, denied.levels, True)
    assert committed(books) == 10


@pytest.mark.parametrize(
    ("other", "differs"),
    [({"amount": 4}, ["amount"]), ({"resource": "storage_bytes", "reason": "else"}, ["reason", "resource"])],
)
def test_another_adjustment_under_a_key_is_a_conflict(books: Any, other: dict[str, Any], differs: list[str]) -> None:
    asked = {"resource": "images", "amount": 3, "reason": "goodwill", "actor": "root", "key": "k"}
    books.adjust("ann", **asked)
    with pytest.raises(KeyConflict) as caught:
        books.adjust("ann", **asked | other)
    assert caught.value.detail["differs"] == differs
    assert books.adjust("ann", **asked | {"actor": "somebody else"}).replayed
    assert committed(books) == 3


def test_use_and_what_is_held_fit_in_64_bits_together(books: Any) -> None:
    books.reserve("ann", {"images": 5})
    denied = adjust(books, MOST - 4)
    assert (denied.outcome, denied.short) == ("denied", (AdjustmentBound("ann", highest=MOST - 5),))
    assert adjust(books, MOST - 5).levels[0].used == MOST


def test_what_was_refunded_takes_nothing_any_more(books: Any) -> None:
    stored = books.reserve("ann", {"storage_bytes": 70}).id
    books.commit(stored)
    adjust(books, 7, resource="storage_bytes")
    books.refund(stored)
    assert adjust(books, -7, resource="storage_bytes").levels[0].committed == 0


def test_keys_of_others_and_of_reservations_are_other_keys(books: Any) -> None:
    books.reserve("ann", {"images": 1}, key="k")
    assert [adjust(books, 3, name, key="k").replayed for name in ("ann", "ben")] == [False, False]


def test_without_a_key_each_is_an_adjustment_of_its_own(books: Any) -> None:
    assert [adjust(books, 3).levels[0].committed for _ in range(2)] == [3, 6]


def sent(scratch: psycopg.Connection, *requests: dict[str, Any]) -> list[Any]:
    asked = [{"subject": "ann", "resource": "images", "reason": "r", "actor": "a"} | request for request in requests]
    return scratch.execute(
        "SELECT outcome, replayed, detail->'levels'->0->'committed' FROM earmark.adjust(%s::jsonb) ORDER BY ordinal",
        (json.dumps(asked),),
    ).fetchall()


def test_a_batch_is_decided_in_order(scratch: psycopg.Connection) -> None:
    assert sent(
        scratch,
        {"amount": -1},
        {"amount": 5, "key": "k"},
        {"amount": -2},
        {"amount": 5, "key": "k"},
        {"amount": 6, "key": "k"},
        {"amount": -4},
        {"amount": 1, "subject": "ben"},
    ) == [
        ("denied", False, 0),
        ("adjusted", False, 5),
        ("adjusted", False, 3),
        ("adjusted", True, 5),
        ("conflict", True, None),
        ("denied", False, 3),
        ("adjusted", False, 1),
    ]
    assert sent(scratch) == []


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"reason": None}, "reason"),
        ({"reason": ""}, "reason"),
        ({"reason": "  "}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"actor": None}, "actor"),
        ({"actor": ""}, "actor"),
        ({"subject": ""}, "subject"),
        ({"subject": "x" * 256}, "subject"),
        ({"resource": None}, "resource"),
        ({"key": ""}, "key"),
        ({"key": "x" * 256}, "key"),
        ({"amount": 0}, "amount"),
        ({"amount": 0.0}, "amount"),
        ({"amount": 1.5}, None),
        ({"amount": "1"}, None),
        ({"amount": None}, None),
        ({"amount": MOST + 1}, None),
        ({"amount": -MOST - 1}, None),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_with_its_whole_batch(
    scratch: psycopg.Connection, books: Any, wrong: dict[str, Any], field: str | None
) -> None:
    with pytest.raises(psycopg.Error) as caught, scratch.transaction():
        sent(scratch, {"amount": 1}, {"amount": 1} | wrong)
    error = from_database(caught.value)
    assert isinstance(error, InvalidRequest)
    assert error.detail.get("field") == field
    assert committed(books) == 0


@pytest.mark.parametrize("requests", ["{}", "null", "7"])
def test_requests_are_an_array(scratch: psycopg.Connection, requests: str) -> None:
    with pytest.raises(psycopg.Error) as caught, scratch.transaction():
        scratch.execute("SELECT * FROM earmark.adjust(%s::jsonb)", (requests,))
    assert isinstance(from_database(caught.value), InvalidRequest)


def test_unknown_resources_and_subjects(scratch: psycopg.Connection, books: Any) -> None:
    with pytest.raises(UnknownResource):
        adjust(books, 1, resource="steaks")
    scratch.execute("DELETE FROM earmark._private_setting WHERE name = 'default_plan'")
    with pytest.raises(UnknownSubject):
        adjust(books, 1, "nobody")


def test_a_newcomer_begins_with_what_was_imported(books: Any) -> None:
    assert adjust(books, 37, "imported").levels[0].remaining == 463


@pytest.mark.parametrize("claims", [{"sub": "ann", "role": "authenticated"}, {"sub": "ann"}, {}])
def test_only_a_service_adjusts(scratch: psycopg.Connection, books: Any, claims: dict[str, str]) -> None:
    scratch.execute("SELECT set_config('request.jwt.claims', %s, true)", (json.dumps(claims),))
    with pytest.raises(Forbidden):
        adjust(books, -1)


def test_a_user_sees_his_own_levels_and_settings_only(scratch: psycopg.Connection, tree: Any) -> None:
    scratch.execute("SELECT set_config('request.jwt.claims', %s, true)", (json.dumps({"sub": "ann"}),))
    assert [level.subject for level in tree.usage_levels("ann")] == ["ann", "team"]
    assert tree.subject("ann").parent == "team"
    for look in (tree.usage_levels, tree.subject):
        for name in ("team", "ben"):
            with pytest.raises(Forbidden):
                look(name)


def test_adjusted_use_is_not_given_back_by_any_rollback(books: Any) -> None:
    adjust(books, 3)
    assert books.rollback_newest("ann", "images", 100) == ()
    held = books.reserve("ann", {"images": 1}).id
    books.rollback(held, cause=Cause.ADMIN)
    assert committed(books) == 3


def test_refundable_is_what_the_plan_of_him_who_used_it_says(tree: Any) -> None:
    for plan, refundable in (("lends", True), ("sells", False)):
        tree.configure_plan(plan, quotas={"credits": PlanQuota(10, "lifetime", refundable=refundable)})
    for name, plan in (("team", "lends"), ("ann", "sells"), ("ben", "lends")):
        tree.configure_subject(name, plan=plan)
    for name in ("ann", "ben"):
        tree.commit(tree.reserve(name, {"credits": 2}).id)
    assert adjust(tree, -2, "ann", "credits").adjusted
    assert adjust(tree, -1, "ben", "credits").short == (
        AdjustmentBound("ben", lowest=0),
        AdjustmentBound("team", lowest=0),
    )
