/** The usage bars: one per resource, committed and held apart. */

import { element, find, setText } from "./dom.js";
import { amount, dayAndMonth, number, resourceName } from "./words.js";

export class UsageView {
  #meters = new Map();

  show(usage) {
    setText(find("account"), `${usage.subject} · ${usage.tier} plan`);
    find("account").title = usage.subject;
    for (const [resource, balance] of Object.entries(usage.resources)) {
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
    find("meters").append(meter);
    this.#meters.set(resource, (balance) => {
      const unlimited = balance.quota_limit < 0;
      const scale = Math.max(balance.quota_limit, balance.used, 1);
      committed.style.width = `${(100 * balance.committed) / scale}%`;
      held.style.width = `${(100 * balance.held) / scale}%`;
      bar.hidden = unlimited;
      meter.classList.toggle("over", balance.over_by > 0);
      bar.setAttribute("aria-valuemax", scale);
      bar.setAttribute("aria-valuenow", balance.used);
      bar.setAttribute("aria-valuetext", `${inWords(resource, balance)}, ${amount(resource, balance.held)} held`);
      setText(headline, inWords(resource, balance));
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
  const used = number(resource, balance.used);
  if (balance.quota_limit < 0) return `${amount(resource, balance.used)} used, no limit`;
  return `${used} of ${amount(resource, balance.quota_limit)} used`;
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
