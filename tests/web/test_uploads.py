"""Uploads in the browser: what the page shows in the end is what the API says, and nothing stays held."""

import json
import os
import re
import tempfile
from pathlib import Path

import pytest
from playwright.sync_api import expect

from fixtures.pictures import picture

pytestmark = pytest.mark.browser

CASES = Path(__file__).parents[2].parent / "shared/cases/files"
NOT_TAKEN = {"png_named.jpg", "missing_eoi.jpg", "multipage.tif", "phone.heic", "three_sizes.ico"}
NOT_TAKEN |= {"plain.bmp"}


PNG = picture(32, 24, "PNG")
LARGE_PNG = picture(1500, 1500, "PNG")


@pytest.fixture
def files(tmp_path):
    """Files to choose, of this disk as a user's: megabytes that a test hands over itself may take half a minute."""

    def write(count, content=PNG):
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        chosen = [folder / f"{n:02}.png" for n in range(1, count + 1)]
        for path in chosen:
            path.write_bytes(content)
        return chosen

    return write


def row(page, name):
    return page.locator("#upload-list > li").filter(has=page.get_by_text(name, exact=True))


def expect_state(page, name, state):
    expect(row(page, name)).to_have_attribute("data-state", state)


def expect_all(page, count, state):
    expect(page.locator(f'#upload-list > li[data-state="{state}"]')).to_have_count(count)


def causes(user):
    return [entry["cause"] for entry in user.entries() if entry["kind"] == "rollback" and entry["resource"] == "images"]


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
def test_good_and_bad_files_end_as_the_api_says(user):
    cases = {Path(case["file"]).name: case for case in json.loads((CASES / "manifest.json").read_text())["files"]}
    page = user.open()
    page.locator("#picker").set_input_files([CASES / case["file"] for case in cases.values()])
    page.get_by_role("button", name="Upload in 2 batches").click()
    good = {name for name, case in cases.items() if case["verdict"] != "reject" and name not in NOT_TAKEN}
    rest = len(cases) - len(good)
    expect(page.locator("#uploads-count")).to_have_text(f"{len(good)} of {len(cases)} done, {rest} not uploaded")
    expect(page.locator("#closing")).to_be_hidden()
    shown = dict(
        page.locator("#upload-list > li").evaluate_all(
            "rows => rows.map(row => [row.querySelector('.name').textContent, row.dataset.state])"
        )
    )
    assert shown == {name: "completed" if name in good else "rejected" for name in cases}
    stored = {image["filename"]: image for image in user.images()}
    assert {name: image["state"] for name, image in stored.items()} == {name: shown[name] for name in stored}
    assert good <= stored.keys()
    size = sum(cases[name]["bytes"] for name in good)
    assert (user.usage()["committed"], user.usage()["held"]) == (len(good), 0)
    assert (user.usage("storage_bytes")["committed"], user.usage("storage_bytes")["held"]) == (size, 0)
    expect(page.locator("#meters")).to_contain_text(f"{len(good)} of 500 images used")
    expect(page.locator("#images > li")).to_have_count(len(good))
    assert set(causes(user)) == {"validation_failed"}
    for name in cases.keys() - good:
        expect(row(page, name)).to_contain_text("It cost nothing.")


def test_without_tls(user):
    page = user.open("about:blank")
    page.add_init_script("delete Crypto.prototype.randomUUID")  # as browsers do on plain http, except on localhost
    page.goto(user.link)
    small = {"name": "a.png", "mimeType": "image/png", "buffer": picture(32, 24, "PNG")}
    page.locator("#picker").set_input_files([small])
    expect(row(page, "a.png")).to_have_attribute("data-state", "completed")


def test_files_dropped_on_the_page(user, tmp_path):
    (tmp_path / "dropped.png").write_bytes(PNG)
    page = user.open()
    expect(page.locator("#meters")).to_contain_text("0 of 500 images used")
    box = page.locator(".dropzone").bounding_box()
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(tmp_path / "dropped.png")], "dragOperationsMask": 1}
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "data": data}
    for kind in ("dragEnter", "dragOver"):
        session.send("Input.dispatchDragEvent", {"type": kind, **place})
    expect(page.locator("body")).to_have_class("dragging")
    session.send("Input.dispatchDragEvent", {"type": "drop", **place})
    expect_state(page, "dropped.png", "completed")
    expect(page.locator("body")).not_to_have_class("dragging")
    assert [image["filename"] for image in user.images()] == ["dropped.png"]


def test_a_folder_dropped_on_the_page(user, tmp_path):
    folder = tmp_path / "holiday"
    (folder / "beach").mkdir(parents=True)
    for name in ("one.png", "beach/two.png", "notes.txt", ".DS_Store"):
        (folder / name).write_bytes(PNG)
    page = user.open()
    expect(page.locator("#meters")).to_contain_text("0 of 500 images used")
    drop(page, folder)
    expect_all(page, 2, "completed")
    assert sorted(image["filename"] for image in user.images()) == ["one.png", "two.png"]
    expect(page.locator("#message")).to_contain_text("Left out of the folder: 1 file that is no image.")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#message")).to_be_hidden()
    (tmp_path / "empty").mkdir()
    drop(page, tmp_path / "empty")
    expect(page.locator("#message")).to_contain_text("There is no image in that folder.")


def drop(page, *paths):
    box = page.locator(".dropzone").bounding_box()
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "data": data}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **place})


def test_what_is_said_of_closing_the_tab_is_true(user, gate, slow_uploads, files):
    page = user.open()
    session = slow_uploads(page)
    page.locator("#picker").set_input_files(files(1, LARGE_PNG))
    expect_state(page, "01.png", "uploading")
    expect(page.locator("#closing")).to_contain_text("Keep this tab open until everything has arrived.")
    session.detach()
    expect_state(page, "01.png", "processing")
    expect(page.locator("#closing")).to_be_hidden()  # from now on, it goes on without the tab


def give_up(user, page, count):
    """The half minutes go by for which what a connection lost is sent again."""
    failed = page.locator('#upload-list > li[data-state="failed"]')
    user.wait_until(page, lambda: page.clock.run_for(4_000) or failed.count() == count)


def test_all_that_was_not_sent_is_retried_together(user, files):
    page = user.open()
    expect(page.locator("#meters")).to_contain_text("0 of 500 images used")
    page.context.set_offline(True)
    page.locator("#picker").set_input_files(files(3))
    expect_all(page, 3, "unsent")
    expect(page.locator("#uploads-count")).to_have_text("0 of 3 done, 3 not uploaded")
    page.context.set_offline(False)
    page.get_by_role("button", name="Retry all").click()
    expect_all(page, 3, "completed")
    expect(page.locator("#uploads-count")).to_have_text("3 of 3 done")
    expect(page.get_by_role("button", name="Retry all")).to_be_hidden()
    assert user.usage()["used"] == 3
    assert all("ERR_INTERNET_DISCONNECTED" in trouble for trouble in user.take_troubles())


def test_all_that_failed_on_the_way_is_retried_together(user, files):
    page = user.open()
    page.clock.install()
    page.route("**/storage/**", lambda route: route.abort())
    page.locator("#picker").set_input_files(files(4))
    give_up(user, page, 4)
    assert user.usage()["used"] == 0
    page.unroute("**/storage/**")
    page.get_by_role("button", name="Retry all").click()
    expect_all(page, 4, "completed")
    assert user.usage()["used"] == 4
    assert all("ERR_FAILED" in trouble for trouble in user.take_troubles())


def test_what_is_said_of_an_upload_that_broke_off_is_true_once_the_service_knows(user, files):
    page = user.open()
    gone = ("**/storage/**", "**/api/images/*/failed")
    page.clock.install()
    for address in gone:
        page.route(address, lambda route: route.abort())
    page.locator("#picker").set_input_files(files(1))
    give_up(user, page, 1)
    expect(row(page, "01.png")).to_contain_text("The held quota comes back by itself soon after")
    (image,) = user.images()
    clock = "(at) => new Date(at).toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit' })"
    expect(row(page, "01.png")).to_contain_text(f"soon after {page.evaluate(clock, image['expiresAt'])}.")
    assert user.usage()["held"] == 1
    for address in gone:
        page.unroute(address)
    expect(row(page, "01.png")).to_contain_text("It cost nothing.")
    expect(row(page, "01.png")).not_to_contain_text("comes back by itself")
    assert user.usage()["held"] == 0
    (given_back,) = [one for one in user.entries() if one["kind"] == "rollback" and one["resource"] == "images"]
    assert "comes back" not in given_back["reason"]
    assert all("ERR_FAILED" in trouble for trouble in user.take_troubles())


@pytest.mark.parametrize("attempts", [1, 5], ids=["late", "lost"])
def test_what_an_event_has_told_outlives_the_answer_that_comes_later(user, attempts, files):
    page = user.open()
    page.clock.install()
    asked, ended = [], []
    page.route("**/api/images/complete", lambda route: asked.append(route))  # noqa: PLW0108 - no builtin
    page.locator("#picker").set_input_files(files(1))
    user.wait_until(page, lambda: asked)
    answer = asked[0].fetch()
    assert answer.json()["status"] == "uploaded"
    expect_state(page, "01.png", "completed")
    for event in ("requestfinished", "requestfailed"):
        page.on(event, lambda request: ended.append(request) if "complete" in request.url else None)
    for attempt in range(1, attempts + 1):
        user.wait_until(page, lambda: len(asked) == attempt)  # noqa: B023 - called at once
        if attempts == 1:
            asked[0].fulfill(response=answer)
        else:
            asked[-1].abort()
        user.wait_until(page, lambda: len(ended) == attempt)  # noqa: B023
        page.clock.run_for(4_500)  # to the next attempt, and not to where doubts are looked into
        assert row(page, "01.png").get_attribute("data-state") == "completed"
    assert all("ERR_FAILED" in trouble for trouble in user.take_troubles())


def test_bytes_at_which_the_service_fails_are_sent_again(user, files):
    page = user.open()
    page.route("**/storage/**", lambda route: route.fulfill(status=500, json={}), times=1)
    page.locator("#picker").set_input_files(files(1))
    expect_state(page, "01.png", "completed")
    assert len(user.images()) == 1
    assert all("status of 500" in trouble for trouble in user.take_troubles())


def test_a_body_that_a_proxy_finds_too_large_is_not_said_to_be_longer_than_declared(user, files):
    page = user.open()
    refusal = {"status": 413, "content_type": "text/html", "body": "<h1>413 Request Entity Too Large</h1>"}
    page.route("**/storage/**", lambda route: route.fulfill(**refusal))
    page.locator("#picker").set_input_files(files(1))
    expect(row(page, "01.png")).to_contain_text("A proxy or the store takes no body of this size (413).")
    assert user.usage()["used"] == 0


def test_uploads_go_on_by_themselves_after_a_time_without_a_network(user, slow_uploads, files):
    page = user.open()
    page.clock.install()
    session = slow_uploads(page)
    page.locator("#picker").set_input_files(files(6, LARGE_PNG))
    user.wait_until(page, lambda: "uploading" in {image["state"] for image in user.images()})
    session.detach()
    page.context.set_offline(True)
    expect(page.locator("#connection")).to_have_text("You are offline. Trying again…")
    for _ in range(20):
        page.clock.run_for(10_000)
    expect(page.locator('#upload-list > li[data-state="failed"]')).to_have_count(0)
    page.context.set_offline(False)
    expect_all(page, 6, "completed")
    assert {image["state"] for image in user.images()} == {"completed"}
    user.take_troubles()


def test_images_chosen_together_keep_their_order(user, files):
    page = user.open()
    page.locator("#picker").set_input_files(files(12))
    expect_all(page, 12, "completed")
    page.reload()
    names = [f"{n:02}.png" for n in range(1, 13)]
    expect(page.locator("#images > li .name")).to_have_text(names)


def test_cancelling_in_the_middle_of_an_upload(user, slow_uploads, files):
    page = user.open()
    slow_uploads(page)
    page.locator("#picker").set_input_files(files(1, LARGE_PNG))
    user.wait_until(page, lambda: [image["state"] for image in user.images()] == ["uploading"])
    assert user.usage()["held"] == 1
    expect(page.locator("#meters")).to_contain_text("1 held")
    expect(row(page, "01.png")).to_contain_text(re.compile(r"Uploading, [1-9]\d? %"))
    expect(row(page, "01.png")).to_contain_text(re.compile(r"\d\s[kM]B/s, \d+ \w+ left"))
    page.get_by_role("button", name="Cancel 01.png").click()
    expect_state(page, "01.png", "cancelled")
    assert (user.usage()["used"], user.usage("storage_bytes")["used"]) == (0, 0)
    assert [(image["state"], image["cause"]) for image in user.images()] == [("cancelled", "cancelled")]
    assert causes(user) == ["cancelled"]
    expect(page.locator("#meters")).to_contain_text("0 held")
    expect(page.locator("#history")).to_contain_text("Given back: upload cancelled")


def test_an_upload_that_makes_no_progress_is_given_up(user):
    page = user.open()
    page.route("**/storage/**", lambda _: None)
    told = page.evaluate(
        """async () => {
            const { EarmarkClient } = await import("/client.js");
            const target = { uploadUrl: "/storage/silent", headers: {} };
            const client = new EarmarkClient({ timeoutMs: 50 });
            return client.put(target, new Blob(["x"])).catch((error) => error.constructor.name);
        }"""
    )
    assert told == "Unreachable"


def test_a_file_that_was_changed_after_it_was_chosen_is_to_be_chosen_again(user, tmp_path):
    chosen = tmp_path / "holiday.png"
    chosen.write_bytes(PNG)
    page = user.open()

    def change(route):
        chosen.write_bytes(LARGE_PNG)
        os.utime(chosen, (1, 1))
        route.continue_()

    page.route("**/api/images/preupload", change)
    page.locator("#picker").set_input_files(chosen)
    expect_state(page, "holiday.png", "failed")
    said = "The file was changed, moved or deleted on this device. Choose it again. It cost nothing."
    expect(row(page, "holiday.png")).to_contain_text(said)
    assert user.usage()["used"] == 0
    page.unroute("**/api/images/preupload")
    page.get_by_role("button", name="Clear").click()
    page.locator("#picker").set_input_files(chosen)
    expect_state(page, "holiday.png", "completed")
    assert all("ERR_UPLOAD_FILE_CHANGED" in trouble for trouble in user.take_troubles())


def test_retrying_what_was_cancelled(user, slow_uploads, files):
    page = user.open()
    session = slow_uploads(page)
    page.locator("#picker").set_input_files(files(1, LARGE_PNG))
    expect_state(page, "01.png", "uploading")
    page.get_by_role("button", name="Cancel 01.png").click()
    expect_state(page, "01.png", "cancelled")
    session.detach()
    page.get_by_role("button", name="Retry 01.png").click()
    expect_state(page, "01.png", "completed")
    assert sorted(image["state"] for image in user.images()) == ["cancelled", "completed"]
    assert user.usage()["used"] == 1


@pytest.mark.parametrize("leave", ["close", "reload", "navigate"])
def test_leaving_the_page_in_the_middle_of_an_upload(user, slow_uploads, leave, files):
    page, witness = user.open(), user.open("about:blank")
    slow_uploads(page)
    page.locator("#picker").set_input_files(files(5, LARGE_PNG))
    user.wait_until(page, lambda: "uploading" in {image["state"] for image in user.images()})
    assert user.usage()["held"] == 5
    if leave == "close":
        page.close(run_before_unload=True)
    elif leave == "reload":
        page.reload()
    else:
        page.goto("about:blank")
    user.wait_until(witness, lambda: user.usage()["held"] == 0)
    assert {(image["state"], image["cause"]) for image in user.images()} == {("cancelled", "cancelled")}
    assert causes(user) == ["cancelled"] * 5


def test_more_files_than_the_quota_has_room_for(user, files):
    user.service.run("plan", user.subject, "--quota", "images=2")
    page = user.open()
    page.locator("#picker").set_input_files(files(3))
    notice = page.locator("#notice-text")
    expect(notice).to_contain_text("Not enough quota for 3 files: 2 of 2 images left.")
    expect(notice).to_contain_text("Nothing was sent.")
    expect_all(page, 3, "short")
    assert user.images() == []
    assert user.usage()["used"] == 0
    page.get_by_role("button", name="Upload the first 2").click()
    expect_all(page, 2, "completed")
    expect_all(page, 1, "short")
    assert user.usage()["committed"] == 2
    page.get_by_role("button", name="Retry 03.png").click()
    expect(notice).to_contain_text("Not enough quota for 1 file: 0 of 2 images left.")
    assert user.usage()["used"] == 2


def test_whose_quota_is_short_is_said_where_it_is_the_teams(user, files):
    team = f"{user.subject}'s team"
    user.service.run("plan", team, "--quota", "images=1")
    user.service.run("plan", user.subject, "--parent", team)
    page = user.open()
    page.locator("#picker").set_input_files(files(2))
    said = f"Not enough quota for 2 files: 1 of 1 image left for all of {team} together. Nothing was sent."
    expect(page.locator("#notice-text")).to_have_text(said)


def test_more_files_than_the_plan_takes_at_once(user, files):
    page = user.open()
    page.locator("#picker").set_input_files(files(23))
    expect(page.locator("#notice-text")).to_contain_text(
        "You chose 23 files; your plan takes up to 20 at once. Nothing has been sent yet."
    )
    expect_all(page, 23, "undecided")
    assert (user.images(), user.entries()) == ([], [])
    page.get_by_role("button", name="Upload in 2 batches").click()
    expect_all(page, 23, "completed")
    images = user.images()
    batches = [sum(image["reservationId"] == one for image in images) for one in {i["reservationId"] for i in images}]
    assert sorted(batches) == [3, 20]
    assert (user.usage()["committed"], user.usage()["held"]) == (23, 0)


@pytest.mark.parametrize("more", [1, 23])
def test_files_chosen_before_it_is_said_how_are_asked_about_with_the_others(user, more, files):
    page = user.open()
    notice = page.locator("#notice-text")
    page.locator("#picker").set_input_files(files(22))
    expect(notice).to_contain_text("You chose 22 files; your plan takes up to 20 at once.")
    page.locator("#picker").set_input_files(files(more))
    expect(notice).to_contain_text(f"You chose {22 + more} files; your plan takes up to 20 at once.")
    expect_all(page, 22 + more, "undecided")
    page.get_by_role("button", name="Cancel 22.png").first.click()
    expect(notice).to_contain_text(f"You chose {21 + more} files")
    page.get_by_role("button", name=f"Upload in {2 if more == 1 else 3} batches").click()
    expect(page.locator("#notice")).to_be_hidden()
    expect_all(page, 21 + more, "completed")
    assert (user.usage()["committed"], user.usage()["held"]) == (21 + more, 0)


def test_a_shortage_waits_until_it_is_said_how(user, files):
    user.service.run("plan", user.subject, "--quota", "images=2")
    page = user.open()
    asked = []
    page.route("**/api/images/preupload", lambda route: asked.append(route), times=1)  # noqa: PLW0108 - no builtin
    page.locator("#picker").set_input_files(files(3))
    user.wait_until(page, lambda: asked)
    page.locator("#picker").set_input_files(files(22))
    asked[0].continue_()
    expect_all(page, 3, "short")
    notice = page.locator("#notice-text")
    expect(notice).to_contain_text("You chose 22 files")
    page.get_by_role("button", name="Cancel 22.png").click()
    page.get_by_role("button", name="Cancel 21.png").click()
    expect(page.get_by_role("button", name="Only the first 20")).to_have_count(0)
    for n in range(1, 21):
        page.get_by_role("button", name=f"Cancel {n:02}.png").click()
    expect(notice).to_contain_text("Not enough quota for 3 files: 2 of 2 images left.")
    page.get_by_role("button", name="Upload the first 2").click()
    expect_all(page, 2, "completed")


def test_only_as_many_files_as_the_plan_takes_at_once(user, files):
    page = user.open()
    page.locator("#picker").set_input_files(files(22))
    page.get_by_role("button", name="Only the first 20").click()
    expect_all(page, 20, "completed")
    expect(page.locator("#uploads-count")).to_have_text("20 of 22 done, 2 not uploaded")
    expect(row(page, "21.png")).to_contain_text("Left out: more than your plan takes at once.")
    assert user.usage()["committed"] == 20
    page.get_by_role("button", name="Retry 21.png").click()
    expect_all(page, 21, "completed")
    expect(page.locator("#notice")).to_be_hidden()


def test_cancelling_what_is_being_processed(user, gate, files):
    page = user.open()
    page.locator("#picker").set_input_files(files(1))
    expect_state(page, "01.png", "processing")
    user.wait_until(page, gate.with_name("begun-1").exists)
    assert user.usage()["held"] == 1
    page.get_by_role("button", name="Cancel 01.png").click()
    expect_state(page, "01.png", "cancelled")
    assert user.usage()["used"] == 0
    gate.unlink()
    user.wait_until(page, lambda: user.images()[0]["state"] == "cancelled")
    assert causes(user) == ["cancelled"]


def test_cancelling_all(user, slow_uploads, files):
    page = user.open()
    slow_uploads(page)
    page.locator("#picker").set_input_files(files(6, LARGE_PNG))
    user.wait_until(page, lambda: len(user.images()) == 6)
    page.get_by_role("button", name="Cancel all").click()
    expect_all(page, 6, "cancelled")
    assert user.usage()["used"] == 0
    assert causes(user) == ["cancelled"] * 6
    page.get_by_role("button", name="Clear finished").click()
    expect(page.locator("#uploads")).to_be_hidden()
