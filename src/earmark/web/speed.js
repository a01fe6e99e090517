/** How fast one upload goes, smoothed, and how long it will still take. */

import { bytes, duration } from "./words.js";

const SAMPLE_MS = 400;
const WEIGHT = 0.3;
const WORTH_TELLING_SECONDS = 3;

export class Speed {
  #at = performance.now();
  #sent = 0;
  #bytesPerSecond = null;

  /** "1.2 MB/s, 12 s left"; nothing as long as there is nothing to measure. */
  inWords(sent, size) {
    this.#measure(sent);
    if (!this.#bytesPerSecond) return "";
    const left = (size - sent) / this.#bytesPerSecond;
    const speed = `${bytes(this.#bytesPerSecond)}/s`;
    return left > WORTH_TELLING_SECONDS ? `${speed}, ${duration(left)} left` : speed;
  }

  #measure(sent) {
    const elapsed = performance.now() - this.#at;
    if (elapsed < SAMPLE_MS) return;
    const now = (Math.max(sent - this.#sent, 0) * 1000) / elapsed; // less than before: a part that is sent again
    this.#bytesPerSecond = this.#bytesPerSecond === null ? now : WEIGHT * now + (1 - WEIGHT) * this.#bytesPerSecond;
    this.#at += elapsed;
    this.#sent = sent;
  }
}
