"""The last line of defence: what the tables themselves refuse."""

from typing import Any

import psycopg
import pytest


@pytest.fixture
def used(scratch: psycopg.Connection, books: Any) -> None:
    """`a` has two images held of a quota of 10, one of them in the flow."""
    books.configure_subject("a", quotas={"images": 10})
    books.reserve("a", {"images": 1})
    scratch.execute(
        "SELECT * FROM earmark.images_reserve('a', %s, 60, 60)",
        ('[{"filename": "a.jpg", "content_type": "image/jpeg", "size": 10}]',),
    )


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
        "UPDATE earmark._private_hold SET state = 'committed', settled_at = now(), settled_by = 'x', committed = -1",
        "UPDATE earmark._private_hold SET state = 'committed', settled_at = now()",
        "UPDATE earmark._private_hold SET state = 'committed', settled_by = 'x'",
        "UPDATE earmark._private_hold SET settled_at = now(), settled_by = 'x'",
        "UPDATE earmark._private_hold SET level = -1",
        "UPDATE earmark._private_subject SET entries = -1",
        "UPDATE earmark._private_subject SET pruned_seq = -1",
        "UPDATE earmark._private_subject SET pruned_seq = entries + 1",
        "UPDATE earmark._private_subject SET changes = -1",
        "UPDATE earmark._private_subject SET ancestors = '{b,a}'",
        "UPDATE earmark._private_subject SET ancestors = '{a,b}'",
        "INSERT INTO earmark._private_subject (root, subject, ancestors, plan) VALUES ('', '', '{\"\"}', 'free')",
        "UPDATE earmark._private_image SET size = 0",
        "UPDATE earmark._private_image SET attempt = -1",
        "UPDATE earmark._private_image SET state = 'lost'",
        "UPDATE earmark._private_image SET state = 'completed'",
        "UPDATE earmark._private_image SET due_at = NULL",
        "UPDATE earmark._private_subject_quota SET quota = -1",
    ],
)
def test_the_tables_refuse_an_impossible_state(scratch: psycopg.Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation), scratch.transaction():
        scratch.execute(statement)  # type: ignore[arg-type]


@pytest.mark.usefixtures("used")
@pytest.mark.parametrize(
    ("table", "change", "rows"),
    [
        ("hold", "state = 'rolled_back', settled_at = now(), settled_by = 'x', cause = 'admin'", 3),
        ("hold", "state = 'committed', settled_at = now(), settled_by = 'x', committed = amount", 3),
        ("image", "state = 'completed', due_at = NULL", 1),
        ("image", "state = 'processing', attempt = 1", 1),
        ("subject", "pruned_seq = entries", 1),
    ],
)
def test_the_tables_take_what_is_possible(scratch: psycopg.Connection, table: str, change: str, rows: int) -> None:
    with scratch.transaction(force_rollback=True):
        changed = scratch.execute(f"UPDATE earmark._private_{table} SET {change}")  # type: ignore[arg-type]  # noqa: S608
        assert changed.rowcount == rows


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
