"""The command that compares the object store with the books."""

import asyncio
import json
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from earmark.cli.database import database
from earmark.cli.json_output import plain
from earmark.cli.quota import DRIFT_FOUND, Home, Json, settings_of
from earmark.cli.terminal import print_lines
from earmark.config import Settings

if TYPE_CHECKING:
    from earmark.uploads.reconcile import Drift

_WORDS = {
    "foreign": "not an object of Earmark's; look at it yourself",
    "unknown": "an object of an image that is not in the books",
    "left_over": "an object that no image needs",
    "missing": "the object of a completed image is missing",
    "size_differs": "the object of a completed image has another size",
    "output_missing": "something that processing made is missing",
    "unfinished": "an upload in parts that no image waits for",
}


def reconcile(
    *,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Remove what nothing needs, make thumbnails anew; completed images without their object fail.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Repair even where store and books have little in common.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Compare the object store with the books, both ways; exit code 3 where they differ.

    Objects of open images, and those younger than an upload URL lives, are left alone. What a completed image took that
    its plan refunds, such as storage_bytes, comes back when its object is gone, journaled as a refund.

    Where most of the oldest images lack their objects, or most objects their images, the store or the database may be
    the wrong one: nothing is repaired without --force.
    """
    from earmark.cli.logs import configure_logs  # noqa: PLC0415 - the other commands start faster without it

    settings = settings_of(home)
    configure_logs(settings.log_format)
    with database(settings) as found:
        left = asyncio.run(_compare(settings, found.url, repair=repair, force=force, as_json=as_json))
    if left:
        raise typer.Exit(DRIFT_FOUND)


async def _compare(settings: Settings, url: str, *, repair: bool, force: bool, as_json: bool) -> int:
    """Prints each difference as it is found, so that none are kept; how many are left."""
    from earmark.cli.services import open_services  # noqa: PLC0415 - the other commands start faster without it
    from earmark.uploads.reconcile import reconcile as differences  # noqa: PLC0415

    seen: Counter[bool] = Counter()
    async with open_services(settings, url) as services:
        async for drift in differences(services.uploads, moment=datetime.now(UTC), repair=repair, force=force):
            if as_json:
                document = json.dumps(asdict(drift), default=plain, ensure_ascii=False)
                typer.echo(("[" if not seen else ",\n ") + document, nl=False)
            else:
                print_lines([_line(drift)])
            seen[drift.repaired] += 1
        await services.ledger.record_check("reconcile", seen[False])
    if as_json:
        typer.echo("]" if seen else "[]")
    elif not seen:
        typer.echo("The store and the books agree.")
    elif repair:
        typer.echo(f"{seen[True]} repaired, {seen[False]} left.")
    else:
        typer.echo(f"{seen[False]} differences; `earmark reconcile --repair` deals with them.")
    return seen[False]


def _line(drift: "Drift") -> str:
    sizes = ""
    if drift.expected is not None and drift.found is not None:
        sizes = f" ({drift.found:,} bytes instead of {drift.expected:,})"
    elif drift.found is not None:
        sizes = f" ({drift.found:,} bytes)"
    whose = f" of {drift.subject}" if drift.subject else ""
    done = ", repaired" if drift.repaired else ""
    return f"{drift.key}{whose}: {_WORDS[drift.difference]}{sizes}{done}"
