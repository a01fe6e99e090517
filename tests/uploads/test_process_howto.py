"""The examples of docs/how-to/process.md, run by the real service with a caption service beside it."""

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from fixtures.pictures import picture
from fixtures.service import Service

PAGE = Path(__file__).parents[2] / "docs/how-to/process.md"
JPEG = picture()


def modules() -> dict[str, str]:
    """The page's Python examples by the file name in their first line."""
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return dict(blocks)


@dataclass
class Captions:
    """A caption service: answers with these statuses and credits, one after the other, the last one for ever."""

    answers: list[tuple[int, int]]
    keys: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def captions() -> Iterator[Captions]:
    captions = Captions([(200, 2)])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            captions.keys.append(self.headers["Idempotency-Key"])
            status, credit = captions.answers.pop(0) if len(captions.answers) > 1 else captions.answers[0]
            body = json.dumps({"caption": "a grey square", "credits": credit}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    captions.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield captions
    server.shutdown()
    server.server_close()
    thread.join()


def started(tmp_path: Path, module: str, name: str, **more: str) -> Service:
    """A service whose processor is the page's."""
    (tmp_path / module).write_text(modules()[module])
    settings = {
        "processor": f"{module.removesuffix('.py')}:{name}",
        "retry_base_seconds": 0.01,
        "processing_attempts": 3,
    }
    service = Service(tmp_path / "home", **settings)
    service.environment |= {"PYTHONPATH": str(tmp_path), **more}
    return service


def uploaded(service: Service, client: httpx.Client) -> dict[str, object]:
    """An image that has come to its end."""
    body = {"filename": "a.jpg", "contentType": "image/jpeg", "size": len(JPEG)}
    (upload,) = client.post("/api/images/preupload", json=body).raise_for_status().json()["images"]
    httpx.put(upload["uploadUrl"], content=JPEG, headers=upload["headers"]).raise_for_status()
    client.post("/api/images/complete", json={"imageId": upload["imageId"]}).raise_for_status()
    shown: dict[str, object] = {}

    def over() -> bool:
        shown.update(client.get(f"/api/images/{upload['imageId']}").json())
        return shown["state"] in {"completed", "failed", "rejected"}

    service.wait_until(over)
    return shown


def test_every_example_of_the_page_is_run_here() -> None:
    assert set(modules()) == {"thumbnails.py", "captions.py"}
    assert PAGE.read_text().count("```python") == len(modules())


def test_a_thumbnailer_of_ones_own(tmp_path: Path) -> None:
    service = started(tmp_path, "thumbnails.py", "small_and_large")
    try:
        service.start()
        with httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {service.token}"}) as client:
            assert uploaded(service, client)["state"] == "completed"
        assert len(list((tmp_path / "home").rglob("*-icon"))) == 1
    finally:
        service.stop()


def test_a_service_that_costs_money_may_fail_be_slow_or_be_over_budget(tmp_path: Path, captions: Captions) -> None:
    service = started(
        tmp_path, "captions.py", "describe", EARMARK_IMAGE_RESOURCES="credits:5", CAPTION_URL=captions.url
    )
    try:
        service.run("plan", "--define", "--plan", "pro", "--quota", "credits=1000:P1M")
        service.start()
        with httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {service.token}"}) as client:

            def spent() -> tuple[int, int]:
                resource = client.get("/api/usage").json()["resources"]["credits"]
                return resource["committed"], resource["held"]

            captions.answers[:] = [(503, 0), (429, 0), (200, 2)]
            assert uploaded(service, client)["state"] == "completed"
            assert (spent(), len(set(captions.keys)), len(captions.keys)) == ((2, 0), 1, 3)
            captions.answers[:] = [(200, 6)]  # over budget
            over = uploaded(service, client)
            assert (over["state"], over["cause"]) == ("failed", "processing_failed")
            captions.answers[:] = [(422, 0)]
            assert uploaded(service, client)["reason"] == "Processing failed: The picture could not be described."
            captions.answers[:] = [(500, 0)]
            assert uploaded(service, client)["reason"] == "Processing failed."
            assert spent() == (2, 0)
    finally:
        service.stop()
