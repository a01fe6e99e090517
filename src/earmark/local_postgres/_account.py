"""Who runs PostgreSQL, which refuses to run as root."""

import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path

from earmark.local_postgres._errors import LocalPostgresError

_GROUP = 61000
"""Group of nobody but the embedded server, in the range that systemd's UIDS-GIDS document leaves unused.

With it, other processes of the user `nobody` can neither trace the server nor enter its socket folder.
"""


@dataclass(frozen=True, slots=True)
class Account:
    """User and group that the server's processes run as, when Python runs as root."""

    uid: int
    gid: int


def account_for(data: Path) -> Account | None:
    """Who runs the server of this data folder: its owner, `nobody` for a new one; None means the current user.

    Raises:
        LocalPostgresError: There is no user that could make a new folder, or root owns the one there is.
    """
    if os.geteuid() != 0:
        if not data.exists():
            _check_named(os.geteuid())
        return None
    if data.exists():
        owner = data.stat()
        if owner.st_uid == 0:
            raise LocalPostgresError(
                f"{data} belongs to root, as which PostgreSQL does not run. Give it to another user:"
                f" chown -R nobody:{_GROUP} '{data}'"
            )
        return Account(owner.st_uid, owner.st_gid)
    try:
        return Account(pwd.getpwnam("nobody").pw_uid, _GROUP)
    except KeyError:
        raise LocalPostgresError(
            "PostgreSQL does not run as root, and there is no user `nobody` to run it as."
            " Run as another user, or set EARMARK_DATABASE_URL to a PostgreSQL of your own."
        ) from None


def _check_named(uid: int) -> None:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise LocalPostgresError(
            f"PostgreSQL's initdb needs a name for its user, and user id {uid} has none."
            " Add it to /etc/passwd, or set EARMARK_DATABASE_URL to a PostgreSQL of your own."
        ) from None


def name_for(folder: Path, descriptor: int, account: Account | None) -> str:
    """Path under which the server can open `folder`, which is already open as `descriptor`.

    The account may not be able to pass the folders above, such as `/root`. On Linux a process reaches a folder that it
    has inherited open without passing them, and this works for every process that the server forks.
    """
    return str(folder) if account is None or sys.platform != "linux" else f"/proc/self/fd/{descriptor}"
