"""A real Chromium on the real page of a real service; each test is a subject of its own."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, CDPSession, ConsoleMessage, Page, expect, sync_playwright

from earmark.cli.token import local_token
from fixtures.service import Service

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync")
PATIENCE_MS = 30_000
REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => console.error(`CSP: ${event.violatedDirective}`));
"""

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not for the session: while it lives, no other test of this process could run an event loop."""
    executable = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if executable is None:
        pytest.skip(f"no browser found; looked for {', '.join(CHROMIUMS)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with the module's SETTINGS; where it has none, processing waits at the file `gate`."""
    folder = tmp_path_factory.mktemp("web")
    gated = {"processor": "gated_processor:process", "test_gate": folder / "gate"}
    service = Service(folder / "home", **getattr(request.module, "SETTINGS", gated))
    try:
        yield service.start()
    finally:
        (folder / "gate").unlink(missing_ok=True)
        service.stop()


class User:
    """One subject: what the API says of him, and his tabs.

    Attributes:
        troubles: Errors of his pages and their consoles. Whatever is left in it at the end fails the test.
    """

    def __init__(self, service: Service, browser: Browser, subject: str) -> None:
        self.service = service
        self.subject = subject
        self.token = local_token(service.home, subject)
        self.link = f"{service.url}/#token={self.token}"
        self.troubles: list[str] = []
        self._browser = browser
        self._api = service.client(self.token)

    def open(self, address: str | None = None, **options: Any) -> Page:
        """A tab of a browser context of its own, signed in."""
        context = self._browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(REPORT_VIOLATIONS)
        page = context.new_page()
        page.on("pageerror", lambda error: self.troubles.append(f"page error: {error}"))
        page.on("console", self._note)
        page.goto(address or self.link)
        return page

    def _note(self, message: ConsoleMessage) -> None:
        refused = "responded with a status of 4" in message.text  # a refusal is an answer like any other
        if message.type in {"error", "warning"} and not refused:
            self.troubles.append(message.text)

    def take_troubles(self) -> list[str]:
        taken, self.troubles = self.troubles, []
        return taken

    def usage(self, resource: str = "images") -> dict[str, Any]:
        return self._get("/api/usage")["resources"][resource]

    def images(self) -> list[dict[str, Any]]:
        return self._get("/api/images", limit=200)["images"]

    def entries(self) -> list[dict[str, Any]]:
        return self._get("/api/quota/history", limit=200)["entries"]

    def wait_until(self, page: Page, condition: Callable[[], object]) -> None:
        """Waits, a bounded time, for something that the API says, while the browser goes on."""
        for _ in range(600):
            if condition():
                return
            page.wait_for_timeout(50)
        pytest.fail(f"it never came true; the API says {self.images()}, {self.usage()}")

    def _get(self, path: str, **params: object) -> Any:
        return self._api.get(path, params=params).raise_for_status().json()

    def close(self) -> None:
        self._api.close()
        for context in self._browser.contexts:
            context.close()


@pytest.fixture
def user(service: Service, browser: Browser, request: pytest.FixtureRequest) -> Iterator[User]:
    user = User(service, browser, request.node.name[:200])
    yield user
    user.close()
    assert user.troubles == []


@pytest.fixture
def gate(user: User) -> Iterator[Path]:
    """Closed: no processing of the user's gets anywhere until the test ends or removes it. `begun-1`: one waits.

    What an earlier test has left in the queue goes on: else it would wait in front of this one's.
    """
    gate = user.service.home.with_name("gate")
    gate.with_name("begun-1").unlink(missing_ok=True)
    gate.write_text(user.subject)
    yield gate
    gate.unlink(missing_ok=True)


@pytest.fixture
def slow_uploads() -> Callable[[Page], CDPSession]:
    """Makes a tab's uploads so slow that they are under way for as long as the test looks."""

    def throttle(page: Page) -> CDPSession:
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        speeds = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 50_000}
        session.send("Network.emulateNetworkConditions", speeds)
        return session

    return throttle
