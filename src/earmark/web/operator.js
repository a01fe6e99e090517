/** The operator's view: whose quota is where, since when and why, what can be done about it, and how the background is. */

import { Chart } from "./charts.js";
import { EarmarkClient, isTransient } from "./client.js";
import { element, find, setText, show } from "./dom.js";
import { showStatus } from "./health.js";
import { HistoryView } from "./history.js";
import { HoldsView, nameOf } from "./holds.js";
import { SERVICE, currentToken, showContent, showSignIn, takeToken, whyNotSignedIn } from "./session.js";
import { Meters } from "./usage.js";
import { amounts, CAUSE_ORDER, causeWord, moment, number, resourceName } from "./words.js";

const REFRESH_MS = 10_000;
const CHARTS_MS = 60_000;
const SEARCH_AFTER_MS = 250;
const FOUND_MAX = 20;
const TITLE = document.title;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const RANGES = [
  [1, "24 hours"],
  [7, "7 days"],
  [30, "30 days"],
  [90, "90 days"],
  [365, "year"],
];

const client = new EarmarkClient({ baseUrl: SERVICE });
const holds = new HoldsView({ rollBack, extend });
const useChart = new Chart(find("use-chart"));
const rollbacksChart = new Chart(find("rollbacks-chart"));
let subject = null;
let explanation = null;
let movements = new HistoryView({ actors: true });
let filenames = new Map();
let levels = new Map();
let older = null;
let searches = 0;
let searchTimer = null;
let chartsAt = 0;

/** Everything that is shown, anew; the charts less often, and not while somebody looks into one. */
async function refresh() {
  const charts = Date.now() - chartsAt > CHARTS_MS && !document.querySelector(".chart:is(:hover, :focus-within)");
  if (charts) chartsAt = Date.now();
  try {
    await Promise.all([
      refreshStatus(),
      charts && refreshRollbacks(),
      subject !== null && refreshSubject(subject, { chart: charts }),
    ]);
    showContent(find("part"));
  } catch (error) {
    showTrouble(error);
  }
}

async function refreshStatus() {
  showStatus(await client.get("/api/admin/status"));
}

async function refreshRollbacks() {
  const days = find("rollbacks-days");
  const { step, rollbacks } = await client.get("/api/admin/rollbacks", { days: days.value });
  const seen = CAUSE_ORDER.filter((cause) => rollbacks.some((bar) => bar.causes[cause]));
  const range = days.selectedOptions[0].text;
  if (seen.length === 0) return rollbacksChart.showNothing(`Nothing was rolled back in the last ${range}.`);
  const bars = rollbacks.map(({ at, causes }) => ({ at, parts: causes }));
  const sum = bars.reduce((total, bar) => total + Object.values(bar.parts).reduce((one, more) => one + more, 0), 0);
  const summary = `${sum.toLocaleString()} ${sum === 1 ? "item" : "items"} rolled back in the last ${range}, by ${step} and cause.`;
  rollbacksChart.showBars(bars, { kinds: seen.map((cause) => [cause, causeWord(cause)]), step, summary });
}

async function refreshSubject(name, { chart = true } = {}) {
  const told = await client.get("/api/quota/explain", { subject: name });
  if (name !== subject) return;
  const opened = explanation === null;
  const changed = told.changes[0]?.seq !== explanation?.changes[0]?.seq;
  explanation = told;
  showLevels(told.levels);
  holds.show(told.open, told.openTotal, name);
  for (const { seq, filename } of told.changes) filenames.set(seq, filename);
  if (opened) show(find("more-history"), told.changes.length > 0 && told.changes.at(-1).seq > 1);
  showEntries(told.changes);
  showSentences(find("sentences"), told.sentences);
  showSentences(find("configured-sentences"), told.configured.map((one) => one.sentence));
  show(find("configured"), told.configured.length > 0);
  if (chart || changed) await refreshUse(name);
}

/** Left alone while they stay the same: somebody may be copying them. */
function showSentences(list, sentences) {
  const shown = [...list.children].map((line) => line.textContent);
  if (shown.join("\n") === sentences.join("\n")) return;
  list.replaceChildren(...sentences.map((sentence) => element("li", {}, sentence)));
}

async function refreshUse(name) {
  const [days, resources] = [find("use-days"), find("use-resource")];
  const told = await client.get("/api/admin/use", { subject: name, days: days.value });
  if (name !== subject) return;
  const named = Object.keys(told.resources);
  for (const id of ["use-of", "use-since"]) show(find(id), named.length > 0);
  if (named.length === 0) return useChart.showNothing("Nothing has been used yet.");
  if (named.join() !== [...resources.options].map((option) => option.value).join()) {
    fill(
      resources,
      named.map((one) => [one, resourceName(one)]),
    );
  }
  const resource = resources.value;
  const points = told.resources[resource];
  const limit = explanation.levels[0].resources[resource]?.quota_limit;
  const now = points.at(-1);
  const format = (value) => number(resource, value);
  const most = Math.max(...points.map((point) => point.committed + point.held));
  const summary = `${resourceName(resource)}: ${format(now.committed)} committed and ${format(now.held)} held now, at most ${format(most)} in the last ${days.selectedOptions[0].text}.`;
  useChart.showUse(points, { limit, format, summary });
}

function showLevels(told) {
  const names = told.map((level) => level.subject);
  if (names.join("\n") !== [...levels.keys()].join("\n")) {
    levels = new Map();
    find("levels").replaceChildren();
    for (const name of names) {
      const place = element("div", { className: "meters" });
      const above = name === subject ? [] : [element("h3", { className: "name" }, `Counts with ${name}, too`)];
      find("levels").append(element("div", { className: "panel level" }, ...above, place));
      levels.set(name, new Meters(place));
    }
  }
  for (const level of told) levels.get(level.subject).show(level.resources);
  setText(find("subject-plan"), `${told[0].tier} plan`);
}

function showEntries(entries) {
  movements.show(entries, (entry) => filenames.get(entry.seq) ?? null);
}

async function showOlder() {
  const page = await client.get("/api/quota/history", { subject, cursor: older });
  older = page.nextCursor;
  showEntries(page.entries);
  show(find("more-history"), Boolean(older), find("history-heading"));
}

/** Opens a subject, or, with null, closes the one that is open. The address tells which it is. */
async function open(name, { focus = true } = {}) {
  subject = name;
  movements = new HistoryView({ actors: true });
  filenames = new Map();
  levels = new Map();
  older = null;
  holds.clear();
  find("levels").replaceChildren();
  say("");
  const address = new URL(location.href);
  if (name) address.searchParams.set("subject", name);
  else address.searchParams.delete("subject");
  history.replaceState(null, "", address);
  show(find("subject"), name !== null, find("part"));
  show(find("found"), false);
  show(find("story"), false);
  setText(find("found-count"), "");
  setText(find("subject-heading"), name ?? "");
  document.title = name === null ? TITLE : `${name} · ${TITLE}`;
  show(find("more-history"), false);
  explanation = null;
  if (name === null) return;
  if (focus) find("subject-heading").focus();
  await act(() => refreshSubject(name));
}

async function search({ openExact = false } = {}) {
  clearTimeout(searchTimer);
  const ours = (searches += 1);
  const part = find("part").value.trim();
  show(find("found"), false);
  show(find("story"), false);
  if (!part) return setText(find("found-count"), "");
  const { subjects } = await client.get("/api/admin/subjects", { like: part, limit: FOUND_MAX + 1 });
  const story = UUID.test(part) ? await storyOf(part) : null;
  if (ours !== searches) return;
  if (openExact && subjects[0]?.subject === part) return open(part);
  if (story) return showStory(part, story);
  const shown = subjects.slice(0, FOUND_MAX);
  const exact = `${shown.length} ${shown.length === 1 ? "subject" : "subjects"} found.`;
  const count = subjects.length > FOUND_MAX ? `The first ${FOUND_MAX} of more. Type more of the name.` : exact;
  setText(find("found-count"), shown.length ? count : `Nobody’s name contains “${part}”.`);
  find("found").replaceChildren(...shown.map(foundRow));
  show(find("found"), shown.length > 0);
}

async function storyOf(id) {
  try {
    return await client.get("/api/quota/explain", { id });
  } catch (error) {
    if (error.status !== 404) throw error;
    return null;
  }
}

function showStory(id, story) {
  setText(find("found-count"), "A reservation or image of this id was found.");
  setText(find("story-heading"), `What became of ${id}`);
  showSentences(find("story-sentences"), story.sentences);
  show(find("story"), true);
  find("found").replaceChildren(foundRow({ subject: story.subject, plan: null }));
  show(find("found"), true);
}

function foundRow({ subject: name, plan, parent }) {
  const button = element(
    "button",
    { type: "button" },
    element("strong", { className: "name" }, name),
    element("span", { className: "note" }, plan ? `${plan} plan${parent ? `, under ${parent}` : ""}` : "whose it is"),
  );
  button.onclick = () => open(name);
  return element("li", {}, button);
}

async function rollBack(hold, reason) {
  const about = hold.imageId
    ? { imageIds: [hold.imageId] }
    : { reservationId: hold.reservationId, items: [hold.item] };
  await actOn(hold, async () => {
    const body = { ...about, subject: hold.owner, cause: "admin", reason };
    const { rolledBack } = await client.post("/api/quota/rollback", body);
    return `${nameOf(hold)} is rolled back: ${amounts(rolledBack)} came back.`;
  });
}

async function extend(hold, ttlSeconds, reason) {
  const path = `/api/reservations/${hold.reservationId}/extend?${new URLSearchParams({ subject: hold.owner })}`;
  await actOn(hold, async () => {
    const { items } = await client.post(path, { ttlSeconds, items: [hold.item], reason });
    const until = items[hold.item].expiresAt;
    if (until === hold.expiresAt) return `${nameOf(hold)} is held for longer than that already. Nothing was changed.`;
    return `${nameOf(hold)} is held until ${moment(until)}, unless it is settled before.`;
  });
}

/** What was done, or why it could not be done, is said where it was asked for. */
async function actOn(hold, action) {
  try {
    say(await action());
  } catch (error) {
    if (error.status === 401 || error.status === 403) return showTrouble(error);
    say(`${nameOf(hold)}: ${error.message}`, true);
  }
  await act(() => refreshSubject(subject));
}

function say(text, refused = false) {
  show(find("done-close"), text !== "", find("holds-heading"));
  find("done").parentElement.classList.toggle("refused", refused);
  setText(find("done"), text);
}

async function act(action) {
  try {
    await action();
  } catch (error) {
    showTrouble(error);
  }
}

function showTrouble(error) {
  if (error.status === 401) return showSignIn(whyNotSignedIn());
  if (error.status === 403) return showSignIn("You are signed in as a user.");
  show(find("loading"), false);
  if (error.status === 404 && subject !== null) open(null);
  setText(find("connection"), isTransient(error) ? "The service is not answering. Trying again…" : error.message);
}

function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => element("option", { value, selected: value === chosen }, text)));
}

function wire() {
  for (const id of ["use-days", "rollbacks-days"]) fill(find(id), RANGES, 30);
  for (const id of ["use-days", "use-resource"]) find(id).onchange = () => act(() => refreshUse(subject));
  find("rollbacks-days").onchange = () => act(refreshRollbacks);
  find("done-close").onclick = () => say("");
  find("close").onclick = () => open(null);
  find("more-history").onclick = () => act(showOlder);
  find("search").onsubmit = (event) => {
    event.preventDefault();
    act(() => search({ openExact: true }));
  };
  find("part").oninput = () => {
    clearTimeout(searchTimer);
    searchTimer = setTimeout(() => act(search), SEARCH_AFTER_MS);
  };
  window.addEventListener("hashchange", () => takeToken() && location.reload());
  document.addEventListener("visibilitychange", () => !document.hidden && refresh());
  setInterval(() => !document.hidden && !find("act").open && find("sign-in").hidden && refresh(), REFRESH_MS);
}

takeToken();
client.token = currentToken();
wire();
await refresh();
const asked = new URLSearchParams(location.search).get("subject");
if (asked && find("sign-in").hidden) await open(asked, { focus: false });
