"""`earmark adopt`: takes over the use that hand-written counters have counted."""

import csv
import io
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from earmark.cli.json_output import print_json
from earmark.cli.quota import Home, Json, open_ledger
from earmark.cli.terminal import safe_text
from earmark.errors import EarmarkError, InvalidRequest, UnknownPlan, UnknownResource, UnknownSubject
from earmark.ledger import Ledger
from earmark.model import UNLIMITED, Adopted, Counted

COLUMNS = ("subject", "resource", "used", "limit", "plan")
NEEDED = frozenset(COLUMNS[:3])
BATCH = 500
"""Rows of one transaction."""
SHOWN = 20
"""Faults that are told at once."""
USED_MAX = 2**63 - 1

Line = tuple[int, Counted]


def adopt(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="CSV whose head is subject,resource,used[,limit][,plan]; else standard input."
        ),
    ] = None,
    *,
    key: Annotated[str, typer.Option(metavar="NAME", help="Of this import: under it, each row is adopted once.")],
    reason: Annotated[str | None, typer.Option(help="For the journal; by default it names the import.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Take over the use that other counters have counted.

    From FILE or standard input, with limits and plans where it has them. Use is added to the current period, as an
    adjustment in the journal. The whole file is read before anything is done. It is adopted by 500 rows, each batch
    whole or not at all; what is in already under the same --key is not added again, so after a fault the same command
    can be repeated.
    """
    lines = _lines_of(sys.stdin.buffer.read() if file is None else file.read_bytes())
    done: Counter[str] = Counter()
    with open_ledger(home, may_create=True) as ledger:
        for start in range(0, len(lines), BATCH):
            batch = lines[start : start + BATCH]
            answers = _adopt_batch(ledger, batch, key, reason or f"adopted: {key}", done, dry_run=dry_run)
            done.update(answer.outcome for answer in answers)
    if as_json:
        print_json({"rows": len(lines), "outcomes": dict(done), "dryRun": dry_run})
    else:
        told = ", ".join(f"{number:,} {outcome.replace('_', ' ')}" for outcome, number in sorted(done.items()))
        typer.echo(f"{len(lines):,} rows{' would be' if dry_run else ''}: {told or 'nothing to do'}")


def _adopt_batch(
    ledger: Ledger, batch: list[Line], key: str, reason: str, before: Counter[str], *, dry_run: bool
) -> tuple[Adopted, ...]:
    try:
        answers = ledger.adopt([one for _, one in batch], key=key, reason=reason, actor="operator", dry_run=dry_run)
    except (InvalidRequest, UnknownPlan, UnknownResource, UnknownSubject) as error:
        _give_up([f"{_place(batch, error)}{error}"], before)
    faults = [
        f"line {number}: {safe_text(one.subject)} {one.resource}: "
        + (
            f"adopted before under this key with another {', '.join(answer.differs)}"
            if answer.differs
            else answer.outcome
        )
        for (number, one), answer in zip(batch, answers, strict=True)
        if answer.refused
    ]
    if faults:
        _give_up(faults, before)
    return answers


def _place(batch: list[Line], error: EarmarkError) -> str:
    subject, resource = error.detail.get("subject"), error.detail.get("resource")
    for number, one in batch:
        if one.subject == subject and resource in {None, one.resource}:
            return f"line {number}: "
    return ""


def _give_up(faults: list[str], before: Counter[str]) -> NoReturn:
    for fault in faults[:SHOWN]:
        typer.echo(f"earmark: {fault}", err=True)
    if len(faults) > SHOWN:
        typer.echo(f"earmark: and {len(faults) - SHOWN} more", err=True)
    kept = f"the {before.total():,} rows before are in" if before.total() else "nothing was adopted"
    typer.echo(f"earmark: mend the file and repeat; {kept}.", err=True)
    raise typer.Exit(1)


def _lines_of(data: bytes) -> list[Line]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"this is not UTF-8, from byte {error.start} on") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        heads = [head.strip().lower() for head in reader.fieldnames or ()]
        unknown = [head for head in heads if head not in COLUMNS]
        if unknown or not set(heads) >= NEEDED or len(set(heads)) < len(heads):
            message = f"the first line must name the columns {','.join(COLUMNS)}, the last two if you have them"
            raise typer.BadParameter(message)
        reader.fieldnames = heads
        found: list[Line] = []
        faults: list[str] = []
        seen: dict[tuple[str, str], int] = {}
        for row in reader:
            number = reader.line_num
            one = _counted(row)
            if isinstance(one, str):
                faults.append(f"line {number}: {one}")
            elif (first := seen.setdefault((one.subject, one.resource), number)) != number:
                faults.append(f"line {number}: {safe_text(one.subject)} {one.resource} is on line {first} already")
            else:
                found.append((number, one))
    except csv.Error as error:
        raise typer.BadParameter(f"line {reader.line_num}: this is not CSV: {error}") from None
    if faults:
        _give_up(faults, Counter())
    return found


def _counted(row: dict[str | None, str | list[str] | None]) -> Counted | str:
    """One row, or what is wrong with it."""
    if None in row or None in row.values():
        return "it has not as many columns as the first line"
    cells = {str(head): str(cell).strip() for head, cell in row.items()}
    if not cells["subject"] or not cells["resource"]:
        return "subject and resource must be named"
    used, limit = _whole(cells["used"], 0), _whole(cells.get("limit", ""), UNLIMITED)
    if used is None:
        return f"used is {safe_text(cells['used'])!r}; it must be a whole number from 0"
    if limit is None and cells.get("limit"):
        return f"limit is {safe_text(cells['limit'])!r}; it must be a whole number from 0, -1 (unlimited), or empty"
    return Counted(cells["subject"], cells["resource"], used, cells.get("plan") or None, limit)


def _whole(text: str, lowest: int) -> int | None:
    if not re.fullmatch(r"-?[0-9]{1,19}", text):
        return None
    return number if lowest <= (number := int(text)) <= USED_MAX else None
