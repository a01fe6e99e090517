"""PostgreSQL's data folder: made whole or not at all, and refused when it cannot be used."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from earmark.local_postgres._account import Account, name_for
from earmark.local_postgres._errors import LocalPostgresError
from earmark.local_postgres._folder import DATABASE, SUPERUSER
from earmark.local_postgres._installation import DISTRIBUTION, Installation
from earmark.local_postgres._process import run_to_end

_INIT_ARGUMENTS = (  # the builtin provider needs no locale of the machine, and sorts the same everywhere
    *("-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    *("--auth-local=trust", "--auth-host=scram-sha-256", "--no-instructions"),
)
_SINGLE_USER_ARGUMENTS = ("--single", "-c", "exit_on_error=on")


def check_data(data: Path, installation: Installation) -> None:
    """Refuse what is no data folder, or was written by another major version; a missing or empty folder is fine.

    Raises:
        LocalPostgresError: It cannot be used; the message says what to do.
    """
    if not data.exists():
        return
    if not data.is_dir():
        raise LocalPostgresError(f"{data} is not a folder. Move it away to start empty.")
    version = data / "PG_VERSION"
    if not version.exists():
        if any(data.iterdir()):
            raise LocalPostgresError(
                f"{data} is not a PostgreSQL data folder (it has no PG_VERSION)."
                " Restore it from a backup, or move it away to start empty."
            )
        return
    written_by, ours = version.read_text().strip(), installation.major()
    if written_by != ours:
        raise LocalPostgresError(
            f"{data} was written by PostgreSQL {written_by}, and the installed one is {ours}, which cannot read it."
            f" Run: pip install '{DISTRIBUTION}=={written_by}.*' to use it as it is; to upgrade, dump it with that"
            f" version, move the folder away, and restore the dump with {ours}."
        )


def create_data(data: Path, installation: Installation, account: Account | None, lock: int) -> None:
    """Make the data folder and the database in it, under another name first; `lock` is held by who does the work.

    Raises:
        LocalPostgresError: A step failed; the message holds what it wrote.
    """
    unfinished = data.with_name("data.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if account is not None:
        os.chown(unfinished, account.uid, account.gid)
    with open_folder(unfinished, account) as (name, descriptor):
        initdb = (installation.program("initdb"), "-D", name, *_INIT_ARGUMENTS)
        single_user = (installation.program("postgres"), *_SINGLE_USER_ARGUMENTS, "-D", name, SUPERUSER)
        for command, text in ((initdb, ""), (single_user, f"CREATE DATABASE {DATABASE}\n")):
            done = run_to_end(account, command, text, (lock, descriptor))
            if done.returncode != 0:
                raise LocalPostgresError(
                    f"PostgreSQL's data folder cannot be made; {Path(command[0]).name} ended with {done.returncode}:\n"
                    f"{done.stdout.strip()}\nFix what it names, such as a full disk, then try again."
                )
    unfinished.rename(data)
    parent = os.open(data.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


@contextmanager
def open_folder(folder: Path, account: Account | None) -> Iterator[tuple[str, int]]:
    """The folder's name for PostgreSQL's programs, and the open descriptor that they must inherit."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield name_for(folder, descriptor, account), descriptor
    finally:
        os.close(descriptor)
