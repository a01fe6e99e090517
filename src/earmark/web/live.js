/**
 * Keeps the page up to date. While the page is looked at, or has something under way, it follows the service's events;
 * where some may have been missed, and now and then so that links stay good, everything is read anew.
 *
 * A hidden tab lets go of its stream: a browser opens only six connections to a service, for all tabs together.
 */

const REFRESH_MS = 240_000;
const AGAIN_MS = 5_000;

export class Live {
  #client;
  #handlers;
  #abort = null;
  #connected = false;
  #refreshing = null;
  #again = false;
  #timer = null;

  /** `handlers`: refresh() reads everything and answers whether it could, image(image), usage(usage), connected(), refused(error), isBusy(). */
  constructor(client, handlers) {
    this.#client = client;
    this.#handlers = handlers;
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.start();
      else if (!handlers.isBusy()) this.stop();
    });
    for (const change of ["online", "offline"]) window.addEventListener(change, () => this.refresh());
    setInterval(() => this.#abort && this.refresh(), REFRESH_MS);
  }

  start() {
    if (this.#abort) return;
    this.#abort = new AbortController();
    this.#follow(this.#abort.signal);
  }

  stop() {
    this.#abort?.abort();
    this.#abort = null;
    this.#connected = false;
  }

  /** Something was changed here. The events will tell, unless there are none, or, `doubtful`, it may be known already. */
  nudge({ doubtful = false } = {}) {
    if (!this.#connected) this.refresh();
    else if (doubtful) this.#later(() => this.refresh());
  }

  /** One at a time; asked for meanwhile, once more afterwards. */
  async refresh() {
    if (this.#refreshing) {
      this.#again = true;
      return this.#refreshing;
    }
    this.#refreshing = this.#handlers.refresh();
    const done = await this.#refreshing;
    this.#refreshing = null;
    if (!done) this.#later(() => this.#abort && this.refresh());
    if (this.#again) {
      this.#again = false;
      return this.refresh();
    }
  }

  /** One attempt after another, at a distance. */
  #later(attempt) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(attempt, AGAIN_MS);
  }

  async #follow(signal) {
    try {
      for await (const event of this.#client.events({ signal })) {
        this.#connected = event.type !== "lost";
        if (event.type === "image") this.#handlers.image(event.image);
        else if (event.type === "usage") this.#handlers.usage(event.usage);
        else if (event.type === "ready" && event.resumed) this.#handlers.connected();
        else this.refresh();
      }
    } catch (error) {
      this.stop();
      this.#handlers.refused(error);
      if (error.status !== 401) this.#later(() => this.start());
    }
  }
}
