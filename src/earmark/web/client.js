/**
 * Client of the Earmark HTTP API for browsers and Node; without dependencies, and knowing nothing of any page.
 * Types: client.d.ts. Guide: docs/how-to/browser.md.
 *
 * How an upload ended (uploaded, failed, rejected, cancelled…) is a value: the image as the service sees it.
 * What the service refuses is thrown as `Problem`; a service that cannot be reached as `Unreachable`.
 */

const RETRY_DELAYS_MS = [500, 1000, 2000, 4000];
const SEND_DELAYS_MS = [...RETRY_DELAYS_MS, 8000, 16_000]; // as long as a restart of a service that stores them takes
const ASKED_DELAY_MAX_MS = 30_000;
const OFFLINE_LOOK_MS = 60_000;
const UNAVAILABLE = new Set([408, 429, 502, 503, 504]); // of a gateway, too, that is too busy
// To the bytes, S3 answers 500, and so does a service that ends, where they are to be sent again.
const SEND_AGAIN = new Set([...UNAVAILABLE, 500]);
const IN_FLIGHT = "request-in-flight";
const SHORT = "quota-exceeded";
const STOPPABLE = new Set(["uploaded", "processing"]);
const SET_BY_THE_BROWSER = /^(host|content-length)$/i;
const RECONNECT_FIRST_MS = 500;
const RECONNECT_MAX_MS = 10_000;
const SILENCE_MAX_MS = 40_000;
const EVENT_LENGTH_MAX = 1_000_000;

/**
 * An RFC 9457 problem document: `slug` is the last part of its type, `members` the whole of it. `retryAfter`: the
 * seconds after which the service wants to be asked again, 0 where it says nothing of it.
 */
export class Problem extends Error {
  constructor(status, document, { retryAfter = 0 } = {}) {
    super(document.detail || document.title || fallback(status));
    this.status = status;
    this.slug = String(document.type ?? "")
      .split("/")
      .pop();
    this.members = document;
    this.retryAfter = retryAfter;
  }
}

/** No answer: offline, or the service is down. */
export class Unreachable extends Error {}

/** Whether the same request may succeed later without any change. */
export function isTransient(error) {
  const passes = UNAVAILABLE.has(error.status) && error.slug !== SHORT;
  return error instanceof Unreachable || passes || error.slug === IN_FLIGHT;
}

export class EarmarkClient {
  /**
   * `token`: bearer token, replaceable at any time. `baseUrl`: where the service is. `timeoutMs`: how long an answer,
   * or, in a browser, the next bit of an upload's progress, is waited for.
   */
  constructor({ token = null, baseUrl = "", timeoutMs = 60_000 } = {}) {
    this.token = token;
    this.baseUrl = baseUrl.replace(/\/+$/, "");
    this.timeoutMs = timeoutMs;
  }

  usage() {
    return this.#request("GET", "/api/usage");
  }

  /** A call that has no method of its own here. */
  get(path, query = {}) {
    const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value != null));
    return this.#request("GET", search.size ? `${path}?${search}` : path);
  }

  /** As `get`; repeated after a lost answer, under one key. */
  post(path, body, options) {
    return this.#post(path, body, options);
  }

  /** One page, newest first: `{images, nextCursor}`. */
  images({ limit = 50, cursor = null } = {}) {
    return this.#request("GET", `/api/images?${page(limit, cursor)}`);
  }

  /** One page of the journal, newest first: `{entries, nextCursor}`. */
  history({ limit = 50, cursor = null } = {}) {
    return this.#request("GET", `/api/quota/history?${page(limit, cursor)}`);
  }

  image(imageId) {
    return this.#request("GET", imagePath(imageId));
  }

  /**
   * Reserves quota for all files or none: `{reservationId, images, usage}`, images in the order of the files.
   * Under the same `key` the same files get the same images again, also after a reload: see `resume`.
   */
  reserve(files, { key } = {}) {
    return this.#post("/api/images/preupload", { files: files.map(describe) }, { key });
  }

  /**
   * Goes on after a reload with what was reserved under `key`: `[{file, target, image}]` in the order of the files.
   * Those whose `image.state` is still `reserved` or `uploading` are to be uploaded; the others have arrived or ended.
   */
  async resume(files, key) {
    const { images } = await this.reserve(files, { key });
    const states = await Promise.all(images.map(({ imageId }) => this.#imageOrGone(imageId)));
    return files.map((file, index) => ({ file, target: images[index], image: states[index] }));
  }

  /** Reserves anew for an image that did not finish; answers as `reserve` does, and again so under the same `key`. */
  retry(imageId, { key } = {}) {
    return this.#post(`${imagePath(imageId)}/retry`, {}, { key });
  }

  /**
   * Sends the bytes of one reserved image and completes it. However that ends, the service is told, so that quota
   * is given back at once; aborting `signal` cancels the image. `onProgress(sentBytes)`, `onPart(storedBytes)`,
   * `onStored()`. The first `storedBytes`, which an earlier `onPart` has told, are not sent again.
   */
  async upload(target, file, { onStored, signal, ...sending } = {}) {
    try {
      await this.send(target, file, { ...sending, signal });
    } catch (error) {
      return signal?.aborted ? this.cancel(target.imageId) : this.failed(target.imageId, error.message);
    }
    onStored?.();
    let image;
    try {
      image = await onceOnline(() => this.complete(target.imageId, { signal }), signal);
    } catch (error) {
      if (!signal?.aborted) throw error;
    }
    return signal?.aborted && (!image || STOPPABLE.has(image.state)) ? this.cancel(target.imageId) : image;
  }

  /**
   * Only the bytes: at once, or part by part where the service wants a large file in parts. What a connection lost is
   * sent again for half a minute, once the browser is online: a whole file is stored once, and a part anew.
   */
  async send(target, file, { onProgress, onPart, signal, storedBytes = 0 } = {}) {
    for (const part of target.parts ?? [{ ...target, offset: 0, size: file.size }]) {
      const end = part.offset + part.size;
      if (end <= storedBytes) continue;
      const bytes = file.slice(part.offset, end);
      const told = (sent) => onProgress?.(part.offset + sent);
      const attempt = async () => {
        try {
          await this.put(part, bytes, { onProgress: told, signal });
        } catch (error) {
          await assertReadable(bytes);
          await online(signal);
          throw error;
        }
      };
      await repeated(attempt, SEND_DELAYS_MS, signal);
      onPart?.(end);
    }
  }

  /** One request of an upload. */
  async put(target, bytes, { onProgress, signal } = {}) {
    signal?.throwIfAborted();
    const url = absolute(target.uploadUrl, this.baseUrl);
    const headers = Object.entries(target.headers ?? {}).filter(([name]) => !SET_BY_THE_BROWSER.test(name));
    const request = { method: target.method ?? "PUT", url, headers, bytes, onProgress, signal, timeoutMs: this.timeoutMs };
    const { status, text } = await (globalThis.XMLHttpRequest ? sendWatched(request) : sendWhole(request));
    // 412: an earlier attempt has stored the bytes; whether they are the right ones is for `complete` to say.
    if (SEND_AGAIN.has(status)) throw new Unreachable(refusal(status, text));
    if (status >= 300 && status !== 412) throw new Error(refusal(status, text));
  }

  /** `signal`: aborted, it is not asked again after a lost answer. */
  async complete(imageId, { signal } = {}) {
    try {
      const answer = await this.#post("/api/images/complete", { imageId }, { signal });
      return { imageId, state: answer.status };
    } catch (error) {
      if (error.status !== 409 && error.status !== 422) throw error;
      const image = await this.#imageAsItEnded(imageId, signal);
      return { ...image, reason: image.reason ?? error.members.reason ?? error.message };
    }
  }

  /** Survives the page. A cancel that comes too late answers with what the image has become. */
  cancel(imageId) {
    return this.#settle(imageId, "cancel", {});
  }

  /** Tells the service that the bytes did not arrive. */
  failed(imageId, error) {
    return this.#settle(imageId, "failed", { error });
  }

  /** Gives back what these images hold, in one request that outlives the page. */
  release(imageIds) {
    const body = { imageIds, cause: "cancelled" };
    return this.#post("/api/quota/rollback", body, { keepalive: true, delays: [] });
  }

  async remove(imageId) {
    return (await this.#request("DELETE", imagePath(imageId))).image;
  }

  /**
   * What changes, as it changes, without end: `{type: "ready", resumed}`, `{type: "image", image}`,
   * `{type: "usage", usage}`, and `{type: "lost", error}` when the connection is gone. It connects again by itself and
   * goes on where it was; only after a `ready` that was not `resumed` something may have been missed, so read the lists
   * then. A later `events({lastEventId})` goes on after the event with that `id`. Ends when `signal` is aborted; throws
   * when the service refuses (401: the token is over).
   */
  async *events({ signal, lastEventId = null } = {}) {
    const place = { id: lastEventId };
    for (let failures = 0; !signal?.aborted; failures += 1) {
      try {
        for await (const event of this.#stream(place, signal)) {
          if (signal?.aborted) return; // also where more has come already
          failures = 0;
          yield event;
        }
        throw new Unreachable("The stream of events ended.");
      } catch (error) {
        if (signal?.aborted) return;
        if (!isTransient(error)) throw error;
        yield { type: "lost", error };
      }
      const longest = Math.min(RECONNECT_FIRST_MS * 2 ** failures, RECONNECT_MAX_MS);
      await pause(jittered(longest), signal);
    }
  }

  /** An image as it is; of one that was deleted, that. */
  async #imageOrGone(imageId) {
    try {
      return await this.image(imageId);
    } catch (error) {
      if (error.status !== 404) throw error;
      return { imageId, state: "deleted" };
    }
  }

  /** One connection. A server that says nothing for too long, not even a heartbeat, is taken for gone. */
  async *#stream(place, signal) {
    const silence = new AbortController();
    const connected = signal ? anyOf([signal, silence.signal]) : silence.signal;
    let timer = setTimeout(() => silence.abort(), SILENCE_MAX_MS);
    try {
      const response = await this.#fetch("GET", "/api/events", {
        accept: "text/event-stream",
        headers: place.id ? { "Last-Event-ID": place.id } : {},
        signal: connected,
      });
      if (!response.ok) throw problemOf(response, parse(await response.text()));
      for await (const event of eventsIn(response.body, () => {
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), SILENCE_MAX_MS);
      })) {
        place.id = event.id ?? place.id;
        if (event.name === "ready") yield { type: "ready", id: event.id, ...event.data };
        else yield { type: event.name, id: event.id, [event.name]: event.data };
      }
    } catch (error) {
      throw error instanceof Problem ? error : new Unreachable("The connection was lost.", { cause: error });
    } finally {
      clearTimeout(timer);
      silence.abort();
    }
  }

  async #settle(imageId, verb, body) {
    try {
      return (await this.#post(`${imagePath(imageId)}/${verb}`, body, { keepalive: true })).image;
    } catch (error) {
      if (error.status !== 409 || error.slug === IN_FLIGHT) throw error;
      return this.#imageAsItEnded(imageId);
    }
  }

  #imageAsItEnded(imageId, signal) {
    return repeated(() => this.image(imageId), RETRY_DELAYS_MS, signal);
  }

  /** Every POST carries a key, so repeating it after a lost answer changes nothing twice. */
  #post(path, body, { keepalive = false, delays = RETRY_DELAYS_MS, key = newKey(), signal } = {}) {
    const options = { body, headers: { "Idempotency-Key": key }, keepalive };
    return repeated(() => this.#request("POST", path, options), delays, signal);
  }

  async #request(method, path, options) {
    let response;
    let answer;
    try {
      response = await this.#fetch(method, path, { ...options, signal: AbortSignal.timeout(this.timeoutMs) });
      answer = await response.text();
    } catch (error) {
      throw new Unreachable("The service could not be reached.", { cause: error });
    }
    const value = parse(answer);
    if (!response.ok) throw problemOf(response, value);
    if (value === null) throw new Unreachable("What answered was not the service."); // a hotel's sign-in page, for one
    return value;
  }

  #fetch(method, path, { body, headers = {}, accept = "application/json", keepalive = false, signal } = {}) {
    const sent = { Accept: accept, ...headers };
    if (this.token) sent.Authorization = `Bearer ${this.token}`;
    if (body) sent["Content-Type"] = "application/json";
    const options = { method, headers: sent, keepalive, signal, body: body && JSON.stringify(body) };
    return fetch(this.baseUrl + path, { ...options, cache: "no-store" });
  }
}

/** Server-sent events (WHATWG HTML, section 9.2) as far as the service uses them: `{name, id, data}`. */
async function* eventsIn(body, onSign) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      onSign();
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      if (rest.length > EVENT_LENGTH_MAX) throw new Error("An event is too long.");
      for (const event of blocks.map(eventOf)) if (event.data !== null) yield event;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function eventOf(block) {
  const fields = new Map(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
  return { name: fields.get("event"), id: fields.get("id"), data: parse(fields.get("data") ?? "null") };
}

/** A browser tells of a file that it cannot read any more as of a connection that is lost; no repetition helps. */
async function assertReadable(bytes) {
  try {
    await bytes.slice(0, 1).arrayBuffer();
  } catch (cause) {
    throw new Error("The file was changed, moved or deleted on this device. Choose it again.", { cause });
  }
}

/** While the browser knows that it is offline, nothing is worth an attempt. */
async function online(signal) {
  while (globalThis.navigator?.onLine === false && !signal?.aborted) await pause(OFFLINE_LOOK_MS, signal);
}

/** Calls again what has failed while the browser was offline. */
async function onceOnline(attempt, signal) {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (signal?.aborted || !isTransient(error) || globalThis.navigator?.onLine !== false) throw error;
      await online(signal);
    }
  }
}

/** Calls again, after each of the delays on top of what the service asks for, what failed in a way that may pass. */
async function repeated(attempt, delays, signal) {
  for (let failures = 0; ; failures += 1) {
    try {
      return await attempt();
    } catch (error) {
      if (signal?.aborted || !isTransient(error) || failures >= delays.length) throw error;
      const asked = Math.min((error.retryAfter ?? 0) * 1000, ASKED_DELAY_MAX_MS);
      await pause(asked + jittered(delays[failures]), signal);
    }
  }
}

/** Less a random part, lest all whose connections were lost together come back together. */
function jittered(milliseconds) {
  return milliseconds * (0.5 + Math.random() / 2);
}

function problemOf(response, document) {
  const retryAfter = Number(response.headers.get("retry-after")) || 0; // a date, which is rare, is passed over
  return new Problem(response.status, document ?? {}, { retryAfter });
}

/** XMLHttpRequest, because a browser's fetch reports no upload progress. Answers `{status, text}`. */
function sendWatched({ method, url, headers, bytes, onProgress, signal, timeoutMs }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const lost = () => reject(new Unreachable("The connection was lost during the upload."));
    const stop = () => request.abort();
    const stalled = () => (lost(), stop());
    let timer = setTimeout(stalled, timeoutMs);
    request.open(method, url);
    for (const [name, value] of headers) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => {
      clearTimeout(timer);
      timer = setTimeout(stalled, timeoutMs);
      onProgress?.(event.loaded);
    };
    request.onerror = lost;
    request.onabort = () => reject(new Error("The upload was stopped."));
    request.onload = () => resolve({ status: request.status, text: request.responseText });
    request.onloadend = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
    };
    signal?.addEventListener("abort", stop);
    request.send(bytes);
  });
}

/** Where there is no XMLHttpRequest: progress is told once, at the end. Answers `{status, text}`. */
async function sendWhole({ method, url, headers, bytes, onProgress, signal }) {
  try {
    const response = await fetch(url, { method, headers, body: bytes, signal });
    const text = await response.text();
    if (response.ok) onProgress?.(bytes.size);
    return { status: response.status, text };
  } catch (error) {
    if (signal?.aborted) throw new Error("The upload was stopped.", { cause: error });
    throw new Unreachable("The connection was lost during the upload.", { cause: error });
  }
}

/** Ends early when aborted or when the browser is online again. */
function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      globalThis.removeEventListener?.("online", end);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    globalThis.addEventListener?.("online", end);
    signal?.addEventListener("abort", end);
  });
}

/** AbortSignal.any, which browsers have since 2023 or 2024. */
function anyOf(signals) {
  const either = new AbortController();
  for (const signal of signals) {
    if (signal.aborted) either.abort(signal.reason);
    signal.addEventListener("abort", () => either.abort(signal.reason), { once: true, signal: either.signal });
  }
  return either.signal;
}

function absolute(url, baseUrl) {
  return new URL(url, baseUrl || globalThis.document?.baseURI).href;
}

function describe(file) {
  return { filename: file.name, contentType: file.type || typeByName(file.name), size: file.size };
}

/** Browsers that cannot show a type often do not name it either. */
function typeByName(name) {
  const extension = /\.(avif|heic|heif|webp)$/i.exec(name)?.[1];
  return extension ? `image/${extension.toLowerCase()}` : "application/octet-stream";
}

function imagePath(imageId) {
  return `/api/images/${encodeURIComponent(imageId)}`;
}

function page(limit, cursor) {
  return new URLSearchParams(cursor ? { limit, cursor } : { limit });
}

/** An idempotency key. `crypto.randomUUID` exists on https and localhost only. */
export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function fallback(status) {
  return UNAVAILABLE.has(status) ? "The service is not available." : `The service answered ${status}.`;
}

function refusal(status, text) {
  const { slug } = new Problem(status, parse(text) ?? {});
  if (status === 403) return "The upload link is no longer valid.";
  if (status === 404 || status === 410) return "The reservation is over.";
  if (slug === "too-long") return "More bytes arrived than were declared.";
  if (status === 413) return "A proxy or the store takes no body of this size (413).";
  return `The storage refused the upload (${status}).`;
}
