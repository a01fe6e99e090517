"""The journal: append-only, chained, and checked from an export without a database."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from earmark import Cause, Ledger
from earmark.ledger.chain import COLUMNS, entry_content, verify_export

HOSTILE = st.text(
    st.one_of(
        st.characters(codec="utf-8", exclude_characters="\0"),
        st.sampled_from('"\\/\b\f\n\r\t\x01\x1f\x7f\x80\x85\xa0\u2028\u2029\ufeff\ufffd\ufffe\U0001f600é'),
    ),
    max_size=20,
)
BIGINT = st.integers(-(2**63), 2**63 - 1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMES = st.datetimes(datetime(1900, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds it
CONTENT = """
SELECT earmark._private_entry_content(%(root)s, %(subject)s, %(seq)s, %(at)s, %(kind)s, %(resource)s,
    coalesce(%(period_start)s, '-infinity'::timestamptz), %(reservation)s, %(item)s, %(committed)s, %(held)s,
    %(cause)s, %(actor)s, %(reason)s)
"""


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.fixed_dictionaries(dict.fromkeys(("root", "subject", "kind", "resource", "actor"), HOSTILE)),
    optional=st.fixed_dictionaries({name: st.none() | HOSTILE for name in ("item", "cause", "reason")}),
    numbers=st.fixed_dictionaries(dict.fromkeys(("seq", "committed", "held"), BIGINT)),
    reservation=st.none() | st.uuids(),
    at=TIMES,
    period_start=st.none() | TIMES,
)
def test_python_and_sql_write_the_same_content(
    scratch: psycopg.Connection,
    texts: dict[str, str],
    optional: dict[str, str | None],
    numbers: dict[str, int],
    reservation: Any,
    at: datetime,
    period_start: datetime | None,
) -> None:
    row = {**texts, **optional, **numbers, "reservation": reservation, "at": at, "period_start": period_start}
    in_sql = scratch.execute(CONTENT, row).fetchone()
    exported = {
        **texts,
        **optional,
        **numbers,
        "reservation": reservation and str(reservation),
        "at_microseconds": (at - EPOCH) // timedelta(microseconds=1),
        "period_start_microseconds": period_start and (period_start - EPOCH) // timedelta(microseconds=1),
    }
    assert in_sql == (entry_content(exported),)


def test_the_chain_begins_with_nothing_and_covers_every_column(scratch: psycopg.Connection, books: Any) -> None:
    """The documented arithmetic, spelt out, is what the table holds."""
    books.reserve('ä\n"', {"images": 1})
    (entry,) = books.journal_export('ä\n"')
    assert entry["previous"] == ""
    assert set(entry) == {*COLUMNS, "previous", "hash"}
    assert scratch.execute(
        "SELECT encode(hash, 'hex') = %s AND hash = sha256(earmark._private_entry_content(root, subject, seq, at, "
        "kind, resource, period_start, reservation, item, committed, held, cause, actor, reason)) "
        "FROM earmark._private_journal",
        (entry["hash"],),
    ).fetchone() == (True,)
    assert verify_export([entry]) is None


@pytest.fixture
def export(books: Any) -> list[dict[str, Any]]:
    """Ten entries of a subject whose actor and reason are not plain text, as they come back from a file."""
    for _ in range(3):
        reservation = books.reserve("a", {"images": 1, "storage_bytes": 5}, actor='Zoë "\\\x07 😀').id
        books.rollback(reservation, cause=Cause.CANCELLED, reason="a\tb\u2028")
    return json.loads(json.dumps(books.journal_export("a")))[:10]


def test_an_export_is_checked_without_a_database(export: list[dict[str, Any]]) -> None:
    assert verify_export([]) is None
    assert verify_export(export) is None
    assert verify_export(iter(export), previous="", head=export[-1]["hash"]) is None
    assert verify_export(export[4:]) is None
    assert verify_export(export[4:], previous=export[3]["hash"]) is None


@pytest.mark.parametrize("column", [*COLUMNS, "previous", "hash"])
def test_any_changed_column_is_found(export: list[dict[str, Any]], column: str) -> None:
    value = export[5][column]
    changed = value + 1 if isinstance(value, int) else f"{value or ''}00"
    export[5] = {**export[5], column: changed}
    assert verify_export(export) == 6


def test_what_is_missing_is_named(export: list[dict[str, Any]]) -> None:
    assert verify_export(export[:3] + export[4:]) == 4
    assert verify_export(export[:-1], head=export[-1]["hash"]) == 10
    assert verify_export([], head=export[-1]["hash"]) == 1
    assert verify_export(export[1:], previous="") == 2
    assert verify_export(export[:4] + export[3:]) == 4


def test_a_text_rewritten_with_its_hash_breaks_the_next(export: list[dict[str, Any]]) -> None:
    forged = {**export[5], "actor": "mallory"}
    forged["hash"] = hashlib.sha256(bytes.fromhex(forged["previous"]) + entry_content(forged)).hexdigest()
    assert verify_export([*export[:5], forged, *export[6:]]) == 7


def test_an_export_has_pages(books: Any) -> None:
    for _ in range(5):
        books.reserve("a", {"images": 1})
    pages = [books.journal_export("a", after_seq=start, max_entries=2) for start in (0, 2, 4, 5)]
    assert [[entry["seq"] for entry in page] for page in pages] == [[1, 2], [3, 4], [5], []]
    assert verify_export([entry for page in pages for entry in page]) is None
    assert pages[1][0]["previous"] == pages[0][1]["hash"]


def test_times_are_exact(scratch: psycopg.Connection, books: Any, scratch_clock: Any) -> None:
    scratch_clock.set("2026-03-10T12:00:00.123457Z")
    books.reserve("a", {"images": 1, "storage_bytes": 1})
    images, storage = sorted(books.journal_export("a"), key=lambda entry: entry["resource"])
    assert images["at_microseconds"] == 1773144000123457
    assert images["period_start_microseconds"] == 1772323200000000
    assert storage["period_start_microseconds"] is None


@pytest.mark.parametrize("setting", ["earmark.pruning", "request.jwt.claims", "session.pruned_seq"])
def test_no_setting_lets_a_delete_through(scratch: psycopg.Connection, books: Any, setting: str) -> None:
    books.reserve("a", {"images": 1})
    scratch.execute("SELECT set_config(%s, 'on', true)", (setting,))
    with pytest.raises(psycopg.errors.RestrictViolation), scratch.transaction():
        scratch.execute("DELETE FROM earmark._private_journal")
    scratch.execute("SELECT set_config(%s, '', true)", (setting,))


def test_a_delete_goes_as_far_as_was_pruned_and_no_further(ledger: Ledger, connection: psycopg.Connection) -> None:
    for _ in range(4):
        ledger.reserve("a", {"images": 1})
    with connection.transaction(force_rollback=True):
        connection.execute("UPDATE earmark._private_subject SET pruned_seq = 2")
        with pytest.raises(psycopg.errors.RestrictViolation), connection.transaction():
            connection.execute("DELETE FROM earmark._private_journal WHERE seq <= 3")
        connection.execute("DELETE FROM earmark._private_journal WHERE seq <= 2")
        # Whoever could write that row is found out all the same: the sums are not carried, nor is the hash.
        assert {drift.figure for drift in ledger.verify(connection=connection)} == {"held", "chain"}
