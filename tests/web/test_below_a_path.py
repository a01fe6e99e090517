"""The pages where a proxy serves them below a path of its own, which it takes away."""

import re
import socket
import socketserver
import threading

import pytest
from playwright.sync_api import expect

from earmark.cli.token import local_token
from fixtures.pictures import picture
from fixtures.service import Service
from seaweedfs import free_ports

pytestmark = pytest.mark.browser


class Proxy(socketserver.ThreadingTCPServer):
    """Sends what comes for `/app/…` on as `/…`, each connection for one request; all else is another's, and noted."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Forwarding)
        self.address = f"http://127.0.0.1:{self.server_address[1]}/app"
        (self.behind,) = free_ports(1)
        self.strays: list[bytes] = []


class Forwarding(socketserver.BaseRequestHandler):
    server: Proxy

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (more := self.request.recv(65_536)):
                return
            head += more
        method, path, rest = head.split(b" ", 2)
        if not path.startswith(b"/app/"):
            self.server.strays.append(path)
            return
        rest = re.sub(rb"(?i)\r\nconnection: [^\r]*", b"\r\nConnection: close", rest, count=1)
        with socket.create_connection(("127.0.0.1", self.server.behind)) as service:
            service.sendall(b" ".join((method, path.removeprefix(b"/app"), rest)))
            threading.Thread(target=pipe, args=(self.request, service), daemon=True).start()
            pipe(service, self.request)


def pipe(source: socket.socket, target: socket.socket) -> None:
    try:
        while piece := source.recv(65_536):
            target.sendall(piece)
    except OSError:  # one of them has gone
        return


@pytest.fixture(scope="module")
def proxy():
    with Proxy() as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy
        proxy.shutdown()


@pytest.fixture(scope="module")
def service(proxy, tmp_path_factory):
    service = Service(tmp_path_factory.mktemp("web") / "home", public_url=proxy.address)
    service.port = proxy.behind
    yield service.start()
    service.stop()


def test_the_pages_stay_below_it(user, proxy):
    page = user.open(f"{proxy.address}/#token={user.token}")
    page.locator("#picker").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": picture(9, 9, "PNG")})
    shown = page.locator("#images img")
    expect(shown).to_have_js_property("naturalWidth", 9)
    assert shown.get_attribute("src").startswith(f"{proxy.address}/storage/")
    token = local_token(user.service.home, "operator", role="service_role")
    page.goto(f"{proxy.address}/operator.html?subject={user.subject}#token={token}")
    expect(page.locator("#subject-heading")).to_have_text(user.subject)
    page.get_by_role("link", name="Uploads").click()
    expect(page.locator("#meters")).to_be_attached()
    assert page.url == f"{proxy.address}/"
    assert proxy.strays == []
