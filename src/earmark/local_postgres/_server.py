"""Start and stop the embedded server."""

import atexit
import os
import shutil
import signal
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from earmark.local_postgres._account import Account, account_for
from earmark.local_postgres._data import check_data, create_data, open_folder
from earmark.local_postgres._errors import LocalPostgresError
from earmark.local_postgres._folder import POLL_SECONDS, ServerFolder
from earmark.local_postgres._installation import find_installation, reachable_by
from earmark.local_postgres._process import BackgroundProcess

DEFAULT_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "autovacuum": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "cluster_name": "earmark",
}
START_SECONDS = 120.0
"""Bound for a start, which may have to replay the write-ahead log after a crash."""

_STOP_SIGNALS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
_FREE_SECONDS = 5.0
_LOG_TAIL_BYTES = 4096
_LOG_TAIL_LINES = 15
_LOG_ROTATE_BYTES = 16 * 1024 * 1024


class LocalPostgres:
    """One PostgreSQL server under a home folder, reachable over a Unix socket by this user (and root) only.

    `start` uses the server that somebody else has running under the same home, and `stop` then leaves it alone;
    otherwise it starts one, which ends when `stop` is called or, on Linux, when this process ends in whatever way
    (elsewhere: not after `kill -9`, and the next start then uses that server). Run as root, PostgreSQL's processes
    run as `nobody`, or as the owner of an existing data folder. Not for use from several threads at once.

    Args:
        home: Folder to keep it in; made, readable by its owner only, if it is missing.
        settings: PostgreSQL settings that override `DEFAULT_SETTINGS`; without effect on a server already running.
    """

    def __init__(self, home: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self._folder = ServerFolder.under(home)
        self._settings = {**DEFAULT_SETTINGS, **(settings or {})}
        self._url: str | None = None
        self._process: BackgroundProcess | None = None
        self._outside_sockets: Path | None = None

    @property
    def url(self) -> str:
        """URL for libpq of the database `earmark`; valid while the server runs.

        Raises:
            LocalPostgresError: The server was not started.
        """
        if self._url is None:
            raise LocalPostgresError("The embedded PostgreSQL was not started; call start() first.")
        return self._url

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return when the server takes connections, having made its data folder on the first start.

        Raises:
            LocalPostgresError: It cannot be started; the message holds the end of its log and what to do.
        """
        if self._process is not None and self._process.is_running:
            return
        try:
            self._folder.create()
            found = self._folder.lock_or_running(START_SECONDS)
            if not isinstance(found, int):
                self._url = found.url
                return
            try:
                with os.fdopen(found):  # the server inherits it
                    self._start_under_lock(found)
            except BaseException:
                self.stop()
                raise
        except OSError as error:
            raise LocalPostgresError(
                f"The embedded PostgreSQL cannot use {self._folder.home}: {error}. Set EARMARK_HOME to a folder that"
                " you may write, or EARMARK_DATABASE_URL to a PostgreSQL of your own."
            ) from error

    def stop(self) -> None:
        """Stop the server that this object started; clients are disconnected, committed work is kept.

        Raises:
            LocalPostgresError: Its processes survived even SIGKILL.
        """
        process, self._process, self._url = self._process, None, None
        atexit.unregister(self.stop)
        if process is None:
            return
        if not process.end(_STOP_SIGNALS):
            return
        deadline = time.monotonic() + _FREE_SECONDS
        while not self._folder.is_free():  # a killed server's children take a moment to notice
            if time.monotonic() > deadline:
                raise LocalPostgresError(
                    f"PostgreSQL (process {process.pid}) is still running under {self._folder.home}; end it by hand."
                )
            time.sleep(POLL_SECONDS)
        if self._outside_sockets is not None:
            shutil.rmtree(self._outside_sockets, ignore_errors=True)

    def _start_under_lock(self, lock: int) -> None:
        data = self._folder.data
        account = account_for(data)
        installation = find_installation()
        check_data(data, installation)
        installation = reachable_by(account, installation)
        log_start = _rotate(self._folder.log)
        if not (data / "PG_VERSION").exists():
            create_data(data, installation, account, lock)
        self._folder.remove_leftovers()
        settings = {**self._settings, "unix_socket_directories": self._socket_folder(account)}
        arguments = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        with open_folder(data, account) as (name, descriptor):
            command = (installation.program("postgres"), "-D", name, *arguments)
            self._process = BackgroundProcess(account, command, (lock, descriptor), self._folder.log)
            pid = self._process.pid
        atexit.register(self.stop)
        self._wait_until_ready(self._process, pid, log_start)

    def _socket_folder(self, account: Account | None) -> str:
        """Value of `unix_socket_directories`: relative to the data folder, whose own path may then have any length."""
        outside = self._outside_sockets = self._folder.outside_sockets
        if outside is None:
            return "."
        outside.mkdir(mode=0o700, exist_ok=True)
        owner = outside.lstat()
        if not stat.S_ISDIR(owner.st_mode) or owner.st_uid != os.geteuid():
            raise LocalPostgresError(f"{outside}, meant for the socket, was made by somebody else. Remove it.")
        if account is not None:
            os.chown(outside, -1, account.gid)
        outside.chmod(0o700 if account is None else 0o730)
        return str(outside)

    def _wait_until_ready(self, process: BackgroundProcess, pid: int, log_start: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while process.is_running and time.monotonic() < deadline:
            found = self._folder.postmaster()
            if found is not None and found.pid == pid and found.is_ready:
                self._url = found.url
                return
            time.sleep(POLL_SECONDS)
        raise LocalPostgresError(
            f"PostgreSQL did not start. The end of {self._folder.log}:\n{_tail(self._folder.log, log_start)}\n"
            f"Fix what it names, then try again. If {self._folder.data} is damaged, restore it from a backup, or move"
            " it away to start empty."
        )


def _rotate(log: Path) -> int:
    """Make the log if it is missing, put a big one aside as `.1`; the size of what is in it now, in bytes."""
    if log.exists() and log.stat().st_size > _LOG_ROTATE_BYTES:
        log.replace(log.with_name(log.name + ".1"))
    log.touch(mode=0o600)
    return log.stat().st_size


def _tail(log: Path, start: int) -> str:
    """The last lines of the log, none from before byte `start`."""
    with log.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(start, end - _LOG_TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-_LOG_TAIL_LINES:])
