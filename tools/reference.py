"""Writes the pages of docs/reference that say what the code says; with --check it fails when one has drifted."""

import html
import inspect
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from earmark import AsyncLedger, AsyncReservation, metrics, model
from earmark.access import USER_FUNCTIONS
from earmark.cli import app
from earmark.client import AsyncClient
from earmark.client._async_images import AsyncImages
from earmark.config import Settings
from earmark.errors import ALL_ERRORS
from earmark.migrate import scripts
from earmark.model import Health
from earmark.uploads.processing import Output, Processed, Source

REFERENCE = Path(__file__).parents[1] / "docs/reference"
WRITTEN = "*Written by `python tools/reference.py`; do not edit.*"
UNWELL = Health(0, 0, 0.0, 0, {}, 0, 0.0, 0, (), ())


def configuration() -> str:
    """Every setting."""
    rows = []
    for name, field in Settings.model_fields.items():
        if not field.description:
            sys.exit(f"the setting {name} has no docstring")
        default = "" if field.default in {None, PydanticUndefined, ()} else _default(field.default)
        rows.append((f"`EARMARK_{name.upper()}`", _kind(field.annotation), default, _one_line(field.description)))
    return _page(
        "Configuration",
        "Settings are environment variables, read once when a command starts; flags of the command line win over them. "
        "Durations are seconds, sizes are bytes. A value that does not parse or is empty, and a variable that is a "
        "setting but for its spelling, end the command with exit code 2 and the variable's name.",
        _table(("variable", "kind", "default", "what it sets"), rows),
    )


def command_line() -> str:
    """Every command, as typer documents it."""
    command = [sys.executable, "-m", "typer", "earmark.cli", "utils", "docs", "--name", "earmark"]
    text = html.unescape(subprocess.run(command, capture_output=True, text=True, check=True).stdout)  # noqa: S603 - ours
    group = typer.main.get_command(app)
    for name, one in group.commands.items():  # type: ignore[attr-defined]
        first = (one.help or "").strip().partition("\n\n")[0]
        line = f"* `{name}`: {_one_line(first)}"
        text = re.sub(rf"^\* `{name}`: .*$", line.replace("\\", r"\\"), text, flags=re.MULTILINE)
    _, _, body = text.partition("**Usage**")
    exits = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 drift found, 130 after Ctrl-C."
    return _page("Command line", exits, "**Usage**" + body.strip())


def metrics_page() -> str:
    """Every metric."""
    process = [
        metrics.OPERATIONS, metrics.DENIALS, metrics.DOUBLE_SETTLEMENTS, metrics.ROLLBACKS_RETRIED,
        metrics.ROLLBACKS_FAILED, metrics.REQUESTS, metrics.DUTIES, metrics.DUTY_DONE_AT,
    ]  # fmt: skip
    of_process = [_described(next(iter(one.collect())), one._labelnames) for one in process]  # noqa: SLF001 - no other way
    answering = [metrics.database_up(up=True), metrics.clock_ahead(0)]
    families = [*answering, *metrics.of_database(UNWELL), *metrics.of_queue(0, 0, 0)]
    of_database = [_described(one, getattr(one, "_labelnames", ())) for one in families]
    heads = ("metric", "kind", "labels", "what it says")
    return _page(
        "Metrics",
        "`earmark serve` answers `/metrics` at its own address, `earmark worker` at `EARMARK_METRICS_PORT`. No "
        "metric names "
        "a subject. Alert rules that rest on these: "
        "[alerts.yml](../operations/alerts.yml).",
        "## Of the process\n\nThey start at 0 with it: sum their rates over instances. `serve --workers N` adds "
        "up "
        "those of its processes; where you run several behind one address by other means, give them an empty folder in "
        "`PROMETHEUS_MULTIPROC_DIR`. Beside them are Prometheus' own `process_…`, where it is a single one.",
        _table(heads, of_process),
        "## Of the database\n\nThe same in every instance, but for its clock: take the maximum over instances. What "
        "has happened is counted from the journal by the worker, whoever did it, and survives restarts.",
        _table(heads, of_database),
    )


def errors() -> str:
    """Every error of the library."""
    rows = [
        (
            f"`{one.__name__}`",
            f"`{one.sqlstate}`" if one.sqlstate else "",
            str(one.status),
            f"`{one.slug}`",
            _one_line(one.__doc__ or ""),
        )
        for one in ALL_ERRORS
    ]
    return _page(
        "Errors",
        "What is expected (denied, already rolled back…) is an answer, not an error. Errors are classes in Python "
        "(`earmark.errors`, all of them `EarmarkError` with a `detail`), SQLSTATEs with JSON in DETAIL in SQL, and "
        "problem "
        "documents over HTTP. psycopg's own errors pass through untouched.",
        _table(("class", "SQLSTATE", "HTTP", "problem", "when"), rows),
    )


def sql() -> str:
    """Every public function of the schema."""
    parts = []
    for script in sorted(scripts("functions", "compat"), key=lambda one: one.file.rpartition("/")[2]):
        found = re.search(
            r"CREATE OR REPLACE FUNCTION earmark\.((?!_private)\w+)\s*\((.*?)\)\s*(?:RETURNS (.*?))?\s*LANGUAGE",
            script.text,
            re.DOTALL,
        )
        if found is None:
            continue
        name, arguments, answer = (_one_line(part or "") for part in found.groups())
        comment = re.search(rf"COMMENT ON FUNCTION earmark\.{name} IS\s*'(.*)';", script.text, re.DOTALL)
        if comment is None:
            sys.exit(f"{script.file} has no comment")
        who = " A user may call it for himself." if name in USER_FUNCTIONS else ""
        returns = f"\nRETURNS {answer}" if answer else ""
        told = _escaped(comment[1].replace("''", "'")).replace("\n", "  \n")
        parts.append(f"## `{name}`\n\n```text\nearmark.{name}({arguments}){returns}\n```\n\n{told}{who}")
    return _page(
        "SQL functions",
        "The product's core: every other door leads to these. The batch functions take a JSON array of requests and "
        "answer "
        "a row each. Services may call all of them; see [who may call what](../how-to/postgresql.md).",
        *parts,
    )


def python() -> str:
    """Every method of the ledger."""
    return _page(
        "Python",
        "`Ledger` and `AsyncLedger` have the same methods; those of `AsyncLedger` are awaited. Every method but "
        "`open` and "
        "`close` takes the caller's own `connection`, and is then part of his transaction. "
        "[What they answer](answers.md).",
        *_methods(AsyncLedger),
    )


def client() -> str:
    """Every method of the client."""
    return _page(
        "Python over HTTP",
        "`earmark.client`, with the extra `client`: `Client` and `AsyncClient` have the same methods; those of "
        "`AsyncClient` are awaited. [How to use it](../how-to/python-client.md); [what they answer](answers.md).",
        _docstring(inspect.getdoc(AsyncClient) or ""),
        *_methods(AsyncClient),
        f"# Images\n\n{_docstring(inspect.getdoc(AsyncImages) or '')}",
        *_methods(AsyncImages, "images."),
    )


def answers() -> str:
    """What the methods of ledger and client answer, and what a processor is given and answers."""
    return _page(
        "What the calls answer",
        "`reserve` answers a reservation; the other calls of [the ledger](python.md), and of [the client](client.md), "
        "answer values of `earmark.model`. Amounts are whole numbers of 64 bits, times are in UTC.",
        f"## `Reservation`\n\n{_docstring(inspect.getdoc(AsyncReservation) or '')}",
        "\n".join(
            f"* `{name}`: {_one_line((one.__doc__ or '').partition('Raises:')[0])}"
            for name, one in inspect.getmembers(AsyncReservation, lambda member: isinstance(member, property))
        ),
        "`AsyncReservation` has the same methods, which are awaited.",
        *(part.replace("## ", "### ", 1) for part in _methods(AsyncReservation, "reservation.")),
        *(_fields(kind) for kind in vars(model).values() if is_dataclass(kind) and kind.__module__ == model.__name__),
        "# What a processor is given, and answers\n\n"
        "From `earmark.uploads.processing`; see [process what was uploaded](../how-to/process.md).",
        *(_fields(kind) for kind in (Source, Processed, Output)),
    )


PAGES = {
    "answers.md": answers,
    "client.md": client,
    "configuration.md": configuration,
    "command-line.md": command_line,
    "metrics.md": metrics_page,
    "errors.md": errors,
    "sql.md": sql,
    "python.md": python,
}


def _methods(kind: type, prefix: str = "") -> list[str]:
    return [
        f"## `{prefix}{name}`\n\n```text\n{_signature(name, method)}\n```\n\n{_docstring(method.__doc__ or '')}"
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    ]


def _fields(kind: type) -> str:
    shown = "\n".join(f"{one.name}: {_type(one.type)}" for one in fields(kind))
    return f"## `{kind.__name__}`\n\n```text\n{shown}\n```\n\n{_docstring(inspect.getdoc(kind) or '')}"


def _type(annotation: Any) -> str:
    return re.sub(r"(?:\w+\.)+(?=\w)", "", annotation.__name__ if isinstance(annotation, type) else str(annotation))


def _page(title: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", *parts, WRITTEN]) + "\n"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return text.replace("*", "\\*").replace("_", "\\_").replace("<", "&lt;").replace("[", "\\[")


def _default(value: Any) -> str:
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _kind(annotation: Any) -> str:
    if isinstance(annotation, UnionType):
        return _kind(next(one for one in get_args(annotation) if one is not type(None)))
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{one}`" for one in get_args(annotation))
    if get_origin(annotation) in {tuple, Mapping}:
        return "list"
    if get_origin(annotation) is not None:
        return _kind(get_args(annotation)[0])
    names = {
        float: "number",
        int: "whole number",
        str: "text",
        Path: "folder",
        bool: "true or false",
        SecretStr: "secret",
    }
    return names[annotation]


def _described(family: Any, labels: Sequence[str]) -> tuple[str, str, str, str]:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return f"`{name}`", family.type, ", ".join(f"`{label}`" for label in labels), family.documentation


def _signature(name: str, method: Any) -> str:
    text = str(inspect.signature(method)).replace("self, ", "").replace("(self)", "()").replace("*, ", "*, ")
    text = re.sub(r",? ?connection: '?[^=]*= None", "", text).replace("(*)", "()").replace(", *)", ")")
    return re.sub(r"(?:\w+\.)+(?=\w)", "", f"{name}{text}")


def _docstring(text: str) -> str:
    told = inspect.cleandoc(text)
    told = re.sub(r"^    (\w+): ", r"* `\1`: ", told, flags=re.MULTILINE)
    told = re.sub(r"^    connection: .*\n?(?:        .*\n?)*", "", told, flags=re.MULTILINE)
    told = re.sub(r"^\* `connection`: .*\n?(?: {8}.*\n?)*", "", told, flags=re.MULTILINE)
    told = re.sub(r"^ {8}", "  ", told, flags=re.MULTILINE)
    return re.sub(r"^(Args|Attributes|Raises|Returns):$", r"\1:\n", told, flags=re.MULTILINE).strip()


def main() -> None:
    """Writes or checks."""
    for name, write in PAGES.items():
        path, text = REFERENCE / name, write()
        if "--check" not in sys.argv:
            REFERENCE.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"docs/reference/{name} is not what the code says: run python tools/reference.py")


if __name__ == "__main__":
    main()
