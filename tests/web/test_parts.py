"""A large file in the browser: sent in parts, and joined."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from fixtures.pictures import large_picture
from fixtures.service import Service

pytestmark = pytest.mark.browser
PART = 5 * 2**20


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("web") / "home", parts_over_bytes=PART, part_bytes=PART)
    try:
        yield service.start()
    finally:
        service.stop()


def test_a_large_file_is_sent_in_parts(user):
    page = user.open()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "PUT" else None)
    picture = large_picture()
    page.locator("#picker").set_input_files([{"name": "large.png", "mimeType": "image/png", "buffer": picture}])
    row = page.locator("#upload-list > li").filter(has=page.get_by_text("large.png", exact=True))
    expect(row).to_have_attribute("data-state", "completed")
    assert len(sent) == 2
    assert all("part=" in url for url in sent)
    assert (user.usage("storage_bytes")["committed"], user.usage("storage_bytes")["held"]) == (len(picture), 0)
