/** The log of quota movements. Entries that one event wrote (several resources, several files) are one line. */

import { element, find } from "./dom.js";
import { amount, moment, movementWord, signedAmount } from "./words.js";

export class HistoryView {
  #entries = new Map();
  #actors;

  /** `actors`: whether each line says who did it. */
  constructor({ actors = false } = {}) {
    this.#actors = actors;
  }

  /** `nameOf(entry)`: the file that an entry is about, or null where it is not known. */
  show(entries, nameOf) {
    for (const entry of entries) this.#entries.set(entry.seq, entry);
    const ordered = [...this.#entries.values()].sort((left, right) => right.seq - left.seq);
    const lines = events(ordered).map((entries) => line(entries, nameOf, this.#actors));
    find("history").tBodies[0].replaceChildren(...lines);
    find("history").hidden = lines.length === 0;
    find("history-empty").hidden = lines.length > 0;
  }
}

function events(entries) {
  const found = [];
  for (const entry of entries) {
    const identity = [entry.kind, entry.cause, entry.reservationId, entry.at.slice(0, 19), entry.reason, entry.actor].join("|");
    if (found.at(-1)?.identity === identity) found.at(-1).entries.push(entry);
    else found.push({ identity, entries: [entry] });
  }
  return found.map((event) => event.entries);
}

function line(entries, nameOf, actors) {
  const [{ at, kind, cause, reason, actor }] = entries;
  const time = () => element("time", { dateTime: at, title: new Date(at).toLocaleString() }, moment(at));
  const what = element(
    "td",
    { className: "what" },
    element("span", { className: "movement" }, movementWord(kind, cause)),
  );
  const items = [...new Set(entries.map((entry) => entry.item).filter(Boolean))];
  const named = items.length === 1 ? nameOf(entries[0]) : items.length > 1 && amount("images", items.length);
  if (named) what.append(element("span", { className: "note name" }, named));
  if (reason) what.append(element("span", { className: "note" }, reason));
  if (actors) what.append(element("span", { className: "note name" }, `by ${actor}`));
  what.append(element("span", { className: "note when-inline" }, time()));
  return element(
    "tr",
    {},
    element("td", { className: "when" }, time()),
    what,
    deltas(entries, "held"),
    deltas(entries, "committed"),
  );
}

function deltas(entries, column) {
  const sums = new Map();
  for (const entry of entries) sums.set(entry.resource, (sums.get(entry.resource) ?? 0) + entry[column]);
  const shown = [...sums].filter(([, sum]) => sum !== 0).sort();
  const cell = element("td", { className: "delta" });
  for (const [resource, sum] of shown) cell.append(element("span", {}, signedAmount(resource, sum)));
  if (shown.length === 0) cell.append(element("span", { className: "none" }, "none"));
  return cell;
}
