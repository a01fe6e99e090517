"""Deaths at bad moments. Afterwards one sweep, and usage is what is really there; each hold is settled once."""

import os
import signal
import socket
import subprocess
import threading
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

from fixtures.life import assert_what_is_there_is_what_is_used, complete, preupload, put
from fixtures.pictures import picture

SHORT = {"evidence_ttl_seconds": 1, "processing_ttl_seconds": 2, "sweep_interval_seconds": 0.2}
SHORT_UPLOAD = SHORT | {"upload_ttl_seconds": 5, "upload_grace_seconds": 0}
"""Enough for a loaded machine to put what is to arrive in time."""


JPEG = picture(640, 480)


def begin_put(image, data):
    """Sends the head of a PUT and half of its body; the open socket."""
    url = urlsplit(image["uploadUrl"])
    sock = socket.create_connection((url.hostname, url.port))
    headers = {**image["headers"], "Host": url.netloc, "Content-Length": str(len(data))}
    head = f"PUT {url.path}?{url.query} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n"
    sock.sendall(head.encode() + data[: len(data) // 2])
    return sock


def test_kill_9_of_the_service_in_the_middle_of_an_upload(service_of):
    service = service_of(**SHORT_UPLOAD).start()
    cut, whole, untold = preupload(service, JPEG, JPEG, JPEG)
    with begin_put(cut, JPEG):
        service.wait_until(lambda: {image["state"] for image in service.images()} == {"uploading", "reserved"})
        assert put(whole, JPEG).is_success
        assert complete(service, whole).status_code == 202
        assert put(untold, JPEG).is_success  # but the client never says so
        service.kill()
    service.start()
    service.wait_until(service.is_at_rest)
    assert {image["imageId"]: image["state"] for image in service.images()} == {
        cut["imageId"]: "expired",
        whole["imageId"]: "completed",
        untold["imageId"]: "completed",
    }
    assert_what_is_there_is_what_is_used(service)


def test_kill_9_of_the_service_in_the_middle_of_processing(service_of, tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    service = service_of(**SHORT, processor="gated_processor:process", test_gate=gate).start()
    (image,) = preupload(service, JPEG)
    assert put(image, JPEG).is_success
    assert complete(service, image).status_code == 202
    service.wait_until((tmp_path / "begun-1").exists)
    service.kill()
    gate.unlink()
    service.start()
    service.wait_until(service.is_at_rest)
    assert [image["state"] for image in service.images()] == ["completed"]
    assert_what_is_there_is_what_is_used(service)


def test_a_worker_that_always_dies_costs_nothing(service_of, tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    service = service_of(**SHORT, processor="gated_processor:process", test_gate=gate, processing_attempts=2)
    service.start()
    (image,) = preupload(service, JPEG)
    assert put(image, JPEG).is_success
    assert complete(service, image).status_code == 202
    for attempt in (1, 2):
        service.wait_until((tmp_path / f"begun-{attempt}").exists)
        service.kill()
        service.start()
    service.wait_until(service.is_at_rest)
    assert [image["cause"] for image in service.images()] == ["processing_failed"]
    assert_what_is_there_is_what_is_used(service)


def test_killing_the_client(service_of, tmp_path):
    service = service_of(**SHORT_UPLOAD).start()
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.jpg").write_bytes(picture(1600, 1200))
    command = service.command("upload", str(folder), "--url", service.url, "--token", service.token)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
        service.wait_until(lambda: len(service.images()) == 8)
        client.kill()
    service.wait_until(service.is_at_rest)
    assert len(service.images()) == 8
    assert_what_is_there_is_what_is_used(service)


def test_the_database_dies_during_a_rollback(service_of):
    service = service_of(**SHORT_UPLOAD).start()
    (image,) = preupload(service, JPEG)
    postmaster = next(
        process
        for process in psutil.Process(service.pid).children(recursive=True)
        if process.name() == "postgres" and process.parent().name() != "postgres"
    )
    backends = [process for process in postmaster.children() if process.is_running()]
    for process in [postmaster, *backends]:
        process.suspend()
    with service.client() as client:
        answer = []
        cancelling = threading.Thread(
            target=lambda: answer.append(client.post(f"/api/images/{image['imageId']}/cancel").status_code)
        )
        cancelling.start()
        os.kill(postmaster.pid, signal.SIGKILL)
        for process in backends:
            os.kill(process.pid, signal.SIGKILL)
        cancelling.join(60)
    assert answer in ([200], [503])  # it was carried out by a retry, or said clearly that it was not
    service.wait_until(service.is_at_rest)
    assert service.images()[0]["state"] in {"cancelled", "expired"}
    assert_what_is_there_is_what_is_used(service)


def test_ctrl_c_and_sigterm_end_everything_and_nothing_blocks_the_next_start(service_of):
    service = service_of()
    for number in (signal.SIGINT, signal.SIGTERM):
        service.start()
        preupload(service, JPEG)
        assert service.signal(number) == 0
        service.wait_until(lambda: not service.left_behind())
    service.start()
    assert service.usage()["images"]["held"] == 2


def test_it_serves_and_stops_though_nobody_reads_what_it_prints(service_of):
    service = service_of()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    reader, writer = os.pipe()
    os.close(reader)
    command = service.command("serve", "--port", str(port), "--home", str(service.home))
    with (
        service.log.open("w") as log,
        subprocess.Popen(command, stdout=writer, stderr=log, env=service.environment) as served,
    ):
        os.close(writer)
        try:
            service.wait_until(lambda: httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200)
            served.terminate()
            assert served.wait(30) == 0
        finally:
            served.kill()
    service.wait_until(lambda: not service.left_behind())


def test_every_rollback_is_one_structured_line(service):
    images = preupload(service, JPEG, JPEG, JPEG)
    with service.client() as client:
        client.post(f"/api/images/{images[0]['imageId']}/cancel").raise_for_status()
        client.post(f"/api/images/{images[1]['imageId']}/failed", json={"error": "no route"}).raise_for_status()
        client.post("/api/quota/rollback", json={"count": 5}).raise_for_status()
    lines = service.log_lines("rollback")
    assert [line["cause"] for line in lines] == ["cancelled", "upload_failed", "cancelled"]
    for line in lines:
        assert line["subject"] == "alice"
        assert line["actor"] == "alice"
        assert line["amounts"] == {"images": 1, "storage_bytes": len(JPEG)}
        assert {"reservation", "item", "trigger", "timestamp", "level"} <= line.keys()
    assert service.token not in service.log.read_text()
    assert Path(service.home / "secret").read_bytes() not in service.log.read_bytes()
