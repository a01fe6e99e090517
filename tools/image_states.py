"""Draws what every transition function does in every state of an image, by asking the functions themselves.

Writes the drawing between the markers of `docs/explanation/uploads.md`; with --check it writes nothing, and fails when
the page does not say what the functions do.
"""

import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from earmark.local_postgres import LocalPostgres
from earmark.migrate import migrate

PAGE = Path(__file__).parents[1] / "docs/explanation/uploads.md"
BEGIN, END = "<!-- drawn by tools/image_states.py: begin -->\n", "<!-- drawn by tools/image_states.py: end -->\n"

_UPLOADED: tuple[LiteralString, ...] = ("SELECT earmark.image_uploaded(%(image)s, 'alice', 60, 60)",)
_STARTED = (*_UPLOADED, "SELECT earmark.image_start(%(image)s, 60, 60)")
_COMPLETED = (*_STARTED, "SELECT earmark.image_complete(%(image)s, 1, 'image/png', '{}', '{}')")

STATES: dict[str, tuple[LiteralString, ...]] = {
    "reserved": (),
    "uploading": ("SELECT earmark.image_uploading(%(image)s)",),
    "uploaded": _UPLOADED,
    "processing": _STARTED,
    "completed": _COMPLETED,
    "failed": (*_STARTED, "SELECT earmark.image_roll_back(%(image)s, 'processing_failed', attempt => 1)"),
    "rejected": (*_STARTED, "SELECT earmark.image_roll_back(%(image)s, 'validation_failed', attempt => 1)"),
    "cancelled": ("SELECT earmark.image_roll_back(%(image)s, 'cancelled')",),
    "expired": (*_STARTED, "SELECT earmark.image_roll_back(%(image)s, 'expired')"),
    "deleted": (*_COMPLETED, "SELECT earmark.image_delete(%(image)s, 'alice')"),
}
"""How an image comes to each state; to `expired` while it was processed."""

OPEN = {"reserved", "uploading", "uploaded", "processing"}

_OVERDUE: LiteralString = (
    "UPDATE earmark._private_image SET due_at = '-infinity' WHERE image = %(image)s AND due_at IS NOT NULL"
)

CALLS: dict[str, tuple[LiteralString, ...]] = {
    "image_in_parts": ("SELECT outcome FROM earmark.image_in_parts(%(image)s, 'u', 5)",),
    "image_uploading": ("SELECT outcome FROM earmark.image_uploading(%(image)s)",),
    "image_uploaded": ("SELECT outcome FROM earmark.image_uploaded(%(image)s, 'alice', 60, 60)",),
    "image_start": ("SELECT outcome FROM earmark.image_start(%(image)s, 60, 60)",),
    "image_start, overdue": (_OVERDUE, "SELECT outcome FROM earmark.image_start(%(image)s, 60, 60)"),
    "image_hand_over": ("SELECT outcome FROM earmark.image_hand_over(%(image)s, %(attempt)s + 1, 60, 60)",),
    "image_heartbeat": ("SELECT outcome FROM earmark.image_heartbeat(%(image)s, %(attempt)s, 60, 60)",),
    "image_heartbeat, old attempt": (
        "SELECT outcome FROM earmark.image_heartbeat(%(image)s, %(attempt)s - 1, 60, 60)",
    ),
    "image_wait": ("SELECT outcome FROM earmark.image_wait(%(image)s, %(attempt)s, 'again', 60, 60)",),
    "image_wait, old attempt": ("SELECT outcome FROM earmark.image_wait(%(image)s, %(attempt)s - 1, 'again', 60, 60)",),
    "image_complete": ("SELECT outcome FROM earmark.image_complete(%(image)s, %(attempt)s, 'image/png', '{}', '{}')",),
    "image_complete, old attempt": (
        "SELECT outcome FROM earmark.image_complete(%(image)s, %(attempt)s - 1, 'image/png', '{}', '{}')",
    ),
    "image_roll_back: upload_failed": ("SELECT outcome FROM earmark.image_roll_back(%(image)s, 'upload_failed')",),
    "image_roll_back: upload_failed, attempt 0": (
        "SELECT outcome FROM earmark.image_roll_back(%(image)s, 'upload_failed', attempt => 0)",
    ),
    "image_roll_back: validation_failed": (
        "SELECT outcome FROM earmark.image_roll_back(%(image)s, 'validation_failed')",
    ),
    "image_roll_back: processing_failed": (
        "SELECT outcome FROM earmark.image_roll_back(%(image)s, 'processing_failed', attempt => 1)",
    ),
    "image_roll_back: processing_failed, old attempt": (
        "SELECT outcome FROM earmark.image_roll_back(%(image)s, 'processing_failed', attempt => %(attempt)s - 1)",
    ),
    "image_roll_back: cancelled": ("SELECT outcome FROM earmark.image_roll_back(%(image)s, 'cancelled')",),
    "image_roll_back: expired, not overdue": (
        "SELECT outcome FROM earmark.image_roll_back(%(image)s, 'expired', only_overdue => true)",
    ),
    "image_roll_back: expired": (
        _OVERDUE,
        "SELECT outcome FROM earmark.image_roll_back(%(image)s, 'expired', only_overdue => true)",
    ),
    "image_delete": ("SELECT outcome FROM earmark.image_delete(%(image)s, 'alice')",),
    "image_lost": ("SELECT outcome FROM earmark.image_lost(%(image)s, 'gone', 'operator')",),
    "image_outputs_lost": ("SELECT outcome FROM earmark.image_outputs_lost(%(image)s, '{}')",),
}
"""Every transition function, with the number of the current attempt where it takes one."""


def observed(connection: psycopg.Connection[Any]) -> dict[str, dict[str, tuple[str, str]]]:
    """For every call, from every state: its outcome, and the state after it. Nothing of it stays in the database."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for label, steps in CALLS.items():
        found[label] = {}
        for state, path in STATES.items():
            with connection.transaction(force_rollback=True):
                found[label][state] = _tried(connection, path, steps, state)
    return found


def _tried(
    connection: psycopg.Connection[Any], path: tuple[LiteralString, ...], steps: tuple[LiteralString, ...], state: str
) -> tuple[str, str]:
    reserve = """SELECT images->0->>'image' FROM earmark.images_reserve(
        'alice', '[{"filename": "a.png", "content_type": "image/png", "size": 7}]', 60, 60)"""
    names: dict[str, Any] = {"image": _value(connection.execute(reserve))}
    for query in path:
        connection.execute(query, names)
    look: LiteralString = "SELECT state FROM earmark._private_image WHERE image = %(image)s"
    assert _value(connection.execute(look, names)) == state  # noqa: S101 - else the drawing is of something else
    names["attempt"] = _value(
        connection.execute("SELECT attempt FROM earmark._private_image WHERE image = %(image)s", names)
    )
    *before, call = steps
    for query in before:
        connection.execute(query, names)
    return _value(connection.execute(call, names)), _value(connection.execute(look, names))


def _value(cursor: psycopg.Cursor[Any]) -> Any:
    row = cursor.fetchone()
    assert row is not None  # noqa: S101 - these queries answer one row
    return row[0]


def drawing(found: dict[str, dict[str, tuple[str, str]]]) -> str:
    """The states as a diagram, and every call in every state as a table, in Markdown."""
    lines = ["```mermaid", "stateDiagram-v2", *_diagram(found), "```", ""]
    lines += ["| call | " + " | ".join(STATES) + " |", "|---" * (len(STATES) + 1) + "|"]
    for label, row in found.items():
        cells = [_cell(outcome, before, after) for before, (outcome, after) in row.items()]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(outcome: str, before: str, after: str) -> str:
    if before == after:
        return outcome
    return f"**{after}**" if outcome == after else f"{outcome} → **{after}**"


def _diagram(found: dict[str, dict[str, tuple[str, str]]]) -> list[str]:
    """A step that leads from every open state to the same one is drawn once, from all of them together."""
    origins: dict[tuple[str, str], set[str]] = defaultdict(set)
    for label, row in found.items():
        name = label.partition(",")[0].removeprefix("image_").removeprefix("roll_back: ")
        for before, (_, after) in row.items():
            if before != after:
                origins[name, after].add(before)
    edges: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (name, after), befores in origins.items():
        together = befores >= OPEN and after not in OPEN
        single = befores - OPEN if together else befores
        for before in (*(["open"] if together else ()), *(state for state in STATES if state in single)):
            edges[before, after].append(name)
    inner = {edge: names for edge, names in edges.items() if OPEN.issuperset(edge)}
    lines = ["    state open {", "        [*] --> reserved: images_reserve"]
    lines += [f"        {before} --> {after}: {', '.join(names)}" for (before, after), names in inner.items()]
    lines.append("    }")
    outer = {edge: names for edge, names in edges.items() if edge not in inner}
    return lines + [f"    {before} --> {after}: {', '.join(names)}" for (before, after), names in outer.items()]


def drawn(page: str, found: dict[str, dict[str, tuple[str, str]]]) -> str:
    """The page with the drawing as it is today."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + drawing(found) + END + after


def _main() -> None:
    with (
        tempfile.TemporaryDirectory() as home,
        LocalPostgres(Path(home)) as server,
        psycopg.connect(server.url, autocommit=True) as connection,
    ):
        migrate(connection, default_plan="pro")
        page = PAGE.read_text(encoding="utf-8")
        now = drawn(page, observed(connection))
    if "--check" not in sys.argv:
        PAGE.write_text(now, encoding="utf-8")
    elif page != now:
        sys.exit(f"{PAGE.name} does not say what the functions do: run python tools/image_states.py")


if __name__ == "__main__":
    _main()
