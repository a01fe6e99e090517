"""With JWT claims present, as PostgREST sets them, a user may name only himself and state only his own causes."""

import json
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from earmark import Forbidden
from earmark.errors import from_database

ME, OTHER = UUID(int=1), UUID(int=2)
USER = {"sub": str(ME), "role": "authenticated"}
NOBODY = {"role": "anon"}


@pytest.fixture
def reservations(books: Any) -> dict[UUID, UUID]:
    """One open reservation of each."""
    return {user: books.reserve(str(user), {"images": 1}).id for user in (ME, OTHER)}


def claim(scratch: psycopg.Connection, claims: dict[str, str] | None) -> None:
    scratch.execute("SELECT set_config('request.jwt.claims', %s, false)", (json.dumps(claims) if claims else "",))


def forbidden(scratch: psycopg.Connection, statement: str, *parameters: object) -> bool:
    with pytest.raises(psycopg.Error) as caught, scratch.transaction():
        scratch.execute(statement, parameters)  # type: ignore[arg-type]
    return isinstance(from_database(caught.value), Forbidden)


RESERVE = """
SELECT * FROM earmark.reserve(jsonb_build_array(jsonb_build_object(
    'subject', %s::text, 'items', '{"1": {"images": 1}}'::jsonb)))
"""
ROLLBACK = (
    "SELECT * FROM earmark.rollback(jsonb_build_array(jsonb_build_object('reservation', %s, 'cause', 'cancelled')))"
)
EXTEND = "SELECT * FROM earmark.extend(jsonb_build_array(jsonb_build_object('reservation', %s, 'ttl_seconds', 9)))"
RAISE_OWN_QUOTA = f"""
SELECT earmark.configure_subject('{ME}', quotas => '{{"images": -1}}') WHERE %s IS NOT NULL
"""
NAMING = [
    "SELECT * FROM earmark.usage(%s::text)",
    "SELECT * FROM earmark.history(%s::text)",
    "SELECT * FROM earmark.verify(%s::text)",
    "SELECT * FROM earmark.rollback_newest(%s::text, 'images', 1)",
    "SELECT * FROM earmark.get_user_quota(%s)",
    "SELECT * FROM earmark.check_and_reserve_slots(%s)",
    "SELECT * FROM earmark.decrement_user_image_count(%s)",
    "SELECT * FROM earmark.reservation('00000000-0000-0000-0000-000000000000', %s::text)",
    RESERVE,
]


@pytest.mark.parametrize("statement", NAMING)
@pytest.mark.parametrize("claims", [USER, NOBODY], ids=["user", "nobody"])
def test_naming_somebody_else_is_forbidden(scratch: psycopg.Connection, statement: str, claims: dict[str, str]) -> None:
    claim(scratch, claims)
    assert forbidden(scratch, statement, OTHER)


@pytest.mark.parametrize("statement", NAMING)
@pytest.mark.parametrize("claims", [USER, {"role": "service_role"}, None], ids=["user", "service", "none"])
def test_naming_oneself_is_allowed(scratch: psycopg.Connection, statement: str, claims: dict[str, str] | None) -> None:
    claim(scratch, claims)
    scratch.execute(statement, (ME,))  # type: ignore[arg-type]


@pytest.mark.parametrize("claims", [USER, NOBODY, {}], ids=["user", "nobody", "empty"])
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM earmark.commit(jsonb_build_array(jsonb_build_object('reservation', %s)))",
        "SELECT * FROM earmark.refund(jsonb_build_array(jsonb_build_object('reservation', %s)))",
        ROLLBACK,
        EXTEND,
        "SELECT * FROM earmark.reservation(%s)",
        RAISE_OWN_QUOTA,
        "SELECT earmark.configure_plan('pro') WHERE %s IS NOT NULL",
        "SELECT * FROM earmark.expire() WHERE %s IS NOT NULL",
        "SELECT * FROM earmark.verify() WHERE %s IS NOT NULL",
    ],
)
def test_what_only_a_service_may_do_is_forbidden(
    scratch: psycopg.Connection, reservations: dict[UUID, UUID], statement: str, claims: dict[str, str]
) -> None:
    scratch.execute("SELECT set_config('request.jwt.claims', %s, false)", (json.dumps(claims),))
    assert forbidden(scratch, statement, reservations[ME])


@pytest.mark.parametrize("cause", ["processing_failed", "validation_failed", "expired", "admin"])
def test_a_user_may_not_state_a_cause_of_the_service(
    scratch: psycopg.Connection, reservations: dict[UUID, UUID], cause: str
) -> None:
    claim(scratch, USER)
    request = [{"reservation": str(reservations[ME]), "subject": str(ME), "cause": cause}]
    assert forbidden(scratch, "SELECT * FROM earmark.rollback(%s::jsonb)", json.dumps(request))
    assert forbidden(scratch, "SELECT * FROM earmark.rollback_newest(%s::text, 'images', 1, %s)", ME, cause)
    assert forbidden(scratch, "SELECT * FROM earmark.decrement_user_image_count(%s, 1, %s)", ME, cause)
    assert forbidden(
        scratch, "SELECT * FROM earmark.decrement_user_image_count(%s, 1, %s, %s)", ME, cause, reservations[ME]
    )


def test_a_user_may_not_act_in_the_name_of_another(scratch: psycopg.Connection, reservations: dict[UUID, UUID]) -> None:
    claim(scratch, USER)
    request = {
        "subject": str(ME),
        "actor": "support",
        "items": {"1": {"images": 1}},
    }
    assert forbidden(scratch, "SELECT * FROM earmark.reserve(%s::jsonb)", json.dumps([request]))
    request |= {"reservation": str(reservations[ME]), "items": ["1"], "cause": "cancelled", "ttl_seconds": 9}
    for function in ("rollback", "extend"):
        assert forbidden(scratch, f"SELECT * FROM earmark.{function}(%s::jsonb)", json.dumps([request]))  # noqa: S608
    counted = "SELECT * FROM earmark.rollback_newest(%s::text, 'images', 1, actor => 'support')"
    assert forbidden(scratch, counted, ME)


@pytest.mark.parametrize("cause", ["cancelled", "upload_failed"])
def test_a_user_may_roll_back_his_own(scratch: psycopg.Connection, reservations: dict[UUID, UUID], cause: str) -> None:
    claim(scratch, USER)
    request = [{"reservation": str(reservations[ME]), "subject": str(ME), "cause": cause}]
    row = scratch.execute("SELECT outcome FROM earmark.rollback(%s::jsonb)", (json.dumps(request),)).fetchone()
    assert row == ("rolled_back",)


def test_somebody_elses_reservation_is_not_found(
    scratch: psycopg.Connection, books: Any, reservations: dict[UUID, UUID]
) -> None:
    claim(scratch, USER)
    theirs = reservations[OTHER]
    request = json.dumps([{"reservation": str(theirs), "subject": str(ME), "cause": "cancelled", "ttl_seconds": 9}])
    for function in ("rollback", "extend"):
        row = scratch.execute(f"SELECT outcome, detail->'items' FROM earmark.{function}(%s::jsonb)", (request,))  # type: ignore[arg-type]  # noqa: S608
        assert row.fetchone() == ("not_found", {})
    returned = scratch.execute(
        "SELECT rolled_back FROM earmark.decrement_user_image_count(%s, 1, 'cancelled', %s)", (ME, theirs)
    ).fetchone()
    assert returned == (0,)
    assert scratch.execute("SELECT * FROM earmark.reservation(%s, %s)", (theirs, str(ME))).fetchall() == []
    claim(scratch, None)
    assert books.usage(str(OTHER)).resources["images"].held == 1


def test_refund_of_oneself_is_impossible(scratch: psycopg.Connection, books: Any) -> None:
    """Nobody refunds himself: what is committed is out of a user's reach by every road."""
    reservation = books.reserve(str(ME), {"images": 1, "storage_bytes": 5}).id
    books.commit(reservation)
    claim(scratch, USER)
    request = json.dumps([{"reservation": str(reservation), "subject": str(ME), "cause": "cancelled"}])
    assert forbidden(scratch, "SELECT * FROM earmark.refund(%s::jsonb)", request)
    row = scratch.execute("SELECT outcome FROM earmark.rollback(%s::jsonb)", (request,)).fetchone()
    assert row == ("already_committed",)
    counted = scratch.execute("SELECT used, rolled_back FROM earmark.decrement_user_image_count(%s, 5)", (ME,))
    assert counted.fetchone() == (1, 0)


def test_ids_do_not_tell_whether_they_exist(scratch: psycopg.Connection) -> None:
    claim(scratch, USER)
    request = json.dumps([{"reservation": str(uuid4()), "subject": str(ME), "cause": "cancelled"}])
    row = scratch.execute("SELECT outcome, subject FROM earmark.rollback(%s::jsonb)", (request,)).fetchone()
    assert row == ("not_found", None)
