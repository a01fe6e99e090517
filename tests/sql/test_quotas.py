"""Plans and overrides: a change takes effect at the next grant and takes nothing back."""

import json
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from earmark import Cause, InvalidRequest
from earmark.errors import from_database
from earmark.model import PlanQuota, ResourceUsage

MOST = 2**63 - 1


def images(books: Any, subject: str = "a") -> ResourceUsage:
    return books.usage(subject).resources["images"]


def use(books: Any, amount: int) -> None:
    assert books.commit(books.reserve("a", {"images": amount}).id).outcome == "committed"


def test_unlimited_is_minus_one_everywhere_and_grants_anything(books: Any) -> None:
    books.configure_subject("a", plan="enterprise")
    assert (images(books).quota_limit, images(books).remaining, images(books).over_by) == (-1, -1, 0)
    assert books.reserve("a", {"images": 10**12})
    assert (images(books).used, images(books).remaining) == (10**12, -1)
    assert books.plans()[0].plan == "enterprise"
    assert books.plans()[0].quotas["images"].quota_limit == -1


def test_zero_grants_nothing_and_shows_nothing_over(books: Any) -> None:
    books.configure_subject("a", quotas={"images": 0})
    denied = books.reserve("a", {"images": 1, "storage_bytes": 1})
    assert [(short.subject, short.resource, short.quota_limit) for short in denied.short] == [("a", "images", 0)]
    assert (images(books).used, images(books).remaining, images(books).over_by) == (0, 0, 0)
    assert books.reserve("a", {"storage_bytes": 1})


def test_an_upgrade_in_the_middle_of_a_period_keeps_what_was_used(books: Any) -> None:
    books.configure_subject("a", plan="free")
    use(books, 10)
    assert not books.reserve("a", {"images": 1})
    books.configure_subject("a", plan="pro")
    assert (images(books).quota_limit, images(books).committed, images(books).remaining) == (500, 10, 490)
    assert books.reserve("a", {"images": 490})
    assert not books.reserve("a", {"images": 1})


def test_a_downgrade_below_what_is_used_honours_what_is_held_and_refuses_only_new_grants(books: Any) -> None:
    use(books, 20)
    committed, given_back = books.reserve("a", {"images": 5}).id, books.reserve("a", {"images": 3}).id
    books.configure_subject("a", plan="free")
    assert (images(books).used, images(books).remaining, images(books).over_by) == (28, 0, 18)
    denied = books.reserve("a", {"images": 1})
    assert [(short.quota_limit, short.used, short.remaining) for short in denied.short] == [(10, 28, 0)]
    assert books.extend(committed, ttl=timedelta(hours=1)).outcome == "extended"
    assert books.commit(committed).outcome == "committed"
    assert books.rollback(given_back, cause=Cause.CANCELLED).outcome == "rolled_back"
    assert (images(books).committed, images(books).held, images(books).over_by) == (25, 0, 15)
    books.configure_subject("a", quotas={"images": 26})
    assert books.reserve("a", {"images": 1})
    assert not books.reserve("a", {"images": 1})


def test_a_late_commit_after_a_downgrade_needs_room_in_the_new_plan(books: Any, scratch_clock: Any) -> None:
    late = books.reserve("a", {"images": 11}).id
    scratch_clock.advance(3600)
    books.sweep()
    books.configure_subject("a", plan="free")
    assert books.commit(late).outcome == "denied"
    books.configure_subject("a", quotas={"images": 11})
    assert books.commit(late).outcome == "committed"


def test_an_override_outlives_a_change_of_plan_until_it_is_removed(books: Any) -> None:
    books.configure_subject("a", quotas={"images": 50})
    books.configure_subject("a", plan="free")
    assert (images(books).quota_limit, books.subject("a").quotas) == (50, {"images": 50})
    use(books, 20)
    books.configure_subject("a", quotas={"images": None})
    assert (images(books).quota_limit, images(books).over_by, books.subject("a").quotas) == (10, 10, {})
    assert not books.reserve("a", {"images": 1})


def test_an_override_can_make_unlimited_what_a_plan_limits_and_the_other_way_round(books: Any) -> None:
    books.configure_subject("a", quotas={"images": -1})
    assert books.reserve("a", {"images": 501})
    books.configure_subject("b", plan="enterprise", quotas={"images": 2})
    assert not books.reserve("b", {"images": 3})
    books.configure_subject("a", quotas={"images": 5})
    assert (images(books).remaining, images(books).over_by) == (0, 496)


def test_what_is_not_named_stays(books: Any) -> None:
    books.configure_subject("a", plan="free", quotas={"images": 7})
    books.configure_subject("a", quotas={"storage_bytes": 9})
    books.configure_subject("a")
    assert (books.subject("a").plan, books.subject("a").quotas) == ("free", {"images": 7, "storage_bytes": 9})


def test_a_changed_plan_holds_for_all_who_are_on_it_at_the_next_grant(books: Any) -> None:
    use(books, 30)
    books.configure_plan("pro", quotas={"images": PlanQuota(20, "P1M", refundable=False)})
    assert (images(books).quota_limit, images(books).over_by) == (20, 10)
    assert not books.reserve("a", {"images": 1})
    assert books.reserve("b", {"images": 20})
    books.configure_plan("pro", quotas={"images": PlanQuota(-1, "P1M", refundable=False)})
    assert books.reserve("a", {"images": MOST - 30})


def reserve_files(
    scratch: psycopg.Connection, count: int, subject: str = "a", key: str | None = None
) -> tuple[str, dict[str, Any]]:
    files = [{"filename": f"{number}.png", "content_type": "image/png", "size": 1} for number in range(count)]
    row = scratch.execute(
        "SELECT outcome, coalesce(detail, '{}') FROM earmark.images_reserve(%s, %s::jsonb, 60, 60, %s)",
        (subject, json.dumps(files), key),
    ).fetchone()
    assert row is not None
    return row


@pytest.mark.parametrize(("plan", "limit"), [("free", 1), ("pro", 20), ("enterprise", 50)])
def test_no_more_files_at_once_than_the_plan_allows(
    scratch: psycopg.Connection, books: Any, plan: str, limit: int
) -> None:
    books.configure_subject("a", plan=plan)
    assert reserve_files(scratch, limit + 1) == ("bulk_limit", {"limit": limit, "count": limit + 1})
    assert images(books).used == 0
    assert reserve_files(scratch, limit) == ("granted", {})
    assert images(books).held == limit


def test_the_bulk_limit_is_that_of_the_plan_at_the_time(scratch: psycopg.Connection, books: Any) -> None:
    books.configure_subject("a", plan="free")
    assert reserve_files(scratch, 2)[0] == "bulk_limit"
    books.configure_subject("a", plan="pro")
    assert reserve_files(scratch, 2)[0] == "granted"
    books.configure_plan("pro", features={"max_bulk_upload": 1})
    assert reserve_files(scratch, 2)[0] == "bulk_limit"
    books.configure_plan("pro", features={})
    assert reserve_files(scratch, 30)[0] == "granted"


def test_files_that_were_granted_under_a_key_are_answered_the_same_under_a_lower_limit(
    scratch: psycopg.Connection, books: Any
) -> None:
    books.configure_subject("a", plan="pro")
    assert reserve_files(scratch, 2, key="k")[0] == "granted"
    books.configure_subject("a", plan="free")
    assert reserve_files(scratch, 2, key="k")[0] == "granted"
    assert reserve_files(scratch, 3, key="k")[0] == "conflict"
    assert reserve_files(scratch, 2, key="l")[0] == "bulk_limit"
    assert images(books).held == 2


def test_other_files_under_a_key_are_a_conflict_though_they_take_as_much(scratch: psycopg.Connection) -> None:
    def reserved(filename: str) -> str:
        files = json.dumps([{"filename": filename, "content_type": "image/png", "size": 1}])
        asked = "SELECT outcome FROM earmark.images_reserve('a', %s::jsonb, 60, 60, 'k')"
        row = scratch.execute(asked, (files,)).fetchone()
        assert row is not None
        return str(row[0])

    assert [reserved(name) for name in ("one.png", "one.png", "two.png")] == ["granted", "granted", "conflict"]


def test_a_plan_of_plain_numbers(books: Any) -> None:
    books.configure_plan("plain", quotas={"images": 5, "credits": PlanQuota(7)})
    (plan,) = [plan for plan in books.plans() if plan.plan == "plain"]
    assert plan.quotas == {
        "images": PlanQuota(5, "lifetime", refundable=False),
        "credits": PlanQuota(7, "lifetime", refundable=False),
    }
    for wrong in ("5", 1.5, None, {"quota": 5}, True):
        with pytest.raises(InvalidRequest, match="images"):
            books.configure_plan("plain", quotas={"images": wrong})


@pytest.mark.parametrize("limit", [-2, 1.5, "many", True, [], 2**63])
def test_a_bulk_limit_is_a_whole_number(books: Any, limit: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        books.configure_plan("pro", features={"max_bulk_upload": limit})
    assert caught.value.detail["resource"] == "max_bulk_upload"


@pytest.mark.parametrize(("limit", "outcome"), [(0, "bulk_limit"), (-1, "granted"), (None, "granted")])
def test_a_bulk_limit_may_be_zero_or_none(
    scratch: psycopg.Connection, books: Any, limit: int | None, outcome: str
) -> None:
    books.configure_plan("pro", features={"max_bulk_upload": limit})
    assert reserve_files(scratch, 21)[0] == outcome


@pytest.mark.parametrize("features", ["[]", "null", "7"])
def test_features_are_an_object(scratch: psycopg.Connection, features: str) -> None:
    with pytest.raises(psycopg.Error) as caught, scratch.transaction():
        scratch.execute("SELECT earmark.configure_plan('pro', %s::jsonb)", (features,))
    assert isinstance(from_database(caught.value), InvalidRequest)


def test_the_bulk_limit_is_ones_own_and_the_quota_that_of_everybody_above(
    scratch: psycopg.Connection, books: Any
) -> None:
    books.configure_subject("team", plan="free")
    books.configure_subject("a", plan="pro", parent="team")
    assert reserve_files(scratch, 10)[0] == "granted"
    outcome, detail = reserve_files(scratch, 1)
    assert (outcome, [short["subject"] for short in detail["short"]]) == ("denied", ["team"])
