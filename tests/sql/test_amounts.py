"""What counts as an amount, and what is refused before anything is taken."""

import json
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from earmark import InvalidRequest
from earmark.errors import from_database

MOST = 2**63 - 1
OUT_OF_RANGE = ["0", "-5", "9223372036854775808", "1.5", "true", '"100"', "null", "1e309", "[]", "{}", "-1e309"]


def reserve(scratch: psycopg.Connection, request: str) -> tuple[Any, ...] | None:
    return scratch.execute("SELECT outcome, reservation FROM earmark.reserve(%s::jsonb)", (f"[{request}]",)).fetchone()


def refusal(scratch: psycopg.Connection, request: str) -> Exception:
    with pytest.raises(psycopg.Error) as caught, scratch.transaction():
        reserve(scratch, request)
    return from_database(caught.value)


@pytest.mark.parametrize("amount", OUT_OF_RANGE)
def test_an_amount_out_of_range_takes_nothing(scratch: psycopg.Connection, books: Any, amount: str) -> None:
    error = refusal(scratch, f'{{"subject": "a", "items": {{"1": {{"storage_bytes": {amount}, "images": 1}}}}}}')
    assert isinstance(error, InvalidRequest)
    assert error.detail["resource"] == "storage_bytes"
    assert {resource.used for resource in books.usage("a").resources.values()} == {0}


@pytest.mark.parametrize("amount", [0, -5, MOST + 1, 1.5, True, "100", None, 1e309, float("nan"), Decimal(3), object()])
def test_an_amount_out_of_range_is_refused_in_python(books: Any, amount: Any) -> None:
    with pytest.raises(InvalidRequest):
        books.reserve("a", {"images": amount})
    assert books.usage("a").resources["images"].used == 0


@pytest.mark.parametrize("amount", ["3", "3.0", "3e0", "0.3e1"])
def test_a_whole_number_may_be_written_in_any_way(scratch: psycopg.Connection, books: Any, amount: str) -> None:
    for round_ in (1, 2):
        row = reserve(scratch, f'{{"subject": "a", "key": "k{amount}", "items": {{"1": {{"images": {amount}}}}}}}')
        assert row is not None, round_
        assert row[0] == "granted"
    answer = scratch.execute(
        "SELECT outcome, detail->'items'->'1'->'committed' FROM earmark.commit(%s::jsonb)",
        (f'[{{"reservation": "{row[1]}", "amounts": {{"images": {amount}}}}}]',),
    ).fetchone()
    assert answer == ("committed", {"images": 3})
    assert books.usage("a").resources["images"].committed == 3


@pytest.mark.parametrize(
    "request_",
    [
        "5",
        "null",
        "{}",
        '{"subject": "", "items": {"1": {"images": 1}}}',
        '{"subject": null, "items": {"1": {"images": 1}}}',
        '{"subject": "%s", "items": {"1": {"images": 1}}}' % ("x" * 256),
        '{"subject": "a"}',
        '{"subject": "a", "items": null}',
        '{"subject": "a", "items": {}}',
        '{"subject": "a", "items": []}',
        '{"subject": "a", "items": {"1": {}}}',
        '{"subject": "a", "items": {"1": 5}}',
        '{"subject": "a", "items": {"": {"images": 1}}}',
        '{"subject": "a", "key": "", "items": {"1": {"images": 1}}}',
        '{"subject": "a", "key": "%s", "items": {"1": {"images": 1}}}' % ("k" * 256),
        '{"subject": "a", "ttl_seconds": 0, "items": {"1": {"images": 1}}}',
        '{"subject": "a", "ttl_seconds": -1, "items": {"1": {"images": 1}}}',
        '{"subject": "a", "ttl_seconds": "60", "items": {"1": {"images": 1}}}',
        '{"subject": "a", "ttl_seconds": null, "items": {"1": {"images": 1}}}',
        '{"subject": "a", "ttl_seconds": 1e300, "items": {"1": {"images": 1}}}',
    ],
)
def test_a_malformed_reserve_is_an_invalid_request(scratch: psycopg.Connection, request_: str) -> None:
    assert isinstance(refusal(scratch, request_), InvalidRequest)


@pytest.mark.parametrize("function", ["reserve", "commit", "rollback", "refund", "extend"])
@pytest.mark.parametrize("requests", ["null", "{}", "5", '"x"', "[null]", "[5]", "[[]]", '["x"]'])
def test_requests_must_be_an_array_of_objects(scratch: psycopg.Connection, function: str, requests: str) -> None:
    with pytest.raises(psycopg.Error) as caught, scratch.transaction():
        scratch.execute(f"SELECT * FROM earmark.{function}(%s::jsonb)", (requests,))  # type: ignore[arg-type]  # noqa: S608
    assert isinstance(from_database(caught.value), InvalidRequest)


@pytest.mark.parametrize("function", ["reserve", "commit", "rollback", "refund", "extend"])
def test_no_requests_have_no_answers(scratch: psycopg.Connection, function: str) -> None:
    assert scratch.execute(f"SELECT * FROM earmark.{function}('[]')").fetchall() == []  # type: ignore[arg-type]  # noqa: S608


MALFORMED_SETTLEMENTS = [
    {"reservation": None},
    {"reservation": "42"},
    {"reservation": "x" * 36},
    {"items": 5},
    {"items": "1"},
    {"items": {"1": 5}},
    {"items": {"1": None}},
    {"items": {"1": {"images": -1}}},
    {"items": {"1": {"images": 1.5}}},
    {"amounts": 5},
    {"amounts": [1]},
    {"amounts": {"images": -1}},
    {"amounts": {"images": "1"}},
    {"amounts": {"images": None}},
    {"late": "sometimes"},
    {"late": 5},
]


@pytest.mark.parametrize("fault", MALFORMED_SETTLEMENTS, ids=json.dumps)
def test_a_malformed_commit_is_an_invalid_request(
    scratch: psycopg.Connection, books: Any, fault: dict[str, Any]
) -> None:
    reservation = books.reserve("a", {"images": 1}).id
    with pytest.raises(psycopg.Error) as caught, scratch.transaction():
        scratch.execute(
            "SELECT * FROM earmark.commit(%s::jsonb)", (json.dumps([{"reservation": str(reservation)} | fault]),)
        )
    assert isinstance(from_database(caught.value), InvalidRequest)
    assert books.usage("a").resources["images"].held == 1


def test_an_unknown_cause_is_an_invalid_request(scratch: psycopg.Connection, books: Any) -> None:
    reservation = books.reserve("a", {"images": 1}).id
    for call in (
        f"rollback(jsonb_build_array(jsonb_build_object('reservation', '{reservation}', 'cause', 'mood')))",
        f"rollback(jsonb_build_array(jsonb_build_object('reservation', '{reservation}')))",
        "rollback_newest('a', 'images', 1, 'mood')",
        "rollback_newest('a', 'images', 1, NULL)",
    ):
        with pytest.raises(psycopg.Error) as caught, scratch.transaction():
            scratch.execute(f"SELECT * FROM earmark.{call}")  # type: ignore[arg-type]  # noqa: S608
        assert isinstance(from_database(caught.value), InvalidRequest), call
    assert books.usage("a").resources["images"].held == 1


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_postgresql_cannot_hold_is_an_invalid_request(books: Any, text: str) -> None:
    for call in (
        lambda: books.reserve(text, {"images": 1}),
        lambda: books.reserve("a", {"images": 1}, key=text),
        lambda: books.reserve("a", items={text: {"images": 1}}),
    ):
        with pytest.raises(InvalidRequest):
            call()


def test_exactly_the_limit_fits(books: Any) -> None:
    books.configure_subject("a", quotas={"storage_bytes": 10})
    assert not books.reserve("a", {"storage_bytes": 11})
    assert books.reserve("a", {"storage_bytes": 10})
    assert not books.reserve("a", {"storage_bytes": 1})
    usage = books.usage("a").resources["storage_bytes"]
    assert (usage.used, usage.remaining) == (10, 0)


def test_the_largest_amount_fits_once_where_quota_is_unlimited(books: Any) -> None:
    books.configure_subject("a", quotas={"images": -1})
    assert books.reserve("a", {"images": MOST})
    refused = books.reserve("a", {"images": 1})
    assert not refused
    assert refused.short[0].resource == "images"
    assert books.usage("a").resources["images"].used == MOST


def test_amounts_that_only_overflow_together_are_denied(books: Any) -> None:
    books.configure_subject("a", quotas={"images": -1})
    assert not books.reserve("a", items={"1": {"images": MOST}, "2": {"images": MOST}})
    assert books.usage("a").resources["images"].used == 0


def test_a_quota_of_zero_grants_nothing(books: Any) -> None:
    books.configure_subject("a", quotas={"images": 0})
    refused = books.reserve("a", {"images": 1})
    assert [(s.resource, s.requested, s.quota_limit, s.remaining) for s in refused.short] == [("images", 1, 0, 0)]
