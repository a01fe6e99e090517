"""`serve --workers N`: several processes on one port, which come, go and end in order."""

import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from earmark.cli.token import local_token
from fixtures.life import put
from fixtures.pictures import picture

JPEG = picture(640, 480)
DESCRIBED = {"filename": "a.jpg", "contentType": "image/jpeg", "size": len(JPEG)}


def web_processes(service) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(service.pid).children():
        try:
            if "spawn_main" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def begun_upload(service) -> tuple[socket.socket, str]:
    """A PUT of which half the body was sent."""
    with service.client() as client:
        (upload,) = client.post("/api/images/preupload", json=DESCRIBED).raise_for_status().json()["images"]
    url = urlsplit(upload["uploadUrl"])
    connection = socket.create_connection((url.hostname, url.port), timeout=30)
    fields = {"Host": url.netloc, "Content-Length": str(len(JPEG)), **upload["headers"]}
    lines = [f"PUT {url.path}?{url.query} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    connection.sendall("\r\n".join(lines).encode() + JPEG[:1000])
    service.wait_until(lambda: any(image["state"] == "uploading" for image in service.images()))
    return connection, upload["imageId"]


def test_several_processes_serve_and_one_that_dies_is_replaced(service_of):
    service = service_of(workers=3).start()
    service.wait_until(lambda: len(web_processes(service)) == 3)
    first = {process.pid for process in web_processes(service)}

    def reserve(number: int) -> int:
        with service.client() as client:
            return client.post("/api/reservations", json={"amounts": {"images": 1}}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(reserve, range(24))) == {201}
    assert service.usage()["images"]["held"] == 24
    victim = min(first)
    psutil.Process(victim).kill()
    service.wait_until(lambda: len({process.pid for process in web_processes(service)} - {victim}) == 3)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(reserve, range(16))) == {201}
    assert service.usage()["images"]["held"] == 40
    (line,) = service.log_lines("web_process_died")
    assert (line["pid"], line["exit_code"]) == (victim, -9)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_was_begun_is_finished_before_it_ends(service_of, workers):
    service = service_of(workers=workers, shutdown_grace_seconds=30).start()
    connection, image = begun_upload(service)
    ended = threading.Thread(target=lambda: codes.append(service.signal(signal.SIGTERM)))
    codes: list[int] = []
    ended.start()
    service.wait_until(lambda: refuses(service))
    connection.sendall(JPEG[1000:])
    with connection, connection.makefile("rb") as answer:
        assert b"201" in answer.readline()
    ended.join(60)
    assert codes == [0]
    service.wait_until(lambda: not service.left_behind())
    service.start()
    with service.client() as client:
        assert client.post("/api/images/complete", json={"imageId": image}).status_code == 202
    service.wait_until(lambda: [one["state"] for one in service.images()] == ["completed"])


def refuses(service) -> bool:
    try:
        httpx.get(f"{service.url}/healthz")
    except httpx.TransportError:
        return True
    return False


@pytest.mark.parametrize("workers", [1, 2])
def test_while_it_drains_it_serves_but_is_not_ready(service_of, workers):
    service = service_of(workers=workers, drain_seconds=600).start()
    assert httpx.get(f"{service.url}/readyz").status_code == 200
    process = psutil.Process(service.pid)
    process.send_signal(signal.SIGTERM)
    service.wait_until(lambda: httpx.get(f"{service.url}/readyz").status_code == 503)
    service.wait_until(lambda: httpx.get(f"{service.url}/readyz").json()["checks"]["service"] == "stopping")
    assert service.usage()["images"]["held"] == 0
    assert service.signal(signal.SIGTERM) == 0
    service.wait_until(lambda: not service.left_behind())


def test_kill_9_of_the_first_process_ends_all(service_of):
    service = service_of(workers=2).start()
    service.wait_until(lambda: len(web_processes(service)) == 2)
    service.kill()
    service.start()
    assert service.usage()["images"]["held"] == 0


def test_processes_that_cannot_live_end_the_service(service_of):
    service = service_of(workers=2).start()
    killed: set[int] = set()

    def keep_killing() -> bool:
        for process in web_processes(service):
            if process.pid not in killed:
                killed.add(process.pid)
                process.kill()
        return service.log_lines("web_process_died") and psutil.Process(service.pid).status() == psutil.STATUS_ZOMBIE

    service.wait_until(keep_killing, tries=2400)
    assert service.signal(0) == 1
    assert "as soon as they are started" in service.log.read_text()


def test_no_process_opens_more_connections_than_it_may(service_of, database, connection):
    service = service_of(workers=2, database_url=database, database_connections=2).start()

    def upload(_: int) -> None:
        with service.client() as client:
            (image,) = client.post("/api/images/preupload", json=DESCRIBED).raise_for_status().json()["images"]
            assert put(image, JPEG).status_code == 201
            client.post("/api/images/complete", json={"imageId": image["imageId"]}).raise_for_status()

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(upload, range(36)))
    service.wait_until(lambda: {image["state"] for image in service.images()} == {"completed"})
    # An idle one is kept for minutes: these are all that there were. The first process works on images.
    (opened,) = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ).fetchone()
    assert 2 + 2 * 2 < opened <= (2 + 3) + 2 * 2


def test_a_lock_that_somebody_keeps_holds_up_only_its_subject(service_of, database, connection):
    """An application's long transaction, or a session that somebody forgot, must not take all connections."""
    service = service_of(workers=1, database_url=database, database_connections=2).start()

    def reserve(subject: str) -> httpx.Response:
        token = local_token(service.home, subject, role="authenticated", ttl=timedelta(hours=1))
        with service.client(token) as client:
            return client.post("/api/images/preupload", json=DESCRIBED)

    assert {reserve(who).status_code for who in ("alice", "bob")} == {201}
    with ThreadPoolExecutor(8) as pool:
        with connection.transaction():
            connection.execute("SELECT FROM earmark._private_subject WHERE subject = 'alice' FOR NO KEY UPDATE")
            blocked = [pool.submit(reserve, "alice") for _ in range(2)]
            service.wait_until(lambda: waiting_for_locks(connection) == 2)
            assert reserve("bob").status_code == 201, "he waited for a connection until they had given up"
            for answer in blocked:
                refused = answer.result()
                assert (refused.status_code, refused.json()["type"]) == (503, "/problems/books-locked")
                assert refused.headers["Retry-After"]
        assert reserve("alice").status_code == 201


def waiting_for_locks(connection) -> int:
    (waiting,) = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchone()
    return waiting
