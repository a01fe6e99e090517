"""What lies under a home folder, and whether a server is alive there.

    home/postgres/        0700, its owner is who runs Python; nobody else gets past it
    home/postgres/data/   0700, its owner is who runs PostgreSQL; the socket lies in it too
    home/postgres/lock    flock, held by PostgreSQL's own processes for as long as one of them lives
    home/postgres.log

The lock is inherited by the server and by everything it forks, so it is free exactly when no process of it is left. A
pid can be reused and a pid file can be stale; a lock of the kernel is neither.
"""

import fcntl
import os
import socket
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

from earmark.local_postgres._errors import LocalPostgresError

DATABASE = "earmark"
SUPERUSER = "postgres"
POLL_SECONDS = 0.005

_SOCKET_PATH_BYTES = 103  # macOS; Linux has 107
_SOCKET_NAME = ".s.PGSQL.65535"
_CONNECT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What the server wrote about itself into `postmaster.pid`."""

    pid: int
    port: int
    sockets: Path
    """Folder of its socket."""
    is_ready: bool

    @property
    def url(self) -> str:
        """URL for libpq, over the socket."""
        host = quote(os.fsencode(self.sockets), safe="")
        return f"postgresql://{SUPERUSER}@/{DATABASE}?host={host}&port={self.port}"

    def answers(self) -> bool:
        """Whether a process listens on the socket; a socket that a dead server left behind refuses."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_CONNECT_SECONDS)
            try:
                probe.connect(os.fsencode(self.sockets / f".s.PGSQL.{self.port}"))
            except BlockingIOError:  # its backlog is full, so it has one
                return True
            except OSError:
                return False
        return True


@dataclass(frozen=True, slots=True)
class ServerFolder:
    """The files of one embedded server."""

    home: Path

    @classmethod
    def under(cls, home: Path) -> Self:
        """The server's files under `home`, which need not exist yet."""
        return cls(Path(home).absolute())

    @property
    def private(self) -> Path:
        """Folder that only the user who runs Python can enter."""
        return self.home / "postgres"

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.private / "data"

    @property
    def log(self) -> Path:
        """Log of the server, appended to."""
        return self.home / "postgres.log"

    @property
    def outside_sockets(self) -> Path | None:
        """Folder of the socket when no client could name one inside the data folder, else None.

        A socket's path is limited in length, and libpq takes a comma in it for the next host.
        """
        inside = os.fsencode(self.data / _SOCKET_NAME)
        if len(inside) <= _SOCKET_PATH_BYTES and b"," not in inside:
            return None
        identity = self.private.stat()
        return Path("/tmp") / f"earmark-{identity.st_dev:x}-{identity.st_ino:x}"  # noqa: S108 - checked by its maker

    def create(self) -> None:
        """Make the folders that are missing, readable by their owner only."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.private.mkdir(mode=0o700, exist_ok=True)
        if stat.S_IMODE(self.private.stat().st_mode) & 0o077:
            self.private.chmod(0o700)

    def try_lock(self, *, shared: bool = False) -> int | None:
        """File descriptor that holds the lock, for the caller to close; None while any process of a server lives."""
        descriptor = os.open(self.private / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def is_free(self) -> bool:
        """Whether no process of a server lives here, nor anybody about to start one."""
        try:
            descriptor = self.try_lock(shared=True)
        except FileNotFoundError:  # no such home
            return True
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is not None

    def lock_or_running(self, timeout_seconds: float) -> int | Postmaster:
        """The lock, or the server that somebody else has running, waiting for one that starts or stops right now.

        Raises:
            LocalPostgresError: Neither came within `timeout_seconds`.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            descriptor = self.try_lock()
            if descriptor is not None:
                return descriptor
            running = self.running()
            if running is not None:
                return running
            if time.monotonic() > deadline:
                raise LocalPostgresError(
                    f"Processes of another embedded PostgreSQL hold {self.private / 'lock'}, but it takes no"
                    f" connections. `fuser {self.private / 'lock'}` names them: end them, then try again."
                )
            time.sleep(POLL_SECONDS)

    def postmaster(self) -> Postmaster | None:
        """What `postmaster.pid` says, which may be stale; None while it is missing or half written."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            pid, port, sockets, status = int(lines[0]), int(lines[3]), lines[4], lines[7]
        except (FileNotFoundError, ValueError, IndexError):
            return None
        return Postmaster(pid, port, self.data / sockets, status.strip() == "ready")

    def running(self) -> Postmaster | None:
        """The server that is alive and ready here, else None."""
        if self.is_free():
            return None
        found = self.postmaster()
        return found if found is not None and found.is_ready and found.answers() else None

    def remove_leftovers(self) -> None:
        """Remove what a killed server left; only under the lock.

        PostgreSQL does so too, but not when the pid in such a file belongs to another process by now.
        """
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        for folder in (self.data, self.outside_sockets):
            for leftover in folder.glob(".s.PGSQL.*") if folder is not None else ():
                leftover.unlink()


def has_data(home: Path) -> bool:
    """Whether a server has kept data under `home`, running or not."""
    return ServerFolder.under(home).data.exists()


def running_url(home: Path) -> str | None:
    """URL of the server that is alive under `home`, else None.

    Alive means: a process of it holds this home's lock, it says that it is ready, and its socket accepts a connection.

    Raises:
        OSError: `home` may not be read by this user.
    """
    running = ServerFolder.under(home).running()
    return None if running is None else running.url
