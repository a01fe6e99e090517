/** The user's images: what is done or under way as cards, what did not finish as a list below. */

import { arrange, element, find, setText, show } from "./dom.js";
import { bytes, moment, OPEN_STATES, stateWord, UNFINISHED_STATES } from "./words.js";

export class ImagesView {
  #actions;
  #images = new Map();
  #cards = new Map();
  #unfinishedSeen = "";

  /** `actions`: cancel(image), remove(image). */
  constructor(actions) {
    this.#actions = actions;
  }

  /** The file that a journal entry is about, or null where it is not known. */
  nameOf({ reservationId, item }) {
    const images = [...this.#images.values()];
    return images.find((image) => image.reservationId === reservationId && image.item === item)?.filename ?? null;
  }

  get ids() {
    return new Set(this.#images.keys());
  }

  /** What the newest page of the list no longer has was deleted; `before`: what was there when it was asked for. */
  drop({ images, nextCursor }, before) {
    const listed = new Set(images.map((image) => image.imageId));
    const oldest = nextCursor ? images.at(-1).imageId : "";
    for (const imageId of before) {
      if (imageId >= oldest && !listed.has(imageId)) this.#take({ imageId, state: "deleted" });
    }
  }

  /** `elsewhere(imageId)`: whether the list of uploads already shows that image. */
  show(images, elsewhere) {
    for (const image of images) if (!isOlder(image, this.#images.get(image.imageId))) this.#take(image);
    const known = [...this.#images.values()].filter((image) => image.createdAt);
    const ordered = known.sort(newestFirst);
    const shown = ordered.filter(
      (image) => image.state === "completed" || (OPEN_STATES.has(image.state) && !elsewhere(image.imageId)),
    );
    arrange(
      find("images"),
      shown.map((image) => this.#card(image)),
      find("images-heading"),
    );
    show(find("images-empty"), shown.length === 0);
    this.#showUnfinished(ordered.filter((image) => UNFINISHED_STATES.has(image.state) && !elsewhere(image.imageId)));
  }

  /** A deleted one is remembered, so that an older answer does not bring it back, and movements keep its name. */
  #take(image) {
    if (image.state === "deleted") this.#cards.delete(image.imageId);
    this.#images.set(image.imageId, { ...this.#images.get(image.imageId), ...image });
  }

  #showUnfinished(images) {
    const seen = JSON.stringify(images.map((image) => [image.imageId, image.state]));
    if (seen === this.#unfinishedSeen) return;
    this.#unfinishedSeen = seen;
    setText(find("unfinished-count"), countOf(images));
    show(find("unfinished"), images.length > 0, find("images-heading"));
    find("unfinished-list").replaceChildren(
      ...images.map((image) => {
        const when = element("time", { dateTime: image.updatedAt }, moment(image.updatedAt));
        const word = element("span", { className: "note" }, stateWord(image.state), ", ", when);
        const reason = element("span", { className: "note reason" }, image.reason ?? "");
        return element("li", {}, element("span", { className: "name" }, image.filename), word, reason);
      }),
    );
  }

  #card(image) {
    if (!this.#cards.has(image.imageId)) this.#cards.set(image.imageId, makeCard(this.#actions));
    const card = this.#cards.get(image.imageId);
    card.update(image);
    return card.root;
  }
}

/** What was lost after it had been completed has no cause: whether its use came back is for its plan to say. */
function countOf(images) {
  const unfinished = images.filter((image) => image.cause).length;
  const lost = images.length - unfinished;
  const counts = [
    unfinished > 0 && `${unfinished} ${unfinished === 1 ? "upload" : "uploads"} did not finish, and cost nothing`,
    lost > 0 && `${lost} ${lost === 1 ? "image was" : "images were"} lost from the store`,
  ];
  return counts.filter(Boolean).join("; ");
}

/** Those that were chosen together were reserved in one instant: they keep the order in which they were chosen. */
function newestFirst(left, right) {
  const inOneBatch = () => Number(left.item) - Number(right.item) || left.imageId.localeCompare(right.imageId);
  return right.createdAt.localeCompare(left.createdAt) || inOneBatch();
}

function isOlder(image, known) {
  return known !== undefined && Date.parse(image.updatedAt) < Date.parse(known.updatedAt);
}

function makeCard(actions) {
  let current;
  const picture = element("img", { alt: "", loading: "lazy", hidden: true });
  const tile = element("div", { className: "tile" }, picture);
  const name = element("a", { className: "name", target: "_blank", rel: "noopener" });
  const facts = element("p", { className: "note" });
  const button = element("button", { type: "button", className: "quiet" });
  picture.onerror = () => {
    picture.hidden = true;
    picture.removeAttribute("src");
  };
  button.onclick = () => (current.state === "completed" ? actions.remove(current) : actions.cancel(current));
  const update = (image) => {
    current = image;
    const done = image.state === "completed";
    tile.classList.toggle("open", !done);
    setText(name, image.filename);
    name.title = image.filename; // a card shows two lines of it
    if (image.url) name.href = image.url;
    // Each answer signs a new address; the picture that is already there stays, and one that is not yet needs a good one.
    const isThere = picture.complete && picture.naturalWidth > 0;
    if (image.thumbnailUrl && !isThere && picture.getAttribute("src") !== image.thumbnailUrl) {
      picture.src = image.thumbnailUrl;
      picture.hidden = false;
    }
    if (image.colors?.length) tile.style.backgroundColor = image.colors[0];
    setText(facts, done ? factsOf(image) : stateWord(image.state));
    setText(button, done ? "Delete" : "Cancel");
    button.setAttribute("aria-label", `${button.textContent} ${image.filename}`);
  };
  const text = element("div", { className: "caption" }, name, facts);
  return { root: element("li", { className: "card" }, tile, text, button), update };
}

function factsOf(image) {
  const size = image.width ? `${image.width} × ${image.height}` : null;
  return [size, image.format?.toUpperCase(), bytes(image.size)].filter(Boolean).join(" · ");
}
