"""`earmark upload` against a small in-memory stand-in for the remote service, over real HTTP."""

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from earmark.cli.terminal import safe_text
from earmark.cli.upload import upload
from earmark.cli.upload_files import find_files
from earmark.cli.upload_folder import UploadOptions, upload_folder
from earmark.cli.upload_report import UploadReport, print_report, shortened
from earmark.model import ResourceUsage

CASES = Path(__file__).parents[2].parent / "shared/cases"
PATIENCE_SECONDS = 30


def image_of(number: int) -> str:
    return str(UUID(int=number))


class RemoteService(ThreadingHTTPServer):
    """The HTTP contract in memory. `faults` maps a file's name to what shall go wrong with it."""

    daemon_threads = True

    def __init__(self, quota: int = 100, bulk: int = 20, faults: dict[str, str] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.quota, self.bulk, self.announced_bulk, self.faults = quota, bulk, bulk, dict(faults or {})
        self.images: dict[str, dict[str, Any]] = {}
        self.seen: list[tuple[str, str, Any, str | None]] = []
        self.reached, self.released, self.rollback_seen = threading.Event(), threading.Event(), threading.Event()

    def calls(self, path: str) -> list[Any]:
        return [body for _, seen_path, body, _ in self.seen if seen_path == path]

    def keys(self) -> list[str | None]:
        return [key for _, path, _, key in self.seen if path == "/api/images/preupload"]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that break off are what some of these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: RemoteService
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass

    def do_GET(self) -> None:
        *_, last = self.path.split("/")
        if self.server.faults.get(last) == "401":
            return self.problem(401, "not-signed-in")
        if self.server.faults.get(last) == "nonsense":
            return self.answer(200, "<h1>It works!</h1>")
        return self.answer(200, self.usage() if last == "usage" else self.server.images[last])

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append(("POST", self.path, body, self.headers["Idempotency-Key"]))
        *_, image_id, last = self.path.split("/")
        if last == "preupload":
            self.preupload(body["files"])
        elif last == "complete":
            self.complete(self.server.images[body["imageId"]])
        elif last == "rollback":
            returned = [self.end(self.server.images[identifier], "cancelled") for identifier in body["imageIds"]]
            self.server.rollback_seen.set()
            if "hold-rollback" in self.server.faults.values():
                self.server.released.wait(PATIENCE_SECONDS)
            self.answer(200, {"rolledBack": {"images": sum(returned)}, "usage": self.usage()})
        else:
            self.end(self.server.images[image_id], "failed")
            self.answer(200, {"image": self.server.images[image_id], "usage": self.usage()})

    def preupload(self, files: list[dict[str, Any]]) -> None:
        service = self.server
        faults = [service.faults.get(file["filename"], "") for file in files]
        if "unavailable-once" in faults:
            service.faults = {}
            return self.problem(503, "unavailable")
        if len(files) > service.bulk:
            return self.problem(422, "bulk-limit-exceeded", limit=service.bulk, count=len(files))
        for index, file in enumerate(files):
            if file["size"] == 0 or faults[index] == "invalid":
                reason = f"{file['filename']} is no good"
                return self.problem(422, "invalid-file", index=index, filename=file["filename"], reason=reason)
        if self.used() + len(files) > service.quota:
            return self.problem(429, "quota-exceeded", resource="images", short=1)
        grants = []
        for file in files:
            image_id = image_of(len(service.images))
            service.images[image_id] = {"imageId": image_id, "state": "reserved", "cause": None, "reason": None, **file}
            upload = {"imageId": image_id, "uploadUrl": f"/store/{image_id}", "method": "PUT"}
            grants.append({**upload, "headers": {"x-once": image_id}})
            if faults[0].startswith("truncate "):
                os.truncate(faults[0].removeprefix("truncate "), 10)
        if "late-grant" in faults:
            service.reached.set()
            service.released.wait(PATIENCE_SECONDS)
        return self.answer(201, {"reservationId": image_of(0), "expiresAt": "2100-01-01T00:00:00Z", "images": grants})

    def do_PUT(self) -> None:
        image = self.server.images[self.path.split("/")[-1]]
        self.server.seen.append(("PUT", self.path, dict(self.headers), None))
        fault = self.server.faults.get(image["filename"], "")
        assert self.headers["x-once"] == image["imageId"]
        if image["state"] != "reserved":
            self.close_connection = True
            return self.answer(412, {})
        first = self.rfile.read(min(image["size"], 1024))
        if fault in ("hang", "late-grant", "hold-rollback"):
            self.server.reached.set()
            self.server.rollback_seen.wait(PATIENCE_SECONDS)
        rest = b"" if fault in ("hang", "drop") else self.rfile.read(image["size"] - len(first))
        if fault == "500":
            return self.answer(500, {})
        image["arrived"] = len(first + rest)
        if image["state"] == "reserved" and image["arrived"] == image["size"]:
            image["state"] = "uploaded"
        if fault.startswith(("drop", "hang")):
            self.close_connection = True
            return self.connection.close()
        return self.answer(201, {})

    def complete(self, image: dict[str, Any]) -> None:
        fault = self.server.faults.get(image["filename"])
        if fault == "reject":
            self.end(image, "rejected")
            return self.problem(422, "validation-failed", reason="this is no JPEG \x1b]0;owned\x07")
        if fault != "never-processed":
            image["state"] = "failed" if fault == "process-fails" else "completed"
            image["reason"] = "the picture cannot be decoded" if fault == "process-fails" else None
        return self.answer(202, {"imageId": image["imageId"], "status": "uploaded"})

    def end(self, image: dict[str, Any], state: str) -> int:
        is_open = image["state"] in ("reserved", "uploaded")
        image["state"] = state if is_open else image["state"]
        return int(is_open)

    def used(self) -> int:
        return sum(image["state"] in ("reserved", "uploaded", "completed") for image in self.server.images.values())

    def usage(self) -> dict[str, Any]:
        size = sum(image["size"] for image in self.server.images.values() if image["state"] == "completed")
        resources = {
            "images": self.resource(self.used(), self.server.quota),
            "storage_bytes": self.resource(size, -1),
        }
        features = {"max_bulk_upload": self.server.announced_bulk}
        return {"subject": "ada", "tier": "pro", "features": features, "resources": resources}

    @staticmethod
    def resource(used: int, quota_limit: int) -> dict[str, Any]:
        figures = {"committed": used, "held": 0, "used": used, "quota_limit": quota_limit, "over_by": 0}
        remaining = -1 if quota_limit < 0 else max(0, quota_limit - used)
        return {**figures, "remaining": remaining, "period": "none", "period_start": None, "period_end": None}

    def problem(self, status: int, slug: str, **members: Any) -> None:
        detail = f"the detail of {slug}"
        document = {"type": f"http://x/problems/{slug}", "title": slug, "status": status, "detail": detail, **members}
        self.answer(status, document, "application/problem+json")

    def answer(self, status: int, document: Any, content_type: str = "application/json") -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextlib.contextmanager
def serving(**options: Any) -> Iterator[RemoteService]:
    with RemoteService(**options) as service:
        thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield service
        finally:
            service.released.set()
            service.rollback_seen.set()
            service.shutdown()
            thread.join()


def folder_of(path: Path, *names: str, size: int = 3000) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"x" * size)
    return path


def run(folder: Path, service: RemoteService, console: Console | None = None, **options: Any) -> UploadReport:
    chosen = UploadOptions(folder, service.url, "a-token", **options)
    return asyncio.run(upload_folder(chosen, console or Console(quiet=True)))


def outcomes(report: UploadReport) -> dict[str, str]:
    return {file.file: file.outcome.value for file in report.files}


def reasons(report: UploadReport) -> dict[str, str | None]:
    return {file.file: file.reason for file in report.files}


def command(*arguments: str, environment: dict[str, str] | None = None) -> Result:
    app = typer.Typer()
    app.command()(upload)
    return CliRunner().invoke(app, arguments, env={"EARMARK_TOKEN": "", "COLUMNS": "100", **(environment or {})})


@contextlib.contextmanager
def client_process(folder: Path, service: RemoteService) -> Iterator[subprocess.Popen[str]]:
    program = "import typer; from earmark.cli.upload import upload; typer.run(upload)"
    arguments = [str(folder), "--url", service.url, "--token", "a-token", "--parallel", "2"]
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_all_files_of_all_folders_are_accepted_in_batches(tmp_path: Path):
    folder = folder_of(tmp_path, "a.jpg", "b.PNG", "deep/er/c.webp", "d.gif", "manifest.json")
    with serving(bulk=3) as service:
        report = run(folder, service)
    images = {"a.jpg": "accepted", "b.PNG": "accepted", "d.gif": "accepted", "deep/er/c.webp": "accepted"}
    assert outcomes(report) == images | {"manifest.json": "left out"}
    assert reasons(report)["manifest.json"] == "not an image"
    assert report.exit_code == 0
    assert report.before is not None
    assert report.after is not None
    assert (report.before["images"].used, report.after["images"].used) == (0, 4)
    assert report.after["storage_bytes"].used == 12_000
    assert [len(body["files"]) for body in service.calls("/api/images/preupload")] == [3, 1]
    assert len(set(service.keys())) == 2
    assert all(image["arrived"] == 3000 for image in service.images.values())


def test_a_file_is_sent_with_its_length_and_without_the_token(tmp_path: Path):
    with serving() as service:
        run(folder_of(tmp_path, "a.jpg"), service)
    headers = {name.lower(): value for name, value in service.calls(f"/store/{image_of(0)}")[0].items()}
    assert headers["content-length"] == "3000"
    assert "transfer-encoding" not in headers
    assert "authorization" not in headers


def test_an_invalid_file_in_the_middle_does_not_sink_the_others(tmp_path: Path):
    folder = folder_of(tmp_path, "a.jpg", "b.jpg", "d.jpg")
    (folder / "c.jpg").touch()
    with serving(faults={"b.jpg": "invalid"}) as service:
        report = run(folder, service)
    assert outcomes(report) == {"a.jpg": "accepted", "b.jpg": "refused", "c.jpg": "refused", "d.jpg": "accepted"}
    assert reasons(report)["b.jpg"] == "b.jpg is no good"
    assert report.exit_code == 0
    assert len(set(service.keys())) == 3


def test_what_fits_into_the_quota_is_uploaded_and_the_rest_refused(tmp_path: Path):
    with serving(quota=3) as service:
        report = run(folder_of(tmp_path, "1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"), service)
    assert list(outcomes(report).values()) == ["accepted", "accepted", "accepted", "refused", "refused"]
    assert reasons(report)["5.jpg"] == "quota: the detail of quota-exceeded"
    assert report.exit_code == 0


def test_an_exhausted_quota_is_not_asked_for_every_single_file(tmp_path: Path):
    with serving(quota=0) as service:
        report = run(folder_of(tmp_path, *(f"{number}.jpg" for number in range(16))), service)
    assert report.counts == {"refused": 16}
    assert len(service.keys()) == 5


def test_a_smaller_bulk_limit_than_was_announced_splits_the_batch(tmp_path: Path):
    with serving(bulk=20) as service:
        service.bulk = 2
        report = run(folder_of(tmp_path, *(f"{number}.jpg" for number in range(5))), service)
    assert report.counts == {"accepted": 5}


@pytest.mark.parametrize("fault", ["500", "drop"])
def test_a_failed_upload_is_reported_and_its_quota_returned(tmp_path: Path, fault: str):
    with serving(faults={"b.jpg": fault}) as service:
        report = run(folder_of(tmp_path, "a.jpg", "b.jpg", "c.jpg"), service)
    assert outcomes(report) == {"a.jpg": "accepted", "b.jpg": "rolled back", "c.jpg": "accepted"}
    assert (reasons(report)["b.jpg"] or "").startswith("upload failed, quota returned: ")
    assert len(service.calls(f"/store/{image_of(1)}")) == 3
    assert len(service.calls(f"/api/images/{image_of(1)}/failed")) == 1
    assert report.after is not None
    assert report.after["images"].used == 2
    assert report.exit_code == 1


def test_a_file_that_changes_after_its_reservation_is_given_back(tmp_path: Path):
    folder = folder_of(tmp_path, "a.jpg")
    with serving(faults={"a.jpg": f"truncate {folder / 'a.jpg'}"}) as service:
        report = run(folder, service)
    assert reasons(report) == {"a.jpg": "upload failed, quota returned: the file changed while it was sent"}
    assert service.images[image_of(0)]["state"] == "failed"


def test_an_upload_that_arrived_although_its_connection_broke_is_completed(tmp_path: Path):
    with serving(faults={"a.jpg": "drop-after-arrival"}) as service:
        report = run(folder_of(tmp_path, "a.jpg"), service)
    assert outcomes(report) == {"a.jpg": "accepted"}
    assert len(service.calls(f"/store/{image_of(0)}")) == 2


def test_a_rejected_and_a_failed_image_say_why(tmp_path: Path):
    with serving(faults={"a.jpg": "reject", "b.jpg": "process-fails"}) as service:
        report = run(folder_of(tmp_path, "a.jpg", "b.jpg", "c.jpg"), service)
    assert outcomes(report) == {"a.jpg": "rolled back", "b.jpg": "rolled back", "c.jpg": "accepted"}
    assert (reasons(report)["a.jpg"] or "").startswith("this is no JPEG")
    assert reasons(report)["b.jpg"] == "the picture cannot be decoded"
    assert report.exit_code == 0


def test_a_reservation_is_repeated_under_the_same_key(tmp_path: Path):
    with serving(faults={"a.jpg": "unavailable-once"}) as service:
        report = run(folder_of(tmp_path, "a.jpg"), service)
    assert outcomes(report) == {"a.jpg": "accepted"}
    first, second = service.keys()
    assert first is not None
    assert first == second


def test_an_image_that_is_never_processed_is_unsettled(tmp_path: Path):
    with serving(faults={"a.jpg": "never-processed"}) as service:
        report = run(folder_of(tmp_path, "a.jpg", "b.jpg"), service, timeout_seconds=0.3)
    assert outcomes(report) == {"a.jpg": "unsettled", "b.jpg": "accepted"}
    assert report.exit_code == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_cancels_what_is_open(tmp_path: Path, number: signal.Signals, code: int):
    folder = folder_of(tmp_path, "b.jpg", "c.jpg", size=4_000_000)
    folder_of(tmp_path, "a.jpg")
    with serving(faults={"b.jpg": "hang", "c.jpg": "hang"}) as service, client_process(folder, service) as process:
        assert service.reached.wait(PATIENCE_SECONDS)
        process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE_SECONDS)
        states = {image["filename"]: image["state"] for image in service.images.values()}
    assert process.returncode == code, errors
    assert states["b.jpg"] == states["c.jpg"] == "cancelled"
    (rollback,) = service.calls("/api/quota/rollback")
    assert {image_of(1), image_of(2)} <= set(rollback["imageIds"])
    assert rollback["cause"] == "cancelled"
    assert "cancelled, quota returned" in output
    assert "after" in output


def test_an_interruption_gives_back_a_reservation_whose_answer_is_still_on_its_way(tmp_path: Path):
    folder = folder_of(tmp_path, "a.jpg")
    with serving(faults={"a.jpg": "late-grant"}) as service, client_process(folder, service) as process:
        assert service.reached.wait(PATIENCE_SECONDS)
        process.send_signal(signal.SIGINT)
        service.released.set()
        output, errors = process.communicate(timeout=PATIENCE_SECONDS)
        assert service.images[image_of(0)]["state"] == "cancelled"
    assert process.returncode == 130, errors
    assert "1 cancelled" in output


def test_a_second_interruption_leaves_at_once(tmp_path: Path):
    folder = folder_of(tmp_path, "a.jpg")
    with serving(faults={"a.jpg": "hold-rollback"}) as service, client_process(folder, service) as process:
        assert service.reached.wait(PATIENCE_SECONDS)
        process.send_signal(signal.SIGINT)
        assert service.rollback_seen.wait(PATIENCE_SECONDS)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
        assert not service.released.is_set()
    assert process.returncode == 130
    assert "comes back by itself at its deadline" in errors


def test_an_unreachable_service_is_said_clearly(tmp_path: Path):
    with RemoteService() as closed:
        url = closed.url
    result = command(str(folder_of(tmp_path, "a.jpg")), "--url", url, "--token", "a-token")
    assert result.exit_code == 1
    assert f"cannot reach {url}: connection refused" in result.output


def test_nothing_but_the_errors_own_line_is_printed_while_it_tries_again(tmp_path: Path):
    with RemoteService() as closed:
        folder = folder_of(tmp_path, "a.jpg")
    with client_process(folder, closed) as process:
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert errors.splitlines() == [
        f"earmark upload: cannot reach {closed.url}: connection refused",
        "`earmark serve` starts the service; --url says where another one is.",
    ]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [("nonsense", "does not answer like Earmark"), ("401", "the token was refused: the detail of not-signed-in")],
)
def test_a_first_call_that_goes_wrong_is_said_clearly(tmp_path: Path, answer: str, complaint: str):
    with serving(faults={"usage": answer}) as service:
        result = command(str(folder_of(tmp_path, "a.jpg")), "--url", service.url, "--token", "a-token", "--json")
    assert result.exit_code == 1
    assert complaint in json.loads(result.stdout)["error"]
    assert complaint in result.stderr
    assert json.loads(result.stdout)["counts"] == {"not sent": 1}


def test_names_and_reasons_reach_the_terminal_only_escaped(tmp_path: Path):
    evil, markup = "\x1b]0;owned\x07\u202egpj.jpg", "[bold]b.jpg"
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=120, color_system=None)
    with serving(faults={markup: "reject"}) as service:
        report = run(folder_of(tmp_path, evil, markup), service, console)
    print_report(report, console)
    shown = output.getvalue()
    assert "\x1b]0;" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown
    assert r"\x1b]0;owned\x07\u202egpj.jpg" in shown
    assert markup in shown
    assert r"this is no JPEG \x1b]0;owned\x07" in shown


@pytest.mark.parametrize("width", [40, 60, 120])
def test_no_number_is_cut_off_however_narrow_the_terminal_is(width: int):
    used = {
        "storage_bytes": ResourceUsage(25_000_000_000, 1_234_567_891, 0, 1_234_567_891, 1, 0, "lifetime", None, None)
    }
    report = UploadReport("f", "http://x", "a", (), used, used)
    output = io.StringIO()
    print_report(report, Console(file=output, force_terminal=True, width=width, color_system=None))
    assert "…" not in output.getvalue()


def test_a_name_that_is_not_utf8_is_sent_and_shown(tmp_path: Path):
    name = os.fsdecode(b"caf\xe9.jpg")
    try:
        folder_of(tmp_path, name)
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    with serving() as service:
        report = run(tmp_path, service)
    assert outcomes(report) == {name: "accepted"}
    assert service.images[image_of(0)]["filename"] == "caf\ufffd.jpg"
    assert safe_text(name) == r"caf\xe9.jpg"
    json.dumps(report.as_json(), ensure_ascii=False).encode()


def test_lines_replace_the_bars_where_there_is_no_terminal(tmp_path: Path):
    output = io.StringIO()
    with serving(quota=1) as service:
        run(folder_of(tmp_path, "a.jpg", "b.jpg"), service, Console(file=output, width=80))
    lines = sorted(line.partition("] ")[2] for line in output.getvalue().splitlines())
    assert lines == ["a.jpg: accepted", "b.jpg: refused (quota: the detail of quota-exceeded)"]


def test_json_is_one_document(tmp_path: Path):
    with serving(quota=1) as service:
        folder = str(folder_of(tmp_path, "a.jpg", "b.jpg", "notes.txt"))
        result = command(folder, "--json", environment={"EARMARK_URL": service.url, "EARMARK_TOKEN": "a-token"})
    document = json.loads(result.stdout)
    assert result.exit_code == document["exitCode"] == 0
    assert document["subject"] == "ada"
    assert document["counts"] == {"accepted": 1, "refused": 1, "left out": 1}
    assert document["usage"]["before"]["images"]["used"] == 0
    assert document["usage"]["after"]["images"]["used"] == 1
    first = {"file": "a.jpg", "size": 3000, "outcome": "accepted", "reason": None, "imageId": image_of(0)}
    assert document["files"][0] == first


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["missing", "--token", "a-token"], "does not exist"),
        (["."], "no token"),
        ([".", "--token", "a-token", "--as", "ada"], "either --token or --as"),
        ([".", "--token", "a-token", "--url", "example.com"], "not an http address"),
        ([".", "--token", "a-token", "--parallel", "0"], "--parallel"),
    ],
)
def test_wrong_usage_is_refused(arguments: list[str], complaint: str):
    result = command(*arguments)
    assert result.exit_code == 2
    assert complaint in result.output


def test_only_images_are_offered_and_nothing_is_skipped_by_name(tmp_path: Path):
    names = ["Z.JPE", "a.svg", "b.tar.png", ".hidden.png", "photo\u202egpj.exe", "none", "page.html"]
    folder = folder_of(tmp_path, *names)
    (folder / "empty.heic").touch()
    (folder / "gone.jpg").symlink_to(folder / "nowhere")
    images, left_out = find_files(folder)
    assert [(image.name, image.content_type) for image in images] == [
        (".hidden.png", "image/png"),
        ("Z.JPE", "image/jpeg"),
        ("a.svg", "image/svg+xml"),
        ("b.tar.png", "image/png"),
        ("empty.heic", "image/heic"),
    ]
    assert {report.file for report in left_out} == {"photo\u202egpj.exe", "none", "page.html", "gone.jpg"}
    assert [report.file for report in left_out if report.fault] == ["gone.jpg"]


@pytest.mark.skipif(not CASES.exists(), reason="the shared cases are not here")
def test_the_cases_are_offered_under_their_declared_types():
    declared = {
        entry["upload_name"]: entry["declared_type"]
        for entry in json.loads((CASES / "files/manifest.json").read_text())["files"]
    }
    images, _ = find_files(CASES / "files/open")
    offered = {image.name: image.content_type for image in images if "/" not in image.name}
    assert offered == declared


def test_a_long_name_keeps_its_ending():
    assert shortened("short.jpg", 20) == "short.jpg"
    assert shortened("a" * 250 + ".jpg", 20) == "a" * 13 + "…" + "aa.jpg"
