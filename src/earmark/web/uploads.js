/**
 * The files of this tab, from the drop to the outcome.
 *
 * A row is `waiting → reserving → reserved → uploading → checking`, in this tab's hands, then `uploaded → processing`
 * and an end state, as the service reports them. Quota is reserved batch by batch, shortly before it is needed.
 * What a reload or a crash interrupts is `interrupted` after it, until the same file is chosen again.
 */

import { isTransient, newKey } from "./client.js";
import { arrange, element, find, setText, show } from "./dom.js";
import { forget, isSame, readInterrupted, remember } from "./interrupted.js";
import { Speed } from "./speed.js";
import { amount, bytes, clock, dayAndMonth, isolated, number, OPEN_STATES, stateWord, UNFINISHED_STATES } from "./words.js";

const PARALLEL_UPLOADS = 3;
const BATCH_WITHOUT_LIMIT = 50;
const UNASKED = new Set(["waiting", "undecided"]);
const BEFORE_THE_END = new Set([...UNASKED, "interrupted", "reserving", "checking", "cancelling", ...OPEN_STATES]);
const NOT_ARRIVED = new Set(["reserved", "uploading", "interrupted"]);
const TAKEN_UP = new Set([...NOT_ARRIVED, "checking"]);
const LOST_WITH_THE_TAB = new Set([...UNASKED, ...TAKEN_UP, "reserving"]);
const FOLLOWED = new Set(["uploaded", "processing"]);
const MAY_END_ELSEWHERE = new Set(["reserved", "checking"]);
const UNWANTED = new Set(["failed", "expired", "short", "unsent"]);
const REPEATABLE = new Set([...UNWANTED, "cancelled"]);
const DONE = new Set(["completed", "deleted"]);
/** What may follow an end: a success that came late, an object that was lost. */
const AFTER_THE_END = new Map([
  ["expired", new Set(["completed", "deleted"])],
  ["completed", new Set(["failed", "deleted"])],
]);
const heading = find("uploads-heading");

export class Uploads {
  #client;
  #events;
  #rows = [];
  #unchecked = [];
  #reserving = false;
  #closed = false;
  #subject = null;
  #usage = null;
  #shortage = null;

  /** `events`: outcome(filename, state), changed(), refused(error), say(text). */
  constructor(client, events) {
    this.#client = client;
    this.#events = events;
    find("clear").onclick = () => this.#clear();
    find("retry-all").onclick = () => this.#retryAll();
    find("cancel-all").onclick = () => {
      this.#shortage = null;
      this.#rows.forEach((row) => this.#cancel(row));
      this.#showNotice();
    };
  }

  get open() {
    return this.#rows.some((row) => BEFORE_THE_END.has(row.state));
  }

  has(imageId) {
    return this.#rows.some((row) => row.target?.imageId === imageId);
  }

  /** Ids whose outcome only the service knows. */
  get followed() {
    return this.#rows.filter((row) => FOLLOWED.has(row.state) || row.untold).map((row) => row.target.imageId);
  }

  /** Whether the service could not be told how something ended, so that what is shown of it may be wrong. */
  get doubtful() {
    return this.#rows.some((row) => row.untold);
  }

  add(files) {
    this.#shortage = null;
    const rows = [...files].filter((file) => !this.#goOnWith(file)).map((file) => this.#makeRow(file));
    this.#rows.push(...rows);
    this.#unchecked.push(rows);
    this.#showSection();
    this.#pump();
  }

  /** After a reload or a crash: shows what this tab had under way, and finishes what needs no file any more. */
  async takeUp(subject) {
    const interrupted = await readInterrupted(this.#client, subject);
    this.#subject = subject; // or what is taken up would be forgotten
    for (const found of interrupted) {
      const row = this.#makeRow(found.file, found);
      this.#rows.push(row);
      if (row.held && row.storedBytes >= row.file.size) this.#set(row, "reserved");
      else this.#interrupt(row);
    }
    this.#showSection();
  }

  /** A link ends before its hold does. */
  #interrupt(row) {
    const choose = "Choose the same file again";
    if (!row.held) return this.#set(row, "interrupted", `${choose} to go on. No quota is held for it.`);
    const kept = row.storedBytes > 0 ? `${bytes(row.storedBytes)} are already there.` : "";
    const until = `${choose} before ${clock(row.target.expiresAt)} to go on. Its quota is held until ${clock(row.heldUntil)}.`;
    return this.#set(row, "interrupted", `${until} ${kept}`);
  }

  get #interruption() {
    const lost = this.#rows.filter((row) => row.state === "interrupted");
    if (lost.length === 0) return null;
    const what = lost.length === 1 ? `The upload of ${isolated(lost[0].file.name)} was` : `${files(lost.length)} were`;
    const which = lost.length === 1 ? "Choose the same file" : "Choose the same files";
    const choose = { text: `${which} again`, act: () => find("picker").click() };
    return { text: `${what} interrupted. ${which} again to go on, or cancel.`, choices: [choose] };
  }

  /** Whether an interrupted row was waiting for this file. */
  #goOnWith(file) {
    const row = this.#rows.find((each) => each.state === "interrupted" && isSame(each.file, file));
    if (!row) return false;
    if (row.file.lastModified !== file.lastModified) row.storedBytes = 0;
    row.file = file;
    if (row.held) this.#set(row, "reserved");
    else this.#retry(row);
    return true;
  }

  /** Takes in what the service says; answers older than what this tab already knows change nothing. */
  follow(images, usage = this.#usage) {
    this.#usage = usage;
    for (const image of images) {
      const row = this.#rows.find((each) => each.target?.imageId === image.imageId);
      if (!row) continue;
      row.heldUntil = NOT_ARRIVED.has(image.state) ? image.expiresAt : null;
      const ended = !OPEN_STATES.has(image.state);
      if (FOLLOWED.has(row.state) && (ended || FOLLOWED.has(image.state))) this.#settle(row, image);
      else if (MAY_END_ELSEWHERE.has(row.state) && ended) this.#settle(row, image);
      else if (row.state === "interrupted" && row.held && ended) {
        row.held = false;
        if (UNFINISHED_STATES.has(image.state)) this.#interrupt(row);
        else this.#settle(row, image);
      }
      else if (AFTER_THE_END.get(row.state)?.has(image.state)) this.#settle(row, image);
      else if (row.state === "uploading" && ended) row.abort.abort();
      else if (row.untold) this.#reconcile(row, image, ended);
    }
    this.#pump();
  }

  /** The service is back after this tab could not tell it how a row ended. Bytes that did arrive are not given up. */
  #reconcile(row, image, ended) {
    const arrived = row.untold !== "cancel" && FOLLOWED.has(image.state);
    if (!ended && !arrived) return this.#tell(row, row.untold);
    row.untold = null;
    return this.#settle(row, image);
  }

  /**
   * The tab closes, or is loaded anew: what has not arrived yet is cancelled, except where parts are there already, which
   * can be taken up again. Returns whether there was anything.
   */
  release() {
    const held = this.#rows.filter((row) => NOT_ARRIVED.has(row.state) && row.held);
    if (held.length === 0) return false;
    this.#closed = true;
    const lost = held.filter((row) => row.storedBytes === 0).map((row) => row.target.imageId);
    if (lost.length > 0) this.#client.release(lost).catch(() => {});
    return true;
  }

  #pump() {
    if (this.#closed || !this.#usage) return;
    this.#unchecked.splice(0).forEach((rows) => this.#checkBulk(rows));
    this.#showNotice();
    const ready = this.#rows.filter((row) => row.state === "reserved");
    const active = this.#rows.filter((row) => row.state === "uploading" || row.state === "checking").length;
    ready.splice(0, Math.max(PARALLEL_UPLOADS - active, 0)).forEach((row) => this.#send(row));
    const batch = this.#rows.filter((row) => row.state === "waiting").slice(0, this.#batchSize());
    if (this.#reserving || batch.length === 0 || ready.length >= PARALLEL_UPLOADS) return;
    const wanted = batch.map((row) => row.file);
    this.#reserve(batch, { files: wanted }, (key) => this.#client.reserve(wanted, { key }));
  }

  #retry(row) {
    const { imageId } = row.target;
    return this.#reserve([row], { retryOf: imageId }, (key) => this.#client.retry(imageId, { key }));
  }

  /** `asked`: what, together with the key, gets the same images again after a reload. */
  async #reserve(batch, asked, ask) {
    const grant = { ...asked, key: newKey() };
    this.#reserving = true;
    batch.forEach((row) => this.#set(row, "reserving"));
    try {
      const { images } = await ask(grant.key);
      images.forEach((target, index) => this.#granted(batch[index], target, { ...grant, index }));
    } catch (error) {
      this.#refused(batch, error);
      this.#events.refused(error);
    } finally {
      this.#reserving = false;
      this.#events.changed();
      this.#pump();
    }
  }

  #granted(row, target, grant) {
    Object.assign(row, { target, grant, held: true, heldUntil: null, storedBytes: 0 });
    if (row.state === "cancelling") this.#tell(row, "cancel");
    else this.#set(row, "reserved");
  }

  #refused(batch, error) {
    const stopped = batch.filter((row) => row.state === "cancelling");
    stopped.forEach((row) => this.#end(row, "cancelled", "It cost nothing."));
    const rest = batch.filter((row) => row.state === "reserving");
    const { slug, members } = error;
    if (slug === "invalid-file" && batch[members.index]) {
      rest.forEach((row) => this.#set(row, "waiting"));
      this.#end(batch[members.index], "rejected", `${members.reason ?? error.message} It cost nothing.`);
    } else if (slug === "bulk-limit-exceeded" && members.limit > 0 && members.limit < batch.length) {
      this.#usage = { ...this.#usage, features: { ...this.#usage.features, max_bulk_upload: members.limit } };
      rest.forEach((row) => this.#set(row, "waiting"));
    } else {
      const behind = this.#rows.filter((row) => row.state === "waiting");
      if (slug === "quota-exceeded") this.#short([...rest, ...behind], members);
      else [...rest, ...behind].forEach((row) => this.#unsent(row, error));
    }
  }

  #unsent(row, error) {
    if (!isTransient(error)) row.target = null;
    this.#end(row, "unsent", `${error.message} Nothing was sent, and it cost nothing.`);
  }

  /** `short`: of whom, himself or a team above him, it is short. */
  #short(rows, { subject, short = [], resource = "images", remaining, quota_limit: limit }) {
    if (rows.length === 0) return;
    rows.forEach((row) => this.#set(row, "short", "It cost nothing."));
    const team = short[0]?.subject === subject ? undefined : short[0]?.subject;
    const together = team ? ` for all of ${isolated(team)} together` : "";
    const left = `${number(resource, remaining)} of ${amount(resource, limit)} left${together}`;
    const end = !team && this.#usage.resources?.[resource]?.period_end;
    const again = end ? ` The count starts again on ${dayAndMonth(end)}.` : "";
    const fitting = howManyFit(rows, resource, remaining);
    const first = rows.slice(0, fitting);
    const upload = {
      text: fitting === 1 ? "Upload only the first" : `Upload the first ${fitting}`,
      act: () => {
        this.#shortage = null;
        first.filter((row) => row.state === "short").forEach((row) => this.#set(row, "waiting"));
      },
    };
    const text = `Not enough quota for ${files(rows.length)}: ${left}.${again} Nothing was sent.`;
    this.#shortage = { text, choices: first.length > 0 ? [upload] : [] };
    this.#showNotice({ anew: true });
  }

  async #send(row) {
    const abort = new AbortController();
    row.abort = abort;
    row.speed = new Speed();
    this.#set(row, "uploading");
    const onProgress = (sent) => row.state === "uploading" && this.#progress(row, sent);
    const onStored = () => row.state === "uploading" && this.#set(row, "checking");
    const onPart = (storedBytes) => {
      row.storedBytes = storedBytes;
      remember(this.#subject, row);
    };
    const { storedBytes } = row;
    const options = { onProgress, onPart, onStored, storedBytes, signal: abort.signal };
    const superseded = () => row.abort !== abort; // an event was faster than the answer, and told more
    try {
      const image = await this.#client.upload(row.target, row.file, options);
      if (!superseded()) this.#settle(row, image);
    } catch (error) {
      const verb = row.state === "checking" ? "complete" : "failed";
      if (!superseded()) this.#unreached(row, error, abort.signal.aborted ? "cancel" : verb);
    } finally {
      this.#events.changed();
      this.#pump();
    }
  }

  #cancel(row) {
    if (UNASKED.has(row.state)) this.#end(row, "cancelled", "It cost nothing.");
    else if (row.state === "interrupted" && !row.held) this.#end(row, "cancelled", "It cost nothing.");
    else if (row.state === "reserving") this.#set(row, "cancelling");
    else if (row.state === "uploading" || row.state === "checking") {
      this.#set(row, "cancelling");
      row.abort.abort();
    } else if (row.state === "interrupted" || OPEN_STATES.has(row.state)) {
      this.#set(row, "cancelling");
      this.#tell(row, "cancel");
    }
  }

  /** Tells the service how a row ended; `verb`: complete, cancel or failed. */
  async #tell(row, verb) {
    row.untold = null;
    try {
      const why = verb === "failed" ? row.error : undefined;
      this.#settle(row, await this.#client[verb](row.target.imageId, why));
    } catch (error) {
      this.#unreached(row, error, verb);
    }
    this.#events.changed();
  }

  #unreached(row, error, verb) {
    if (this.#closed) return;
    row.error = error.message;
    if (isTransient(error) || error.status === 401) row.untold = verb;
    const until = row.heldUntil ? ` soon after ${clock(row.heldUntil)}` : "";
    const state = verb === "cancel" ? "cancelled" : "failed";
    const arrived = "It has arrived, and goes on once the service answers.";
    const lost = `The held quota comes back by itself${until}.`;
    this.#end(row, state, `${error.message} ${row.untold === "complete" ? arrived : lost}`);
    this.#events.refused(error);
  }

  async #again(row) {
    if (row.untold) await this.#tell(row, row.untold);
    if (row.untold || !REPEATABLE.has(row.state)) return;
    if (row.target && row.state !== "short") {
      await this.#retry(row);
    } else {
      this.#set(row, "waiting");
      this.#pump();
    }
  }

  /** What was never asked for goes together; the others one after another, until one of them is refused. */
  async #retryAll() {
    const rows = this.#repeatable;
    this.#shortage = null;
    const anew = rows.filter((row) => row.state === "short" || !row.target);
    anew.forEach((row) => this.#set(row, "waiting"));
    this.#pump();
    for (const row of rows.filter((each) => !anew.includes(each))) {
      await this.#again(row);
      if (UNWANTED.has(row.state)) return;
    }
  }

  get #repeatable() {
    return this.#rows.filter((row) => UNWANTED.has(row.state) && !row.file.lost);
  }

  #settle(row, image) {
    if (this.#closed) return;
    const tooLate = image.state === "completed" && row.state === "cancelling";
    if (OPEN_STATES.has(image.state)) this.#set(row, image.state);
    else if (UNFINISHED_STATES.has(image.state)) {
      this.#end(row, image.state, `${image.reason ?? ""} ${image.cause ? "It cost nothing." : ""}`);
    }
    else this.#end(row, image.state, tooLate ? "It was done before it could be cancelled." : "");
  }

  #end(row, state, reason) {
    const told = row.state === state;
    row.abort = null;
    this.#set(row, state, reason);
    if (!told) this.#events.outcome(row.file.name, state);
  }

  #makeRow(file, known = {}) {
    const kept = { target: null, grant: null, held: false, heldUntil: null, storedBytes: 0, ...known };
    const row = { file, state: "waiting", reason: null, error: undefined, untold: null, abort: null, speed: null, ...kept };
    row.view = makeView(file);
    row.view.button.onclick = () => {
      if (REPEATABLE.has(row.state)) this.#again(row);
      else this.#cancel(row);
      this.#showNotice();
    };
    find("upload-list").append(row.view.root);
    this.#set(row, "waiting");
    return row;
  }

  #progress(row, sent) {
    const { size } = row.file;
    row.view.progress.value = Math.min(sent, size);
    setText(row.view.state, `Uploading, ${Math.floor((100 * sent) / Math.max(size, sent, 1))} %`);
    setText(row.view.reason, row.speed.inWords(sent, size));
  }

  #set(row, state, reason = null) {
    row.state = state;
    row.reason = reason;
    const { root, progress, button, state: word, reason: note } = row.view;
    const open = BEFORE_THE_END.has(state);
    root.dataset.state = state;
    setText(word, stateWord(state));
    setText(note, reason ?? "");
    show(progress, open && !UNASKED.has(state));
    if (NOT_ARRIVED.has(state)) progress.value = row.storedBytes;
    else progress.removeAttribute("value");
    setText(button, open ? "Cancel" : "Retry");
    button.setAttribute("aria-label", `${button.textContent} ${row.file.name}`);
    button.setAttribute("aria-disabled", state === "cancelling");
    show(button, open || (REPEATABLE.has(state) && !row.file.lost), heading);
    if (TAKEN_UP.has(state) || ["complete", "failed"].includes(row.untold)) remember(this.#subject, row);
    else forget(row);
    this.#showSection();
  }

  #showSection() {
    const open = this.#rows.filter((row) => BEFORE_THE_END.has(row.state)).length;
    const done = this.#rows.filter((row) => DONE.has(row.state)).length;
    const rest = this.#rows.length - open - done;
    const count = `${done} of ${this.#rows.length} done${rest ? `, ${rest} not uploaded` : ""}`;
    setText(find("uploads-count"), this.#rows.length > 1 ? count : "");
    show(find("uploads"), this.#rows.length > 0, find("picker"));
    show(find("retry-all"), this.#repeatable.length > 1, heading);
    show(find("cancel-all"), open > 1, heading);
    show(find("clear"), open < this.#rows.length, heading);
    show(find("closing"), this.#rows.some((row) => LOST_WITH_THE_TAB.has(row.state)));
  }

  #clear() {
    this.#rows.filter((row) => !BEFORE_THE_END.has(row.state)).forEach((row) => row.view.root.remove());
    this.#rows = this.#rows.filter((row) => BEFORE_THE_END.has(row.state));
    this.#shortage = null;
    this.#showNotice();
    this.#showSection();
    this.#events.changed();
  }

  #batchSize() {
    const limit = this.#usage.features?.max_bulk_upload;
    return limit > 0 ? limit : BATCH_WITHOUT_LIMIT;
  }

  /** More files at once than the plan takes: nothing is sent before the user has said how, nor what he adds till then. */
  #checkBulk(rows) {
    if (rows.length <= this.#batchSize() && this.#undecided.length === 0) return;
    rows.filter((row) => row.state === "waiting").forEach((row) => this.#set(row, "undecided"));
  }

  get #undecided() {
    return this.#rows.filter((row) => row.state === "undecided");
  }

  get #question() {
    const count = this.#undecided.length;
    if (count === 0) return null;
    const limit = this.#batchSize();
    const atOnce = limit === 1 ? "one" : `up to ${limit}`;
    const batches = Math.ceil(count / limit);
    const inBatches = limit === 1 ? "one after another" : `in ${batches} ${batches === 1 ? "batch" : "batches"}`;
    const all = {
      text: `Upload ${inBatches}`,
      act: () => this.#undecided.forEach((row) => this.#set(row, "waiting")),
    };
    const first = {
      text: limit === 1 ? "Only the first" : `Only the first ${limit}`,
      act: () =>
        this.#undecided.forEach((row, index) => {
          if (index < limit) this.#set(row, "waiting");
          else this.#end(row, "unsent", "Left out: more than your plan takes at once.");
        }),
    };
    return {
      text: `You chose ${files(count)}; your plan takes ${atOnce} at once. Nothing has been sent yet.`,
      choices: count > limit ? [all, first] : [all],
    };
  }

  /** What the user is asked or told: what nothing goes on without comes first. Said again only when it is `anew`. */
  #showNotice({ anew = false } = {}) {
    const told = this.#question ?? this.#shortage ?? this.#interruption;
    const same = !anew && told?.text === find("notice-text").textContent;
    show(find("notice"), Boolean(told), heading);
    setText(find("notice-text"), told?.text ?? "");
    if (same) return;
    const buttons = (told?.choices ?? []).map(({ text, act }) => {
      const button = element("button", { type: "button" }, text);
      button.onclick = () => {
        show(find("notice"), false, heading);
        act();
        this.#pump();
      };
      return button;
    });
    arrange(find("notice-buttons"), buttons, heading);
    if (buttons.length > 0) find("notice").scrollIntoView({ block: "nearest" });
    if (told) this.#events.say(told.text);
  }
}

function makeView(file) {
  const name = element("span", { className: "name" }, file.name);
  const size = element("span", { className: "note" }, bytes(file.size));
  const progress = element("progress", { max: Math.max(file.size, 1), "aria-label": `Upload of ${file.name}` });
  const state = element("span", { className: "state" });
  const reason = element("span", { className: "note" });
  const button = element("button", { type: "button" });
  const title = element("div", { className: "title" }, name, size);
  const outcome = element("p", { className: "outcome" }, state, " ", reason);
  const root = element("li", { className: "upload" }, title, button, progress, outcome);
  return { root, progress, state, reason, button };
}

function howManyFit(rows, resource, remaining) {
  if (resource !== "storage_bytes") return remaining;
  let left = remaining;
  const tooMany = rows.findIndex((row) => {
    left -= row.file.size;
    return left < 0;
  });
  return tooMany < 0 ? rows.length : tooMany;
}

function files(count) {
  return count === 1 ? "1 file" : `${count} files`;
}
