"""The page on a network that loses and delays, under a user who clicks about: in the end it says what the API says."""

import os

import pytest
from playwright.sync_api import expect

from fixtures.pictures import picture

pytestmark = pytest.mark.browser

FIRST = int(os.environ.get("EARMARK_ROUGH_SEED", "1"))
RUNS = int(os.environ.get("EARMARK_ROUGH_RUNS", "2"))
PNG = picture(32, 24, "PNG")
CUT = picture()[:-200]
FILES = [
    {"name": f"{number:02}.png", "mimeType": "image/png", "buffer": CUT if number % 5 == 0 else PNG}
    for number in range(24)
]
CLICKING_MS = 4_000
WEATHER = """(() => {
  let seed = SEED;
  const random = () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;
  const pause = () => new Promise((done) => setTimeout(done, random() * (random() < 0.2 ? 1500 : 30)));
  const lost = () => random() < 0.04;
  const cutOff = ({ body, status, headers }) => {
    const start = (events) => setTimeout(() => events.error(new TypeError("cut off")), 300 + 3000 * random());
    return new Response(body.pipeThrough(new TransformStream({ start })), { status, headers });
  };
  const ask = window.fetch;
  window.fetch = async (address, options) => {
    if (String(address).includes("/api/events")) return cutOff(await ask(address, options));
    await pause();
    if (lost()) throw new TypeError("lost on the way there");
    const response = await ask(address, options);
    await response.clone().arrayBuffer();
    await pause();
    if (lost()) throw new TypeError("lost on the way back");
    return response;
  };
  window.clickAbout = (milliseconds) => new Promise((done) => {
    const timer = setInterval(() => {
      const buttons = [...document.querySelectorAll("#upload-list button:not([hidden])")];
      if (random() < 0.3) buttons[Math.floor(random() * buttons.length)]?.click();
    }, 50);
    setTimeout(() => (clearInterval(timer), done(true)), milliseconds);
  });
})()"""


def shown(page):
    rows = "rows => rows.map((row) => [row.querySelector('.name').textContent, row.dataset.state])"
    return dict(page.locator("#upload-list > li").evaluate_all(rows))


def said(user, page):
    """By the API, of the latest image of each name: a retry makes another; and of what was never sent, by the page."""
    unsent = {name: state for name, state in shown(page).items() if state in {"cancelled", "unsent"}}
    images = user.images()
    return unsent | {image["filename"]: image["state"] for image in reversed(images)}


@pytest.mark.parametrize("seed", range(FIRST, FIRST + RUNS))
def test_in_the_end_the_page_says_what_the_api_says(user, seed):
    page = user.open("about:blank")
    page.add_init_script(WEATHER.replace("SEED", str(seed)))
    page.goto(user.link)
    page.locator("#picker").set_input_files(FILES)
    page.get_by_role("button", name="Upload in 2 batches").click()
    page.evaluate(f"clickAbout({CLICKING_MS})")
    over = page.get_by_text("Cancel", exact=True)
    expect(page.locator("#upload-list").filter(has=over)).to_have_count(0)
    user.wait_until(page, lambda: shown(page) == said(user, page))
    assert user.usage()["held"] == 0
    assert user.usage()["committed"] == [image["state"] for image in user.images()].count("completed")
    user.take_troubles()
