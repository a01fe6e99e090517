/** How the background is doing: a tile for each thing to watch, and a word for all of it. */

import { element, find, setText } from "./dom.js";
import { fromNow } from "./words.js";

const PATIENCE_MS = 120_000;

export function showStatus(status) {
  const tiles = [
    backlog("Overdue holds", status.overdueHolds),
    backlog("Overdue images", status.overdueImages),
    backlog("Set aside", status.setAside),
    failures(status.failedRollbacks),
    queue(status.queue),
    workers(status.queue),
    sweeper(status.duties.sweep),
    books(Object.entries(status.checks)),
    otherDuties(Object.entries(status.duties).filter(([name]) => name !== "sweep")),
  ];
  find("status").replaceChildren(...tiles.map(({ node }) => node));
  const concerns = tiles.filter(({ attention }) => attention).length;
  const word = concerns ? `${concerns} ${concerns === 1 ? "thing needs" : "things need"} attention.` : "All is well.";
  setText(find("status-word"), word);
}

function tile(name, value, details, attention) {
  const shown = details.filter(Boolean).map((text) => element("dd", {}, text));
  const word = element("dd", {}, ...(attention ? marked(value) : [value]));
  const className = `tile-of-status${attention ? " attention" : ""}`;
  return { attention, node: element("div", { className }, element("dt", {}, name), word, ...shown) };
}

/** Not by its colour alone. */
function marked(value) {
  const mark = element("span", { "aria-hidden": "true" }, "\u26a0\ufe0e ");
  return [mark, element("span", { className: "unseen" }, "Needs attention: "), value];
}

/** What is overdue comes back with the next sweep; only what stays is worth a look. */
function backlog(name, { count, oldest, error }) {
  const stays = count > 0 && (Boolean(error) || Date.now() - Date.parse(oldest) > PATIENCE_MS);
  return tile(name, count ? count.toLocaleString() : "None", [count && oldest && `Oldest: ${fromNow(oldest)}`, error], stays);
}

function failures({ count, open, last, error }) {
  const value = count ? `${open.toLocaleString()} open of ${count.toLocaleString()}` : "None";
  return tile("Failed rollbacks, 30 days", value, [last && `Last: ${fromNow(last)}`, error], open > 0);
}

function queue({ waiting, scheduled, running, oldest }) {
  const stays = waiting > 0 && oldest && Date.now() - Date.parse(oldest) > PATIENCE_MS;
  const more = [`${running.toLocaleString()} running, ${scheduled.toLocaleString()} scheduled`];
  return tile("Queue", `${waiting.toLocaleString()} waiting`, [...more, oldest && `Oldest: ${fromNow(oldest)}`], stays);
}

function workers({ workersAlive, workerSeenAt }) {
  const seen = workerSeenAt ? `Last seen ${fromNow(workerSeenAt)}` : "None was ever seen";
  return tile("Workers", `${workersAlive.toLocaleString()} alive`, [seen], workersAlive === 0);
}

function sweeper({ state, ranAt, error }) {
  const words = { ok: "Runs", late: "Late: is a worker running?", failing: "Fails" };
  const ran = ranAt ? `Last run ${fromNow(ranAt)}` : "Never ran";
  return tile("Sweeper", words[state], [ran, state === "failing" && error], state !== "ok");
}

/** A difference is found again by the command of the check's name. */
function books(checks) {
  const found = checks.filter(([, { findings }]) => findings > 0);
  const value = found.length ? "Do not agree" : "Agree";
  const details = checks.map(([name, { findings, at }]) => {
    const said = findings ? `${findings.toLocaleString()} found by earmark ${name}` : `earmark ${name}: all well`;
    return `${said}, ${fromNow(at)}`;
  });
  return tile("Books", checks.length ? value : "Not checked yet", details, found.length > 0);
}

function otherDuties(duties) {
  const failing = duties.filter(([, { state }]) => state !== "ok");
  const value = failing.length ? `${failing.length} of ${duties.length} fail` : `All ${duties.length} run`;
  const errors = failing.map(([name, { error }]) => `${name.replaceAll("_", " ")}: ${error}`);
  return tile("Other duties", duties.length ? value : "None has run yet", errors, failing.length > 0);
}
