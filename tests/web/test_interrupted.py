"""A reload or a crash in the middle of uploads: the page takes them up again, once the same files are chosen."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from fixtures.pictures import large_picture, picture

pytestmark = pytest.mark.browser
PART = 5 * 2**20
SETTINGS = {"parts_over_bytes": PART, "part_bytes": PART}
KNOWN = """
Object.keys(sessionStorage).filter((name) => name.startsWith("earmark.upload."))
  .map((name) => JSON.parse(sessionStorage.getItem(name)))
"""
STORED_BYTES = f"{KNOWN.strip()}.map((known) => known.storedBytes)"
CLOCK = "(at) => new Date(at).toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit' })"
SMALL = picture(32, 24, "PNG")


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A picture of two parts, as a file, which keeps its time of change."""
    path = tmp_path / "large.png"
    path.write_bytes(large_picture())
    return path


def row(page: Page, name: str):
    return page.locator("#upload-list > li").filter(has=page.get_by_text(name, exact=True))


class Uploads:
    """The way to the store: while shut, no upload gets an answer, but those whose address contains `passing`."""

    def __init__(self, page: Page, passing: str = "nothing") -> None:
        self.passing = passing
        page.route("**/storage/**", self._answer)

    def _answer(self, route: Route) -> None:
        if self.passing in route.request.url:
            route.continue_()

    def open(self) -> None:
        """From now on; who waits already, waits for ever."""
        self.passing = ""


def interrupted(user, large: Path) -> Page:
    """A tab that was loaded anew after the first part was stored."""
    page = user.open()
    uploads = Uploads(page, "part=1")
    page.locator("#picker").set_input_files(large)
    user.wait_until(page, lambda: page.evaluate(STORED_BYTES) == [PART])
    uploads.open()
    page.reload()
    expect(row(page, "large.png")).to_have_attribute("data-state", "interrupted")
    return page


def test_a_large_file_goes_on_after_a_reload_where_it_was(user, large):
    page = interrupted(user, large)
    assert user.usage()["held"] == 1
    expect(row(page, "large.png")).to_contain_text("5.2 MB are already there")
    (image,) = user.images()
    held_until = page.evaluate(CLOCK, image["expiresAt"])
    expect(row(page, "large.png")).to_contain_text(f"Its quota is held until {held_until}.")
    link_until = page.evaluate(f"""async () => {{
        const {{ EarmarkClient }} = await import("/client.js");
        const client = new EarmarkClient({{ token: sessionStorage.getItem("earmark.token") }});
        const [{{ grant }}] = {KNOWN};
        const {{ images }} = await client.reserve(grant.files, {{ key: grant.key }});
        return ({CLOCK})(images[0].expiresAt);
    }}""")
    assert link_until != held_until
    expect(row(page, "large.png")).to_contain_text(f"Choose the same file again before {link_until} to go on.")
    expect(page.locator("#notice")).to_contain_text(
        "The upload of large.png was interrupted. Choose the same file again"
    )
    expect(page.locator("#unfinished")).to_be_hidden()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "PUT" else None)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose the same file again").click()
    chooser.value.set_files(large)
    expect(row(page, "large.png")).to_have_attribute("data-state", "completed")
    assert ["part=2" in url for url in sent] == [True]
    (image,) = user.images()
    assert (image["state"], image["size"]) == ("completed", large.stat().st_size)
    assert (user.usage()["committed"], user.usage()["held"]) == (1, 0)
    page.reload()
    expect(page.locator("#images > li")).to_have_count(1)
    expect(page.locator("#uploads")).to_be_hidden()


def test_a_further_reload_forgets_nothing(user, large):
    page = interrupted(user, large)
    assert page.evaluate(STORED_BYTES) == [PART]
    page.reload()
    expect(row(page, "large.png")).to_contain_text("5.2 MB are already there")
    page.locator("#picker").set_input_files(large)
    expect(row(page, "large.png")).to_have_attribute("data-state", "completed")
    assert len(user.images()) == 1
    assert (user.usage()["committed"], user.usage()["held"]) == (1, 0)


def test_another_file_of_that_name_is_a_new_upload(user, large, tmp_path):
    page = interrupted(user, large)
    other = tmp_path / "other" / "large.png"
    other.parent.mkdir()
    other.write_bytes(SMALL)
    page.locator("#picker").set_input_files(other)
    expect(row(page, "large.png")).to_have_count(2)
    expect(row(page, "large.png").last).to_have_attribute("data-state", "completed")
    expect(row(page, "large.png").first).to_have_attribute("data-state", "interrupted")


def test_a_file_that_was_changed_meanwhile_is_sent_whole(user, large):
    page = interrupted(user, large)
    os.utime(large, (1, 1))
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "PUT" else None)
    page.locator("#picker").set_input_files(large)
    expect(row(page, "large.png")).to_have_attribute("data-state", "completed")
    assert len(sent) == 2


def test_what_was_interrupted_can_be_cancelled(user, large):
    page = interrupted(user, large)
    page.get_by_role("button", name="Cancel large.png").click()
    expect(row(page, "large.png")).to_have_attribute("data-state", "cancelled")
    expect(page.get_by_role("button", name="Retry large.png")).to_be_hidden()
    assert (user.usage()["used"], user.usage("storage_bytes")["used"]) == (0, 0)
    page.reload()
    expect(page.locator("#content")).to_be_visible()
    expect(page.locator("#uploads")).to_be_hidden()


def test_what_a_reload_gave_back_is_reserved_anew(user):
    page = user.open()
    uploads = Uploads(page)
    small = [{"name": f"{n}.png", "mimeType": "image/png", "buffer": SMALL} for n in (1, 2)]
    page.locator("#picker").set_input_files(small)
    expect(row(page, "2.png")).to_have_attribute("data-state", "uploading")
    uploads.open()
    page.reload()
    for name in ("1.png", "2.png"):
        expect(row(page, name)).to_contain_text("No quota is held for it.")
    assert user.usage()["held"] == 0
    notice = page.locator("#notice")
    expect(notice).to_contain_text("2 files were interrupted.")
    page.locator("#picker").set_input_files(small[1:])
    expect(notice).to_contain_text("The upload of 1.png was interrupted.")
    page.locator("#picker").set_input_files(small[:1])
    expect(notice).to_be_hidden()
    for name in ("1.png", "2.png"):
        expect(row(page, name)).to_have_attribute("data-state", "completed")
    assert (user.usage()["committed"], user.usage()["held"]) == (2, 0)


def test_files_chosen_together_come_back_in_their_order(user):
    page = user.open()
    uploads = Uploads(page)
    names = [f"{n}.png" for n in range(8)]
    page.locator("#picker").set_input_files(
        [{"name": name, "mimeType": "image/png", "buffer": SMALL} for name in names]
    )
    expect(row(page, names[-1])).to_have_attribute("data-state", "reserved")
    uploads.open()
    for _ in range(2):
        page.reload()
        expect(page.locator("#upload-list .name")).to_have_text(names)


def test_a_tab_that_ends_without_a_word(user, large):
    page = user.open("about:blank")
    page.add_init_script("addEventListener('pagehide', (event) => event.stopImmediatePropagation())")
    page.goto(user.link)
    uploads = Uploads(page)
    page.locator("#picker").set_input_files([large])
    expect(row(page, "large.png")).to_have_attribute("data-state", "uploading")
    uploads.open()
    page.reload()
    expect(row(page, "large.png")).to_contain_text("Its quota is held until")
    assert user.usage()["held"] == 1, user.images()
    page.locator("#picker").set_input_files(large)
    expect(row(page, "large.png")).to_have_attribute("data-state", "completed")
    assert (user.usage()["committed"], user.usage()["held"]) == (1, 0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(user, large, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    page = interrupted(user, large)
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # or colours are looked at on their way
    found = axe.run(page)
    assert not found.violations_count, found.generate_report()
