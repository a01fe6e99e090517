"""What counts as an amount, and what is refused before anything is taken."""

import json
import math
from collections.abc import Callable, Sized
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from earmark import InvalidRequest, Ledger
from earmark.errors import from_database
from earmark.model import Counted, PlanQuota

MOST = 2**63 - 1
NOW = datetime.now(UTC)
COUNTS: dict[str, Callable[[Ledger, Any], object]] = {
    "history": lambda ledger, count: ledger.history("a", limit=count),
    "explain, items": lambda ledger, count: ledger.explain("a", max_items=count),
    "explain, changes": lambda ledger, count: ledger.explain("a", max_changes=count),
    "sweep": lambda ledger, count: ledger.sweep(max_holds=count),
    "follow": lambda ledger, count: ledger.follow(max_entries=count),
    "journal_export": lambda ledger, count: ledger.journal_export("a", max_entries=count),
    "prune_settled": lambda ledger, count: ledger.prune_settled(NOW, max_reservations=count),
    "prune_journal": lambda ledger, count: ledger.prune_journal(NOW, max_entries=count),
    "tally": lambda ledger, count: ledger.tally(max_entries=count),
    "subjects_like": lambda ledger, count: ledger.subjects_like("a", limit=count),
    "use_over_time": lambda ledger, count: ledger.use_over_time("a", since=NOW - timedelta(1), points=count),
}
TELL: dict[str, Callable[[Any], Sized]] = {
    "history": lambda entries: entries,
    "explain, items": lambda explanation: explanation.open,
    "explain, changes": lambda explanation: explanation.changes,
    "journal_export": lambda lines: lines,
    "subjects_like": lambda subjects: subjects,
}
"""Of those that answer with what a reservation has made, where."""
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
    {"amounts": {"images": 1}, "items": {"1": {"images": 1}}},
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


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_what_no_parameter_can_hold_is_an_invalid_request(books: Any, text: str) -> None:
    one = Counted(text, "images", 1)
    for call in (
        lambda: books.usage(text),
        lambda: books.usages(["a", text]),
        lambda: books.rollback_newest(text, "images", 1),
        lambda: books.configure_subject(text, plan="pro"),
        lambda: books.configure_plan("x", features={"note": text}),
        lambda: books.adopt([one], key="k", reason="r", actor="a"),
        lambda: books.adopt([Counted("a", "images", 1)], key=text, reason="r", actor="a"),
        lambda: books.follow(text),
        lambda: books.repair(text),
        lambda: books.subjects_like(text),
    ):
        with pytest.raises(InvalidRequest):
            call()


def test_a_value_that_is_none_is_an_invalid_request(books: Any) -> None:
    """Not a database error, nor advice to migrate."""
    naive = datetime(2026, 1, 31)  # noqa: DTZ001 - that is the point
    for call in (
        lambda: books.configure_subject("a", plan="pro", quotas={"images": math.nan}),
        lambda: books.configure_subject("a", plan="pro", quotas={"images": Decimal(3)}),
        lambda: books.configure_subject("a", plan="pro", anchor=naive),
        lambda: books.configure_plan("x", features={"note": math.inf}),
        lambda: books.prune_settled(naive),
        lambda: books.prune_journal(naive),
        lambda: books.use_over_time("a", since=naive),
        lambda: books.rollback_newest("a", "images", 2**63),
        lambda: books.history("a", before=2**70),
        lambda: books.rollback_newest("", "images", 1),
        lambda: books.rollback_newest("x" * 256, "images", 1),
    ):
        with pytest.raises(InvalidRequest):
            call()


@pytest.mark.parametrize(
    "call",
    [
        "configure_plan(NULL)",
        "configure_plan('x', '[]')",
        "configure_plan('x', quotas => '[]')",
        """configure_plan('x', '{"max_bulk_upload": "many"}')""",
        """configure_plan('x', '{"max_bulk_upload": -2}')""",
        """configure_plan('x', '{"max_bulk_upload": 1.5}')""",
        """configure_plan('x', quotas => '{"images": 5}')""",
        """configure_plan('x', quotas => '{"images": {"quota": 5, "refundable": "maybe"}}')""",
        """configure_plan('x', quotas => '{"images": {"quota": 5, "period": "P1000Y"}}')""",
        "configure_subject('x', 'pro', anchor => 'infinity')",
        "configure_subject('x', 'pro', anchor => '-infinity')",
        "configure_subject('x', 'pro', anchor => '0044-03-15 BC')",
        "configure_subject('x', 'pro', anchor => '10000-01-01')",
        "configure_retention('1001 years', NULL)",
        "configure_retention(NULL, '9999999 years')",
    ],
)
def test_what_would_break_later_calls_is_refused(scratch: psycopg.Connection, call: str) -> None:
    """A period that ends beyond the calendar, say, or a bulk limit that is no number."""
    with pytest.raises(psycopg.Error) as caught, scratch.transaction():
        scratch.execute(f"SELECT earmark.{call}")  # type: ignore[arg-type]
    assert isinstance(from_database(caught.value), InvalidRequest)


def test_the_longest_period_and_the_farthest_anchors_work(books: Any) -> None:
    books.configure_plan("x", quotas={"images": PlanQuota(5, "P999Y", refundable=False)})
    for anchor in (datetime(2, 1, 1, tzinfo=UTC), datetime(2600, 1, 1, tzinfo=UTC), datetime(9998, 12, 1, tzinfo=UTC)):
        books.configure_subject(f"a{anchor.year}", plan="x", anchor=anchor)
        assert books.reserve(f"a{anchor.year}", {"images": 5})
        period = books.usage(f"a{anchor.year}").resources["images"]
        assert period.period_start < datetime.now(UTC) < period.period_end


def letters(count: int, first: int) -> str:
    """Text that no index entry can compress."""
    return "".join(chr(first + number * 7919 % 20_000) for number in range(count))


def test_the_longest_names_fit_into_every_index(books: Any) -> None:
    cjk = letters(255, 0x4E00)
    assert books.reserve(cjk, items={cjk: {"images": 1}}, key=cjk)
    assert books.adjust(cjk, "images", 1, reason="r", actor="a", key=cjk).outcome == "adjusted"


def test_names_too_long_for_an_index_are_invalid_requests(books: Any) -> None:
    """Not an error of the database, which in a batch all callers would get."""
    rare = letters(201, 0x20000)
    for call in (
        lambda: books.reserve(rare, {"images": 1}),
        lambda: books.reserve("a", items={rare: {"images": 1}}),
        lambda: books.reserve("a", {"images": 1}, key=rare),
        lambda: books.adjust("a", "images", 1, reason="r", actor="a", key=rare),
        lambda: books.adjust(rare, "images", 1, reason="r", actor="a"),
        lambda: books.configure_subject(rare, plan="pro"),
        lambda: books.adopt([Counted(rare, "images", 1, "pro")], key="k", reason="r", actor="a"),
        lambda: books.rollback_newest(rare, "images", 1),
    ):
        with pytest.raises(InvalidRequest, match="800 bytes"):
            call()


def test_amounts_beside_items_are_not_silently_dropped(books: Any) -> None:
    with pytest.raises(InvalidRequest, match="not both"):
        books.reserve("a", {"storage_bytes": 5}, items={"1": {"images": 1}})


@pytest.mark.parametrize("call", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("count", [-1, 2**31, MOST, MOST + 1, 1.5, True, None, "3"])
def test_how_many_are_wanted_is_a_number_of_32_bits(
    books: Any, call: Callable[[Ledger, Any], object], count: Any
) -> None:
    with pytest.raises(InvalidRequest):
        call(books, count)


@pytest.mark.parametrize("name", [name for name in COUNTS if name != "use_over_time"])
def test_all_that_32_bits_hold_may_be_wanted(books: Any, name: str) -> None:
    books.reserve("a", {"images": 1})
    none, everything = (COUNTS[name](books, count) for count in (0, 2**31 - 1))
    told = TELL.get(name)
    if told is None:
        assert none == everything, "there is nothing to be done"
    else:
        assert (len(told(none)), len(told(everything))) == (0, 1)


def test_an_id_is_a_uuid(books: Any) -> None:
    for call in (books.reservation, books.story):
        with pytest.raises(InvalidRequest, match="must be a UUID"):
            call("upload-7")


@pytest.mark.parametrize("word", ["no_such_word", "", None, 7, ["expired"]])
def test_a_word_is_one_of_its_set(books: Any, word: Any) -> None:
    held = books.reserve("a", {"images": 1})
    calls = (
        lambda: books.rollback(held.id, cause=word),
        lambda: books.rollback_newest("a", "images", 1, cause=word),
        lambda: books.commit(held.id, late=word),
    )
    for call in calls:
        with pytest.raises(InvalidRequest, match=r"(cause|late) must be one of .*(expired|refuse)"):
            call()
    assert books.usage("a").resources["images"].held == 1


def test_a_sweep_of_less_than_nothing_is_refused_in_sql_too(scratch: psycopg.Connection) -> None:
    with pytest.raises(psycopg.Error) as caught, scratch.transaction():
        scratch.execute("SELECT * FROM earmark.expire(-1)")
    assert isinstance(from_database(caught.value), InvalidRequest)
