/**
 * Charts as SVG, as wide as their place. Each says in a sentence what it shows, and has the same figures as a table,
 * for those who do not see it, and for those who want them.
 */

import { element } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 220;
const MARGIN = { top: 14, right: 8, bottom: 24, left: 56 };
const HOUR_MS = 3_600_000;
const TICK_WIDTH = 90;

export class Chart {
  #place;
  #draw = () => {};
  #width = 0;

  constructor(place) {
    this.#place = place;
    new ResizeObserver(() => {
      if (place.clientWidth && place.clientWidth !== this.#width) this.#draw();
    }).observe(place);
  }

  /** Committed and held use at `points` ({at, committed, held}), above each other, under the limit, if there is one. */
  showUse(points, { limit, format, summary }) {
    const highest = Math.max(...points.map((point) => point.committed + point.held), 0);
    const shown = limit != null && limit >= 0 && limit <= highest * 4 ? limit : null;
    const rows = points.map((point) => [when(point.at), format(point.committed), format(point.held)]);
    const legend = [key("committed", "Committed"), key("swatch-held", "Held")];
    if (shown != null) legend.push(key("swatch-limit", `Limit now: ${format(limit)}`));
    this.#show({
      summary,
      legend,
      head: ["When", "Committed", "Held"],
      rows: thinned(rows),
      paint: (frame) => {
        const y = frame.axisY(Math.max(highest, shown ?? 0), format);
        const x = frame.axisX(points[0].at, points.at(-1).at);
        const top = (point) => y(point.committed + point.held);
        frame.area("area-held", points.map((point) => [x(point.at), top(point), y(point.committed)]));
        frame.area("area-committed", points.map((point) => [x(point.at), y(point.committed), y(0)]));
        if (shown != null) frame.line("limit", [frame.left, y(limit), frame.right, y(limit)]);
        frame.follow(points.map((point) => x(point.at)), (index) => rows[index], ["committed", "held"]);
      },
    });
  }

  /** A bar for each of `bars` ({at, parts}), in layers of `kinds` ([[kind, word]]); `step` is "hour" or "day". */
  showBars(bars, { kinds, step, summary }) {
    const format = (value) => value.toLocaleString();
    const total = (bar) => kinds.reduce((sum, [kind]) => sum + (bar.parts[kind] ?? 0), 0);
    const sums = kinds.map(([kind]) => bars.reduce((sum, bar) => sum + (bar.parts[kind] ?? 0), 0));
    const label = (bar) => (step === "day" ? utcDay(bar.at) : when(bar.at));
    const rows = bars.map((bar) => [label(bar), ...kinds.map(([kind]) => format(bar.parts[kind] ?? 0))]);
    const words = kinds.map(([, word]) => word);
    const lowered = words.map((word) => word.toLowerCase());
    this.#show({
      summary,
      legend: kinds.map(([kind, word], index) => key(`cause-${kind}`, `${word}: ${format(sums[index])}`)),
      head: [step === "day" ? "Day (UTC)" : "Hour from", ...words],
      rows: rows.filter((_, index) => total(bars[index]) > 0),
      paint: (frame) => {
        const y = frame.axisY(Math.max(...bars.map(total), 1), format);
        const width = (frame.right - frame.left) / bars.length;
        const x = (index) => frame.left + index * width;
        frame.labelsX(bars.map((bar, index) => [x(index) + width / 2, step === "day" ? utcDay(bar.at) : hour(bar.at)]));
        bars.forEach((bar, index) => {
          let base = 0;
          for (const [kind] of kinds) {
            const value = bar.parts[kind] ?? 0;
            if (value) frame.bar(`cause-${kind}`, x(index), y(base + value), width, y(base) - y(base + value));
            base += value;
          }
        });
        frame.follow(bars.map((_, index) => x(index) + width / 2), (index) => rows[index], lowered, true);
      },
    });
  }

  /** Where there is nothing to draw. */
  showNothing(text) {
    this.#draw = () => {};
    this.#place.replaceChildren(element("p", { className: "note" }, text));
  }

  #show({ summary, legend, head, rows, paint }) {
    const open = this.#place.querySelector("details")?.open ?? false;
    const canvas = element("div");
    const readout = element("p", { className: "readout note", "aria-hidden": "true" }, summary);
    const table = element(
      "details",
      { open },
      element("summary", {}, "As a table"),
      element("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": summary }, tableOf(head, rows)),
    );
    this.#place.replaceChildren(readout, canvas, element("div", { className: "legend" }, ...legend), table);
    this.#draw = () => {
      this.#width = this.#place.clientWidth;
      const frame = new Frame(canvas.clientWidth, summary, readout);
      paint(frame);
      canvas.replaceChildren(frame.svg);
    };
    if (this.#place.clientWidth) this.#draw();
  }
}

class Frame {
  constructor(width, summary, readout) {
    this.left = MARGIN.left;
    this.right = Math.max(width - MARGIN.right, MARGIN.left + 50);
    this.top = MARGIN.top;
    this.bottom = HEIGHT - MARGIN.bottom;
    this.readout = readout;
    this.summary = summary;
    this.svg = made("svg", { width: this.right + MARGIN.right, height: HEIGHT, role: "img", "aria-label": summary });
  }

  /** Draws the scale; the function from a value to its place. */
  axisY(highest, format) {
    const step = niceStep(Math.max(highest, 1) / 3);
    const top = Math.ceil(Math.max(highest, 1) / step) * step;
    const y = (value) => this.bottom - ((this.bottom - this.top) * value) / top;
    for (let value = 0; value <= top; value += step) {
      this.line("grid", [this.left, y(value), this.right, y(value)]);
      this.#text(format(value), this.left - 8, y(value) + 4, "end");
    }
    return y;
  }

  axisX(from, to) {
    const [start, end] = [Date.parse(from), Date.parse(to)];
    const x = (at) => this.left + ((this.right - this.left) * (Date.parse(at) - start)) / (end - start || 1);
    const hours = fittingHours((end - start) / HOUR_MS, (this.right - this.left) / TICK_WIDTH);
    const at = new Date(start);
    at.setHours(0, 0, 0, 0);
    for (; at <= end; at.setHours(at.getHours() + hours)) {
      if (at >= start) this.#label(hours < 24 ? hour(at) : day(at), x(at.toISOString()));
    }
    return x;
  }

  /** As many of these labels ([[x, text]]) as there is room for; the outermost stay within the chart. */
  labelsX(labels) {
    const every = Math.ceil((labels.length * TICK_WIDTH * 0.8) / (this.right - this.left));
    labels.forEach(([x, text], index) => {
      if (index % every === 0) this.#label(text, x);
    });
  }

  /** `points`: [x, upper y, lower y]. */
  area(kind, points) {
    const upper = points.map(([x, y]) => `${x},${y}`);
    const lower = points.map(([x, , y]) => `${x},${y}`).reverse();
    this.svg.append(made("polygon", { class: kind, points: [...upper, ...lower].join(" ") }));
  }

  line(kind, [x1, y1, x2, y2]) {
    this.svg.append(made("line", { class: kind, x1, y1, x2, y2 }));
  }

  bar(kind, x, y, width, height) {
    this.svg.append(made("rect", { class: kind, x: x + width * 0.1, y, width: width * 0.8, height }));
  }

  /** Tells the figures of the place that is pointed at; with `onlySome`, those that are not 0. */
  follow(places, rowOf, words, onlySome = false) {
    const cursor = made("line", { class: "cursor", y1: this.top, y2: this.bottom, visibility: "hidden" });
    this.svg.append(cursor);
    this.svg.onpointermove = (event) => {
      const at = event.clientX - this.svg.getBoundingClientRect().left;
      const distances = places.map((place) => Math.abs(place - at));
      const index = distances.indexOf(Math.min(...distances));
      const [when, ...figures] = rowOf(index);
      const told = figures.map((figure, place) => [figure, words[place]]).filter(([figure]) => !onlySome || figure !== "0");
      cursor.setAttribute("x1", places[index]);
      cursor.setAttribute("x2", places[index]);
      cursor.setAttribute("visibility", "visible");
      this.readout.textContent = `${when}: ${told.map((one) => one.join(" ")).join(", ") || "none"}`;
    };
    this.svg.onpointerleave = () => {
      cursor.setAttribute("visibility", "hidden");
      this.readout.textContent = this.summary;
    };
  }

  #label(text, x) {
    const anchor = x < this.left + 20 ? "start" : x > this.right - 20 ? "end" : "middle";
    this.#text(text, x, this.bottom + 18, anchor);
  }

  #text(text, x, y, anchor) {
    const label = made("text", { x, y, "text-anchor": anchor });
    label.textContent = text;
    this.svg.append(label);
  }
}

function made(tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function key(kind, text) {
  return element("span", { className: `key ${kind}` }, text);
}

function tableOf(head, rows) {
  const cell = (text, index) => element(index ? "td" : "th", index ? { className: "number" } : { scope: "row" }, text);
  const headings = head.map((text, index) => element("th", { scope: "col", className: index ? "number" : "" }, text));
  return element(
    "table",
    {},
    element("thead", {}, element("tr", {}, ...headings)),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell)))),
  );
}

/** The rows at which something changes, latest first: a table of a hundred like ones says no more. */
function thinned(rows) {
  const same = (left, right) => left.slice(1).join("|") === right.slice(1).join("|");
  return rows.filter((row, index) => index === 0 || !same(row, rows[index - 1])).reverse();
}

/** 1, 2 or 5 of a power of ten, at least `least`, and never a fraction. */
function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least);
}

/** Between two labels, so that no more than `most` come of so many hours. */
function fittingHours(all, most) {
  return [1, 3, 6, 12, 24, 48, 96, 168, 336, 720, 1440].find((hours) => all / hours <= most) ?? 2160;
}

function when(at) {
  return new Date(at).toLocaleString(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
}

function day(at) {
  return new Date(at).toLocaleDateString(undefined, { day: "numeric", month: "short" });
}

function utcDay(at) {
  return new Date(at).toLocaleDateString(undefined, { day: "numeric", month: "short", timeZone: "UTC" });
}

function hour(at) {
  return new Date(at).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
}
