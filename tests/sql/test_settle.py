"""What settling does: once, exactly, in its own period, and what it answers when there is nothing left to do."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from earmark import Cause, InvalidRequest, KeyConflict, Late
from earmark.model import PlanQuota


def figures(books: Any, resource: str = "images", subject: str = "a") -> tuple[int, int]:
    usage = books.usage(subject).resources[resource]
    return usage.committed, usage.held


def test_every_settlement_is_made_once(books: Any) -> None:
    settle = {
        "commit": books.commit,
        "rollback": lambda reservation: books.rollback(reservation, cause=Cause.CANCELLED),
        "refund": books.refund,
        "extend": lambda reservation: books.extend(reservation, ttl=timedelta(hours=1)),
    }
    answers: dict[str, list[str]] = {}
    for first in ("commit", "rollback"):
        reservation = books.reserve("a", {"storage_bytes": 5}).id
        steps = [first, "commit", "rollback", "extend", "refund", "refund", "commit", "rollback"]
        answers[first] = [settle[step](reservation).outcome for step in steps]
    assert answers == {
        "commit": [
            "committed", "already_committed", "already_committed", "already_committed",
            "refunded", "already_refunded", "already_refunded", "already_refunded",
        ],
        "rollback": ["rolled_back", *["already_rolled_back"] * 7],
    }  # fmt: skip
    assert figures(books, "storage_bytes") == (0, 0)


def test_a_repeat_says_who_did_it_when_and_why(books: Any) -> None:
    reservation = books.reserve("a", {"images": 2}).id
    done = books.rollback(reservation, cause=Cause.UPLOAD_FAILED, actor="worker-7")
    repeat = books.rollback(reservation, cause=Cause.CANCELLED, actor="somebody")
    assert (done.returned, done.done) == ({"images": 2}, ("1",))
    assert (repeat.outcome, repeat.returned, repeat.done) == ("already_rolled_back", {}, ())
    assert repeat.items == done.items
    assert (repeat.items["1"].by, repeat.items["1"].cause) == ("worker-7", Cause.UPLOAD_FAILED)


def test_what_does_not_exist_is_not_found(books: Any) -> None:
    theirs = books.reserve("b", {"images": 1}).id
    for answer in (
        books.commit(uuid4()),
        books.rollback(uuid4(), cause=Cause.ADMIN),
        books.refund(uuid4()),
        books.extend(uuid4(), ttl=timedelta(1)),
        books.commit(theirs, subject="a"),
        books.rollback(theirs, subject="a", cause=Cause.ADMIN),
        books.rollback(theirs, items=["no such item"], subject="a", cause=Cause.ADMIN),
        books.commit(theirs, items={"no such item": {"images": 1}}, subject="a"),
        books.refund(uuid4(), items=["1"]),
    ):
        assert (answer.outcome, answer.items, answer.returned) == ("not_found", {}, {})
    assert figures(books, subject="b") == (0, 1)
    assert books.reservation(uuid4()) is None
    assert books.reservation(theirs, subject="a") is None


@pytest.mark.parametrize("state", ["held", "settled"])
@pytest.mark.parametrize(
    "settle",
    [
        lambda books, one, items: books.commit(one, items={item: {"images": 1} for item in items}),
        lambda books, one, items: books.commit(one, items={item: {} for item in items}),
        lambda books, one, items: books.commit(one, items=items),
        lambda books, one, items: books.commit(one, items=items, amounts={"images": 1}),
        lambda books, one, items: books.commit(one, items=items, grow=True, subject="a"),
        lambda books, one, items: books.rollback(one, items=items, cause=Cause.CANCELLED),
        lambda books, one, items: books.refund(one, items=items),
        lambda books, one, items: books.extend(one, items=items, ttl=timedelta(hours=1)),
    ],
)
def test_an_item_that_the_reservation_lacks_is_refused_and_named(books: Any, settle: Any, state: str) -> None:
    """Misspelt, its work would be free, or its hold stay."""
    reservation = books.reserve("a", items={"1": {"images": 1}, "2": {"images": 1}}).id
    if state == "settled":
        books.commit(reservation)
    entries = books.history("a")
    for items, lacking in ((["1", "9"], ["9"]), (["9", "1", "", "8"], ["9", "", "8"]), (["9"], ["9"])):
        with pytest.raises(InvalidRequest, match="has no item") as caught:
            settle(books, reservation, items)
        assert caught.value.detail["field"] == "items"
        assert sorted(caught.value.detail["items"]) == sorted(lacking)
    assert books.history("a") == entries
    assert settle(books, reservation, ["2"]).outcome != "not_found"


@pytest.mark.parametrize("item", [1, None, ["1"], {"1": 1}, True])
def test_an_item_is_named_by_a_text(books: Any, item: Any) -> None:
    reservation = books.reserve("a", {"images": 1}).id
    with pytest.raises(InvalidRequest, match="array of names") as caught:
        books.commit(reservation, items=["1", item])
    assert caught.value.detail == {"field": "items"}


def test_no_items_are_none(books: Any) -> None:
    reservation = books.reserve("a", {"images": 1}).id
    assert books.rollback(reservation, items=[], cause=Cause.CANCELLED).outcome == "not_found"
    assert figures(books) == (0, 1)


def test_items_are_settled_one_by_one(books: Any) -> None:
    items = {name: {"images": 1, "storage_bytes": size} for name, size in (("a", 10), ("b", 20), ("c", 30))}
    reservation = books.reserve("a", items=items).id
    committed = books.commit(reservation, items={"a": {"storage_bytes": 4}})
    assert (committed.committed, committed.returned) == (
        {"images": 1, "storage_bytes": 4},
        {"images": 0, "storage_bytes": 6},
    )
    assert books.rollback(reservation, items=["b", "a"], cause=Cause.CANCELLED).returned == {
        "images": 1,
        "storage_bytes": 20,
    }
    story = books.reservation(reservation)
    assert {name: item.state for name, item in story.items.items()} == {
        "a": "committed",
        "b": "rolled_back",
        "c": "held",
    }
    assert (figures(books), figures(books, "storage_bytes")) == ((1, 1), (4, 30))
    assert books.commit(reservation).committed == {"images": 1, "storage_bytes": 30}


def test_a_commit_of_nothing_returns_everything(books: Any) -> None:
    reservation = books.reserve("a", {"images": 3}).id
    settlement = books.commit(reservation, amounts={"images": 0})
    assert (settlement.outcome, settlement.committed, settlement.returned) == (
        "committed",
        {"images": 0},
        {"images": 3},
    )
    assert figures(books) == (0, 0)


def test_a_commit_of_more_than_is_held_does_nothing(books: Any) -> None:
    reservation = books.reserve("a", {"images": 3}).id
    assert books.commit(reservation, amounts={"images": 4}).outcome == "exceeds_hold"
    assert figures(books) == (0, 3)


def test_a_late_commit_of_more_than_was_held_does_nothing(books: Any, scratch_clock: Any) -> None:
    reservation = books.reserve("a", {"images": 3}).id
    scratch_clock.advance(901)
    books.sweep()
    entries = len(books.history("a"))
    assert books.commit(reservation, amounts={"images": 4}).outcome == "exceeds_hold"
    assert books.reservation(reservation).items["1"].state == "rolled_back"
    assert len(books.history("a")) == entries


def test_a_commit_grows_where_there_is_room(books: Any) -> None:
    books.configure_subject("a", quotas={"images": 5})
    reservation = books.reserve("a", {"images": 3, "storage_bytes": 9}).id
    grown = books.commit(reservation, amounts={"images": 5, "storage_bytes": 4}, grow=True, actor="worker")
    assert (grown.outcome, grown.committed) == ("committed", {"images": 5, "storage_bytes": 4})
    assert grown.returned == {"images": 0, "storage_bytes": 5}
    assert (figures(books), figures(books, "storage_bytes")) == ((5, 0), (4, 0))
    told = [
        (e.kind, e.committed, e.held, e.actor, e.reason) for e in reversed(books.history("a")) if e.resource == "images"
    ]
    assert told == [
        ("reserve", 0, 3, "a", None),
        ("reserve", 0, 2, "worker", "grown: 2 more than was held"),
        ("commit", 5, -5, "worker", None),
    ]
    again = books.commit(reservation, amounts={"images": 6}, grow=True)
    assert (again.outcome, again.committed, again.items["1"].committed["images"]) == ("already_committed", {}, 5)
    assert figures(books) == (5, 0)


def test_a_commit_that_grows_needs_room_for_all_of_it_at_every_level(books: Any) -> None:
    books.configure_subject("team", quotas={"images": 4, "storage_bytes": 9})
    books.configure_subject("a", parent="team", quotas={"images": -1})
    reservation = books.reserve("a", {"images": 3, "storage_bytes": 9}).id
    for amounts, short in (({"images": 5}, "images"), ({"images": 4, "storage_bytes": 10}, "storage_bytes")):
        denied = books.commit(reservation, amounts=amounts, grow=True)
        assert (denied.outcome, denied.done, denied.committed) == ("denied", (), {})
        assert [(one.subject, one.resource, one.requested) for one in denied.short] == [
            ("team", short, amounts[short] - {"images": 3, "storage_bytes": 9}[short])
        ]
    assert (figures(books), figures(books, subject="team")) == ((0, 3), (0, 3))
    assert books.commit(reservation, amounts={"images": 4}, grow=True).outcome == "committed"
    assert (figures(books), figures(books, subject="team")) == ((4, 0), (4, 0))


def test_a_commit_grows_in_the_period_of_its_hold(books: Any, scratch_clock: Any) -> None:
    books.configure_subject("a", quotas={"images": 4})
    held = {name: books.reserve("a", {"images": 1}, ttl=timedelta(days=60)).id for name in "abc"}
    scratch_clock.set("2026-04-02T00:00:00Z")
    assert books.reserve("a", {"images": 4})
    assert books.commit(held["a"], amounts={"images": 2}, grow=True).outcome == "committed"
    denied = books.commit(held["b"], amounts={"images": 2}, grow=True)
    assert (denied.outcome, [(one.quota_limit, one.used) for one in denied.short]) == ("denied", [(4, 4)])
    assert figures(books) == (0, 4)
    assert {e.period_start.month for e in books.history("a") if e.kind == "commit" or e.reason} == {3}


def test_a_late_commit_grows_in_todays_period(books: Any, scratch_clock: Any) -> None:
    reservation = books.reserve("a", {"images": 3}).id
    scratch_clock.set("2026-04-02T00:00:00Z")
    books.sweep()
    refused = books.commit(reservation, amounts={"images": 5}, grow=True, late=Late.REFUSE)
    assert refused.outcome == "already_rolled_back"
    assert books.commit(reservation, amounts={"images": 5}, grow=True).outcome == "committed"
    assert figures(books) == (5, 0)
    again = books.history("a")[1]
    assert (again.held, again.reason) == (5, "late: taken anew after expiry, grown: 2 more than was held")


def test_a_late_commit_that_might_grow_may_be_for_nothing(books: Any, scratch_clock: Any) -> None:
    reservation = books.reserve("a", {"images": 3}, ttl=timedelta(minutes=1)).id
    scratch_clock.advance(61)
    books.sweep()
    settled = books.commit(reservation, amounts={"images": 0}, grow=True)
    assert (settled.outcome, settled.returned) == ("committed", {"images": 1}), (
        "2 came back when it expired; a hold is of 1"
    )
    assert figures(books) == (0, 0)


def test_nothing_of_a_resource_that_is_not_held_may_be_named(books: Any) -> None:
    reservation = books.reserve("a", {"images": 3}).id
    with pytest.raises(InvalidRequest):
        books.commit(reservation, amounts={"storage_bytes": 1})
    assert books.commit(reservation, amounts={"images": 2, "storage_bytes": 0}).committed == {"images": 2}


def test_what_a_denied_request_of_a_batch_had_room_for_is_there_for_the_next(
    scratch: psycopg.Connection, books: Any
) -> None:
    books.configure_subject("a", quotas={"images": 5, "storage_bytes": 5})
    asked = [{"images": 5, "storage_bytes": 6}, {"images": 5, "storage_bytes": 5}]
    requests = json.dumps([{"subject": "a", "items": {"1": amounts}} for amounts in asked])
    rows = scratch.execute("SELECT outcome FROM earmark.reserve(%s::jsonb) ORDER BY ordinal", (requests,))
    assert rows.fetchall() == [("denied",), ("granted",)]


def test_his_own_overdue_holds_make_room_to_grow(books: Any, scratch_clock: Any) -> None:
    books.configure_subject("a", quotas={"images": 4})
    overdue = books.reserve("a", {"images": 2}, ttl=timedelta(minutes=1)).id
    reservation = books.reserve("a", {"images": 2}).id
    scratch_clock.advance(61)
    assert books.commit(reservation, amounts={"images": 4}, grow=True).outcome == "committed"
    assert books.reservation(overdue).items["1"].cause == Cause.EXPIRED


def test_unlimited_grows_to_the_last_whole_number_and_no_further(books: Any) -> None:
    books.configure_subject("a", quotas={"images": -1})
    reservation = books.reserve("a", {"images": 1}).id
    assert books.commit(books.reserve("a", {"images": 1}).id).outcome == "committed"
    assert books.commit(reservation, amounts={"images": 2**63 - 1}, grow=True).outcome == "denied"
    assert books.commit(reservation, amounts={"images": 2**63 - 2}, grow=True).outcome == "committed"
    assert figures(books) == (2**63 - 1, 0)


def test_what_grew_is_refunded_whole(books: Any) -> None:
    reservation = books.reserve("a", {"storage_bytes": 3}).id
    books.commit(reservation, amounts={"storage_bytes": 8}, grow=True)
    assert books.refund(reservation).returned == {"storage_bytes": 8}
    assert figures(books, "storage_bytes") == (0, 0)


def test_whether_to_grow_is_said_by_true_or_false(scratch: psycopg.Connection, books: Any) -> None:
    request = [{"reservation": str(books.reserve("a", {"images": 3}).id), "grow": "yes"}]
    with pytest.raises(psycopg.Error, match="grow must be true or false"), scratch.transaction():
        scratch.execute("SELECT * FROM earmark.commit(%s::jsonb)", (json.dumps(request),))


def test_a_request_too_much_meets_what_the_batch_did_before_it(scratch: psycopg.Connection, books: Any) -> None:
    reservation = str(books.reserve("a", {"images": 3}).id)
    requests = [{"reservation": reservation}, {"reservation": reservation, "amounts": {"images": 4}}]
    rows = scratch.execute("SELECT outcome FROM earmark.commit(%s::jsonb)", (json.dumps(requests),)).fetchall()
    assert rows == [("committed",), ("already_committed",)]


def test_a_late_commit_takes_quota_anew(books: Any, scratch_clock: Any) -> None:
    reservation = books.reserve("a", {"images": 3}).id
    scratch_clock.set("2026-04-02T00:00:00Z")
    assert [hold.amount for hold in books.sweep()] == [3]
    assert books.commit(reservation).outcome == "committed"
    assert figures(books) == (3, 0)
    assert [entry.kind for entry in reversed(books.history("a"))] == ["reserve", "rollback", "reserve", "commit"]
    assert {entry.period_start.month for entry in books.history("a")[:2]} == {4}


def test_a_late_commit_is_denied_without_room(books: Any, scratch_clock: Any) -> None:
    books.configure_subject("a", quotas={"images": 3})
    reservation = books.reserve("a", {"images": 3}).id
    scratch_clock.advance(901)
    assert books.reserve("a", {"images": 1})
    denied = books.commit(reservation)
    assert (denied.outcome, denied.committed) == ("denied", {})
    assert [(s.resource, s.requested, s.quota_limit, s.used) for s in denied.short] == [("images", 3, 3, 1)]
    assert figures(books) == (0, 1)


@pytest.mark.parametrize("used", [2, 0])
def test_a_late_commit_needs_room_for_no_more_than_was_used(books: Any, scratch_clock: Any, used: int) -> None:
    books.configure_subject("a", quotas={"images": 3})
    reservation = books.reserve("a", {"images": 3}).id
    scratch_clock.advance(901)
    assert books.reserve("a", {"images": 1})
    settled = books.commit(reservation, amounts={"images": used})
    assert (settled.outcome, settled.committed) == ("committed", {"images": used})
    assert figures(books) == (used, 1)
    assert books.commit(reservation).outcome == "already_committed"


def test_a_late_commit_refused_gives_the_hold_back(books: Any, scratch_clock: Any) -> None:
    reservation = books.reserve("a", {"images": 3}).id
    scratch_clock.advance(901)
    refused = books.commit(reservation, late=Late.REFUSE)
    assert (refused.outcome, refused.items["1"].cause) == ("already_rolled_back", Cause.EXPIRED)
    assert figures(books) == (0, 0)


def test_a_commit_just_in_time_is_not_late(books: Any, scratch_clock: Any) -> None:
    reservation = books.reserve("a", {"images": 3}).id
    scratch_clock.advance(899.999)
    assert books.commit(reservation, late=Late.REFUSE).outcome == "committed"


def test_only_expiry_is_undone_by_a_late_commit(books: Any, scratch_clock: Any) -> None:
    reservation = books.reserve("a", {"images": 3}).id
    books.rollback(reservation, cause=Cause.CANCELLED)
    scratch_clock.advance(901)
    assert books.commit(reservation).outcome == "already_rolled_back"
    assert figures(books) == (0, 0)


def test_a_late_commit_is_whole_or_not_at_all(books: Any, scratch_clock: Any) -> None:
    """The new plan does not count one of the resources, so there is no room for it."""
    books.configure_plan("images-only", quotas={"images": PlanQuota(10, "P1M", refundable=False)})
    reservation = books.reserve("a", {"images": 1, "storage_bytes": 5}).id
    scratch_clock.advance(901)
    books.sweep()
    books.configure_subject("a", plan="images-only")
    denied = books.commit(reservation)
    assert (denied.outcome, [(s.resource, s.quota_limit) for s in denied.short]) == ("denied", [("storage_bytes", 0)])
    assert books.reservation(reservation).items["1"].state == "rolled_back"
    assert figures(books) == (0, 0)


def test_a_settlement_touches_only_the_period_of_its_hold(books: Any, scratch_clock: Any) -> None:
    day = timedelta(days=1)
    march = [books.reserve("a", {"images": 2}, ttl=60 * day).id for _ in range(3)]
    scratch_clock.set("2026-04-01T00:00:00Z")
    assert figures(books) == (0, 0)
    books.reserve("a", {"images": 1})
    books.commit(march[0])
    books.rollback(march[1], cause=Cause.PROCESSING_FAILED)
    books.commit(march[2], amounts={"images": 1})
    assert figures(books) == (0, 1)
    scratch_clock.set("2026-03-31T23:59:59Z")
    assert figures(books) == (3, 0)


def test_only_what_the_plan_marks_comes_back_on_delete(books: Any) -> None:
    reservation = books.reserve("a", {"images": 1, "storage_bytes": 50}).id
    assert books.refund(reservation).outcome == "not_committed"
    books.commit(reservation, amounts={"storage_bytes": 40})
    refunded = books.refund(reservation, actor="a")
    assert (refunded.outcome, refunded.returned) == ("refunded", {"storage_bytes": 40})
    for repeat in (
        books.refund(reservation),
        books.commit(reservation),
        books.rollback(reservation, cause=Cause.ADMIN),
    ):
        assert (repeat.outcome, repeat.done) == ("already_refunded", ())
    assert (figures(books), figures(books, "storage_bytes")) == ((1, 0), (0, 0))
    images = books.reserve("a", {"images": 1}).id
    books.commit(images)
    assert books.refund(images).outcome == "already_committed"


def test_extend_moves_a_deadline_and_never_back(books: Any, scratch_clock: Any) -> None:
    reservation = books.reserve("a", {"images": 1}, ttl=timedelta(seconds=100)).id
    scratch_clock.advance(50)
    extended = books.extend(reservation, ttl=timedelta(seconds=100))
    assert extended.outcome == "extended"
    until = extended.items["1"].expires_at
    assert books.extend(reservation, ttl=timedelta(seconds=1)).items["1"].expires_at == until
    scratch_clock.advance(99)
    assert books.sweep() == ()
    scratch_clock.advance(1)
    assert [hold.expired_at for hold in books.sweep()] == [until]


def test_the_count_form_gives_back_whole_items_newest_first(scratch: psycopg.Connection, books: Any) -> None:
    sizes = [1, 5, 2, 3]
    ids = []
    for size in sizes:
        scratch.execute("SELECT pg_sleep(0.002)")  # an id is as old as its millisecond
        ids.append(books.reserve("a", {"images": size, "storage_bytes": size * 10}).id)
    books.commit(ids[2])
    returned = books.rollback_newest("a", "images", 4)
    assert {(one.reservation, one.item): one.amounts for one in returned} == {
        (ids[3], "1"): {"images": 3, "storage_bytes": 30},
        (ids[0], "1"): {"images": 1, "storage_bytes": 10},
    }
    assert figures(books) == (2, 5)
    assert [one.reservation for one in books.rollback_newest("a", "images", 1000)] == [ids[1]]
    assert books.rollback_newest("a", "images", 1000) == ()
    assert figures(books) == (2, 0)


def test_a_key_answers_as_before_granted_or_denied(books: Any) -> None:
    books.configure_subject("a", quotas={"images": 3})
    granted = books.reserve("a", {"images": 2}, key="g").grant
    denied = books.reserve("a", {"images": 2}, key="d").grant
    books.rollback(granted.reservation, cause=Cause.CANCELLED)
    again, still = books.reserve("a", {"images": 2}, key="g").grant, books.reserve("a", {"images": 2}, key="d").grant
    assert (again.reservation, again.expires_at, again.replayed) == (granted.reservation, granted.expires_at, True)
    assert (still.outcome, still.short, still.replayed) == ("denied", denied.short, True)
    assert figures(books) == (0, 0)
    assert books.reserve("b", {"images": 2}, key="g").grant.reservation != granted.reservation


@pytest.mark.parametrize(
    ("second", "differs"),
    [
        ({"amounts": {"images": 3}}, ["items"]),
        ({"amounts": {"images": 2}, "ttl": timedelta(seconds=60)}, ["ttl_seconds"]),
        ({"items": {"2": {"images": 2}}, "ttl": timedelta(seconds=60)}, ["items", "ttl_seconds"]),
    ],
)
def test_a_key_used_for_another_request_is_a_conflict(books: Any, second: dict[str, Any], differs: list[str]) -> None:
    books.reserve("a", {"images": 2}, key="k")
    with pytest.raises(KeyConflict, match=differs[0]) as caught:
        books.reserve("a", key="k", **second)
    assert caught.value.detail == {"differs": differs}
    assert figures(books) == (0, 2)


def test_a_denial_names_every_resource_that_was_short(books: Any) -> None:
    books.configure_subject("a", quotas={"images": 1, "storage_bytes": 10})
    denied = books.reserve("a", items={"1": {"images": 1, "storage_bytes": 6}, "2": {"images": 1, "storage_bytes": 6}})
    assert [(s.resource, s.requested, s.remaining) for s in denied.short] == [
        ("images", 2, 1),
        ("storage_bytes", 12, 10),
    ]
    assert not books.reserve("a", items={"1": {"images": 1, "storage_bytes": 11}})
    assert (figures(books), figures(books, "storage_bytes")) == ((0, 0), (0, 0))


def test_the_journal_is_read_in_pages(books: Any) -> None:
    reservation = books.reserve("a", {"images": 1, "storage_bytes": 5}).id
    books.rollback(reservation, cause=Cause.VALIDATION_FAILED, actor="worker", reason="not an image")
    first = books.history("a", limit=3)
    rest = books.history("a", before=first[-1].seq, limit=3)
    assert [entry.seq for entry in (*first, *rest)] == [4, 3, 2, 1]
    newest = first[0]
    assert (newest.kind, newest.cause, newest.actor, newest.reason) == (
        "rollback",
        Cause.VALIDATION_FAILED,
        "worker",
        "not an image",
    )
    assert sum(entry.held for entry in (*first, *rest)) == 0
    assert books.history("nobody") == ()


def test_usage_of_a_plan_that_counts_nothing(books: Any) -> None:
    books.configure_plan("empty", features={"max_bulk_upload": 3})
    books.configure_subject("a", plan="empty")
    usage = books.usage("a")
    assert (usage.plan, usage.features, usage.resources) == ("empty", {"max_bulk_upload": 3}, {})


def test_a_late_commit_is_not_denied_for_his_own_dead_holds(books: Any, scratch_clock: Any) -> None:
    books.configure_subject("a", quotas={"images": 3})
    reservation = books.reserve("a", {"images": 3}).id
    scratch_clock.advance(901)
    dead = books.reserve("a", {"images": 2}).id
    scratch_clock.advance(901)
    assert books.usage("a").resources["images"].remaining == 3
    assert books.commit(reservation).outcome == "committed"
    assert books.reservation(dead).items["1"].cause == Cause.EXPIRED
    assert figures(books) == (3, 0)


@pytest.mark.parametrize("actual", [{"amounts": {"image": 1}}, {"items": {"1": {"images": 1, "image": 1}}}])
def test_a_commit_of_a_resource_that_is_not_held_is_refused(books: Any, actual: dict[str, Any]) -> None:
    reservation = books.reserve("a", {"images": 3}).id
    with pytest.raises(InvalidRequest, match="holds no image") as caught:
        books.commit(reservation, **actual)
    assert caught.value.detail == {"item": "1", "resource": "image"}
