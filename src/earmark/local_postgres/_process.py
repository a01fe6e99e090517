"""Programs of PostgreSQL as child processes that do not outlive this process."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path

from earmark.local_postgres import _launch
from earmark.local_postgres._account import Account

_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def launch_command(account: Account | None, death_signal: signal.Signals, *command: str) -> list[str]:
    """Command line that becomes `command`, as the account; it gets `death_signal` when the thread that runs it ends."""
    user = ("-1", "-1") if account is None else (str(account.uid), str(account.gid))
    launcher = (sys.executable, "-I", "-S", _launch.__file__)
    return [*launcher, str(os.getpid()), *user, str(int(death_signal)), *command]


def run_to_end(
    account: Account | None, command: tuple[str, ...], text: str, descriptors: tuple[int, ...]
) -> subprocess.CompletedProcess[str]:
    """Run a program with `text` as its input; what it writes, errors included, is in `stdout`."""
    return subprocess.run(  # noqa: S603 - our own program
        launch_command(account, signal.SIGTERM, *command),
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        pass_fds=descriptors,
        env=_environment(),
        cwd="/",
        start_new_session=True,
    )


class BackgroundProcess:
    """A program that is started and waited for in a thread of its own, which lives exactly as long as the program.

    The kernel takes the end of the thread that started a process for the death of its parent.

    Args:
        account: Who runs it; None is the current user.
        command: Program and arguments.
        descriptors: What it inherits; they must stay open until `pid` was read.
        log: Where its output is appended.
    """

    def __init__(
        self, account: Account | None, command: tuple[str, ...], descriptors: tuple[int, ...], log: Path
    ) -> None:
        self._command = launch_command(account, signal.SIGINT, *command)
        self._descriptors = descriptors
        self._log = log
        self._started: Future[subprocess.Popen[bytes]] = Future()
        self._starter = os.getpid()
        self._thread = threading.Thread(target=self._run, name="earmark-postgres", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Its process id, waiting until it is started.

        Raises:
            OSError: It could not be started.
        """
        return self._started.result().pid

    @property
    def is_running(self) -> bool:
        """Whether it runs, as a child of this very process (not of one that this was forked from)."""
        if not self._thread.is_alive():
            return False
        if not self._started.done() or self._started.exception() is not None:
            return True
        try:
            os.kill(self.pid, 0)  # the thread may not have noticed yet that it ended
        except ProcessLookupError:
            return False
        return True

    def end(self, signals: Iterable[tuple[signal.Signals, float]]) -> bool:
        """Send each signal in turn and give the program that many seconds to end; False where it is not ours to end."""
        if os.getpid() != self._starter or self._started.exception() is not None:
            return False
        for kind, seconds in signals:
            self._started.result().send_signal(kind)
            self._thread.join(seconds)
            if not self._thread.is_alive():
                break
        return True

    def _run(self) -> None:
        try:
            with self._log.open("ab") as log:
                process = subprocess.Popen(  # noqa: S603 - our own program
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=self._descriptors,
                    env=_environment(),
                    cwd="/",
                    start_new_session=True,
                )
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._started.set_exception(error)
            return
        self._started.set_result(process)
        process.wait()


def _environment() -> dict[str, str]:
    """Variables for PostgreSQL's programs: none of the user's `PG…`, and a fixed TZ, which saves initdb a search."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}
