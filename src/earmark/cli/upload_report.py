"""What `earmark upload` tells the person who ran it: progress while it works, then a table or one JSON document."""

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.table import Column, Table
from rich.text import Text

from earmark.cli.terminal import safe_text
from earmark.model import UNLIMITED, ResourceUsage

EXIT_FAILED = 1
EXIT_BY_SIGNAL = 128
UNLIMITED_CELLS = 1_000_000


class Outcome(enum.StrEnum):
    """What became of one file."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """By the service, before anything was reserved for it."""
    ROLLED_BACK = "rolled back"
    """Something was reserved for it, and came back."""
    CANCELLED = "cancelled"
    LEFT_OUT = "left out"
    NOT_SENT = "not sent"
    UNSETTLED = "unsettled"
    """Not settled when we left; the service's own deadline settles it."""


_STYLES = {
    Outcome.ACCEPTED: "green",
    Outcome.REFUSED: "yellow",
    Outcome.ROLLED_BACK: "yellow",
    Outcome.CANCELLED: "cyan",
    Outcome.LEFT_OUT: "dim",
    Outcome.NOT_SENT: "red",
    Outcome.UNSETTLED: "red",
}


@dataclass(frozen=True, slots=True)
class FileReport:
    """What became of one file.

    Attributes:
        file: Path relative to the uploaded folder.
        size: Bytes.
        fault: Whether this should not have happened: a broken connection or service, not a verdict on the file.
    """

    file: str
    size: int
    outcome: Outcome
    reason: str | None = None
    image_id: str | None = None
    fault: bool = False


@dataclass(frozen=True, slots=True)
class UploadReport:
    """What became of a folder, in the order of its files.

    Attributes:
        before: Usage per resource before the first reservation; None where it could not be read. So is `after`.
        error: What stopped the whole upload, as a sentence.
        signal_number: The signal that interrupted it.
        abandoned: Whether a second signal cut the cancelling short.
    """

    folder: str
    url: str
    subject: str | None
    files: tuple[FileReport, ...]
    before: Mapping[str, ResourceUsage] | None
    after: Mapping[str, ResourceUsage] | None
    error: str | None = None
    signal_number: int | None = None
    abandoned: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """Number of files per outcome, only those that occurred."""
        counted = Counter(file.outcome for file in self.files)
        return {outcome.value: counted[outcome] for outcome in Outcome if counted[outcome]}

    @property
    def exit_code(self) -> int:
        """0 every file has its verdict, 1 something failed that should not have, 128 + n interrupted by signal n."""
        if self.signal_number is not None:
            return EXIT_BY_SIGNAL + self.signal_number
        failed = self.error is not None or any(file.fault for file in self.files)
        return EXIT_FAILED if failed else 0

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values; file names that are not UTF-8 carry replacement characters."""
        return {
            "folder": well_formed(self.folder),
            "url": self.url,
            "subject": self.subject,
            "files": [
                {
                    "file": well_formed(file.file),
                    "size": file.size,
                    "outcome": file.outcome.value,
                    "reason": file.reason,
                    "imageId": file.image_id,
                }
                for file in self.files
            ],
            "counts": self.counts,
            "usage": {"before": _usage_as_json(self.before), "after": _usage_as_json(self.after)},
            "error": self.error,
            "exitCode": self.exit_code,
        }


def well_formed(name: str) -> str:
    """A file name as valid Unicode: bytes that are not UTF-8 become U+FFFD, so that JSON can carry the name."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def shortened(text: str, cells: int) -> str:
    """Text cut in its middle to at most so many terminal cells, so that a file's ending stays visible."""
    if cell_len(text) <= cells:
        return text
    tail = set_cell_size(text[::-1], cells // 3)[::-1].lstrip()
    return set_cell_size(text, cells - 1 - cell_len(tail)).rstrip() + "…" + tail


def plural(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class UploadScreen:
    """Progress on a terminal: one bar per file under way and one for all; elsewhere a line per settled file."""

    def __init__(self, console: Console, total_files: int, total_bytes: int) -> None:
        self._console = console
        self._total_files = total_files
        self._settled_files = 0
        self._passed_bytes = 0
        self._under_way: dict[str, tuple[TaskID, int]] = {}
        self._label_cells = min(max(console.width * 3 // 10, 16), 48)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, width=self._label_cells)),
            # Not the full width: the terminal's own "^C" after the last bar must not begin a new line.
            BarColumn(bar_width=min(max(console.width - self._label_cells - 22, 8), 60)),
            DownloadColumn(table_column=Column(no_wrap=True)),
            console=console,
            transient=True,
            disable=not console.is_interactive,
        )
        self._total = self._progress.add_task("", total=total_bytes)
        self._show_total()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        """Print a line of our own above the bars."""
        self._console.print(Text(line), soft_wrap=True)

    def sent(self, file: str, size: int, sent_bytes: int) -> None:
        """So many bytes of this file are sent, counted from its start; its bar appears with the first call."""
        if file not in self._under_way:
            label = shortened(safe_text(file), self._label_cells)
            self._under_way[file] = (self._progress.add_task(label, total=size), 0)
        task, _ = self._under_way[file]
        self._under_way[file] = (task, sent_bytes)
        self._progress.update(task, completed=sent_bytes)
        self._show_total()

    def passed(self, file: str, size: int) -> None:
        """Nothing more of this file will be sent; its bar goes."""
        if file in self._under_way:
            self._progress.remove_task(self._under_way.pop(file)[0])
        self._passed_bytes += size
        self._show_total()

    def settled(self, report: FileReport) -> None:
        """This file's outcome is known."""
        self._settled_files += 1
        self._show_total()
        if not self._console.is_interactive:
            line = f"[{self._settled_files}/{self._total_files}] {safe_text(report.file)}: {report.outcome}"
            self.say(line + (f" ({safe_text(report.reason)})" if report.reason else ""))

    def _show_total(self) -> None:
        sent = self._passed_bytes + sum(sent_bytes for _, sent_bytes in self._under_way.values())
        description = f"{self._settled_files} of {self._total_files} settled"
        self._progress.update(self._total, completed=sent, description=description)


def print_report(report: UploadReport, console: Console) -> None:
    """Print the table of files, the usage before and after, and the counts."""
    if report.files:
        console.print(_file_table(report.files, console))
    if report.before is not None:
        console.print(_usage_table(report.before, report.after or {}))
        if report.after is None:
            console.print("The usage afterwards could not be read.", style="red")
    counts = ", ".join(f"{number} {outcome}" for outcome, number in report.counts.items()) or "nothing in the folder"
    console.print(Text(f"{plural(len(report.files), 'file')}: {counts}"), soft_wrap=True)


def _file_table(files: Iterable[FileReport], console: Console) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("file", overflow="fold", no_wrap=console.is_terminal)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("reason")
    name_cells = max(console.width * 3 // 10, 16) if console.is_terminal else UNLIMITED_CELLS
    for file in files:
        name = shortened(safe_text(file.file), name_cells)
        outcome = Text(file.outcome.value, style=_STYLES[file.outcome])
        table.add_row(Text(name), Text(decimal(file.size)), outcome, Text(safe_text(file.reason or "")))
    return table


def _usage_table(before: Mapping[str, ResourceUsage], after: Mapping[str, ResourceUsage]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("usage", overflow="fold")
    for heading in ("before", "after", "change", "quota"):
        table.add_column(heading, justify="right", overflow="fold")
    for resource in dict.fromkeys([*before, *after]):
        first, last = before.get(resource), after.get(resource)
        change = last.used - first.used if first and last else None
        limit = last.quota_limit if last else first.quota_limit if first else UNLIMITED
        after_cell = _amount(resource, last.used if last else None)
        if last and last.held:
            after_cell += f"\n({_number(last.held)} held)"
        table.add_row(
            Text(safe_text(resource)),
            _amount(resource, first.used if first else None),
            after_cell,
            _amount(resource, change, signed=True),
            "unlimited" if limit < 0 else _amount(resource, limit),
        )
    return table


def _amount(resource: str, amount: int | None, *, signed: bool = False) -> str:
    if amount is None:
        return "?"
    exact = _number(amount, signed=signed)
    if not resource.endswith("_bytes") or abs(amount) < 1000:  # noqa: PLR2004 - from 1 kB on
        return exact
    sign = "-" if amount < 0 else "+" if signed else ""
    return f"{sign}{decimal(abs(amount))}\n{exact}"


def _number(amount: int, *, signed: bool = False) -> str:
    return f"{amount:+,}" if signed and amount else f"{amount:,}"


def _usage_as_json(usage: Mapping[str, ResourceUsage] | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return {
        resource: {"used": one.used, "quota_limit": one.quota_limit, "held": one.held}
        for resource, one in usage.items()
    }
