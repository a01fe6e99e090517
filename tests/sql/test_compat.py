"""The functions that supabase-js and PostgREST call keep their names, their arguments and their figures."""

from itertools import product
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from earmark import InvalidRequest, UnknownResource, UnknownSubject
from earmark.errors import from_database
from earmark.model import PlanQuota

USER = UUID(int=7)


@pytest.fixture
def quota(books: Any) -> Any:
    """Sets the user's quota of images."""

    def set_quota(images: int) -> None:
        books.configure_subject(str(USER), plan="pro", quotas={"images": images})

    return set_quota


def call(scratch: psycopg.Connection, function: str, **arguments: object) -> dict[str, Any]:
    named = ", ".join(f"{name} => %({name})s" for name in arguments)
    with scratch.transaction(), scratch.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        rows = cursor.execute(f"SELECT * FROM earmark.{function}({named})", arguments).fetchall()  # type: ignore[arg-type]  # noqa: S608
    assert len(rows) == 1
    return rows[0]


def reserve(scratch: psycopg.Connection, count: int = 1, **more: object) -> dict[str, Any]:
    return call(scratch, "check_and_reserve_slots", p_user_id=USER, p_count=count, **more)


@pytest.mark.parametrize(
    ("function", "arguments", "result"),
    [
        (
            "check_and_reserve_slots",
            "p_user_id uuid, p_count integer DEFAULT 1, ",
            "TABLE(success boolean, used bigint, quota_limit bigint, remaining bigint, reservation_id uuid)",
        ),
        (
            "decrement_user_image_count",
            "p_user_id uuid, p_count integer DEFAULT 1, ",
            "TABLE(used bigint, quota_limit bigint, remaining bigint, rolled_back bigint)",
        ),
        ("get_user_quota", "p_user_id uuid", "TABLE(used bigint, quota_limit bigint, remaining bigint)"),
    ],
)
def test_signatures(scratch: psycopg.Connection, function: str, arguments: str, result: str) -> None:
    row = scratch.execute(
        "SELECT pg_get_function_arguments(f), pg_get_function_result(f) FROM pg_proc "
        "CROSS JOIN LATERAL (SELECT pg_proc.oid AS f) o "
        "WHERE proname = %s AND pronamespace = 'earmark'::regnamespace",
        (function,),
    ).fetchone()
    assert row is not None
    assert row[0].startswith(arguments)
    assert row[1] == result


def test_figures_along_a_life(scratch: psycopg.Connection, books: Any, quota: Any) -> None:
    quota(5)
    taken = reserve(scratch, 3)
    reservation = taken.pop("reservation_id")
    assert taken == {"success": True, "used": 3, "quota_limit": 5, "remaining": 2}
    assert reserve(scratch, 3) == {
        "success": False,
        "used": 3,
        "quota_limit": 5,
        "remaining": 2,
        "reservation_id": None,
    }
    assert set(books.reservation(reservation).items) == {"1", "2", "3"}
    books.commit(reservation, items=["1"])
    one = call(scratch, "decrement_user_image_count", p_user_id=USER)
    assert one == {"used": 2, "quota_limit": 5, "remaining": 3, "rolled_back": 1}
    rest = call(scratch, "decrement_user_image_count", p_user_id=USER, p_count=1000)
    assert rest == {"used": 1, "quota_limit": 5, "remaining": 4, "rolled_back": 1}
    none = call(scratch, "decrement_user_image_count", p_user_id=USER, p_count=1000)
    assert none == {"used": 1, "quota_limit": 5, "remaining": 4, "rolled_back": 0}
    assert call(scratch, "get_user_quota", p_user_id=USER) == {"used": 1, "quota_limit": 5, "remaining": 4}


def test_a_failed_reserve_takes_nothing(scratch: psycopg.Connection, books: Any, quota: Any) -> None:
    quota(2)
    assert reserve(scratch, 3)["success"] is False
    assert books.history(str(USER)) == ()
    assert reserve(scratch, 2)["success"] is True


def test_unlimited_is_minus_one(scratch: psycopg.Connection, quota: Any) -> None:
    quota(-1)
    taken = reserve(scratch, 100)
    assert (taken["used"], taken["quota_limit"], taken["remaining"]) == (100, -1, -1)
    returned = call(scratch, "decrement_user_image_count", p_user_id=USER, p_count=40)
    assert returned == {"used": 60, "quota_limit": -1, "remaining": -1, "rolled_back": 40}


def test_an_over_full_quota_has_nothing_remaining(scratch: psycopg.Connection, quota: Any) -> None:
    quota(5)
    reserve(scratch, 4)
    quota(3)
    assert call(scratch, "get_user_quota", p_user_id=USER) == {"used": 4, "quota_limit": 3, "remaining": 0}
    assert reserve(scratch)["success"] is False


def test_one_reservation_comes_back_whole_and_once(scratch: psycopg.Connection, quota: Any) -> None:
    quota(10)
    reservation = reserve(scratch, 3)["reservation_id"]
    reserve(scratch, 2)
    named = {"p_user_id": USER, "p_reservation_id": reservation, "p_cause": "upload_failed"}
    assert call(scratch, "decrement_user_image_count", **named)["rolled_back"] == 3
    assert call(scratch, "decrement_user_image_count", **named)["rolled_back"] == 0
    foreign = named | {"p_user_id": uuid4()}
    assert call(scratch, "decrement_user_image_count", **foreign)["rolled_back"] == 0
    assert call(scratch, "get_user_quota", p_user_id=USER)["used"] == 2


def test_a_key_makes_a_repeat_harmless(scratch: psycopg.Connection, quota: Any) -> None:
    quota(10)
    first, again = reserve(scratch, 2, p_key="k"), reserve(scratch, 2, p_key="k")
    assert first == again
    with pytest.raises(psycopg.Error) as caught:
        reserve(scratch, 3, p_key="k")
    assert isinstance(from_database(caught.value), InvalidRequest)


@pytest.mark.parametrize(
    ("function", "count"),
    [
        *product(("check_and_reserve_slots", "decrement_user_image_count"), (0, -1, None)),
        ("check_and_reserve_slots", 10_001),
    ],
)
def test_a_count_out_of_range_does_nothing(
    scratch: psycopg.Connection, quota: Any, function: str, count: int | None
) -> None:
    quota(10)
    reserve(scratch, 2)
    with pytest.raises(psycopg.Error) as caught:
        call(scratch, function, p_user_id=USER, p_count=count)
    refused = from_database(caught.value)
    assert isinstance(refused, InvalidRequest)
    assert "p_count" in str(refused)
    assert call(scratch, "get_user_quota", p_user_id=USER)["used"] == 2


@pytest.mark.parametrize("function", ["check_and_reserve_slots", "decrement_user_image_count", "get_user_quota"])
def test_nobody_has_no_quota(scratch: psycopg.Connection, function: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        call(scratch, function, p_user_id=None)
    assert isinstance(from_database(caught.value), InvalidRequest | UnknownSubject)


def test_a_stranger_is_unknown_where_no_plan_is_the_default(scratch: psycopg.Connection) -> None:
    scratch.execute("DELETE FROM earmark._private_setting")
    for function in ("check_and_reserve_slots", "decrement_user_image_count", "get_user_quota"):
        with pytest.raises(psycopg.Error) as caught:
            call(scratch, function, p_user_id=USER)
        assert isinstance(from_database(caught.value), UnknownSubject)


def test_many_slots_of_one_reservation_are_each_read_once(scratch: psycopg.Connection, quota: Any) -> None:
    """Not once for each of the others: ten thousand would take more than a minute, under the lock of the whole tree."""
    quota(-1)
    reserve(scratch, 300)
    counted = "SELECT pg_stat_get_xact_tuples_returned(oid) FROM pg_class WHERE relname = '_private_hold_pkey'"
    (before,) = scratch.execute(counted).fetchone() or (0,)
    assert call(scratch, "decrement_user_image_count", p_user_id=USER, p_count=200)["rolled_back"] == 200
    (after,) = scratch.execute(counted).fetchone() or (0,)
    assert 200 <= after - before <= 3000


def test_a_plan_that_counts_no_images_has_nothing_of_them_and_still_gives_back(
    scratch: psycopg.Connection, books: Any, quota: Any
) -> None:
    quota(10)
    taken, named = reserve(scratch, 3, p_key="k"), reserve(scratch, 2)["reservation_id"]
    books.configure_plan("noimg", quotas={"credits": PlanQuota(5, "lifetime", refundable=False)})
    books.configure_subject(str(USER), plan="noimg", quotas={})
    nothing = {"used": 0, "quota_limit": 0, "remaining": 0}
    assert call(scratch, "get_user_quota", p_user_id=USER) == nothing
    one = call(scratch, "decrement_user_image_count", p_user_id=USER, p_reservation_id=named)
    assert one == nothing | {"rolled_back": 2}
    some = call(scratch, "decrement_user_image_count", p_user_id=USER, p_count=2)
    assert some == nothing | {"rolled_back": 2}
    again = reserve(scratch, 3, p_key="k")
    assert again == nothing | {"success": True, "reservation_id": taken["reservation_id"]}
    with pytest.raises(psycopg.Error) as caught:
        reserve(scratch)
    assert isinstance(from_database(caught.value), UnknownResource)


def test_a_plan_that_counts_nothing_has_no_images(scratch: psycopg.Connection, books: Any) -> None:
    books.configure_plan("empty")
    books.configure_subject(str(USER), plan="empty")
    nothing = {"used": 0, "quota_limit": 0, "remaining": 0}
    assert call(scratch, "get_user_quota", p_user_id=USER) == nothing
