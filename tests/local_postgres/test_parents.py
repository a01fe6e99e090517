import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from earmark.local_postgres import LocalPostgres, _folder, running_url

LIGHT = {"max_connections": "10", "shared_buffers": "4MB"}
PARENT = """
import signal, sys
from pathlib import Path
from earmark.local_postgres import LocalPostgres
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits it ignored
if "handler" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
server = LocalPostgres(Path(sys.argv[1]), settings={"max_connections": "10", "shared_buffers": "4MB"})
if "abandon" in sys.argv:
    server.start()
    sys.exit()
with server:
    print((Path(sys.argv[1]) / "postgres/data/postmaster.pid").read_text().splitlines()[0], flush=True)
    sys.stdin.read()
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")


def begin(home: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PARENT, str(home), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def first_line(parent: subprocess.Popen[str]) -> str:
    assert parent.stdout is not None
    return parent.stdout.readline().strip()


def family(parent: subprocess.Popen[str]) -> list[psutil.Process]:
    """The server and its children, once it said its pid."""
    server = psutil.Process(int(first_line(parent)))
    return [server, *server.children(recursive=True)]


def assert_all_end(processes: list[psutil.Process]) -> None:
    assert len(processes) > 1
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert alive == []


@linux
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_killed_parent_leaves_no_server_and_the_next_start_works(used_home: Path, kind: signal.Signals):
    parent = begin(used_home)
    processes = family(parent)
    url = running_url(used_home)
    assert url is not None
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
    parent.send_signal(kind)
    parent.communicate()
    assert parent.returncode == -kind
    assert_all_end(processes)
    assert running_url(used_home) is None
    with LocalPostgres(used_home, settings=LIGHT) as server, psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (42,)


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGTERM, 7), (signal.SIGINT, -signal.SIGINT)])
def test_a_parent_that_ends_in_order_has_stopped_its_server(used_home: Path, kind: signal.Signals, code: int):
    parent = begin(used_home, "handler")
    processes = family(parent)
    parent.send_signal(kind)
    parent.communicate()
    assert parent.returncode == code
    assert not any(process.is_running() for process in processes)


def test_a_parent_that_forgets_to_stop_has_stopped_its_server_by_its_exit(used_home: Path):
    parent = begin(used_home, "abandon")
    _, errors = parent.communicate()
    assert (parent.returncode, errors) == (0, "")
    assert _folder.ServerFolder.under(used_home).is_free()


@linux
def test_a_parent_killed_during_the_first_start_does_not_block_the_next(home: Path):
    parent = begin(home)
    unfinished = home / "postgres/data.new/PG_VERSION"
    for _ in range(30_000):
        if unfinished.exists():
            break
        time.sleep(0.001)
    parent.kill()
    parent.communicate()
    with LocalPostgres(home, settings=LIGHT) as server, psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not (home / "postgres/data.new").exists()


def test_parents_that_race_share_exactly_one_server(home: Path):
    parents = [begin(home) for _ in range(4)]
    pids = {first_line(parent) for parent in parents}
    assert len(pids) == 1
    for parent in parents:
        _, errors = parent.communicate()
        assert (parent.returncode, errors) == (0, "")
    assert running_url(home) is None
    assert (home / "postgres.log").read_text().count("starting PostgreSQL") == 1
