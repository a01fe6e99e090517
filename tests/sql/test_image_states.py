"""The drawing of the states says what the functions do, and no transition function is left out of it."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest

TOOL = Path(__file__).parents[2] / "tools/image_states.py"
FINAL = {"failed", "rejected", "cancelled", "expired", "deleted"}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("image_states", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(tool: ModuleType, shared_database: str) -> dict[str, dict[str, tuple[str, str]]]:
    with psycopg.connect(shared_database) as connection, connection.transaction(force_rollback=True):
        return tool.observed(connection)


def test_the_page_says_what_the_functions_do(tool: ModuleType, found: dict[str, dict[str, tuple[str, str]]]) -> None:
    page = tool.PAGE.read_text(encoding="utf-8")
    assert page == tool.drawn(page, found), "run `python tools/image_states.py`"


def test_every_state_and_every_transition_function_is_drawn(tool: ModuleType, scratch: psycopg.Connection) -> None:
    functions = scratch.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'earmark'::regnamespace AND proname LIKE 'image\\_%%' "
        "AND provolatile = 'v'"
    ).fetchall()
    drawn = {label.partition(":")[0].partition(",")[0] for label in tool.CALLS}
    assert {name for (name,) in functions} == drawn
    (check,) = scratch.execute(
        "SELECT prosrc FROM pg_proc WHERE oid = 'earmark._private_image_is_sound'::regproc"
    ).fetchone()
    assert set(re.findall(r"'(\w+)'", check)) == set(tool.STATES)


def test_what_is_over_stays_over(tool: ModuleType, found: dict[str, dict[str, tuple[str, str]]]) -> None:
    """Final states are left by delete alone, save expired by a late success; an old attempt changes nothing."""
    ways_out = set()
    for label, row in found.items():
        for before, (_, after) in row.items():
            if before in FINAL and before != after:
                ways_out.add((label, before, after))
            if "old attempt" in label:
                assert before == after, (label, before)
            if before not in tool.OPEN:
                assert after not in tool.OPEN, (label, before)
    deletions = {("image_delete", state, "deleted") for state in FINAL - {"deleted"}}
    assert ways_out == deletions | {("image_complete", "expired", "completed")}


@pytest.mark.parametrize(
    ("change", "numbered"),
    [
        ("state = 'uploading'", 1),
        ("attempt = 1", 1),
        ("cause = 'expired'", 1),
        ("reason = 'Why'", 1),
        ("content_type = 'image/png'", 1),
        ("metadata = '{\"width\": 1}'", 1),
        ("outputs = '[]'", 1),
        ("state = 'uploading', attempt = 1", 1),
        ("state = state, attempt = attempt, reason = reason", 0),
        ("due_at = now() + interval '1 day', updated_at = now()", 0),
    ],
)
def test_what_people_see_of_an_image_is_numbered(
    scratch: psycopg.Connection, books: Any, change: str, numbered: int
) -> None:
    """Events, and whoever resumes them, are told of each change by its number, and of nothing else."""
    books.configure_subject("a")
    scratch.execute(
        "SELECT FROM earmark.images_reserve('a', %s, 60, 60)",
        ('[{"filename": "a.jpg", "content_type": "image/jpeg", "size": 10}]',),
    )
    query = "SELECT i.change, p.changes FROM earmark._private_image i CROSS JOIN earmark.positions('{a}') p"
    before = scratch.execute(query).fetchone()
    scratch.execute(f"UPDATE earmark._private_image SET {change}")  # type: ignore[arg-type]  # noqa: S608
    after = scratch.execute(query).fetchone()
    assert before is not None
    assert after == (before[0] + numbered, before[1] + numbered)
    books.configure_subject("a", actor="operator")
    assert scratch.execute(query).fetchone() == (after[0], after[1] + 1), "settings are numbered in the same line"
