"""A large file in the browser: sent in parts, and joined."""

import pytest
from playwright.sync_api import expect

from fixtures.pictures import large_picture

pytestmark = pytest.mark.browser
PART = 5 * 2**20
SETTINGS = {"parts_over_bytes": PART, "part_bytes": PART}


def test_a_large_file_is_sent_in_parts(user, tmp_path):
    page = user.open()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "PUT" else None)
    picture = tmp_path / "large.png"
    picture.write_bytes(large_picture())
    page.locator("#picker").set_input_files(picture)
    row = page.locator("#upload-list > li").filter(has=page.get_by_text("large.png", exact=True))
    expect(row).to_have_attribute("data-state", "completed")
    assert len(sent) == 2
    assert all("part=" in url for url in sent)
    storage = user.usage("storage_bytes")
    assert (storage["committed"], storage["held"]) == (picture.stat().st_size, 0)
