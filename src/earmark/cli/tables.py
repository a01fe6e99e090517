"""The tables of the command line: nothing in them is cut off, however narrow the terminal is."""

import os
import sys
from collections.abc import Collection, Iterable

from rich import box
from rich.console import Console
from rich.markup import escape as as_written
from rich.table import Table

from earmark.cli.terminal import safe_text
from earmark.model import UNLIMITED, Entry, Plan, Usage

WIDTH_WITHOUT_TERMINAL = 200
"""Into a file or a pipe, a line should hold a whole row."""
ROOMY = 110
"""Terminal cells from which the columns stand further apart."""
WIDTH_FOR_CAUSES = 90
"""In a narrower terminal a cause stands below its kind, so that all else of an entry keeps to one line."""
WIDTH_FOR_WHOLE_IDS = 140
WIDTH_FOR_WHOLE_ACTORS = 160
NARROW_ACTOR_CELLS = 11
ACTOR_CELLS = 14
"""Elsewhere an actor takes several lines, so that the other columns keep to one."""


def print_usage(usage: Usage) -> None:
    """One row per resource."""
    console = _console()
    table = _table(console, "resource", "quota", "committed", "held", "remaining", "period", numbers=range(1, 5))
    for name, resource in usage.resources.items():
        over = f"\n[red]over by {resource.over_by:,}[/red]" if resource.over_by else ""
        until = f", until\n{resource.period_end:%Y-%m-%d}" if resource.period_end else ""
        table.add_row(
            name,
            _limit(resource.quota_limit),
            f"{resource.committed:,}",
            f"{resource.held:,}",
            _limit(resource.remaining) + over,
            resource.period + until,
        )
    console.print(f"{_escaped(usage.subject)} · plan {_escaped(usage.plan)}", highlight=False)
    console.print(table)


def print_entries(entries: Iterable[Entry]) -> None:
    """One row per journal entry; the reservation's whole id where there is room, else its end."""
    console = _console()
    whole = console.width >= WIDTH_FOR_WHOLE_IDS
    stacked = console.width < WIDTH_FOR_CAUSES
    titles: tuple[str, ...] = ("when (UTC)", "kind", "resource", "held", "committed", "cause", "by", "reservation/item")
    if stacked:
        titles = (*titles[:5], "by, item")
    elif not whole:
        titles = (*titles[:-1], "item")
    table = _table(console, *titles, numbers=(3, 4))
    table.columns[0].no_wrap = True
    if stacked:
        table.columns[-1].max_width = NARROW_ACTOR_CELLS
    elif console.width < WIDTH_FOR_WHOLE_ACTORS:
        table.columns[titles.index("by")].max_width = ACTOR_CELLS
    for entry in entries:
        reservation = str(entry.reservation)
        item = f"{reservation if whole else reservation[-6:]}/{entry.item}" if entry.reservation else ""
        why = "\n".join(filter(None, (entry.cause, entry.reason and safe_text(entry.reason))))
        cause, by, about = as_written(why), _escaped(entry.actor), _escaped(item)
        table.add_row(
            f"{entry.at:%m-%d %H:%M:%S}",
            f"{entry.kind}\n{cause}".strip() if stacked else entry.kind,
            entry.resource,
            f"{entry.held:+,}" if entry.held else "",
            f"{entry.committed:+,}" if entry.committed else "",
            *([f"{by}\n{about}".strip()] if stacked else [cause, by, about]),
        )
    console.print(table)


def print_plans(plans: Iterable[Plan]) -> None:
    """One row per plan and resource; the plan's features stand beside its first."""
    console = _console()
    table = _table(console, "plan", "resource", "quota", "period", "on delete", "features", numbers=(2,))
    for plan in plans:
        features = "\n".join(_escaped(f"{name}: {value}") for name, value in plan.features.items())
        named = (_escaped(plan.plan), features)
        for resource, quota in plan.quotas.items():
            returned = "given back" if quota.refundable else "kept"
            table.add_row(named[0], resource, _limit(quota.quota_limit), quota.period, returned, named[1])
            named = ("", "")
        if not plan.quotas:
            table.add_row(named[0], "", "", "", "", named[1])
    console.print(table)


def print_rows(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Plain cells under these titles."""
    console = _console()
    table = _table(console, *titles, numbers=())
    for row in rows:
        table.add_row(*map(_escaped, row))
    console.print(table, highlight=False)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH_WITHOUT_TERMINAL)


def _table(console: Console, *titles: str, numbers: Collection[int]) -> Table:
    gap = 1 if console.width >= ROOMY else 0  # beside the blank that the box draws between columns
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0))
    for index, title in enumerate(titles):
        table.add_column(title, justify="right" if index in numbers else "left", overflow="fold")
    return table


def _escaped(text: str) -> str:
    """Neither markup of the table nor anything that the terminal obeys."""
    return as_written(safe_text(text))


def _limit(amount: int) -> str:
    return "unlimited" if amount == UNLIMITED else f"{amount:,}"
