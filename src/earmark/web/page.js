/** The page: signs in, keeps everything up to date, and wires the parts together. */

import { EarmarkClient, isTransient } from "./client.js";
import { HistoryView } from "./history.js";
import { ImagesView } from "./images.js";
import { find, setText, show } from "./dom.js";
import { Poller } from "./poller.js";
import { Uploads } from "./uploads.js";
import { UsageView } from "./usage.js";
import { stateWord } from "./words.js";

const TOKEN = "earmark.token";
const MISSING_IMAGES_PER_REFRESH = 10;
const ANNOUNCE_AFTER_MS = 800;

const client = new EarmarkClient();
const usageView = new UsageView();
const historyView = new HistoryView();
const imagesView = new ImagesView({ cancel: (image) => act(() => client.cancel(image.imageId)), remove: askToRemove });
const uploads = new Uploads(client, { outcome: announce, changed: () => poller.nudge(), say });
const poller = new Poller(refresh, () => uploads.open || imagesView.open);
const cursors = { images: undefined, history: undefined };
let subject = null;
let lastSeen = "";
let outcomes = [];

/** Reads what may have changed and shows it; returns whether anything has. */
async function refresh() {
  try {
    const [usage, page] = await Promise.all([client.usage(), client.images()]);
    if (subject && subject !== usage.subject) return location.reload();
    subject = usage.subject;
    const missing = await missingFrom(page.images);
    const images = page.images.concat(missing.filter((image) => image.state !== "deleted"));
    show(find("sign-in"), false);
    show(find("content"), true);
    setText(find("connection"), "");
    uploads.follow(page.images.concat(missing), usage);
    usageView.show(usage);
    imagesView.drop(page);
    imagesView.show(images, (imageId) => uploads.has(imageId));
    setMore("images", page.nextCursor);
    const seen = JSON.stringify([usage, images.map((image) => [image.imageId, image.state])]);
    if (seen === lastSeen) return false;
    await showHistory();
    lastSeen = seen;
    return true;
  } catch (error) {
    showTrouble(error);
    throw error;
  }
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
  const page = await client.history({ cursor });
  historyView.show(page.entries, (entry) => imagesView.nameOf(entry));
  if (cursor) cursors.history = undefined;
  setMore("history", page.nextCursor);
}

/** Only the first answer and "Show more" move a cursor: later answers are about the first page again. */
function setMore(list, cursor) {
  if (cursors[list] !== undefined) return;
  cursors[list] = cursor;
  show(find(`more-${list}`), Boolean(cursor), find(`${list}-heading`));
}

async function moreImages() {
  const page = await client.images({ cursor: cursors.images });
  imagesView.show(page.images, (imageId) => uploads.has(imageId));
  cursors.images = undefined;
  setMore("images", page.nextCursor);
}

function showTrouble(error) {
  if (error.status === 401) {
    poller.stop();
    show(find("content"), false);
    show(find("sign-in"), true);
    setText(find("connection"), "");
    const reason = client.token ? "This sign-in has expired or is not valid." : "You are not signed in.";
    setText(find("sign-in-reason"), reason);
    return;
  }
  const unreachable = navigator.onLine ? "The service is not answering." : "You are offline.";
  setText(find("connection"), `${isTransient(error) ? unreachable : error.message} Trying again…`);
}

async function act(action) {
  try {
    await action();
  } catch (error) {
    showTrouble(error);
  }
  poller.nudge();
}

function askToRemove(image) {
  const dialog = find("remove");
  setText(find("remove-name"), image.filename);
  dialog.returnValue = "";
  const remove = async () => imagesView.show([await client.remove(image.imageId)], (imageId) => uploads.has(imageId));
  dialog.onclose = () => dialog.returnValue === "delete" && act(remove);
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

/** The sign-in link carries the token in its fragment; it leaves the address bar at once. */
function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    sessionStorage.setItem(TOKEN, token);
    history.replaceState(null, "", location.pathname + location.search);
  }
  client.token = sessionStorage.getItem(TOKEN);
  return Boolean(token);
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
    if (client.token && event.dataTransfer.files.length) uploads.add([...event.dataTransfer.files]);
  });
}

function wirePage() {
  let released = false;
  find("more-images").onclick = () => act(moreImages);
  find("more-history").onclick = () => act(() => showHistory(cursors.history));
  window.addEventListener("hashchange", () => takeToken() && location.reload());
  for (const change of ["online", "offline"]) window.addEventListener(change, () => poller.nudge());
  window.addEventListener("pagehide", () => (released = uploads.release()));
  window.addEventListener("pageshow", (event) => event.persisted && released && location.reload());
}

takeToken();
wireDrops();
wirePage();
poller.nudge();
