/** The usage bars: one per resource, committed and held apart. */

import { element, find, setText } from "./dom.js";
import { amount, dayAndMonth, number, resourceName } from "./words.js";

export class UsageView {
  #meters = new Meters(find("meters"));

  show(usage) {
    setText(find("account"), `${usage.subject} · ${usage.tier} plan`);
    find("account").title = usage.subject;
    this.#meters.show(usage.resources);
  }
}

/** A bar for each resource, in this place. */
export class Meters {
  #meters = new Map();
  #place;

  constructor(place) {
    this.#place = place;
  }

  show(resources) {
    for (const [resource, balance] of Object.entries(resources)) {
      if (!this.#meters.has(resource)) this.#add(resource);
      this.#meters.get(resource)(balance);
    }
  }

  #add(resource) {
    const headline = element("p", { className: "headline" });
    const committed = element("span", { className: "committed" });
    const held = element("span", { className: "held" });
    const bar = element("div", { className: "bar", role: "meter", "aria-label": `${resourceName(resource)} used` });
    bar.append(committed, held);
    const details = element("p", { className: "details" });
    const warning = element("p", { className: "bad" });
    const heading = element("h3", {}, resourceName(resource));
    const meter = element("div", { className: "meter" }, heading, headline, bar, details, warning);
    this.#place.append(meter);
    this.#meters.set(resource, (balance) => {
      const unlimited = balance.quota_limit < 0;
      const scale = Math.max(balance.quota_limit, balance.used, 1);
      committed.style.width = `${(100 * balance.committed) / scale}%`;
      held.style.width = `${(100 * balance.held) / scale}%`;
      committed.classList.toggle("some", balance.committed > 0);
      held.classList.toggle("some", balance.held > 0);
      bar.hidden = unlimited;
      meter.classList.toggle("over", balance.over_by > 0);
      bar.setAttribute("aria-valuemax", scale);
      bar.setAttribute("aria-valuenow", balance.used);
      bar.setAttribute("aria-valuetext", `${inWords(resource, balance)}, ${amount(resource, balance.held)} held`);
      headline.replaceChildren(element("strong", {}, number(resource, balance.used)), ` ${ofHowMuch(resource, balance)}`);
      details.replaceChildren(...parts(resource, balance));
      warning.hidden = !(balance.over_by > 0);
      if (balance.over_by > 0) {
        const over = amount(resource, balance.over_by);
        setText(warning, `${over} over the limit. Nothing is lost; new uploads have to wait.`);
      }
    });
  }
}

function inWords(resource, balance) {
  return `${number(resource, balance.used)} ${ofHowMuch(resource, balance)}`;
}

function ofHowMuch(resource, { used, quota_limit: limit }) {
  if (limit >= 0) return `of ${amount(resource, limit)} used`;
  const unit = resource.endsWith("_bytes") ? "" : `${amount(resource, used).split(" ").slice(1).join(" ")} `;
  return `${unit}used, no limit`;
}

function parts(resource, balance) {
  const shown = [
    element("span", { className: "key committed" }, `${number(resource, balance.committed)} committed`),
    element("span", { className: "key held" }, `${number(resource, balance.held)} held`),
  ];
  if (balance.quota_limit >= 0) shown.push(element("span", {}, `${number(resource, balance.remaining)} left`));
  if (balance.period_end) {
    const reset = element("time", { dateTime: balance.period_end }, dayAndMonth(balance.period_end));
    shown.push(element("span", {}, "Starts again on ", reset));
  }
  return shown;
}
