"""`earmark log --follow`: the journal as it is written, in the order of commits, none missed and none twice."""

import signal
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import NoReturn

import typer

from earmark.cli.json_output import print_json_line
from earmark.cli.terminal import safe_text
from earmark.ledger import Ledger
from earmark.model import Entry, Followed

LOOK_SECONDS = 0.25
"""Between two looks while nothing comes."""
INTERRUPTED = 130
START = "start"


def follow_journal(ledger: Ledger, subject: str | None, after: str | None, limit: int, *, as_json: bool) -> NoReturn:
    """Prints the subject's last entries, and everybody's or his as they come.

    Args:
        ledger: Where the journal is.
        subject: Whose; None: everybody's, from now on.
        after: Cursor of the last entry that was seen, or `start`; then nothing but what follows it is printed.
        limit: How many of a subject's last entries.
        as_json: One document per line, with the cursor; else columns.

    Raises:
        typer.Exit: With 130, once it is interrupted.
        InvalidRequest: Not a cursor.
    """
    show = _show_json if as_json else _show_line
    interrupt = _Interrupt()
    cursor = ledger.journal_position() if after is None else None if after == START else after
    seen = 0
    if subject is not None and after is None:
        for entry in ledger.history(subject, limit=limit)[::-1]:
            show(None, subject, entry)
            seen = entry.seq
    for followed in _followed(ledger, cursor, interrupt):
        # Shown above already: committed, though followers had to wait for it.
        if subject is None or (followed.subject == subject and followed.entry.seq > seen):
            show(followed.cursor, followed.subject, followed.entry)
    raise typer.Exit(INTERRUPTED)


class _Interrupt:
    """Ctrl-C lets the query in flight end; a second one does not."""

    def __init__(self) -> None:
        self.came = False
        signal.signal(signal.SIGINT, self._note)

    def _note(self, *_: object) -> None:
        if self.came:
            raise KeyboardInterrupt
        self.came = True


def _followed(ledger: Ledger, cursor: str | None, interrupt: _Interrupt) -> Iterator[Followed]:
    while not interrupt.came:
        page = ledger.follow(cursor)
        yield from page
        if page:
            cursor = page[-1].cursor
        else:
            time.sleep(LOOK_SECONDS)


def _show_json(cursor: str | None, subject: str, entry: Entry) -> None:
    print_json_line({"cursor": cursor, "subject": subject, **asdict(entry)})


def _show_line(_: str | None, subject: str, entry: Entry) -> None:
    changes = " ".join(
        f"{amount:+,} {name}" for name, amount in (("held", entry.held), ("committed", entry.committed)) if amount
    )
    what = f"{entry.resource} {changes}"
    cause = f" {entry.cause}" if entry.cause else ""
    about = f"  {entry.reservation}/{entry.item}" if entry.reservation else ""
    reason = f"  ({entry.reason})" if entry.reason else ""
    by = "" if entry.actor == subject else f"  by {entry.actor}"
    line = f"{entry.at:%Y-%m-%d %H:%M:%S}  {subject}  {entry.kind}{cause}  {what}{by}{about}{reason}"
    print(safe_text(line), flush=True)  # noqa: T201 - what was asked for
