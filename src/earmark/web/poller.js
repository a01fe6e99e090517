/** One loop for everything that is polled: quick while something is open, slower the longer nothing changes. */

const FASTEST_MS = 1000;
const SLOWEST_OPEN_MS = 8000;
const IDLE_MS = 20000;

export class Poller {
  #refresh;
  #isOpen;
  #delay = FASTEST_MS;
  #timer = null;
  #running = false;
  #again = false;
  #stopped = false;

  /** `refresh()`: a promise of whether anything changed. `isOpen()`: whether something is still under way. */
  constructor(refresh, isOpen) {
    this.#refresh = refresh;
    this.#isOpen = isOpen;
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) clearTimeout(this.#timer);
      else if (!this.#stopped) this.nudge();
    });
  }

  /** Something happened here: look now, and quickly for a while. */
  nudge() {
    this.#stopped = false;
    this.#delay = FASTEST_MS;
    if (this.#running) this.#again = true;
    else this.#run();
  }

  /** Until the next nudge. */
  stop() {
    this.#stopped = true;
  }

  async #run() {
    clearTimeout(this.#timer);
    this.#running = true;
    this.#again = false;
    try {
      if (await this.#refresh()) this.#delay = FASTEST_MS;
      else this.#slowDown();
    } catch {
      this.#slowDown();
    }
    this.#running = false;
    if (this.#stopped) return;
    if (this.#again) this.#timer = setTimeout(() => this.#run(), 0);
    else if (!document.hidden) this.#timer = setTimeout(() => this.#run(), this.#delay);
  }

  #slowDown() {
    const slowest = this.#isOpen() ? SLOWEST_OPEN_MS : IDLE_MS;
    this.#delay = Math.min(this.#delay * 1.5, slowest);
  }
}
