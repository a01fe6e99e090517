"""Trees of subjects: a grant needs room, and holds, at every level; one settlement settles all."""

import json
from datetime import datetime
from typing import Any

import psycopg
import pytest

from earmark import Cause, InvalidRequest, UnknownResource, UnknownSubject
from earmark.model import PlanQuota

DEPTH = 8


@pytest.fixture
def acme(books: Any) -> Any:
    """`ann` and `ben` under `team`, under `acme`, and the ledger they are in."""
    books.configure_subject("acme", plan="pro")
    books.configure_subject("team", plan="pro", parent="acme")
    for name in ("ann", "ben"):
        books.configure_subject(name, plan="pro", parent="team")
    return books


def used(books: Any, resource: str = "images") -> dict[str, tuple[int, int]]:
    """Committed and held, of everybody in the tree."""
    found = {name: books.usage(name).resources[resource] for name in ("ann", "ben", "team", "acme")}
    return {name: (usage.committed, usage.held) for name, usage in found.items()}


def figures(**named: tuple[int, int]) -> dict[str, tuple[int, int]]:
    return dict.fromkeys(("ann", "ben", "team", "acme"), (0, 0)) | named


def ancestors(books: Any, name: str) -> tuple[str, ...]:
    return books.subject(name).ancestors


def test_a_grant_holds_at_every_level_and_one_settlement_settles_all(acme: Any) -> None:
    kept, given_back = acme.reserve("ann", {"images": 3}).id, acme.reserve("ann", {"images": 4}).id
    assert used(acme) == figures(ann=(0, 7), team=(0, 7), acme=(0, 7))
    assert acme.rollback(given_back, cause=Cause.CANCELLED).returned == {"images": 4}
    assert used(acme) == figures(ann=(0, 3), team=(0, 3), acme=(0, 3))
    assert acme.commit(kept, amounts={"images": 2}).returned == {"images": 1}
    assert used(acme) == figures(ann=(2, 0), team=(2, 0), acme=(2, 0))


def test_a_reservation_is_told_once_whatever_its_levels(scratch: psycopg.Connection, acme: Any) -> None:
    reservation = acme.reserve("ann", {"images": 3}).id
    assert acme.reservation(reservation).items["1"].amounts == {"images": 3}
    rows = scratch.execute("SELECT item FROM earmark.reservation(%s)", (reservation,)).fetchall()
    assert rows == [("1",)]


def test_a_refund_gives_back_at_every_level_once(acme: Any) -> None:
    reservation = acme.reserve("ann", {"storage_bytes": 50}).id
    acme.commit(reservation)
    assert used(acme, "storage_bytes") == figures(ann=(50, 0), team=(50, 0), acme=(50, 0))
    assert [acme.refund(reservation).outcome for _ in range(2)] == ["refunded", "already_refunded"]
    assert used(acme, "storage_bytes") == figures()


@pytest.mark.parametrize("short", ["ann", "team", "acme"])
def test_any_level_can_deny_and_is_named(acme: Any, short: str) -> None:
    acme.configure_subject(short, quotas={"images": 5})
    acme.reserve("ann", {"images": 4})
    denied = acme.reserve("ann", {"images": 2, "storage_bytes": 1})
    assert not denied
    (shortage,) = denied.short
    assert (shortage.subject, shortage.resource, shortage.requested, shortage.quota_limit, shortage.used) == (
        short,
        "images",
        2,
        5,
        4,
    )
    assert used(acme) == figures(ann=(0, 4), team=(0, 4), acme=(0, 4))
    assert used(acme, "storage_bytes") == figures()


def test_every_level_that_is_short_is_named_the_nearest_first(acme: Any) -> None:
    for name, quota in (("ann", 3), ("acme", 1)):
        acme.configure_subject(name, quotas={"images": quota})
    denied = acme.reserve("ann", {"images": 9})
    assert [(short.subject, short.remaining) for short in denied.short] == [("ann", 3), ("acme", 1)]


def test_siblings_share_what_their_team_has(acme: Any) -> None:
    acme.configure_subject("team", quotas={"images": 5})
    first = acme.reserve("ann", {"images": 4}).id
    assert not acme.reserve("ben", {"images": 2})
    assert acme.usage("ben").resources["images"].remaining == 500
    levels = {level.subject: level.resources["images"].remaining for level in acme.usage_levels("ben")}
    assert levels == {"ben": 500, "team": 1, "acme": 496}
    acme.rollback(first, cause=Cause.CANCELLED)
    assert acme.reserve("ben", {"images": 5})


def test_those_above_reserve_for_themselves_too(acme: Any) -> None:
    acme.reserve("team", {"images": 2})
    acme.reserve("acme", {"images": 1})
    assert used(acme) == figures(team=(0, 2), acme=(0, 3))


def test_the_levels_of_somebody_without_a_parent_are_his_own_figures(acme: Any) -> None:
    for name in ("loner", "acme"):
        (level,) = acme.usage_levels(name)
        usage = acme.usage(name)
        assert (level.subject, level.plan, level.resources) == (name, usage.plan, usage.resources)


def test_overdue_holds_of_a_sibling_come_back_for_who_is_short(acme: Any, scratch_clock: Any) -> None:
    acme.configure_subject("acme", quotas={"images": 5})
    dead = acme.reserve("ben", {"images": 5}).id
    scratch_clock.advance(3600)
    assert acme.usage_levels("ann")[2].resources["images"].held == 0
    assert acme.reserve("ann", {"images": 1})
    assert acme.reservation(dead).items["1"].cause is Cause.EXPIRED
    assert used(acme) == figures(ann=(0, 1), team=(0, 1), acme=(0, 1))


def test_a_late_commit_needs_room_at_every_level(acme: Any, scratch_clock: Any) -> None:
    acme.configure_subject("acme", quotas={"images": 5})
    late, early = acme.reserve("ben", {"images": 4}).id, acme.reserve("ann", {"images": 1}).id
    acme.commit(early)
    scratch_clock.advance(3600)
    assert acme.reserve("ann", {"images": 3})
    denied = acme.commit(late)
    assert (denied.outcome, [(short.subject, short.remaining) for short in denied.short]) == ("denied", [("acme", 1)])
    acme.configure_subject("acme", quotas={"images": 8})
    assert acme.commit(late).outcome == "committed"
    assert used(acme) == figures(ann=(1, 3), ben=(4, 0), team=(5, 3), acme=(5, 3))


def test_each_level_has_periods_of_its_own(acme: Any, scratch_clock: Any) -> None:
    acme.configure_subject("acme", anchor=datetime.fromisoformat("2026-03-11T00:00:00Z"))
    reservation = acme.reserve("ann", {"images": 1}).id
    scratch_clock.advance(86_400)
    assert used(acme) == figures(ann=(0, 0), team=(0, 0), acme=(0, 0)) | {"ann": (0, 0), "team": (0, 0)}
    acme.reserve("ann", {"images": 2})
    assert used(acme) == figures(ann=(0, 2), team=(0, 2), acme=(0, 2))
    assert acme.commit(reservation).outcome == "committed"
    scratch_clock.set("2026-03-10T13:00:00Z")
    assert used(acme) == figures(ann=(1, 2), team=(1, 2), acme=(1, 0))


def test_what_a_level_does_not_count_it_does_not_limit(acme: Any) -> None:
    acme.configure_plan("credits", quotas={"credits": PlanQuota(10, "lifetime", refundable=False)})
    for name in ("ann", "acme"):
        acme.configure_subject(name, plan="credits")
    assert acme.reserve("ann", {"credits": 4})
    assert [(level.subject, list(level.resources)) for level in acme.usage_levels("ann")] == [
        ("ann", ["credits"]),
        ("team", []),
        ("acme", ["credits"]),
    ]
    assert acme.usage("acme").resources["credits"].held == 4


def test_what_his_own_plan_does_not_count_nobody_above_counts_for_him(acme: Any) -> None:
    acme.configure_plan("credits", quotas={"credits": PlanQuota(10, "lifetime", refundable=False)})
    acme.configure_subject("acme", plan="credits")
    with pytest.raises(UnknownResource):
        acme.reserve("ann", {"credits": 1})
    assert acme.usage("acme").resources["credits"].used == 0


def test_a_subject_tells_what_is_set_for_it(acme: Any) -> None:
    acme.configure_subject("ann", quotas={"images": 7, "storage_bytes": -1})
    found = acme.subject("ann")
    assert (found.plan, found.parent, found.ancestors) == ("pro", "team", ("team", "acme"))
    assert found.quotas == {"images": 7, "storage_bytes": -1}
    assert found.registered_at is not None
    root = acme.subject("acme")
    assert (root.parent, root.ancestors, root.quotas) == (None, (), {})


def test_a_subject_never_seen_tells_what_it_would_start_with(scratch: psycopg.Connection, books: Any) -> None:
    found = books.subject("nobody")
    assert (found.plan, found.parent, found.quotas, found.registered_at) == ("pro", None, {}, None)
    scratch.execute("DELETE FROM earmark._private_setting WHERE name = 'default_plan'")
    for look in (books.subject, books.usage_levels):
        with pytest.raises(UnknownSubject):
            look("nobody")


def test_a_parent_is_given_at_registration_or_later_with_all_who_are_below(acme: Any) -> None:
    acme.configure_subject("group", plan="enterprise", quotas={"images": 9})
    acme.configure_subject("acme", parent="group")
    assert ancestors(acme, "ann") == ("team", "acme", "group")
    assert (ancestors(acme, "acme"), ancestors(acme, "group")) == (("group",), ())
    assert not acme.reserve("ben", {"images": 10})
    assert acme.reserve("ben", {"images": 9})


def test_quotas_of_ones_own_move_along(acme: Any) -> None:
    acme.configure_subject("eve", plan="free", quotas={"images": 3})
    acme.configure_subject("eve", parent="team")
    assert acme.subject("eve").quotas == {"images": 3}
    assert not acme.reserve("eve", {"images": 4})
    acme.configure_subject("eve", quotas={"images": None})
    assert acme.reserve("eve", {"images": 10})


def test_a_parent_for_a_newcomer_puts_him_on_the_default_plan(acme: Any) -> None:
    acme.configure_subject("new", parent="team")
    assert (acme.subject("new").plan, acme.subject("new").parent) == ("pro", "team")


def test_the_same_parent_again_is_harmless_though_there_are_books(acme: Any) -> None:
    acme.reserve("ann", {"images": 1})
    acme.configure_subject("ann", parent="team")
    assert used(acme) == figures(ann=(0, 1), team=(0, 1), acme=(0, 1))


def test_a_tree_is_left_for_another_while_there_is_nothing_in_the_books(acme: Any) -> None:
    acme.configure_subject("rival", plan="pro")
    acme.reserve("ben", {"images": 1})
    acme.configure_subject("ann", parent="rival")
    assert ancestors(acme, "ann") == ("rival",)
    acme.reserve("ann", {"images": 2})
    assert acme.usage("rival").resources["images"].held == 2
    assert used(acme) == figures(ann=(0, 2), ben=(0, 1), team=(0, 1), acme=(0, 1))


def refuse(books: Any, name: str, parent: str) -> str:
    before = ancestors(books, name)
    with pytest.raises(InvalidRequest) as caught:
        books.configure_subject(name, parent=parent)
    assert caught.value.detail["field"] == "parent"
    assert ancestors(books, name) == before
    return str(caught.value)


def reserve(books: Any, name: str) -> None:
    assert books.reserve(name, {"images": 1})


def settle(books: Any, name: str) -> None:
    books.rollback(books.reserve(name, {"images": 1}).id, cause=Cause.CANCELLED)


def be_denied(books: Any, name: str) -> None:
    assert not books.reserve(name, {"images": 501}, key="k")


def be_adjusted(books: Any, name: str) -> None:
    assert books.adjust(name, "images", 1, reason="imported", actor="root").adjusted


def be_denied_an_adjustment(books: Any, name: str) -> None:
    assert not books.adjust(name, "images", -1, reason="imported", actor="root", key="k").adjusted


@pytest.mark.parametrize("act", [reserve, settle, be_denied, be_adjusted, be_denied_an_adjustment])
@pytest.mark.parametrize("who", ["team", "ann"])
def test_whoever_has_something_in_the_books_stays_in_his_tree(acme: Any, who: str, act: Any) -> None:
    acme.configure_subject("rival", plan="pro")
    act(acme, who)
    assert "has something in the books" in refuse(acme, "team", "rival")
    assert ancestors(acme, "ann") == ("team", "acme")


def test_a_denial_without_a_key_leaves_nothing_in_the_books(acme: Any) -> None:
    acme.configure_subject("rival", plan="pro")
    assert not acme.reserve("ann", {"images": 501})
    acme.configure_subject("ann", parent="rival")
    assert ancestors(acme, "ann") == ("rival",)


def test_within_his_tree_the_parent_may_change_and_what_was_taken_is_settled_there(acme: Any) -> None:
    acme.configure_subject("crew", plan="pro", parent="acme")
    committed, held = acme.reserve("ann", {"storage_bytes": 20}).id, acme.reserve("ann", {"storage_bytes": 3}).id
    acme.commit(committed)
    acme.configure_subject("ann", parent="crew")
    acme.reserve("ann", {"storage_bytes": 1})
    assert acme.usage("crew").resources["storage_bytes"].used == 1
    assert used(acme, "storage_bytes") == figures(ann=(20, 4), team=(20, 3), acme=(20, 4))
    acme.rollback(held, cause=Cause.CANCELLED)
    assert acme.refund(committed).outcome == "refunded"
    assert used(acme, "storage_bytes") == figures(ann=(0, 1), acme=(0, 1))


def test_a_circle_is_refused(acme: Any) -> None:
    for name, parent in (("ann", "ann"), ("acme", "ann"), ("acme", "team"), ("team", "ben")):
        assert "himself" in refuse(acme, name, parent) or "that himself" in refuse(acme, name, parent)


def test_the_parent_must_be_there(acme: Any) -> None:
    assert "no subject" in refuse(acme, "ann", "nobody")
    assert acme.subject("nobody").registered_at is None


def test_a_tree_has_at_most_eight_levels(books: Any) -> None:
    books.configure_subject("1", plan="pro")
    for level in range(2, DEPTH + 1):
        books.configure_subject(str(level), plan="pro", parent=str(level - 1))
    books.configure_subject("below", plan="pro")
    assert "8 levels" in refuse(books, "below", str(DEPTH))
    books.configure_subject("above", plan="pro")
    assert "8 levels" in refuse(books, "1", "above")
    reservation = books.reserve(str(DEPTH), {"images": 1}).id
    assert books.usage("1").resources["images"].held == 1
    assert books.commit(reservation).outcome == "committed"
    assert len(books.usage_levels(str(DEPTH))) == DEPTH


def test_the_count_form_gives_back_ones_own_only(acme: Any) -> None:
    for name in ("ann", "ben", "team"):
        acme.reserve(name, {"images": 2})
    assert len(acme.rollback_newest("team", "images", 100)) == 1
    assert used(acme) == figures(ann=(0, 2), ben=(0, 2), team=(0, 4), acme=(0, 4))


def test_every_level_has_a_chained_journal_of_its_own(acme: Any) -> None:
    acme.commit(acme.reserve("ann", {"images": 1}, actor="app").id, actor="app")
    acme.reserve("ben", {"images": 1})
    kinds = {name: [(entry.kind, entry.actor) for entry in acme.history(name)[::-1]] for name in ("ann", "ben", "acme")}
    assert kinds == {
        "ann": [("reserve", "app"), ("commit", "app")],
        "ben": [("reserve", "ben")],
        "acme": [("reserve", "app"), ("commit", "app"), ("reserve", "ben")],
    }


def test_what_was_answered_over_http_is_found_in_the_new_tree(books: Any, scratch: psycopg.Connection) -> None:
    books.configure_subject("acme", plan="enterprise")
    books.configure_subject("ann", plan="pro")
    scratch.execute("""SELECT earmark.keep_answer('ann', 'k', '{"count": 1}', '{"status": 404}')""")
    books.configure_subject("ann", parent="acme")
    again = scratch.execute("""SELECT outcome, answer FROM earmark.answer_of('ann', 'k', '{"count": 1}')""").fetchone()
    assert again == ("replayed", {"status": 404})


def test_a_tree_without_its_root_is_an_error_and_no_endless_loop(acme: Any, scratch: psycopg.Connection) -> None:
    scratch.execute("SAVEPOINT whole")
    scratch.execute("DELETE FROM earmark._private_subject WHERE subject = 'acme'")
    with pytest.raises(psycopg.errors.DataCorrupted, match="root is missing"):
        acme.reserve("ann", {"images": 1})
    scratch.execute("ROLLBACK TO whole")


def test_what_exceeds_a_hold_is_named_once_whatever_stands_above(acme: Any, scratch: psycopg.Connection) -> None:
    made = acme.reserve("ann", {"images": 1}).id
    request = json.dumps([{"reservation": str(made), "amounts": {"images": 2}}])
    answer = scratch.execute("SELECT outcome, detail->'exceeds' FROM earmark.commit(%s)", (request,)).fetchone()
    assert answer == ("exceeds_hold", [{"item": "1", "resource": "images", "held": 1, "actual": 2}])
