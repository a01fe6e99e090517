"""The drawing of the states says what the functions do, and no transition function is left out of it."""

import importlib.util
from pathlib import Path
from types import ModuleType

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
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'earmark._private_image'::regclass "
        "AND contype = 'c' AND pg_get_constraintdef(oid) LIKE '%%deleted%%'"
    ).fetchone()
    assert {word for word in check.split("'") if word.isalpha()} >= set(tool.STATES)
    assert check.count("::text") == len(tool.STATES)


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
