"""The last line of defence: what the tables themselves refuse."""

from typing import Any

import psycopg
import pytest


@pytest.fixture
def used(books: Any) -> None:
    """`a` has one image held of a quota of 10."""
    books.configure_subject("a", quotas={"images": 10})
    books.reserve("a", {"images": 1})


@pytest.mark.usefixtures("used")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE earmark._private_journal SET held = 0",
        "DELETE FROM earmark._private_journal",
        "DELETE FROM earmark._private_journal WHERE false",
        "TRUNCATE earmark._private_journal",
    ],
)
def test_the_journal_refuses_change(scratch: psycopg.Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"), scratch.transaction():
        scratch.execute(statement)  # type: ignore[arg-type]


@pytest.mark.usefixtures("used")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE earmark._private_balance SET held = -1",
        "UPDATE earmark._private_balance SET committed = -1",
        "UPDATE earmark._private_balance SET held = 11",
        "UPDATE earmark._private_balance SET committed = 10",
        "UPDATE earmark._private_hold SET amount = 0",
        "UPDATE earmark._private_hold SET amount = -1",
        "UPDATE earmark._private_hold SET state = 'released'",
        "UPDATE earmark._private_hold SET state = 'committed'",
        "UPDATE earmark._private_hold SET state = 'rolled_back', settled_at = now(), settled_by = 'x'",
        "UPDATE earmark._private_hold SET state = 'committed', settled_at = now(), settled_by = 'x', committed = 2",
        "UPDATE earmark._private_hold SET state = 'committed', settled_at = now(), settled_by = 'x', cause = 'admin'",
        "UPDATE earmark._private_hold SET state = 'rolled_back', settled_at = now(), settled_by = 'x', cause = 'mood'",
        "UPDATE earmark._private_hold SET committed = 1",
        "UPDATE earmark._private_subject SET entries = -1",
        "UPDATE earmark._private_subject_quota SET quota = -1",
    ],
)
def test_the_tables_refuse_an_impossible_state(scratch: psycopg.Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation), scratch.transaction():
        scratch.execute(statement)  # type: ignore[arg-type]


@pytest.mark.usefixtures("used")
def test_a_key_and_an_id_are_unique(scratch: psycopg.Connection, books: Any) -> None:
    columns = "root, subject, request, outcome, expires_at, created_at"
    books.reserve("a", {"images": 1}, key="k")
    for copied in ("reservation, NULL", "gen_random_uuid(), key"):
        with pytest.raises(psycopg.errors.UniqueViolation), scratch.transaction():
            scratch.execute(
                f"INSERT INTO earmark._private_reservation (reservation, key, {columns}) "  # type: ignore[arg-type]  # noqa: S608
                f"SELECT {copied}, {columns} FROM earmark._private_reservation WHERE key = 'k'"
            )
