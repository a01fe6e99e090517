"""`earmark upload FOLDER`: the command."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from earmark.cli.terminal import safe_text
from earmark.errors import InvalidRequest

DEFAULT_URL = "http://127.0.0.1:8787"


def upload(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Folder with the images, and its subfolders.")
    ],
    *,
    subject: Annotated[
        str | None,
        typer.Option("--as", metavar="SUBJECT", help="Upload as this subject, signing with the local secret."),
    ] = None,
    url: Annotated[str, typer.Option(envvar="EARMARK_URL", help="Address of the service.")] = DEFAULT_URL,
    token: Annotated[
        str | None, typer.Option(help="Bearer token; without it and --as, EARMARK_TOKEN is taken.", show_default=False)
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, max=32, help="Files sent at a time.")] = 4,
    timeout: Annotated[
        float, typer.Option(min=0, help="Longest wait for one image to be processed, in seconds.")
    ] = 600.0,
    home: Annotated[Path, typer.Option(envvar="EARMARK_HOME", help="Where the local secret is.")] = Path("var"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """Upload a folder of images; Ctrl-C cancels and returns the quota.

    Exit codes: 0 every file has its verdict, 1 something failed that should not have, 2 wrong usage, 130 after Ctrl-C.
    """
    from rich.console import Console  # noqa: PLC0415 - the other commands start faster without the client

    from earmark.cli.tables import WIDTH_WITHOUT_TERMINAL  # noqa: PLC0415
    from earmark.cli.upload_folder import UploadOptions, upload_folder  # noqa: PLC0415
    from earmark.cli.upload_report import print_report  # noqa: PLC0415

    options = UploadOptions(folder, _checked_url(url), _chosen_token(token, subject, home), parallel, timeout)
    # Into a file or a pipe, a line should hold a whole reason.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH_WITHOUT_TERMINAL
    console = Console(quiet=as_json, width=width)
    try:
        report = asyncio.run(upload_folder(options, console))
    except KeyboardInterrupt:  # where asyncio has no signal handlers
        raise typer.Exit(128 + signal.SIGINT) from None
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report.as_json())).decode())
    elif report.abandoned:
        typer.echo("Left at once. What was still reserved comes back by itself at its deadline.", err=True)
    elif report.before is not None or report.error is None:
        print_report(report, console)
    if report.error is not None:
        typer.echo(f"earmark upload: {safe_text(report.error)}", err=True)
        if report.before is None and report.error.startswith("cannot reach "):
            typer.echo("`earmark serve` starts the service; --url says where another one is.", err=True)
    raise typer.Exit(report.exit_code)


def _chosen_token(token: str | None, subject: str | None, home: Path) -> str:
    """What was said on the command line wins over the environment."""
    if token is not None and subject is not None:
        raise typer.BadParameter("give either --token or --as: a token already says who it is")
    if subject is not None:
        from earmark.cli.token import local_token  # noqa: PLC0415 - a token from elsewhere needs no local secret

        return local_token(home, subject)
    chosen = (token or os.environ.get("EARMARK_TOKEN", "")).strip()
    if not chosen:
        raise typer.BadParameter("no token: give --as SUBJECT, --token TOKEN or EARMARK_TOKEN")
    from earmark.client.connecting import bearer  # noqa: PLC0415 - see upload

    try:
        bearer(chosen)
    except InvalidRequest as error:
        raise typer.BadParameter(str(error), param_hint="--token") from None
    return chosen


def _checked_url(url: str) -> str:
    from earmark.client.connecting import service_url  # noqa: PLC0415 - see upload

    try:
        service_url(url)
    except InvalidRequest as error:
        raise typer.BadParameter(f"not an http address: {safe_text(url)}", param_hint="--url") from error
    return url
