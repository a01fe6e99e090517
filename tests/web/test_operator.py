"""The operator's view in the browser: what it shows is what the API says, and what it does stands in the journal."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from earmark.cli.token import local_token
from fixtures.pictures import picture
from fixtures.service import Service
from web.conftest import User

pytestmark = pytest.mark.browser
SETTINGS = {"tally_interval_seconds": 0.2}
JPEG = picture()


class Operator(User):
    """Who holds a service's token; what he is asked about is named after the test, too."""

    def __init__(self, service: Service, browser: Browser, subject: str) -> None:
        super().__init__(service, browser, subject)
        self.token = local_token(service.home, "support", role="service_role")
        self.link = f"{service.url}/operator.html#token={self.token}"
        self._operator_api = service.client(self.token)

    def open_subject(self, **options: Any) -> Page:
        page = self.open(f"{self.service.url}/operator.html?subject={self.subject}#token={self.token}", **options)
        expect(page.locator("#levels .headline").first).to_be_visible()
        return page

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self._operator_api.post(path, json=body)
        assert response.is_success, response.text
        return response.json()

    def ask(self, path: str, **query: object) -> dict[str, Any]:
        return self._operator_api.get(path, params=query).raise_for_status().json()

    def reserve(self, amounts: dict[str, int], **more: object) -> str:
        body = {"amounts": amounts, "subject": self.subject, "ttlSeconds": 3600} | more
        return self.post("/api/reservations", body)["reservationId"]

    def reserve_file(self, name: str) -> str:
        files = [{"filename": name, "contentType": "image/jpeg", "size": len(JPEG)}]
        made = self.post("/api/images/preupload", {"files": files, "subject": self.subject})
        return made["images"][0]["imageId"]

    def close(self) -> None:
        self._operator_api.close()
        super().close()


@pytest.fixture
def operator(service: Service, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Operator]:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    operator = Operator(service, browser, name)
    yield operator
    operator.close()
    assert operator.troubles == []


def hold(page: Page, name: str) -> Locator:
    return page.locator("#holds > li").filter(has=page.get_by_text(name, exact=True))


def words(text: str) -> re.Pattern[str]:
    """These words, whatever kind of space is between them."""
    return re.compile(r"\s".join(map(re.escape, text.split())))


def test_users_see_no_link_and_are_refused(service: Service, operator: Operator) -> None:
    token = local_token(service.home, operator.subject)
    page = operator.open(f"{service.url}/#token={token}")
    expect(page.locator("#meters")).to_contain_text("0 of 500 images used")
    expect(page.locator("#operator-link")).to_be_hidden()
    page.goto(f"{service.url}/operator.html")
    expect(page.locator("#sign-in")).to_contain_text("You are signed in as a user.")
    expect(page.locator("#content")).to_be_hidden()


def test_nobody_is_told_how_to_sign_in(service: Service, operator: Operator) -> None:
    page = operator.open(f"{service.url}/operator.html")
    expect(page.locator("#sign-in")).to_contain_text("You are not signed in.")
    page.goto(f"{service.url}/operator.html#token=nonsense")
    expect(page.locator("#sign-in")).to_contain_text("has expired or is not valid")
    page.goto(operator.link)
    expect(page.locator("#content")).to_be_visible()


def test_a_service_is_shown_the_way(service: Service, operator: Operator) -> None:
    page = operator.open(f"{service.url}/#token={operator.token}")
    page.get_by_role("link", name="Operator").click()
    expect(page.locator("#status-word")).not_to_be_empty()
    assert "token" not in page.url


def test_a_subject_is_found_and_explained(operator: Operator) -> None:
    operator.reserve({"images": 2}, ttlSeconds=7200)
    operator.reserve_file("<b>holiday.jpg")
    page = operator.open()
    page.get_by_role("searchbox").fill(operator.subject[3:].upper())
    page.locator("#found").get_by_role("button", name=operator.subject).click()
    expect(page.locator("#subject-heading")).to_have_text(operator.subject)
    expect(page.locator("#subject-heading")).to_be_focused()
    expect(page.locator("#subject-plan")).to_have_text("pro plan")
    expect(page.locator("#levels .headline").first).to_have_text("3 of 500 images used")
    expect(page.locator("#holds > li")).to_have_count(2)
    expect(hold(page, "<b>holiday.jpg")).to_contain_text("1 image, ")
    expect(hold(page, "Item 1")).to_contain_text("2 images held since")
    expect(hold(page, "Item 1")).to_contain_text("in 2 hours")
    expect(hold(page, "Item 1")).to_contain_text("reserved by support")
    expect(page.locator("#history tbody tr").first).to_contain_text("<b>holiday.jpg")
    page.get_by_text("The same in words").click()
    sentences = operator.ask("/api/quota/explain", subject=operator.subject)["sentences"]
    expect(page.locator("#sentences > li")).to_have_text(sentences)
    page.reload()
    expect(page.locator("#subject-heading")).to_have_text(operator.subject)
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#subject")).to_be_hidden()
    assert "subject" not in page.url


def test_it_shows_what_was_configured_and_by_whom(operator: Operator) -> None:
    operator.reserve({"images": 1})
    page = operator.open_subject()
    expect(page.locator("#configured")).to_be_hidden()
    operator.service.run("plan", operator.subject, "--plan", "free")
    page.reload()
    (line,) = operator.ask("/api/quota/explain", subject=operator.subject)["configured"]
    expect(page.locator("#configured li")).to_have_text([line["sentence"]])
    assert line["sentence"].endswith(f"operator changed the plan of {operator.subject} from pro to free.")


def test_enter_opens_who_is_named_in_full_and_nobody_is_said_to_be_nobody(operator: Operator) -> None:
    operator.reserve({"images": 1})
    page = operator.open()
    page.get_by_role("searchbox").fill("no such subject")
    expect(page.locator("#found-count")).to_have_text(re.compile("name contains .no such subject."))
    page.get_by_role("searchbox").fill(operator.subject)
    page.keyboard.press("Enter")
    expect(page.locator("#subject-heading")).to_have_text(operator.subject)


def test_an_upload_is_found_by_its_id(operator: Operator) -> None:
    image = operator.reserve_file("lost.jpg")
    page = operator.open()
    page.get_by_role("searchbox").fill(image)
    expect(page.locator("#story")).to_contain_text(f"{operator.subject} was granted reservation")
    expect(page.locator("#story")).to_contain_text("lost.jpg")
    page.locator("#found").get_by_role("button", name=operator.subject).click()
    expect(page.locator("#subject-heading")).to_have_text(operator.subject)
    expect(page.locator("#story")).to_be_hidden()


@pytest.mark.parametrize("kind", ["file", "reservation"])
def test_a_hold_is_rolled_back_for_a_reason(operator: Operator, kind: str) -> None:
    if kind == "file":
        operator.reserve_file("Item 1")
    else:
        operator.reserve({"images": 1})
    page = operator.open_subject()
    page.get_by_role("button", name="Roll back Item 1").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Until")).to_be_hidden()
    reason = dialog.get_by_label("Reason, for the journal")
    for said in ("", "   "):
        reason.fill(said)
        dialog.get_by_role("button", name="Roll back").click()
        expect(dialog).to_be_visible()
        assert operator.usage()["held"] == 1
    reason.fill("his upload hangs")
    dialog.get_by_role("button", name="Roll back").click()
    expect(page.locator("#done")).to_contain_text("Item 1 is rolled back: 1 image")
    expect(page.locator("#holds-empty")).to_be_visible()
    expect(page.locator("#levels .headline").first).to_have_text("0 of 500 images used")
    expect(page.locator("#history tbody tr").first).to_contain_text("Given back: by an administrator")
    expect(page.locator("#history tbody tr").first).to_contain_text("his upload hangs")
    (entry,) = [entry for entry in operator.entries() if entry["kind"] == "rollback" and entry["resource"] == "images"]
    assert (entry["cause"], entry["actor"], entry["reason"]) == ("admin", "support", "his upload hangs")


def test_a_subject_of_many_holds_can_be_overlooked(operator: Operator) -> None:
    for _ in range(14):
        operator.reserve({"images": 1})
    page = operator.open_subject(viewport={"width": 360, "height": 640})
    expect(page.locator("#holds > li")).to_have_count(10)
    expect(page.locator("#holds-more")).to_have_text("The oldest 10 of 14.")
    oldest = operator.ask("/api/quota/explain", subject=operator.subject)["open"][:10]
    ids = page.locator("#holds .id").all_inner_texts()
    assert [text.split()[-1] for text in ids] == [one["reservationId"] for one in oldest]
    page.get_by_role("button", name="Show 4 more").click()
    expect(page.locator("#holds > li")).to_have_count(14)
    expect(page.locator("#holds-more")).to_be_hidden()
    page.locator("#holds > li").last.get_by_role("button", name="Roll back").click()
    page.get_by_label("Reason").fill("far down the page")
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(page.locator("#done")).to_be_in_viewport(ratio=1)
    expect(page.locator("#holds > li")).to_have_count(13)
    page.get_by_role("button", name="Close", exact=True).last.click()
    expect(page.locator("#done")).to_be_empty()
    expect(page.locator("#subject")).to_be_visible()


def test_a_name_that_nobody_has_is_called_in_question(operator: Operator) -> None:
    page = operator.open_subject()
    expect(page.locator("#history-empty")).to_contain_text("check the name")
    expect(page.locator("#more-history")).to_be_hidden()
    expect(page.locator("#use-resource")).to_be_hidden()
    expect(page.locator("#use-chart")).to_contain_text("Nothing has been used yet.")
    assert page.title().startswith(f"{operator.subject} · Earmark")
    operator.reserve({"images": 1})
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#use-resource")).to_be_visible()


def test_each_movement_says_who_made_it(operator: Operator) -> None:
    operator.post(f"/api/reservations/{operator.reserve({'images': 1})}/rollback", {"cause": "admin"})
    page = operator.open_subject()
    expect(page.locator("#history tbody tr").first).to_contain_text("by support")


def test_high_contrast_leaves_the_charts_and_their_keys(operator: Operator) -> None:
    operator.reserve({"images": 400})
    page = operator.open_subject(forced_colors="active")
    area = page.locator("#use-chart .area-held").evaluate("area => getComputedStyle(area).fill")
    key = page.locator("#use-chart .swatch-held").evaluate("key => getComputedStyle(key, '::before').backgroundColor")
    assert area == key
    limit = page.locator("#use-chart .limit").evaluate("line => getComputedStyle(line).stroke")
    dash = "key => getComputedStyle(key, '::before').borderTopColor"
    assert page.locator("#use-chart .swatch-limit").evaluate(dash) == limit


def test_leaving_it_changes_nothing(operator: Operator) -> None:
    operator.reserve({"images": 1})
    page = operator.open_subject()
    for leave in (
        lambda: page.get_by_role("button", name="Leave as it is").click(),
        lambda: page.keyboard.press("Escape"),
    ):
        page.get_by_role("button", name="Roll back Item 1").click()
        page.get_by_label("Reason").fill("none")
        leave()
        expect(page.get_by_role("dialog")).to_be_hidden()
        expect(page.get_by_role("button", name="Roll back Item 1")).to_be_focused()
    assert [entry["kind"] for entry in operator.entries()] == ["reserve"]


def test_a_deadline_is_moved_for_a_reason(operator: Operator) -> None:
    operator.reserve_file("slow.jpg")
    (before,) = operator.ask("/api/quota/explain", subject=operator.subject)["open"]
    page = operator.open_subject()
    page.get_by_role("button", name="Extend slow.jpg").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Until").select_option("1 day from now")
    dialog.get_by_label("Reason").fill("his train is late")
    dialog.get_by_role("button", name="Extend").click()
    expect(page.locator("#done")).to_contain_text("slow.jpg is held until")
    expect(hold(page, "slow.jpg")).to_contain_text("in 1 day")
    expect(page.locator("#history tbody tr").first).to_contain_text("Deadline moved")
    newest = operator.entries()[0]
    assert (newest["kind"], newest["actor"], newest["held"]) == ("extend", "support", 0)
    assert newest["reason"].endswith("UTC: his train is late")
    (after,) = operator.ask("/api/quota/explain", subject=operator.subject)["open"]
    assert after["expiresAt"][:10] > before["expiresAt"][:10]


def test_a_deadline_is_not_moved_to_an_earlier_time(operator: Operator) -> None:
    operator.reserve({"images": 1}, ttlSeconds=7200)
    page = operator.open_subject()
    page.get_by_role("button", name="Extend Item 1").click()
    page.get_by_label("Reason").fill("an hour is enough")
    page.get_by_role("dialog").get_by_role("button", name="Extend").click()
    expect(page.locator("#done")).to_have_text("Item 1 is held for longer than that already. Nothing was changed.")
    assert [entry["kind"] for entry in operator.entries()] == ["reserve"]


def test_what_was_settled_meanwhile_is_said_to_be(operator: Operator) -> None:
    reservation = operator.reserve({"images": 1})
    page = operator.open_subject()
    page.get_by_role("button", name="Roll back Item 1").click()
    operator.post(f"/api/reservations/{reservation}/commit", {})
    page.get_by_label("Reason").fill("too late")
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(page.locator("#done")).to_contain_text("Item 1: It was committed before")
    expect(page.locator("#holds-empty")).to_be_visible()
    assert operator.usage()["committed"] == 1


def test_the_charts_say_what_the_api_says(operator: Operator) -> None:
    operator.post(f"/api/reservations/{operator.reserve({'images': 7, 'storage_bytes': 3_000_000})}/commit", {})
    operator.post(f"/api/reservations/{operator.reserve({'images': 2})}/rollback", {"cause": "processing_failed"})
    operator.reserve({"images": 4})
    operator.wait_until(
        page := operator.open_subject(),
        lambda: "processing_failed" in operator.ask("/api/admin/rollbacks")["rollbacks"][-1]["causes"],
    )
    use = page.locator("#use-chart")
    expect(use.get_by_role("img")).to_have_attribute(
        "aria-label", words("Images: 7 committed and 4 held now, at most 11 in the last 30 days.")
    )
    use.get_by_text("As a table").click()
    expect(use.locator("tbody tr").first.locator("td")).to_have_text(["7", "4"])
    page.locator("#use-resource").select_option("Storage")
    expect(use.get_by_role("img")).to_have_attribute(
        "aria-label", words("Storage: 3 MB committed and 0 bytes held now, at most 3 MB in the last 30 days.")
    )
    expect(use.locator("tbody tr").first.locator("td")).to_have_text([words("3 MB"), words("0 bytes")])
    page.locator("#use-days").select_option("24 hours")
    expect(use.get_by_role("img")).to_have_attribute(
        "aria-label", words("Storage: 3 MB committed and 0 bytes held now, at most 3 MB in the last 24 hours.")
    )
    page.reload()
    bars = page.locator("#rollbacks-chart")
    expect(bars.locator(".legend")).to_contain_text("Processing failed: 1")
    bars.get_by_text("As a table").click()
    told = operator.ask("/api/admin/rollbacks")["rollbacks"][-1]["causes"]
    expect(bars.locator("thead th")).to_have_count(1 + len(told))
    today = bars.locator("tbody tr").last.locator("td")
    assert sorted(today.all_inner_texts()) == sorted(str(number) for number in told.values())
    items = "1 item" if sum(told.values()) == 1 else f"{sum(told.values())} items"
    page.locator("#rollbacks-days").select_option("24 hours")
    expect(bars.get_by_role("img")).to_have_attribute(
        "aria-label", words(f"{items} rolled back in the last 24 hours, by hour and cause.")
    )


def test_what_is_pointed_at_is_told(operator: Operator) -> None:
    operator.reserve({"images": 4})
    page = operator.open_subject()
    readout = page.locator("#use-chart .readout")
    expect(readout).to_contain_text("4 held now")
    box = page.locator("#use-chart svg").bounding_box()
    assert box is not None
    page.locator("#use-chart svg").hover(position={"x": box["width"] - 9, "y": 50})
    expect(readout).to_contain_text(": 0 committed, 4 held")
    page.mouse.move(0, 0)
    expect(readout).to_contain_text("4 held now")


def test_who_is_above_him_is_shown_and_holds_of_others_are_named(service: Service, operator: Operator) -> None:
    team = f"{operator.subject}-team"
    with service.client(operator.token) as api:
        for name, body in ((team, {"plan": "pro"}), (operator.subject, {"parent": team})):
            api.put(f"/api/admin/subjects/{name}", json=body).raise_for_status()
    operator.reserve({"images": 1})
    page = operator.open_subject()
    expect(page.locator("#levels")).to_contain_text(f"Counts with {team}, too")
    page.get_by_role("searchbox").fill(team)
    page.keyboard.press("Enter")
    expect(page.locator("#subject-heading")).to_have_text(team)
    expect(hold(page, "Item 1")).to_contain_text(f"of {operator.subject}")
    page.get_by_role("button", name="Roll back Item 1").click()
    page.get_by_label("Reason").fill("of a member")
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(page.locator("#holds-empty")).to_be_visible()
    assert operator.usage()["held"] == 0


def test_the_background_is_judged(operator: Operator) -> None:
    page = operator.open()
    tile = page.locator("#status > div").filter(has=page.get_by_text("Sweeper", exact=True))
    expect(tile).to_contain_text("Runs")
    expect(page.locator("#status-word")).to_have_text("All is well.")
    late = operator.ask("/api/admin/status") | {
        "duties": {"sweep": {"state": "late", "ranAt": None, "failedAt": None, "error": None}}
    }
    page.route("**/api/admin/status", lambda route: route.fulfill(json=late))
    page.reload()
    expect(tile).to_contain_text("Needs attention: Late: is a worker running?")
    expect(page.locator("#status-word")).to_have_text("1 thing needs attention.")


def test_books_that_do_not_agree_need_attention(operator: Operator) -> None:
    drifted = operator.ask("/api/admin/status")
    drifted["checks"] = {"verify": {"findings": 2, "at": drifted["at"]}}
    page = operator.open()
    tile = page.locator("#status > div").filter(has=page.get_by_text("Books", exact=True))
    expect(tile).to_contain_text("Agree")
    page.route("**/api/admin/status", lambda route: route.fulfill(json=drifted))
    page.reload()
    expect(tile).to_contain_text("Needs attention: Do not agree")
    expect(tile).to_contain_text("2 found by earmark verify")


def test_a_service_that_is_away_is_waited_for(operator: Operator) -> None:
    operator.reserve({"images": 1})
    page = operator.open_subject()
    page.context.set_offline(True)
    page.locator("#use-days").select_option("7 days")
    expect(page.locator("#connection")).to_have_text("The service is not answering. Trying again…")
    page.context.set_offline(False)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#connection")).to_be_empty()
    operator.take_troubles()


def test_the_end_of_a_session_moves_the_focus_to_what_is_shown(operator: Operator) -> None:
    page = operator.open()
    expect(page.locator("#content")).to_be_visible()
    page.route("**/api/**", lambda route: route.fulfill(status=401, json={}))
    page.locator("#part").fill("some")
    expect(page.locator("#sign-in-heading")).to_be_focused()
    expect(page.locator("#content")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(operator: Operator, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    operator.reserve_file("open.jpg")
    operator.reserve({"images": 3}, ttlSeconds=7200)
    for cause in ("admin", "cancelled", "expired", "upload_failed", "processing_failed", "validation_failed"):
        operator.post(f"/api/reservations/{operator.reserve({'images': 1})}/rollback", {"cause": cause})
    page = operator.open(f"{operator.service.url}/operator.html", color_scheme=scheme)
    expect(page.locator("#sign-in")).to_be_visible()
    assert violations(axe, page) == ""
    operator.wait_until(page, lambda: len(operator.ask("/api/admin/rollbacks")["rollbacks"][-1]["causes"]) == 6)
    page = operator.open_subject(color_scheme=scheme)
    page.get_by_role("searchbox").fill(operator.subject[:8])
    expect(page.locator("#found > li").first).to_be_visible()
    expect(page.locator("#rollbacks-chart svg")).to_be_visible()
    for summary in page.locator("summary").all():
        summary.click()
    assert violations(axe, page) == ""
    page.get_by_role("button", name="Extend open.jpg").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert violations(axe, page) == ""


def violations(axe: Any, page: Page) -> str:
    found = axe.run(page)
    return found.generate_report() if found.violations_count else ""


@pytest.mark.parametrize("width", [320, 1280])
def test_nothing_is_wider_than_the_window(operator: Operator, width: int) -> None:
    operator.reserve_file(f"{'long' * 40}.jpg")
    page = operator.open_subject(viewport={"width": width, "height": 800})
    page.get_by_role("searchbox").fill(operator.subject)
    expect(page.locator("#found > li")).to_have_count(1)
    for summary in page.locator("summary").all():
        summary.click()
    wide = "[...document.querySelectorAll('body *')].filter((one) => one.getBoundingClientRect().right > innerWidth)"
    outside_tables = f"{wide}.filter((one) => !one.closest('.scroll')).map((one) => one.outerHTML.slice(0, 100))"
    assert page.evaluate(outside_tables) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_with_the_keyboard_alone(operator: Operator) -> None:
    operator.reserve({"images": 1})
    page = operator.open()
    expect(page.locator("#status-word")).not_to_be_empty()
    press_tab_until(page, "id == 'part'")
    page.keyboard.type(operator.subject)
    page.keyboard.press("Enter")
    expect(page.locator("#subject-heading")).to_be_focused()
    expect(hold(page, "Item 1")).to_be_visible()
    press_tab_until(page, "ariaLabel == 'Roll back Item 1'")
    page.keyboard.press("Enter")
    page.keyboard.type("no mouse at hand")
    press_tab_until(page, "id == 'act-do'")
    page.keyboard.press("Enter")
    expect(page.locator("#holds-empty")).to_be_visible()
    expect(page.locator("#holds-heading")).to_be_focused()
    assert operator.entries()[0]["reason"] == "no mouse at hand"


def press_tab_until(page: Page, condition: str) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(f"document.activeElement.{condition}"):
            return
    pytest.fail(f"no {condition} within reach of Tab")
