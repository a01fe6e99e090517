"""JSON on standard output."""

import json
from datetime import datetime
from enum import Enum

import typer


def print_json(value: object) -> None:
    """One document, to be read by people too."""
    typer.echo(json.dumps(value, default=plain, indent=2, ensure_ascii=False))


def print_json_line(value: object) -> None:
    """One document on one line, written out at once."""
    print(json.dumps(value, default=plain, ensure_ascii=False), flush=True)  # noqa: T201 - what was asked for


def plain(value: object) -> object:
    """A value that JSON lacks, as one that it has."""
    if isinstance(value, datetime):
        return value.isoformat()
    return value.value if isinstance(value, Enum) else str(value)
