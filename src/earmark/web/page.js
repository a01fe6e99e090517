/** The page: signs in, keeps everything up to date, and wires the parts together. */

import { EarmarkClient, isTransient } from "./client.js";
import { FILES_MAX, filesOf } from "./drops.js";
import { HistoryView } from "./history.js";
import { ImagesView } from "./images.js";
import { find, setText, show } from "./dom.js";
import { Live } from "./live.js";
import { SERVICE, currentToken, isService, showContent, showSignIn, takeToken, whyNotSignedIn } from "./session.js";
import { Uploads } from "./uploads.js";
import { UsageView } from "./usage.js";
import { isolated, stateWord } from "./words.js";

const MISSING_IMAGES_PER_REFRESH = 10;
const IMAGES_AT_ONCE = 200;
const NO_PLAN = "You have no plan yet. Ask whoever runs this service for one.";
const ANNOUNCE_AFTER_MS = 800;
const HISTORY_AFTER_MS = 400;

const client = new EarmarkClient({ baseUrl: SERVICE });
const usageView = new UsageView();
const historyView = new HistoryView();
const imagesView = new ImagesView({ cancel, remove: askToRemove });
const uploads = new Uploads(client, { outcome: announce, changed: uploadsChanged, refused: noticeEndOfSession, say });
const live = new Live(client, {
  refresh,
  image: takeImage,
  usage: takeUsage,
  connected: () => setText(find("connection"), ""),
  refused: showTrouble,
  isBusy: () => uploads.open,
});
const cursors = { images: undefined, history: undefined };
let subject = null;
let oldestOpened = null;
let usageEvents = 0;
let ends = 0;
let historyTimer = null;
let outcomes = [];

/** Reads everything anew; whether that was possible. What an event, or a refusal, has told meanwhile is newer and stays. */
async function refresh() {
  const before = { usageEvents, ends, images: imagesView.ids };
  try {
    const [usage, page] = await Promise.all([client.usage(), openedImages()]);
    if (subject && subject !== usage.subject) return location.reload();
    if (!subject) await uploads.takeUp(usage.subject);
    subject = usage.subject;
    const oldest = oldestOpened ?? oldestOf(page);
    const opened = page.images.filter((image) => image.imageId >= oldest);
    const missing = await missingFrom(opened);
    if (before.ends !== ends) return false;
    showContent(find("picker"));
    if (before.usageEvents === usageEvents) takeUsage(usage);
    imagesView.drop(page, before.images);
    takeImages([...opened, ...missing]);
    oldestOpened ??= oldest;
    setMore("images", page.nextCursor);
    await showHistory();
    return true;
  } catch (error) {
    showTrouble(error);
    return false;
  }
}

/** An image whose event came before the answer that made it an upload of this tab has two places until now. */
function uploadsChanged() {
  imagesView.show([], (imageId) => uploads.has(imageId));
  live.nudge({ doubtful: uploads.doubtful });
}

function takeUsage(usage) {
  usageEvents += 1;
  usageView.show(usage);
  uploads.follow([], usage);
  historyTimer ??= setTimeout(() => showHistory().catch(showTrouble), HISTORY_AFTER_MS);
}

function takeImage(image) {
  takeImages([image]);
}

function takeImages(images) {
  uploads.follow(images);
  imagesView.show(images, (imageId) => uploads.has(imageId));
}

/** All that was opened, also what newer ones have pushed off the first page: the links of what is not read anew end. */
async function openedImages() {
  const opened = await client.images();
  while (oldestOpened !== null && opened.nextCursor && opened.images.at(-1).imageId > oldestOpened) {
    const page = await client.images({ limit: IMAGES_AT_ONCE, cursor: opened.nextCursor });
    opened.images.push(...page.images);
    opened.nextCursor = page.nextCursor;
  }
  return opened;
}

function oldestOf({ images, nextCursor }) {
  return nextCursor ? images.at(-1).imageId : "";
}

/** Followed images that newer ones have pushed off the first page, or that are deleted. */
function missingFrom(images) {
  const known = new Set(images.map((image) => image.imageId));
  const missing = uploads.followed.filter((imageId) => !known.has(imageId));
  return Promise.all(missing.slice(0, MISSING_IMAGES_PER_REFRESH).map(imageOrDeleted));
}

async function imageOrDeleted(imageId) {
  try {
    return await client.image(imageId);
  } catch (error) {
    if (error.status !== 404) throw error;
    return { imageId, state: "deleted" };
  }
}

async function showHistory(cursor = null) {
  stopHistoryTimer();
  const page = await client.history({ cursor });
  historyView.show(page.entries, (entry) => imagesView.nameOf(entry));
  if (cursor) cursors.history = undefined;
  setMore("history", page.nextCursor);
}

function stopHistoryTimer() {
  clearTimeout(historyTimer);
  historyTimer = null;
}

/** Only the first answer and "Show more" move a cursor: later answers are about what is open already. */
function setMore(list, cursor) {
  if (cursors[list] !== undefined) return;
  cursors[list] = cursor;
  show(find(`more-${list}`), Boolean(cursor), find(`${list}-heading`));
}

async function moreImages() {
  const page = await client.images({ cursor: cursors.images });
  oldestOpened = oldestOf(page);
  imagesView.show(page.images, (imageId) => uploads.has(imageId));
  cursors.images = undefined;
  setMore("images", page.nextCursor);
}

function showTrouble(error) {
  if (error.status === 401) {
    ends += 1;
    live.stop();
    stopHistoryTimer();
    return showSignIn(whyNotSignedIn());
  }
  show(find("loading"), false);
  const unreachable = navigator.onLine ? "The service is not answering." : "You are offline.";
  const again = `${isTransient(error) ? unreachable : error.message} Trying again…`;
  setText(find("connection"), error.slug === "unknown-subject" ? NO_PLAN : again);
}

function noticeEndOfSession(error) {
  if (error.status === 401) showTrouble(error);
}

/** The link was opened in this tab. Who was signed in before goes on with the files that he had chosen. */
function signInAnew() {
  if (find("sign-in").hidden) return location.reload();
  client.token = currentToken();
  show(find("operator-link"), isService(client.token));
  live.start();
}

/** Does what was asked for; where that fails, `failure` tells what has not been done. */
async function act(failure, action) {
  tell("");
  try {
    await action();
  } catch (error) {
    if (error.status === 401) showTrouble(error);
    else tell(`${failure} ${error.message}`);
  }
  live.nudge();
}

/** A message that stays until it is closed, or until something else is done. */
function tell(text) {
  setText(find("message-text"), text);
  show(find("message"), text !== "", find("picker"));
}

function cancel(image) {
  return act(`${isolated(image.filename)} was not cancelled.`, () => client.cancel(image.imageId));
}

function askToRemove(image) {
  const dialog = find("remove");
  setText(find("remove-name"), image.filename);
  dialog.returnValue = "";
  const remove = async () => imagesView.show([await client.remove(image.imageId)], (imageId) => uploads.has(imageId));
  const failure = `${isolated(image.filename)} was not deleted.`;
  dialog.onclose = () => dialog.returnValue === "delete" && act(failure, remove);
  dialog.showModal();
}

function say(text) {
  find("announcements").replaceChildren(text);
}

/** Outcomes that come together are said together. */
function announce(filename, state) {
  if (outcomes.length === 0) setTimeout(sayOutcomes, ANNOUNCE_AFTER_MS);
  outcomes.push({ filename, state });
}

function sayOutcomes() {
  const counts = new Map();
  for (const { state } of outcomes) counts.set(state, (counts.get(state) ?? 0) + 1);
  const few = outcomes.length <= 2;
  const sentences = few
    ? outcomes.map(({ filename, state }) => `${filename}: ${stateWord(state)}.`)
    : [...counts].map(([state, count]) => `${count} of ${outcomes.length} files: ${stateWord(state)}.`);
  outcomes = [];
  say(sentences.join(" "));
}

function wireDrops() {
  const picker = find("picker");
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  picker.onchange = () => {
    uploads.add([...picker.files]);
    picker.value = "";
  };
  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dragging");
  });
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    document.body.classList.remove("dragging");
    if (find("sign-in").hidden) takeDrop(event.dataTransfer);
  });
}

async function takeDrop(dropped) {
  await act("What was dropped could not be read.", async () => {
    const { files, leftOut } = await filesOf(dropped);
    if (files.length > 0) uploads.add(files);
    const others = leftOut === 1 ? "1 file that is no image" : `${leftOut.toLocaleString()} files that are no images`;
    const many = `Only the first ${files.length.toLocaleString()} images were taken; ${leftOut.toLocaleString()} files were left out.`;
    if (leftOut > 0) tell(files.length < FILES_MAX ? `Left out of the folder: ${others}.` : many);
    else if (files.length === 0) tell("There is no image in that folder.");
  });
}

function wirePage() {
  let released = false;
  find("message-close").onclick = () => tell("");
  find("more-images").onclick = () => act("Older images could not be read.", moreImages);
  find("more-history").onclick = () =>
    act("Older movements could not be read.", () => showHistory(cursors.history));
  window.addEventListener("hashchange", () => takeToken() && signInAnew());
  window.addEventListener("pagehide", () => {
    released = uploads.release();
    live.stop();
  });
  window.addEventListener("pageshow", (event) => event.persisted && (released ? location.reload() : live.start()));
}

takeToken();
client.token = currentToken();
show(find("operator-link"), isService(client.token));
wireDrops();
wirePage();
live.start();
