"""Commands about quota: usage, explain, rollback, log, verify, plan."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from earmark.cli.advice import advice, drifted, is_short
from earmark.cli.database import database
from earmark.cli.follow import follow_journal
from earmark.cli.json_output import print_json
from earmark.cli.tables import print_entries, print_plans, print_usage
from earmark.cli.terminal import print_lines, safe_text
from earmark.config import Settings, check_spelling
from earmark.in_words import explained, in_words, told
from earmark.ledger import Ledger
from earmark.model import Cause, Explanation, Plan, PlanQuota, Usage

Subject = Annotated[str, typer.Argument(metavar="SUBJECT", help="A user's id.")]
Home = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Folder of the embedded parts; EARMARK_HOME, else var.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DRIFT_FOUND = 3
LIFETIME = "lifetime"


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no id: `earmark log SUBJECT --json` has them whole.") from None


def settings_of(home: Path | None, **more: object) -> Settings:
    """The settings of the environment; what was said on the command line wins."""
    check_spelling(os.environ)
    said: dict[str, Any] = {name: value for name, value in {"home": home, **more}.items() if value is not None}
    return Settings(**said)


@contextmanager
def open_ledger(home: Path | None, *, may_create: bool = False) -> Iterator[Ledger]:
    """The ledger of the configured database; see `database`."""
    with database(settings_of(home), may_create=may_create) as found, Ledger(found.url, max_connections=1) as ledger:
        yield ledger


def _is_known(ledger: Ledger, subject: str) -> bool:
    return ledger.subject(subject).registered_at is not None


def _stop_unless_known(ledger: Ledger, subject: str) -> None:
    """A mistyped name must not be told that all is well with it."""
    if not _is_known(ledger, subject):
        typer.echo(safe_text(f"earmark: there is no subject {subject}."), err=True)
        raise typer.Exit(1)


def usage(subject: Subject, *, home: Home = None, as_json: Json = False) -> None:
    """Show what SUBJECT may use and uses now."""
    with open_ledger(home) as ledger:
        found = ledger.usage(subject)
        is_known = _is_known(ledger, subject)
    if not is_known:
        note = f"earmark: there is no subject {subject} yet: this is what a new one starts with."
        typer.echo(safe_text(note), err=True)
    if as_json:
        print_json(asdict(found))
    else:
        print_usage(found)


def explain(
    subject: Subject,
    about: Annotated[
        UUID | None, typer.Argument(metavar="ID", parser=_id, help="A reservation or image of his, to tell its story.")
    ] = None,
    *,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Say why SUBJECT's quota is what it is, or what became of one reservation or image."""
    with open_ledger(home) as ledger:
        _stop_unless_known(ledger, subject)
        found = ledger.explain(subject) if about is None else ledger.story(about, subject=subject)
        drift = ledger.verify(subject) if isinstance(found, Explanation) and is_short(found) and not as_json else ()
    if found is None:
        typer.echo(f"earmark: {subject} has no reservation or image {about}.", err=True)
        raise typer.Exit(1)
    if as_json:
        print_json(asdict(found))
    elif isinstance(found, Explanation):
        print_lines([*explained(found), *advice(found, drift)])
    else:
        print_lines(told(found))


def rollback(
    reservation: Annotated[
        UUID, typer.Argument(metavar="RESERVATION", parser=_id, help="Its id, whole in `earmark log --json`.")
    ],
    *,
    item: Annotated[list[str] | None, typer.Option(metavar="ITEM", help="Only this item; may be repeated.")] = None,
    cause: Annotated[Cause, typer.Option(metavar="CAUSE", help=f"Why: {', '.join(Cause)}.")] = Cause.ADMIN,
    reason: Annotated[str | None, typer.Option(help="A note for the journal.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Give back what RESERVATION still holds, or some of its items."""
    with open_ledger(home) as ledger:
        settlement = ledger.rollback(reservation, cause=cause, items=item, actor="operator", reason=reason)
    if as_json:
        print_json(asdict(settlement))
    elif settlement.outcome == "not_found":
        typer.echo(f"earmark: there is no reservation {reservation}.", err=True)
    else:
        typer.echo(f"{settlement.outcome}: {in_words(settlement.returned)} returned")
        for name, story in settlement.items.items():
            why = f" ({story.cause})" if story.cause else ""
            settled = f" at {story.at:%Y-%m-%d %H:%M:%S} by {story.by}" if story.at else ""
            print_lines([f"  item {name}: {story.state}{why}{settled}"])
    if settlement.outcome == "not_found":
        raise typer.Exit(1)


def log(
    subject: Annotated[
        str | None, typer.Argument(metavar="SUBJECT", help="A user's id; with --follow nobody's means everybody's.")
    ] = None,
    *,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="How many entries, newest last.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    after: Annotated[
        str | None,
        typer.Option(
            metavar="CURSOR", help="With --follow: from after this entry, by its cursor in --json; or `start`."
        ),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show SUBJECT's journal: each movement of quota, with its cause.

    With --follow --json, one document a line.
    """
    if subject is None and not follow:
        raise typer.BadParameter("name the SUBJECT whose journal to show, or --follow everybody's")
    if after is not None and not follow:
        raise typer.BadParameter("--after goes with --follow")
    with open_ledger(home) as ledger:
        if follow:
            follow_journal(ledger, subject, after, limit, as_json=as_json)
        _stop_unless_known(ledger, subject or "")
        entries = ledger.history(subject or "", limit=limit)[::-1]
    if as_json:
        print_json([asdict(entry) for entry in entries])
    elif entries:
        print_entries(entries)
    else:
        typer.echo("No movements yet.")


def verify(
    subject: Annotated[str | None, typer.Argument(metavar="SUBJECT", help="Only this subject.")] = None,
    *,
    repair: Annotated[
        bool, typer.Option("--repair", help="Adjust, journaled, until all agree; needs --reason.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="With --repair: why, for the journal.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Check that balances, holds and journal agree; exit code 3 if not."""
    if repair != (reason is not None):
        raise typer.BadParameter("--repair and --reason go together")
    with open_ledger(home) as ledger:
        if subject is not None:
            _stop_unless_known(ledger, subject)
        repaired = () if reason is None else ledger.repair(reason, subject=subject, actor="operator")
        drift = ledger.verify(subject)
        if subject is None:
            ledger.record_check("verify", len(drift))
    for one in () if as_json else repaired:
        print_lines([f"{one.subject} {one.resource}: entry {one.seq}: {one.reason}"])
    if as_json:
        print_json([asdict(found) for found in drift])
    elif not drift:
        typer.echo("Balances, holds and journal agree.")
    else:
        print_lines(map(drifted, drift))
    if drift:
        raise typer.Exit(DRIFT_FOUND)


def plan(
    subject: Annotated[
        str | None,
        typer.Argument(metavar="SUBJECT", help="Whose plan or quota to set; without it, all plans are shown."),
    ] = None,
    *,
    name: Annotated[
        str | None, typer.Option("--plan", metavar="PLAN", help="Put SUBJECT on this plan, or --define it.")
    ] = None,
    quota: Annotated[
        list[str] | None,
        typer.Option(metavar="RESOURCE=N", help="-1: unlimited; with --define also RESOURCE=N:PERIOD. Repeatable."),
    ] = None,
    define: Annotated[bool, typer.Option("--define", help="Create or change the plan itself.")] = False,
    max_bulk_upload: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="With --define: most files in one request.")
    ] = None,
    parent: Annotated[
        str | None, typer.Option(metavar="SUBJECT", help="Whose quota must have room too, such as a team's.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show the plans, set a subject's plan or quota, or define a plan.

    A plan's period is lifetime, or P1D, P7D, P1M and the like; what is counted for a lifetime is given back on delete.
    What is not said stays as it is.
    """
    quotas = [_parsed_quota(one) for one in quota or ()]
    if define:
        if name is None:
            raise typer.BadParameter("--define needs --plan NAME")
        if subject is not None:
            raise typer.BadParameter("--define is about a plan, not about a SUBJECT")
    elif max_bulk_upload is not None:
        raise typer.BadParameter("--max-bulk-upload belongs to a plan: add --define")
    elif any(period for _, _, period in quotas):
        raise typer.BadParameter("a period belongs to a plan: add --define")
    elif subject is None and (name or quotas or parent):
        raise typer.BadParameter("name the SUBJECT whose plan or quota to set, or add --define")
    with open_ledger(home, may_create=True) as ledger:
        if define and name is not None:
            _define(ledger, name, quotas, max_bulk_upload)
        elif subject is not None and (name or quotas or parent):
            limits = {resource: limit for resource, limit, _ in quotas}
            ledger.configure_subject(subject, plan=name, quotas=limits, parent=parent, actor="operator")
        found = ledger.plans() if subject is None else ledger.usage(subject)
    if isinstance(found, Usage):
        print_json(asdict(found)) if as_json else print_usage(found)
    else:
        print_json([asdict(one) for one in found]) if as_json else print_plans(found)


def _define(ledger: Ledger, name: str, quotas: list[tuple[str, int, str | None]], max_bulk_upload: int | None) -> None:
    known = next((found for found in ledger.plans() if found.plan == name), Plan(name, {}, {}))
    features = None if max_bulk_upload is None else {**known.features, "max_bulk_upload": max_bulk_upload}
    changed = {}
    for resource, limit, period in quotas:
        before = known.quotas.get(resource)
        if period is None and before is not None:
            changed[resource] = replace(before, quota_limit=limit)
        else:
            changed[resource] = PlanQuota(limit, period or LIFETIME, refundable=period in {None, LIFETIME})
    ledger.configure_plan(name, features=features, quotas=changed, actor="operator")


def _parsed_quota(text: str) -> tuple[str, int, str | None]:
    resource, _, rest = text.partition("=")
    amount, _, period = rest.partition(":")
    try:
        limit = int(amount)
    except ValueError:
        limit = None
    if not resource or limit is None:
        raise typer.BadParameter(f"{text!r} is not RESOURCE=N or RESOURCE=N:PERIOD")
    return resource, limit, period or None
