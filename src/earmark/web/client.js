/**
 * Browser client of the Earmark HTTP API; knows nothing of any page.
 *
 * How an upload ended (uploaded, failed, rejected, cancelled…) is a value: the image as the service sees it.
 * What the service refuses is thrown as `Problem`; a service that cannot be reached as `Unreachable`.
 */

const RETRY_DELAYS_MS = [500, 1000, 2000, 4000];
const UNAVAILABLE = new Set([502, 503, 504]);
const SET_BY_THE_BROWSER = /^(host|content-length)$/i;

/** An RFC 9457 problem document: `slug` is the last part of its type, `members` the whole of it. */
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail || document.title || fallback(status));
    this.status = status;
    this.slug = String(document.type ?? "")
      .split("/")
      .pop();
    this.members = document;
  }
}

/** No answer: offline, or the service is down. */
export class Unreachable extends Error {}

/** Whether the same request may succeed later without any change. */
export function isTransient(error) {
  return error instanceof Unreachable || UNAVAILABLE.has(error.status) || error.slug === "idempotency-key-in-flight";
}

export class EarmarkClient {
  /** `token`: bearer token, replaceable at any time. `baseUrl`: where the service is, no slash at the end. */
  constructor({ token = null, baseUrl = "" } = {}) {
    this.token = token;
    this.baseUrl = baseUrl;
  }

  usage() {
    return this.#request("GET", "/api/usage");
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

  /** Reserves quota for all files or none: `{reservationId, images, usage}`, images in the order of the files. */
  preupload(files) {
    return this.#post("/api/images/preupload", { files: files.map(describe) });
  }

  /** Reserves anew for an image that did not finish; answers as `preupload` does. */
  retry(imageId) {
    return this.#post(`${imagePath(imageId)}/retry`, {});
  }

  /**
   * Sends the bytes of one reserved image and completes it. However that ends, the service is told, so that quota
   * is given back at once; aborting `signal` cancels the image. `onProgress(sentBytes)`, `onStored()`.
   */
  async upload(target, file, { onProgress, onStored, signal } = {}) {
    try {
      await this.send(target, file, { onProgress, signal });
    } catch (error) {
      return signal?.aborted ? this.cancel(target.imageId) : this.failed(target.imageId, error.message);
    }
    onStored?.();
    const image = await this.complete(target.imageId);
    return signal?.aborted && image.state === "uploaded" ? this.cancel(target.imageId) : image;
  }

  /** Only the bytes: at once, or part by part where the service wants a large file in parts. */
  async send(target, file, { onProgress, signal } = {}) {
    for (const part of target.parts ?? [{ ...target, offset: 0, size: file.size }]) {
      const bytes = file.slice(part.offset, part.offset + part.size);
      await this.put(part, bytes, { onProgress: (sent) => onProgress?.(part.offset + sent), signal });
    }
  }

  /** One request. XMLHttpRequest, because fetch reports no upload progress. */
  put(target, file, { onProgress, signal } = {}) {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const request = new XMLHttpRequest();
      request.open(target.method ?? "PUT", new URL(target.uploadUrl, this.baseUrl || document.baseURI));
      for (const [name, value] of Object.entries(target.headers ?? {})) {
        if (!SET_BY_THE_BROWSER.test(name)) request.setRequestHeader(name, value);
      }
      request.upload.onprogress = (event) => onProgress?.(event.loaded);
      request.onerror = () => reject(new Unreachable("The connection was lost during the upload."));
      request.onabort = () => reject(new Error("The upload was stopped."));
      // 412: an earlier attempt has stored the bytes; whether they are the right ones is for `complete` to say.
      request.onload = () =>
        request.status < 300 || request.status === 412 ? resolve() : reject(new Error(refusal(request.status)));
      signal?.addEventListener("abort", () => request.abort(), { once: true });
      request.send(file);
    });
  }

  async complete(imageId) {
    try {
      const answer = await this.#post("/api/images/complete", { imageId });
      return { imageId, state: answer.status };
    } catch (error) {
      if (error.status !== 409 && error.status !== 422) throw error;
      const image = await this.image(imageId);
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

  async #settle(imageId, verb, body) {
    try {
      return (await this.#post(`${imagePath(imageId)}/${verb}`, body, { keepalive: true })).image;
    } catch (error) {
      if (error.status !== 409) throw error;
      return this.image(imageId);
    }
  }

  /** Every POST carries a key, so repeating it after a lost answer changes nothing twice. */
  async #post(path, body, { keepalive = false, delays = RETRY_DELAYS_MS } = {}) {
    const key = newKey();
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.#request("POST", path, { body, key, keepalive });
      } catch (error) {
        if (!isTransient(error) || attempt >= delays.length) throw error;
        await new Promise((resolve) => setTimeout(resolve, delays[attempt]));
      }
    }
  }

  async #request(method, path, { body, key, keepalive = false } = {}) {
    const headers = { Accept: "application/json" };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    if (body) headers["Content-Type"] = "application/json";
    if (key) headers["Idempotency-Key"] = key;
    let response;
    let answer;
    try {
      response = await fetch(this.baseUrl + path, { method, headers, keepalive, body: body && JSON.stringify(body) });
      answer = await response.text();
    } catch (error) {
      throw new Unreachable("The service could not be reached.", { cause: error });
    }
    const value = parse(answer);
    if (!response.ok) throw new Problem(response.status, value ?? {});
    return value;
  }
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

/** randomUUID exists on https and localhost only. */
function newKey() {
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

function refusal(status) {
  if (status === 403) return "The upload link is no longer valid.";
  if (status === 404 || status === 410) return "The reservation is over.";
  if (status === 413) return "More bytes arrived than were declared.";
  return `The storage refused the upload (${status}).`;
}
