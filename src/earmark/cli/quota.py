"""Commands about quota: usage, rollback, log, verify, plan."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from earmark.cli.database import database
from earmark.config import Settings
from earmark.ledger import Ledger
from earmark.model import UNLIMITED, Cause, PlanQuota

Home = Annotated[Path | None, typer.Option(help="Folder of the embedded parts; EARMARK_HOME, else var.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DRIFT_FOUND = 3


def settings_of(home: Path | None, **more: object) -> Settings:
    """The settings of the environment; what was said on the command line wins."""
    said: dict[str, Any] = {name: value for name, value in {"home": home, **more}.items() if value is not None}
    return Settings(**said)


@contextmanager
def open_ledger(home: Path | None) -> Iterator[Ledger]:
    """The ledger of the configured database."""
    with database(settings_of(home)) as found, Ledger(found.url, max_connections=1) as ledger:
        yield ledger


def usage(subject: str, *, home: Home = None, as_json: Json = False) -> None:
    """Show what SUBJECT may use and uses now."""
    with open_ledger(home) as ledger:
        found = ledger.usage(subject)
    if as_json:
        print_json(asdict(found))
        return
    table = Table(title=f"{escape(subject)} · plan {found.plan}", title_justify="left")
    for column in ("resource", "quota", "committed", "held", "remaining"):
        table.add_column(column, justify="left" if column == "resource" else "right")
    table.add_column("period")
    for name, resource in found.resources.items():
        until = f"{resource.period} until {_day(resource.period_end)}" if resource.period_end else resource.period
        over = f" [red](over by {resource.over_by:,})[/red]" if resource.over_by else ""
        table.add_row(
            name,
            _limit(resource.quota_limit),
            f"{resource.committed:,}",
            f"{resource.held:,}",
            _limit(resource.remaining) + over,
            until,
        )
    Console().print(table)


def rollback(
    reservation: UUID,
    *,
    item: Annotated[list[str] | None, typer.Option(help="Only this item; may be repeated.")] = None,
    cause: Annotated[Cause, typer.Option(help="Why.")] = Cause.ADMIN,
    reason: Annotated[str | None, typer.Option(help="A note for the journal.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Give back what RESERVATION still holds, or some of its items."""
    with open_ledger(home) as ledger:
        settlement = ledger.rollback(reservation, cause=cause, items=item, actor="operator", reason=reason)
    if as_json:
        print_json(asdict(settlement))
    else:
        typer.echo(f"{settlement.outcome}: {_amounts(settlement.returned)} returned")
        for name, story in settlement.items.items():
            why = f" ({story.cause})" if story.cause else ""
            settled = f" at {story.at:%Y-%m-%d %H:%M:%S} by {story.by}" if story.at else ""
            typer.echo(f"  item {name}: {story.state}{why}{settled}")
    if settlement.outcome == "not_found":
        raise typer.Exit(1)


def log(
    subject: str,
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many entries, newest last.")] = 50,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show SUBJECT's journal: every movement of quota, with its cause, actor and time."""
    with open_ledger(home) as ledger:
        entries = ledger.history(subject, limit=limit)[::-1]
    if as_json:
        print_json([asdict(entry) for entry in entries])
        return
    if not entries:
        typer.echo("No movements yet.")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("#", "when (UTC)", "kind", "resource", "held", "committed", "cause", "by", "item"):
        table.add_column(column, justify="right" if column in {"#", "held", "committed"} else "left")
    for entry in entries:
        table.add_row(
            str(entry.seq),
            f"{entry.at:%m-%d %H:%M:%S}",
            entry.kind,
            entry.resource,
            f"{entry.held:+,}" if entry.held else "",
            f"{entry.committed:+,}" if entry.committed else "",
            entry.cause or "",
            escape(entry.actor),
            escape(f"{str(entry.reservation)[-6:]}/{entry.item}") if entry.reservation else "",
        )
    Console().print(table)


def verify(
    subject: Annotated[str | None, typer.Argument(help="Only this subject.")] = None,
    *,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Check that balances, holds and journal agree; exit code 3 where they do not."""
    with open_ledger(home) as ledger:
        drift = ledger.verify(subject)
    if as_json:
        print_json([asdict(found) for found in drift])
    elif not drift:
        typer.echo("Balances, holds and journal agree.")
    else:
        for found in drift:
            typer.echo(
                f"{found.subject} {found.resource} {found.figure}: balance {found.balance}, "
                f"holds {found.holds}, journal {found.journal}"
            )
    if drift:
        raise typer.Exit(DRIFT_FOUND)


def plan(
    subject: Annotated[
        str | None, typer.Argument(help="Whose plan or quota to set; without it, all plans are shown.")
    ] = None,
    *,
    name: Annotated[
        str | None, typer.Option("--plan", help="Put SUBJECT on this plan, or define it with --define.")
    ] = None,
    quota: Annotated[
        list[str] | None,
        typer.Option(help="RESOURCE=N (-1: unlimited), with --define also RESOURCE=N:PERIOD; may be repeated."),
    ] = None,
    define: Annotated[bool, typer.Option("--define", help="Create or change the plan itself.")] = False,
    max_bulk_upload: Annotated[int | None, typer.Option(min=1, help="With --define: files in one request.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show the plans, put SUBJECT on one, give him quotas of his own, or define a plan."""
    quotas = dict(_parsed_quota(one) for one in quota or ())
    with open_ledger(home) as ledger:
        if define:
            if name is None:
                raise typer.BadParameter("--define needs --plan NAME")
            features = None if max_bulk_upload is None else {"max_bulk_upload": max_bulk_upload}
            ledger.configure_plan(name, features=features, quotas=quotas)
        elif subject is not None:
            ledger.configure_subject(
                subject, plan=name, quotas={resource: quota.quota_limit for resource, quota in quotas.items()}
            )
        elif name or quotas:
            raise typer.BadParameter("name the SUBJECT whose plan or quota to set, or add --define")
        plans = ledger.plans()
    if subject is not None and not define:
        usage(subject, home=home, as_json=as_json)
        return
    if as_json:
        print_json([asdict(found) for found in plans])
        return
    table = Table("plan", "resource", "quota", "period", "given back on delete", "features")
    for found in plans:
        for resource, limits in found.quotas.items():
            table.add_row(
                found.plan,
                resource,
                _limit(limits.quota_limit),
                limits.period,
                "yes" if limits.refundable else "no",
                json.dumps(found.features),
            )
    Console().print(table)


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, default=_plain, indent=2, ensure_ascii=False))


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.value if isinstance(value, Enum) else str(value)


def _parsed_quota(text: str) -> tuple[str, PlanQuota]:
    resource, _, rest = text.partition("=")
    amount, _, period = rest.partition(":")
    try:
        return resource, PlanQuota(int(amount), period or "lifetime", refundable=not period)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not RESOURCE=N or RESOURCE=N:PERIOD") from None


def _limit(amount: int) -> str:
    return "unlimited" if amount == UNLIMITED else f"{amount:,}"


def _amounts(amounts: Any) -> str:
    return ", ".join(f"{amount:,} {resource}" for resource, amount in amounts.items()) or "nothing"


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment else ""
