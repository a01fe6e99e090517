/** What was dropped on the page: files, and the images in folders, however deep. */

/** More in one drop are left out. */
export const FILES_MAX = 1000;
const ENTRIES_MAX = 10_000;
const IMAGE_NAME = /\.(jpe?g|png|webp|gif|avif|heic|heif)$/i;

/**
 * `{files, leftOut}`: files as they were dropped, of folders the images only; `leftOut` counts the others.
 * To be called while the drop is handled: afterwards a browser tells no more of it.
 */
export function filesOf(dropped) {
  const items = [...dropped.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.() ?? null);
  if (!entries.some((entry) => entry?.isDirectory)) return { files: [...dropped.files], leftOut: 0 };
  const files = [...dropped.files].filter((_, index) => !entries[index]?.isDirectory);
  return imagesIn(entries.filter((entry) => entry?.isDirectory), files);
}

async function imagesIn(folders, files) {
  const found = { files, leftOut: 0 };
  const open = [...folders];
  for (let seen = 0; open.length > 0 && seen < ENTRIES_MAX; seen += 1) {
    const entry = open.shift();
    if (entry.isDirectory) open.push(...(await childrenOf(entry)));
    else if (entry.name.startsWith(".")) continue; // what a system keeps in a folder for itself
    else if (IMAGE_NAME.test(entry.name) && found.files.length < FILES_MAX) found.files.push(await fileOf(entry));
    else found.leftOut += 1;
  }
  found.leftOut += open.length;
  return found;
}

/** All of them: a browser gives no more than a hundred at a time. */
async function childrenOf(folder) {
  const reader = folder.createReader();
  const children = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0 || children.length > ENTRIES_MAX) return children.sort((one, other) => (one.name < other.name ? -1 : 1));
    children.push(...some);
  }
}

function fileOf(entry) {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}
