"""The service behind nginx, set up as docs/how-to/deploy.md says."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fixtures.pictures import large_picture
from fixtures.service import Service
from seaweedfs import free_ports

PAGE = Path(__file__).parents[2] / "docs/how-to/deploy.md"
AROUND = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; {user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {server}
}}
"""


@pytest.fixture
def behind_nginx(service_of, tmp_path: Path) -> Iterator[Service]:
    """The service; its `url` is that of the proxy."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        pytest.skip("no nginx found; Debian's package nginx has it")
    outer, inner = free_ports(2)
    address = f"http://127.0.0.1:{outer}"
    service = service_of(public_url=address)
    service.port = inner
    service.start()
    written = re.search('```nginx title="earmark.nginx.conf"\n(.*?)```', PAGE.read_text(), re.DOTALL)[1]
    server = re.sub(r"^ *ssl_.*\n", "", written, flags=re.MULTILINE)
    server = server.replace("listen 443 ssl", f"listen 127.0.0.1:{outer}").replace(":8787", f":{inner}")
    user = "user root;" if (tmp_path.stat().st_uid == 0) else ""
    (tmp_path / "nginx.conf").write_text(AROUND.format(folder=tmp_path, server=server, user=user))
    process = subprocess.Popen([nginx, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)])
    service.url = address
    try:
        service.wait_until(lambda: httpx.get(f"{address}/openapi.json").status_code == 200)
        yield service
    finally:
        process.terminate()
        assert process.wait(20) == 0


def reserved(client: httpx.Client, size: int) -> dict:
    files = [{"filename": "a.png", "contentType": "image/png", "size": size}]
    answer = client.post("/api/images/preupload", json={"files": files}).raise_for_status().json()
    return answer["images"][0]


def test_large_files_events_and_what_is_not_for_everybody(behind_nginx: Service):
    service = behind_nginx
    data = large_picture()
    with service.client() as client, client.stream("GET", "/api/events") as events:
        lines = events.iter_lines()
        assert next(line for line in lines if line.startswith("event")) == "event: ready"
        image = reserved(client, len(data))
        assert image["uploadUrl"].startswith(f"{service.url}/storage/")
        httpx.put(image["uploadUrl"], content=data, headers=image["headers"]).raise_for_status()
        client.post("/api/images/complete", json={"imageId": image["imageId"]}).raise_for_status()
        told = next(line for line in lines if image["imageId"] in line and '"completed"' in line)
        assert told.startswith("data:")
    for path in ("/metrics", "/healthz", "/readyz"):
        assert httpx.get(service.url + path).status_code == 404
    asked = httpx.get(f"{service.url}/api/usage").json()["instance"]
    assert [line["status"] for line in service.log_lines("request") if line.get("request_id") == asked] == [401]


def test_an_upload_is_seen_when_it_begins_and_when_it_is_broken_off(behind_nginx: Service):
    service = behind_nginx
    with service.client() as client:
        image = reserved(client, 1_000_000)
        url = httpx.URL(image["uploadUrl"])
        headers = "".join(f"{name}: {value}\r\n" for name, value in image["headers"].items())
        with socket.create_connection((url.host, url.port)) as connection:
            head = f"PUT {url.raw_path.decode()} HTTP/1.1\r\nHost: {url.host}:{url.port}\r\nContent-Length: 1000000\r\n"
            connection.sendall(f"{head}{headers}\r\n".encode() + b"\0" * 300_000)
            path = f"/api/images/{image['imageId']}"
            service.wait_until(lambda: client.get(path).json()["state"] == "uploading")
        incoming = service.home / "objects/.incoming"
        service.wait_until(lambda: not any(incoming.iterdir()))
        assert client.post(f"{path}/cancel").json()["image"]["state"] == "cancelled"
        assert {name: one["held"] for name, one in service.usage().items()} == {"images": 0, "storage_bytes": 0}
