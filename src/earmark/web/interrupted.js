/**
 * What this tab had under way, kept for itself across a reload or a crash: which images, under which key they were
 * reserved, how much of each is stored. The files themselves are lost; the person chooses them again.
 */

import { UNFINISHED_STATES } from "./words.js";

const PREFIX = "earmark.upload.";
const NOT_ARRIVED = new Set(["reserved", "uploading"]);

/** `row`: `{file, target, grant, storedBytes}`; one without a grant was never reserved here. */
export function remember(subject, { file, target, grant, storedBytes }) {
  if (!grant || !subject) return;
  const asked = grant.files ? { ...grant, files: grant.files.map(described) } : grant;
  const known = { subject, file: described(file), imageId: target.imageId, grant: asked, storedBytes };
  try {
    sessionStorage.setItem(PREFIX + target.imageId, JSON.stringify(known));
  } catch {
    // No room: then a reload forgets it, and its deadline gives the quota back.
  }
}

export function forget({ target }) {
  if (target) sessionStorage.removeItem(PREFIX + target.imageId);
}

/** Whether a file is the one that was being sent, as far as a browser tells. */
export function isSame(known, file) {
  return known.name === file.name && known.size === file.size;
}

/**
 * What of it has neither arrived nor ended for good, in the order in which it was reserved:
 * `[{file, target, grant, held, heldUntil, storedBytes}]`. Where nothing is held any more, `target` is only the image's id.
 */
export async function readInterrupted(client, subject) {
  const remembered = Object.keys(sessionStorage)
    .filter((name) => name.startsWith(PREFIX))
    .map((name) => JSON.parse(sessionStorage.getItem(name)));
  const own = remembered.filter((known) => known.subject === subject);
  const images = await Promise.all(own.map(({ imageId }) => imageOrNone(client, imageId)));
  const targets = await targetsOf(client, own.filter((_, index) => NOT_ARRIVED.has(images[index]?.state)));
  const found = [];
  own.forEach(({ file, imageId, grant, storedBytes }, index) => {
    const target = targets.get(imageId);
    const lost = { ...file, lost: true };
    const { createdAt: reservedAt, expiresAt: heldUntil } = images[index] ?? {};
    if (target) found.push({ reservedAt, file: lost, target, grant, held: true, heldUntil, storedBytes });
    else if (UNFINISHED_STATES.has(images[index]?.state))
      found.push({ reservedAt, file: lost, target: { imageId }, grant, held: false, storedBytes: 0 });
    else forget({ target: { imageId } });
  });
  return found.sort(inOrder);
}

/** Those that were reserved together were so in one instant. */
function inOrder(one, other) {
  return one.reservedAt.localeCompare(other.reservedAt) || one.grant.index - other.grant.index;
}

async function imageOrNone(client, imageId) {
  try {
    return await client.image(imageId);
  } catch (error) {
    if (error.status !== 404) throw error;
    return null;
  }
}

/** Fresh upload links, by image: reserving again under the same key gets the same images. */
async function targetsOf(client, held) {
  const grants = new Map(held.map(({ grant }) => [grant.key, grant]));
  const answers = await Promise.all(
    [...grants.values()].map(({ key, files, retryOf }) =>
      retryOf ? client.retry(retryOf, { key }) : client.reserve(files, { key }),
    ),
  );
  return new Map(answers.flatMap(({ images }) => images.map((target) => [target.imageId, target])));
}

function described({ name, type, size, lastModified }) {
  return { name, type, size, lastModified };
}
