/** What holds a subject's quota now, and the two things that an operator can do about it, each for a reason. */

import { arrange, element, find, show } from "./dom.js";
import { amounts, fromNow, isolated, moment, stateWord } from "./words.js";

const FEW = 10;

export class HoldsView {
  #rows = new Map();
  #handlers;
  #all = false;
  #draw = () => {};

  /** `handlers`: rollBack(hold, reason) and extend(hold, seconds, reason). */
  constructor(handlers) {
    this.#handlers = handlers;
    find("holds-all").onclick = () => {
      this.#all = true;
      this.#draw();
    };
  }

  /** The oldest few, so that what stands below is not far away; all that are known, once that is asked for. */
  show(known, total, subject) {
    this.#draw = () => this.show(known, total, subject);
    const holds = this.#all ? known : known.slice(0, FEW);
    const rest = known.length - holds.length;
    show(find("holds-all"), rest > 0, find("holds-heading"));
    find("holds-all").textContent = `Show ${rest.toLocaleString()} more`;
    const wanted = holds.map((hold) => this.#row(hold, subject));
    const open = new Set(known.map(keyOf));
    for (const key of [...this.#rows.keys()]) if (!open.has(key)) this.#rows.delete(key);
    arrange(find("holds"), wanted, find("holds-heading"));
    show(find("holds"), holds.length > 0, find("holds-heading"));
    show(find("holds-empty"), holds.length === 0);
    const more = total - holds.length;
    show(find("holds-more"), more > 0);
    find("holds-more").textContent = `The oldest ${holds.length} of ${total.toLocaleString()}.`;
  }

  clear() {
    this.#all = false;
    this.#rows.clear();
    find("holds").replaceChildren();
  }

  #row(hold, subject) {
    const key = keyOf(hold);
    if (!this.#rows.has(key)) this.#rows.set(key, this.#make(hold));
    const { node, about, deadline } = this.#rows.get(key);
    about.replaceChildren(...facts(hold, subject));
    deadline.classList.toggle("overdue", hold.overdue);
    const at = element("time", { dateTime: hold.expiresAt }, `${moment(hold.expiresAt)} (${fromNow(hold.expiresAt)})`);
    const before = hold.overdue ? "Overdue since " : "Comes back ";
    const after = hold.overdue ? ": comes back at the next sweep, or when somebody needs it" : " unless it is settled before";
    deadline.replaceChildren(before, at, after);
    return node;
  }

  #make(hold) {
    const name = nameOf(hold);
    const about = element("div");
    const deadline = element("p", { className: "deadline" });
    const button = (text, ask) => {
      const made = element("button", { type: "button", "aria-label": `${text} ${name}` }, text);
      made.onclick = () => ask(hold, this.#handlers);
      return made;
    };
    const node = element(
      "li",
      { className: "hold" },
      element("strong", { className: "name" }, name),
      about,
      deadline,
      element("div", { className: "bar-of-buttons" }, button("Extend", askToExtend), button("Roll back", askToRollBack)),
    );
    return { node, about, deadline };
  }
}

function keyOf(hold) {
  return `${hold.reservationId}/${hold.item}`;
}

export function nameOf(hold) {
  return isolated(hold.filename ?? `Item ${hold.item}`);
}

function facts(hold, subject) {
  const by = hold.by && hold.by !== hold.owner ? `, reserved by ${hold.by}` : "";
  const whose = hold.owner === subject ? "" : `, of ${hold.owner}`;
  const state = hold.imageState ? `${stateWord(hold.imageState)} · ` : "";
  const facts = [
    element("p", {}, `${amounts(hold.amounts)} held since ${moment(hold.since)}${whose}${by}`),
    element("p", { className: "note id" }, `${state}reservation ${hold.reservationId}`),
  ];
  if (hold.earlierPeriod) facts.push(element("p", { className: "note" }, "Counts in a period that is over."));
  return facts;
}

function askToRollBack(hold, { rollBack }) {
  const text = `${amounts(hold.amounts)} of ${hold.owner} come back at once, and what they were held for ends.`;
  ask({ heading: `Roll back ${nameOf(hold)}?`, text, word: "Roll back", danger: true }, (reason) =>
    rollBack(hold, reason),
  );
}

function askToExtend(hold, { extend }) {
  const text = `It comes back ${moment(hold.expiresAt)} now. A deadline is never moved to an earlier time.`;
  ask({ heading: `Extend ${nameOf(hold)}`, text, word: "Extend", timed: true }, (reason, seconds) =>
    extend(hold, seconds, reason),
  );
}

function ask({ heading, text, word, danger = false, timed = false }, act) {
  const dialog = find("act");
  const reason = find("act-reason");
  find("act-heading").textContent = heading;
  find("act-text").textContent = text;
  find("act-do").textContent = word;
  find("act-do").classList.toggle("danger", danger);
  find("act-time").hidden = !timed;
  reason.value = "";
  dialog.returnValue = "";
  reason.oninput = () => reason.setCustomValidity(reason.value.trim() ? "" : "Say why, for whoever reads the journal.");
  reason.oninput();
  dialog.onclose = () => dialog.returnValue === "do" && act(reason.value.trim(), Number(find("act-seconds").value));
  dialog.showModal();
  (timed ? find("act-seconds") : reason).focus();
}
