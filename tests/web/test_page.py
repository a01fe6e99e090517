"""The page itself: signing in, staying up to date, keyboard, accessibility, and its content security policy."""

import httpx
import psycopg
import pytest
from playwright.sync_api import expect

from earmark.local_postgres import running_url
from fixtures.pictures import picture

pytestmark = pytest.mark.browser


PNG = picture(32, 24, "PNG")
LARGE_PNG = picture(1500, 1500, "PNG")


def file(name, content=PNG):
    return {"name": name, "mimeType": "image/png", "buffer": content}


def row(page, name):
    return page.locator("#upload-list > li").filter(has=page.get_by_text(name, exact=True))


def press_tab_until(page, is_there):
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate(f"document.activeElement?.{is_there}"):
            return
    pytest.fail(f"Tab never reached it: {is_there}")


def test_the_sign_in_link_works_and_its_token_leaves_the_address_bar(user):
    page = user.open()
    expect(page.locator("#account")).to_have_text(f"{user.subject} · pro plan")
    assert page.url == f"{user.service.url}/"
    assert user.token not in page.content()
    page.reload()
    expect(page.locator("#account")).to_contain_text(user.subject)
    page.goto("about:blank")
    page.go_back()
    assert page.url == f"{user.service.url}/"


@pytest.mark.parametrize(
    ("fragment", "reason"),
    [("", "You are not signed in."), ("#token=none.of.ours", "This sign-in has expired or is not valid.")],
)
def test_without_a_good_token_it_says_how_to_sign_in(user, fragment, reason):
    page = user.open(f"{user.service.url}/{fragment}")
    expect(page.locator("#sign-in")).to_contain_text(reason)
    expect(page.locator("#content")).to_be_hidden()
    page.goto(user.link)  # only the fragment changes
    expect(page.locator("#account")).to_contain_text(user.subject)


def test_a_session_that_ends_in_the_middle_goes_on_after_signing_in_anew(user):
    page = user.open()
    expect(page.locator("#meters")).to_contain_text("0 of 500 images used")
    over = {"type": "/problems/unauthenticated", "title": "Not signed in", "detail": "The token has expired."}
    page.route("**/api/**", lambda route: route.fulfill(status=401, json=over))
    page.locator("#picker").set_input_files(file("late.png"))
    expect(page.locator("#sign-in")).to_contain_text("This sign-in has expired or is not valid.")
    expect(page.locator("#content")).to_be_hidden()
    page.unroute("**/api/**")
    page.goto(user.link)
    expect(page.locator("#sign-in")).to_be_hidden()
    expect(row(page, "late.png")).to_contain_text("The token has expired. Nothing was sent, and it cost nothing.")
    page.get_by_role("button", name="Retry late.png").click()
    expect(row(page, "late.png")).to_have_attribute("data-state", "completed")


@pytest.mark.parametrize("refusal", [401, "no answer"])
def test_what_has_arrived_when_a_session_ends_goes_on_after_signing_in_anew(user, refusal):
    page = user.open()
    expect(page.locator("#meters")).to_contain_text("0 of 500 images used")
    over = {"type": "/problems/unauthenticated", "title": "Not signed in", "detail": "The token has expired."}
    signed_out = []

    def answer(route):
        is_last_word = route.request.url.endswith("/complete")
        if is_last_word and refusal == "no answer":
            route.abort()
        elif is_last_word or signed_out:
            signed_out.append(route)
            route.fulfill(status=401, json=over)
        else:
            route.continue_()

    told = []
    page.on("request", lambda request: told.append(request.url) if request.url.endswith("/failed") else None)
    page.route("**/api/**", answer)
    page.locator("#picker").set_input_files(file("arrived.png"))
    expect(row(page, "arrived.png")).to_contain_text("It has arrived, and goes on once the service answers.")
    page.unroute("**/api/**")
    if refusal == 401:
        expect(page.locator("#sign-in")).to_be_visible()
        page.goto(user.link)
    expect(row(page, "arrived.png")).to_have_attribute("data-state", "completed")
    assert (told, len(user.images()), user.usage()["committed"]) == ([], 1, 1)
    user.take_troubles()


@pytest.mark.parametrize("place", ["control", "nowhere", "dialog"])
def test_the_end_of_a_session_moves_the_focus_to_what_is_shown(user, place):
    page = user.open()
    page.locator("#picker").set_input_files(file("done.png"))
    expect(row(page, "done.png")).to_have_attribute("data-state", "completed")
    delete = page.get_by_role("button", name="Delete done.png")
    expect(delete).to_be_visible()
    if place == "dialog":
        delete.click()
        expect(page.get_by_role("dialog")).to_be_visible()
    elif place == "control":
        delete.focus()
    else:
        page.evaluate("document.activeElement.blur()")
    page.route("**/api/**", lambda route: route.fulfill(status=401, json={}))
    page.locator("#picker").set_input_files(file("late.png"))
    expect(page.locator("#sign-in-heading")).to_be_focused()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.unroute("**/api/**")
    page.goto(user.link)
    expect(page.locator("#picker")).to_be_focused()
    assert [image["state"] for image in user.images()] == ["completed"]


def test_an_answer_from_before_the_end_of_a_session_shows_nothing_anew(user):
    page = user.open()
    expect(page.locator("#content")).to_be_visible()
    late = []
    page.route("**/api/usage", lambda route: late.append(route))  # noqa: PLW0108 - no builtin
    with page.expect_response("**/api/images?*"):  # the other half of what a refresh reads
        page.evaluate("window.dispatchEvent(new Event('online'))")
    user.wait_until(page, lambda: late)
    page.route("**/api/**", lambda route: route.fulfill(status=401, json={}))
    page.locator("#picker").set_input_files(file("late.png"))
    expect(page.locator("#sign-in")).to_be_visible()
    histories = []
    page.on("request", lambda request: histories.append(request.url) if "history" in request.url else None)
    with page.expect_response(lambda answer: answer.url.endswith("/api/usage") and answer.status == 200) as answer:
        late[0].fulfill(response=late[0].fetch())
    answer.value.finished()
    page.evaluate("fetch('./').then((answer) => answer.text())")  # what the answer set off has begun by now
    expect(page.locator("#content")).to_be_hidden()
    assert histories == []


def test_what_could_not_be_done_is_said_where_it_is_seen(user):
    page = user.open(viewport={"width": 360, "height": 640})
    page.locator("#picker").set_input_files(file("stubborn.png"))
    delete = page.get_by_role("button", name="Delete stubborn.png")
    delete.scroll_into_view_if_needed()
    broken = {"title": "Internal error", "detail": "Something went wrong here."}
    deletes = "**/api/images/*"
    page.route(deletes, lambda route: route.fulfill(status=500, json=broken))
    delete.click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    message = page.locator("#message")
    expect(message).to_be_in_viewport(ratio=1)
    expect(message).to_contain_text("stubborn.png was not deleted. Something went wrong here.")
    page.unroute(deletes)
    delete.click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator("#images > li")).to_have_count(0)
    expect(message).to_be_hidden()
    assert all("status of 500" in trouble for trouble in user.take_troubles())


def test_trying_again_is_what_it_does(user):
    page = user.open()
    expect(page.locator("#meters")).to_contain_text("0 of 500 images used")
    page.route("**/api/usage", lambda route: route.fulfill(status=500, json={"detail": "Something went wrong."}))
    page.evaluate("window.dispatchEvent(new Event('online'))")
    expect(page.locator("#connection")).to_have_text("Something went wrong. Trying again…")
    page.unroute("**/api/usage")
    expect(page.locator("#connection")).to_be_empty()
    assert all("status of 500" in trouble for trouble in user.take_troubles())


def test_who_has_no_plan_is_told_whom_to_ask(user):
    page = user.open("about:blank")
    unknown = {"type": "/problems/unknown-subject", "detail": f'Subject "{user.subject}" is unknown.'}
    page.route("**/api/**", lambda route: route.fulfill(status=404, json=unknown))
    page.goto(user.link)
    told = page.locator("#connection")
    expect(told).to_have_text("You have no plan yet. Ask whoever runs this service for one.")
    page.unroute("**/api/**")
    expect(told).to_be_empty()
    expect(page.locator("#meters")).to_contain_text("0 of 500 images used")


def test_following_goes_on_after_any_refusal_but_that_of_the_token(user):
    page = user.open("about:blank")
    page.route("**/api/events", lambda route: route.fulfill(status=500, json={"detail": "Something went wrong."}))
    page.goto(user.link)
    expect(page.locator("#connection")).to_have_text("Something went wrong. Trying again…")
    page.unroute("**/api/events")
    expect(page.locator("#connection")).to_be_empty()
    expect(page.locator("#meters")).to_contain_text("0 of 500 images used")
    upload(user, "elsewhere.png")
    expect(page.locator("#images > li")).to_contain_text("elsewhere.png")
    assert all("status of 500" in trouble for trouble in user.take_troubles())


def test_a_name_that_turns_the_writing_around_turns_nothing_but_itself(user):
    page = user.open()
    page.locator("#picker").set_input_files(file("صورة.png"))
    page.get_by_role("button", name="Delete صورة.png").click()
    name = page.locator("#remove-name")
    assert name.evaluate("name => getComputedStyle(name).unicodeBidi") == "isolate"
    page.route("**/api/images/*", lambda route: route.fulfill(status=409, json={"detail": "Not now."}))
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator("#message-text")).to_have_text("\u2068صورة.png\u2069 was not deleted. Not now.")


def test_high_contrast_leaves_the_bars_and_their_keys(user):
    page = user.open(forced_colors="active")
    page.locator("#picker").set_input_files(file("one.png"))
    expect(page.locator("#images > li")).to_have_count(1)
    bar = page.locator("#meters .committed.some").first
    colours = bar.evaluate("bar => [bar, bar.parentElement].map(one => getComputedStyle(one).backgroundColor)")
    assert colours[0] != colours[1]
    key = page.locator("#meters .key").first.evaluate("key => getComputedStyle(key, '::before').backgroundColor")
    assert key == colours[0]


def test_two_tabs_see_each_other(user):
    one, other = user.open(), user.open()
    expect(other.locator("#meters")).to_contain_text("0 of 500 images used")
    one.locator("#picker").set_input_files(file("shared.png"))
    card = other.locator("#images > li").filter(has_text="shared.png")
    expect(card).to_contain_text("PNG")
    expect(other.locator("#meters")).to_contain_text("1 of 500 images used")
    card.get_by_role("button", name="Delete shared.png").click()
    other.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(other.locator("#images > li")).to_have_count(0)
    expect(one.locator("#images > li")).to_have_count(0)
    assert (user.usage()["committed"], user.usage("storage_bytes")["committed"]) == (1, 0)


def test_what_others_change_is_seen_as_it_happens(user):
    page = user.open()
    expect(page.locator("#meters")).to_contain_text("0 of 500 images used")
    user.service.run("plan", user.subject, "--quota", "images=7")
    expect(page.locator("#meters")).to_contain_text("0 of 7 images used")
    upload(user, "elsewhere.png")
    picture_of_it = page.locator("#images > li").filter(has_text="elsewhere.png").locator("img")
    expect(picture_of_it).to_be_visible()
    user.wait_until(page, lambda: picture_of_it.evaluate("img => img.naturalWidth") > 0)
    expect(page.locator("#history tbody tr").first).to_contain_text("Committed")


def test_a_hidden_tab_lets_go_of_its_stream_and_is_up_to_date_when_it_is_looked_at(user):
    page = user.open()
    expect(page.locator("#meters")).to_contain_text("0 of 500 images used")
    pretend(page, hidden=True)
    user.wait_until(page, lambda: "/api/events" in {line["route"] for line in requests(user)})
    upload(user, "meanwhile.png")
    pretend(page, hidden=False)
    expect(page.locator("#images > li")).to_contain_text("meanwhile.png")


def upload(user, name):
    with user.service.client(user.token) as client:
        declared = {"filename": name, "contentType": "image/png", "size": len(PNG)}
        (target,) = client.post("/api/images/preupload", json=declared).raise_for_status().json()["images"]
        client.put(target["uploadUrl"], content=PNG, headers=target["headers"]).raise_for_status()
        client.post("/api/images/complete", json={"imageId": target["imageId"]}).raise_for_status()


def requests(user):
    """The lines of his requests that have ended."""
    return [line for line in user.service.log_lines("request") if line["subject"] == user.subject]


def pretend(page, *, hidden):
    value = "true" if hidden else "false"
    page.evaluate(f"Object.defineProperty(document, 'hidden', {{value: {value}, configurable: true}})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_the_quota_movements_name_the_file(user):
    page = user.open()
    page.locator("#picker").set_input_files(file("named.png"))
    expect(row(page, "named.png")).to_have_attribute("data-state", "completed")
    assert all("item" in image for image in user.images())
    expect(page.locator("#history tbody tr").first).to_contain_text("named.png")


def test_an_image_that_the_store_has_lost_is_not_said_to_have_cost_nothing(user):
    page = user.open()
    page.locator("#picker").set_input_files(file("lost.png"))
    expect(row(page, "lost.png")).to_have_attribute("data-state", "completed")
    (image,) = user.images()
    for path in user.service.home.rglob(f"{image['imageId']}/original"):
        path.unlink()
    user.service.run("reconcile", "--repair")
    expect(row(page, "lost.png")).to_have_attribute("data-state", "failed")
    expect(row(page, "lost.png")).to_contain_text("Its file was lost from the store")
    expect(row(page, "lost.png")).not_to_contain_text("cost nothing")
    expect(page.locator("#images > li")).to_have_count(0)
    page.reload()
    expect(page.locator("#unfinished-count")).to_have_text("1 image was lost from the store")


def test_a_success_after_expiry_is_shown_as_one(user, gate):
    page = user.open()
    page.locator("#picker").set_input_files(file("late.png"))
    user.wait_until(page, gate.with_name("begun-1").exists)
    (image,) = user.images()
    with psycopg.connect(running_url(user.service.home), autocommit=True) as connection:
        with connection.transaction():  # so that no heartbeat comes between
            overdue = "UPDATE earmark._private_hold SET expires_at = clock_timestamp() WHERE root = %s"
            connection.execute(overdue, (user.subject,))
            connection.execute("SELECT earmark.expire()")
        expect(row(page, "late.png")).to_have_attribute("data-state", "expired")
        late = "SELECT outcome FROM earmark.image_complete(%s, 1, 'image/png', '{}', '{}')"
        assert connection.execute(late, (image["imageId"],)).fetchone() == ("completed",)
    expect(row(page, "late.png")).to_have_attribute("data-state", "completed")
    expect(row(page, "late.png")).not_to_contain_text("cost nothing")


def test_an_image_behind_the_first_page_is_found_and_deleted(user):
    page = user.open()
    page.locator("#picker").set_input_files(file("old.png"))
    expect(row(page, "old.png")).to_have_attribute("data-state", "completed")
    declared = {"files": [{"filename": "later.png", "contentType": "image/png", "size": 9}] * 20}
    with user.service.client(user.token) as client:
        for _ in range(3):
            client.post("/api/images/preupload", json=declared).raise_for_status()
        client.post("/api/quota/rollback", json={"count": 60}).raise_for_status()
    page.reload()
    expect(page.locator("#unfinished-count")).to_have_text("50 uploads did not finish, and cost nothing")
    page.get_by_role("button", name="Show older images").click()
    expect(page.locator("#unfinished-count")).to_have_text("60 uploads did not finish, and cost nothing")
    expect(page.locator("#more-images")).to_be_hidden()
    page.get_by_role("button", name="Delete old.png").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator("#images > li")).to_have_count(0)
    user.wait_until(page, lambda: len(user.images()) == 60)


@pytest.mark.parametrize("behind", ["opened", "pushed off"])
def test_the_links_of_images_behind_the_first_page_are_kept_fresh(user, behind):
    upload(user, "old.png")
    page = user.open("about:blank")
    user.wait_until(page, lambda: [image["state"] for image in user.images()] == ["completed"])
    page.route("**/storage/**", lambda _: None)  # no picture is loaded yet
    shown = page.locator("#images > li").filter(has_text="old.png")
    if behind == "pushed off":
        page.goto(user.link)
        expect(shown).to_be_visible()
    declared = {"files": [{"filename": "later.png", "contentType": "image/png", "size": 9}] * 20}
    with user.service.client(user.token) as client:
        for _ in range(3):
            client.post("/api/images/preupload", json=declared).raise_for_status()
        client.post("/api/quota/rollback", json={"count": 60}).raise_for_status()
    if behind == "opened":
        page.goto(user.link)
        page.get_by_role("button", name="Show older images").click()
    expect(page.locator("#unfinished-count")).to_contain_text("60 uploads did not finish")
    expect(page.locator("#more-images")).to_be_hidden()
    addresses = "card => [card.querySelector('a').href, card.querySelector('img').src]"
    before = shown.evaluate(addresses)

    def is_fresh():
        page.evaluate("window.dispatchEvent(new Event('online'))")
        return not set(before) & set(shown.evaluate(addresses))

    user.wait_until(page, is_fresh)
    expect(page.locator("#unfinished-count")).to_contain_text("60 uploads did not finish")
    expect(page.locator("#more-images")).to_be_hidden()


def test_only_opened_pages_are_read_anew(user):
    declared = {"files": [{"filename": "many.png", "contentType": "image/png", "size": 9}] * 20}
    with user.service.client(user.token) as client:
        for _ in range(6):
            client.post("/api/images/preupload", json=declared).raise_for_status()
        client.post("/api/quota/rollback", json={"count": 120}).raise_for_status()
    page = user.open()
    count = page.locator("#unfinished-count")
    expect(count).to_have_text("50 uploads did not finish, and cost nothing")
    with user.service.client(user.token) as client:
        client.post("/api/images/preupload", json=declared).raise_for_status()
        client.post("/api/quota/rollback", json={"count": 20}).raise_for_status()
    expect(count).to_have_text("70 uploads did not finish, and cost nothing")
    with page.expect_response(lambda answer: "/api/quota/history" in answer.url):  # the last that a refresh reads
        page.evaluate("window.dispatchEvent(new Event('online'))")
    expect(count).to_have_text("70 uploads did not finish, and cost nothing")
    page.get_by_role("button", name="Show older images").click()
    expect(count).to_have_text("120 uploads did not finish, and cost nothing")


def test_the_picture_itself_opens_the_image(user):
    page = user.open()
    page.locator("#picker").set_input_files(file("opens.png"))
    tile = page.locator("#images > li").filter(has_text="opens.png").locator(".tile")
    expect(tile.locator("img")).to_be_visible()
    tile.scroll_into_view_if_needed()
    box = tile.bounding_box()
    with page.expect_popup() as opened:
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    opened.value.wait_for_load_state()
    assert opened.value.evaluate("document.images[0].naturalWidth") == 32


def test_a_deletion_can_be_thought_better_of(user):
    page = user.open()
    page.locator("#picker").set_input_files(file("kept.png"))
    page.get_by_role("button", name="Delete kept.png").click()
    page.get_by_role("dialog").get_by_role("button", name="Keep").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert [image["state"] for image in user.images()] == ["completed"]


def test_a_file_name_is_text_and_never_markup(user):
    page = user.open()
    name = "<img src=x onerror=console.error(1)>.png"
    page.locator("#picker").set_input_files(file(name))
    expect(row(page, name)).to_have_attribute("data-state", "completed")
    expect(page.locator("#images > li")).to_contain_text(name)


def test_offline_and_online_again(user):
    page = user.open()
    expect(page.locator("#meters")).to_contain_text("0 of 500 images used")
    page.context.set_offline(True)
    expect(page.locator("#connection")).to_have_text("You are offline. Trying again…")
    page.context.set_offline(False)
    expect(page.locator("#connection")).to_be_empty()
    assert all("ERR_INTERNET_DISCONNECTED" in trouble for trouble in user.take_troubles())


def test_files_chosen_while_offline_can_be_sent_afterwards(user):
    page = user.open()
    expect(page.locator("#meters")).to_contain_text("0 of 500 images used")
    page.context.set_offline(True)
    page.locator("#picker").set_input_files(file("patient.png"))
    expect(row(page, "patient.png")).to_have_attribute("data-state", "unsent")
    page.context.set_offline(False)
    page.get_by_role("button", name="Retry patient.png").click()
    expect(row(page, "patient.png")).to_have_attribute("data-state", "completed")
    assert user.usage()["used"] == 1
    assert all("ERR_INTERNET_DISCONNECTED" in trouble for trouble in user.take_troubles())


def test_an_image_that_was_deleted_while_this_tab_was_offline(user, gate):
    page = user.open()
    page.locator("#picker").set_input_files(file("brief.png"))
    expect(row(page, "brief.png")).to_have_attribute("data-state", "processing")
    page.context.set_offline(True)
    gate.unlink()
    user.wait_until(page, lambda: user.images()[0]["state"] == "completed")
    with user.service.client(user.token) as client:
        client.delete(f"/api/images/{user.images()[0]['imageId']}").raise_for_status()
    page.context.set_offline(False)
    expect(row(page, "brief.png")).to_have_attribute("data-state", "deleted")
    expect(page.locator("#connection")).to_be_empty()
    assert all("ERR_INTERNET_DISCONNECTED" in trouble for trouble in user.take_troubles())


def test_with_the_keyboard_alone(user, slow_uploads, tmp_path):
    (tmp_path / "typed.png").write_bytes(LARGE_PNG)
    page = user.open()
    expect(page.locator("#meters")).to_contain_text("0 of 500 images used")
    slow_uploads(page)
    page.on("filechooser", lambda chooser: chooser.set_files(tmp_path / "typed.png"))
    press_tab_until(page, "id == 'picker'")
    page.keyboard.press("Enter")
    user.wait_until(page, lambda: [image["state"] for image in user.images()] == ["uploading"])
    press_tab_until(page, "ariaLabel == 'Cancel typed.png'")
    page.keyboard.press("Enter")
    expect(row(page, "typed.png")).to_have_attribute("data-state", "cancelled")
    assert user.usage()["used"] == 0
    assert page.evaluate("document.activeElement.ariaLabel") == "Retry typed.png"  # the focus is where it was


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(user, scheme, gate):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    page = user.open(f"{user.service.url}/", color_scheme=scheme)
    expect(page.locator("#sign-in")).to_be_visible()
    assert violations(axe, page) == ""
    gate.unlink()
    page.goto(user.link)
    expect(page.locator("#account")).to_contain_text(user.subject)
    page.locator("#picker").set_input_files([file("done.png"), file("left.png")])
    expect(page.locator("#images > li")).to_have_count(2)
    page.reload()
    gate.write_text(user.subject)
    page.locator("#picker").set_input_files([file("open.png"), file("bad.png", b"no picture"), file("text.txt")])
    expect(row(page, "open.png")).to_have_attribute("data-state", "processing")
    expect(row(page, "bad.png")).to_have_attribute("data-state", "rejected")
    expect(page.locator("#history tbody tr").first).to_be_visible()
    assert violations(axe, page) == ""
    page.get_by_role("button", name="Delete done.png").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert violations(axe, page) == ""


def violations(axe, page):
    found = axe.run(page)
    return found.generate_report() if found.violations_count else ""


def test_light_and_dark(user):
    colours = {}
    for scheme in ("light", "dark"):
        page = user.open(color_scheme=scheme)
        expect(page.locator("#meters")).to_contain_text("0 of 500 images used")
        style = "getComputedStyle(document.body)"
        colours[scheme] = [page.evaluate(f"{style}.{name}") for name in ("backgroundColor", "color")]
    brightness = {
        scheme: [sum(map(int, colour.removeprefix("rgb(").rstrip(")").split(", "))) for colour in both]
        for scheme, both in colours.items()
    }
    assert brightness["light"][0] > brightness["light"][1]
    assert brightness["dark"][0] < brightness["dark"][1]


@pytest.mark.parametrize("width", [320, 1280])
def test_nothing_is_wider_than_the_window(user, width):
    page = user.open(viewport={"width": width, "height": 800})
    name = f"{'long' * 40}.png"
    page.locator("#picker").set_input_files([file(name), file("b.png", b"no picture")])
    expect(row(page, name)).to_have_attribute("data-state", "completed")
    expect(page.locator("#images > li")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_policy_is_strict_and_in_force(user):
    policy = httpx.get(user.service.url).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    page = user.open()
    expect(page.locator("#account")).to_contain_text(user.subject)
    assert user.take_troubles() == []
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = true'}))")
    assert page.evaluate("window.ran") is None
    page.wait_for_timeout(0)
    assert any("CSP: script-src" in trouble for trouble in user.take_troubles())
