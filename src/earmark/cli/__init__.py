"""The command line, and the composition root: the only place that reads the environment and puts the parts together."""

import asyncio
import getpass
import inspect
import io
import os
import socket
import sys
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import asdict
from datetime import timedelta
from importlib.metadata import version
from typing import Annotated

import psycopg
import pydantic
import typer

from earmark.access import grant
from earmark.cli import quota
from earmark.cli.adopt import adopt
from earmark.cli.database import Database, bring_up_to_date, database
from earmark.cli.json_output import print_json
from earmark.cli.quota import Home, Json, Subject, settings_of
from earmark.cli.reconcile import reconcile
from earmark.cli.status import status
from earmark.cli.upload import upload
from earmark.config import Settings
from earmark.errors import EarmarkError, InvalidRequest, UnknownPlan, UnknownResource, UnknownSubject
from earmark.uploads.queue import grant_queue

PATIENCE_SECONDS = "10"
"""How long a database may take to answer a new connection; libpq would wait for minutes."""

app = typer.Typer(
    name="earmark",
    help="Keeps users' quotas exact when uploads and processing fail.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
quota_commands = (quota.usage, quota.explain, quota.rollback, quota.log, quota.verify, quota.plan)
for command in (upload, reconcile, *quota_commands, adopt, status):
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    app.command(help="\n\n".join(" ".join(one.split()) for one in paragraphs))(command)


def _print_version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"earmark {version('earmark')}")
        raise typer.Exit


@app.callback()
def _of_all_commands(
    *,
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command("serve")
def run_service(
    *,
    host: Annotated[
        str | None, typer.Option(metavar="HOST", help="Address to listen on; EARMARK_HOST, else 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", help="Port to listen on, 0 for any; EARMARK_PORT, else 8787.")
    ] = None,
    home: Home = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Processes that serve HTTP; EARMARK_WORKERS, else 1.")
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="SUBJECT", help="Whose sign-in link to print; you, where EARMARK_JWT_SECRET is unset."
        ),
    ] = None,
) -> None:
    """Run API, page and worker."""
    from earmark.cli.logs import configure_logs  # noqa: PLC0415 - the other commands start faster without the service

    settings = settings_of(home, host=host, port=port, workers=workers)
    configure_logs(settings.log_format)
    with ExitStack() as opened:
        if settings.workers > 1:
            # Before anything is imported that counts: the library looks for it then.
            folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="earmark-metrics-"))
            os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", folder)
        from earmark.cli.serve import serve  # noqa: PLC0415
        from earmark.cli.web_server import run  # noqa: PLC0415

        listener = opened.enter_context(_listening(settings.host, settings.port, "Give another --port or --host."))
        found = opened.enter_context(database(settings, may_create=True))
        run(serve(settings, found, listener, subject or _oneself(settings)))


@app.command("worker")
def run_worker_alone(*, home: Home = None) -> None:
    """Process images and look after what is overdue, without the API."""
    from earmark.cli.logs import configure_logs  # noqa: PLC0415 - see serve
    from earmark.cli.serve import until_signalled, work  # noqa: PLC0415
    from earmark.cli.services import open_services  # noqa: PLC0415
    from earmark.uploads.processing import load_processor  # noqa: PLC0415

    settings = settings_of(home)
    configure_logs(settings.log_format)

    processor = load_processor(settings.processor)

    async def run(found: Database, listener: socket.socket | None) -> None:
        async with open_services(settings, found.url) as services:
            await until_signalled(work(services, processor, found, listener))

    with ExitStack() as opened:
        listener = None
        if settings.metrics_port is not None:
            address = (settings.metrics_host, settings.metrics_port)
            listener = opened.enter_context(
                _listening(*address, "Set another EARMARK_METRICS_PORT or EARMARK_METRICS_HOST.")
            )
        found = opened.enter_context(database(settings, may_create=True))
        asyncio.run(run(found, listener))


@app.command()
def migrate(
    *,
    default_plan: Annotated[
        str | None, typer.Option(metavar="PLAN", help="Plan of subjects seen for the first time.")
    ] = None,
    grants: Annotated[
        list[str] | None,
        typer.Option("--grant", metavar="service=ROLE|user=ROLE", help="Give a database role its rights; repeatable."),
    ] = None,
    home: Home = None,
) -> None:
    """Bring the database to this version's schema; safe to repeat."""
    settings = settings_of(home)
    roles: dict[str, list[str]] = {"service": [], "user": []}
    for one in grants or ():
        kind, _, role = one.partition("=")
        if kind not in roles or not role:
            raise typer.BadParameter("--grant takes service=ROLE or user=ROLE.")
        roles[kind].append(role)
    with database(settings, migrated=False, may_create=True) as found:
        applied = bring_up_to_date(found.url, default_plan or settings.plan_of_newcomers)
        if grants:
            with psycopg.connect(found.url, autocommit=True) as connection:
                grant(connection, service=roles["service"], user=roles["user"])
                grant_queue(connection, service=roles["service"], user=roles["user"])
    typer.echo(f"{len(applied)} files applied." if applied else "The schema is current.")


@app.command("token")
def print_token(
    subject: Subject,
    *,
    service: Annotated[bool, typer.Option("--service", help="A token of the service role.")] = False,
    hours: Annotated[float, typer.Option(metavar="HOURS", min=0.01, help="How long it is good.")] = 12,
    home: Home = None,
) -> None:
    """Print a bearer token of SUBJECT."""
    from earmark.cli.token import local_token  # noqa: PLC0415 - see serve

    role = "service_role" if service else "authenticated"
    typer.echo(local_token(settings_of(home).home, subject, role=role, ttl=timedelta(hours=hours)))


@app.command()
def sweep(*, home: Home = None, as_json: Json = False) -> None:
    """Give back every overdue hold, now."""
    from earmark.cli.logs import configure_logs  # noqa: PLC0415 - see serve
    from earmark.cli.services import open_services  # noqa: PLC0415
    from earmark.uploads.recovery import SweepReport  # noqa: PLC0415
    from earmark.uploads.recovery import sweep as sweep_all  # noqa: PLC0415

    settings = settings_of(home)
    configure_logs(settings.log_format)

    async def run(url: str) -> SweepReport:
        async with open_services(settings, url) as services:
            return await sweep_all(services.uploads)

    with database(settings) as found:
        report = asyncio.run(run(found.url))
    if as_json:
        print_json(asdict(report))
    else:
        done = ", ".join(f"{count} {what}" for what, count in sorted(report.images.items())) or "none overdue"
        typer.echo(
            f"images: {done}; other overdue holds: {report.expired_holds}; removed from the store: {report.removed}"
        )
        for error, count in report.failed.items():
            typer.echo(f"not dealt with: {count} ({error}); run it again later", err=True)
    if report.failed:
        raise typer.Exit(1)


def _oneself(settings: Settings) -> str | None:
    """Whose link is printed without being asked for: nobody's where it would end up in the logs of a deployment."""
    if settings.jwt_secret is not None:
        return None
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as containers have them
        return "me"


def _listening(host: str, port: int, remedy: str) -> socket.socket:
    from earmark.cli.serve import listen  # noqa: PLC0415 - see serve

    try:
        return listen(host, port)
    except OSError as error:
        typer.echo(f"earmark: cannot listen on {host}:{port}: {error.strerror}. {remedy}", err=True)
        raise typer.Exit(1) from None


def main() -> None:
    """Entry point: `run`, and the end of the process.

    The threads of obstore's runtime cannot be stopped; one that lets go of a Python object while the interpreter is
    being taken down aborts the process (PyO3/pyo3-async-runtimes issue 40), and the exit code is lost. By then all is
    closed, so the interpreter is left standing.
    """
    try:
        run()
    except SystemExit as end:
        if "obstore" not in sys.modules or not isinstance(end.code, int | None):
            raise
        with suppress(BrokenPipeError):
            sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code or 0)


def _show_any_name() -> None:
    """Escapes what the terminal's encoding lacks: no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run() -> None:
    """The command: errors that a person can act on are one line; exit code 2 if he asked wrongly, else 1."""
    os.environ.setdefault("PGCONNECT_TIMEOUT", PATIENCE_SECONDS)
    os.environ["PGDATESTYLE"] = "ISO"  # the only one that psycopg reads
    _show_any_name()
    try:
        app(prog_name="earmark")
    except pydantic.ValidationError as error:
        for problem in error.errors():
            named, *within = (str(part) for part in problem["loc"] or [""])  # none: several do not go together
            message = ": ".join([*within, problem["msg"].removeprefix("Value error, ")])
            typer.echo(f"earmark: EARMARK_{named.upper()}: {message}" if named else f"earmark: {message}", err=True)
        sys.exit(2)
    except psycopg.errors.ReadOnlySqlTransaction as error:
        told = f"{error.diag.message_primary}. Is it a standby, or its disk full?"
        typer.echo(f"earmark: the database takes no changes now: {told}", err=True)
        sys.exit(1)
    except psycopg.OperationalError as error:
        first, *_ = str(error).strip().splitlines() or [type(error).__name__]
        typer.echo(f"earmark: the database does not answer: {first}", err=True)
        sys.exit(1)
    except psycopg.errors.InsufficientPrivilege as error:
        typer.echo(
            f"earmark: {error.diag.message_primary}. Only a role that owns the schema, or may create it, can migrate;"
            " another one gets its rights by `earmark migrate --grant service=ROLE`.",
            err=True,
        )
        sys.exit(1)
    except UnknownSubject as error:
        remedy = (
            "`earmark plan SUBJECT --plan PLAN` registers one, `earmark migrate --default-plan PLAN` all newcomers."
        )
        typer.echo(f"earmark: {error} {remedy}", err=True)
        sys.exit(1)
    except (InvalidRequest, UnknownPlan, UnknownResource) as error:
        typer.echo(f"earmark: {error}", err=True)
        sys.exit(2)
    except (EarmarkError, OSError) as error:
        typer.echo(f"earmark: {error}", err=True)
        sys.exit(1)
