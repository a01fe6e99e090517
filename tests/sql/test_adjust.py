"""Adjustments correct committed use: with a reason, in the journal, once per key, never below zero."""

import json
from datetime import UTC, datetime
from typing import Any, LiteralString

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


@pytest.fixture
def sold(tree: Any) -> Any:
    """The tree, in which nothing that was used comes back yet; later it is `lent`."""
    for plan, refundable in (("sells", False), ("lends", True)):
        tree.configure_plan(plan, quotas={"credits": PlanQuota(5000, "lifetime", refundable=refundable)})
    for name in ("team", "ann", "ben"):
        tree.configure_subject(name, plan="sells")
    return tree


def use(books: Any, name: str, *amounts: int) -> Any:
    reservation = books.reserve(name, items={str(item): {"credits": amount} for item, amount in enumerate(amounts)}).id
    books.commit(reservation)
    return reservation


def lend(books: Any) -> None:
    for name in ("ann", "ben"):
        books.configure_subject(name, plan="lends")


def used_credits(books: Any) -> tuple[int, ...]:
    return tuple(committed(books, name, "credits") for name in ("ann", "ben", "team"))


def test_a_refund_gives_back_what_goodwill_has_left(sold: Any) -> None:
    reservation = use(sold, "ann", 500)
    use(sold, "ben", 500)
    assert adjust(sold, -300, resource="credits").adjusted
    lend(sold)
    refunded = sold.refund(reservation)
    assert (refunded.outcome, refunded.returned) == ("refunded", {"credits": 200})
    assert used_credits(sold) == (0, 500, 500)
    assert [entry.committed for entry in sold.history("ann")[:3]] == [-200, -300, 500]
    again = sold.refund(reservation)
    assert (again.outcome, again.returned, again.items) == ("already_refunded", {}, refunded.items)


def test_goodwill_of_all_leaves_a_refund_of_nothing(sold: Any) -> None:
    reservation = use(sold, "ann", 500)
    adjust(sold, -500, resource="credits")
    lend(sold)
    assert (sold.refund(reservation).outcome, used_credits(sold)) == ("refunded", (0, 0, 0))
    assert sold.refund(reservation).outcome == "already_refunded"


def test_only_above_him_there_may_be_less_left(sold: Any) -> None:
    reservation = use(sold, "ann", 500)
    adjust(sold, -300, subject="team", resource="credits")
    lend(sold)
    assert sold.refund(reservation).returned == {"credits": 500}
    assert used_credits(sold) == (0, 0, 0)


def test_refunds_that_come_together_share_what_is_left(sold: Any, scratch: psycopg.Connection) -> None:
    ann, ben = use(sold, "ann", 500, 400), use(sold, "ben", 500)
    adjust(sold, -600, resource="credits")
    lend(sold)
    requests = json.dumps([{"reservation": str(name)} for name in (ann, ben, ann)])
    answers = scratch.execute("SELECT outcome, detail FROM earmark.refund(%s) ORDER BY ordinal", (requests,)).fetchall()
    returned = [{item: told["returned"] for item, told in detail["items"].items()} for _, detail in answers]
    assert returned == [
        {"0": {"credits": 300}, "1": {"credits": 0}},
        {"0": {"credits": 500}},
        {"0": {"credits": 300}, "1": {"credits": 0}},
    ]
    assert used_credits(sold) == (0, 0, 0)


def test_what_is_left_is_that_of_the_period_it_was_used_in(sold: Any, scratch_clock: Any) -> None:
    for plan in ("sells", "lends"):
        sold.configure_plan(plan, quotas={"credits": PlanQuota(5000, "P1M", refundable=plan == "lends")})
    reservation = use(sold, "ann", 500)
    adjust(sold, -300, resource="credits")
    sold.configure_plan("lends", quotas={"credits": PlanQuota(5000, "lifetime", refundable=True)})
    scratch_clock.set("2026-05-01T12:00:00Z")
    use(sold, "ann", 70)
    lend(sold)
    assert sold.refund(reservation).returned == {"credits": 200}


def test_the_books_agree_after_pruning_too(sold: Any, scratch_clock: Any) -> None:
    first, second = use(sold, "ann", 500), use(sold, "ann", 80)
    adjust(sold, -300, resource="credits")
    lend(sold)
    assert [sold.refund(one).returned["credits"] for one in (first, second)] == [280, 0]
    scratch_clock.set("2027-05-01T12:00:00Z")
    sold.prune_settled()
    sold.prune_journal(datetime(2027, 4, 1, tzinfo=UTC))
    assert (sold.verify(), sold.history("ann"), used_credits(sold)) == ((), (), (0, 0, 0))


@pytest.mark.parametrize(
    ("act", "state"),
    [
        ("SELECT returned, document->>'state' FROM earmark.image_delete(%s, 'ann')", "deleted"),
        ("SELECT returned, document->>'state' FROM earmark.image_lost(%s, 'gone', 'reconcile')", "failed"),
    ],
)
def test_an_image_goes_whatever_is_left_of_its_use(
    books: Any, scratch: psycopg.Connection, act: LiteralString, state: str
) -> None:
    free = PlanQuota(1000, "lifetime", refundable=False)
    images = PlanQuota(5, "P1M", refundable=False)
    books.configure_plan("basic", quotas={"storage_bytes": free, "images": images})
    books.configure_subject("ann", plan="basic")
    files = json.dumps([{"filename": "a.jpg", "content_type": "image/jpeg", "size": 500}])
    opened = "SELECT images->0->>'image' FROM earmark.images_reserve('ann', %s, 60, 60)"
    (image,) = scratch.execute(opened, (files,)).fetchone() or ()
    scratch.execute("SELECT earmark.image_uploaded(%s, 'ann', 60, 60)", (image,))
    scratch.execute("SELECT earmark.image_start(%s, 60, 60)", (image,))
    done = "SELECT outcome FROM earmark.image_complete(%s, 1, 'image/jpeg', '{}', '{}')"
    assert scratch.execute(done, (image,)).fetchone() == ("completed",)
    assert adjust(books, -300, resource="storage_bytes").adjusted
    books.configure_subject("ann", plan="pro")
    assert scratch.execute(act, (image,)).fetchone() == ({"storage_bytes": 200}, state)
    assert committed(books, resource="storage_bytes") == 0
