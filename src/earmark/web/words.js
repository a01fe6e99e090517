/** What the API's states, causes and numbers are called on the page. */

const STATES = {
  undecided: "Not sent yet",
  waiting: "Waiting",
  interrupted: "Interrupted",
  reserving: "Reserving quota",
  reserved: "Quota held, waiting to upload",
  uploading: "Uploading",
  checking: "Checking",
  uploaded: "Uploaded, waiting to be processed",
  processing: "Processing",
  cancelling: "Cancelling",
  completed: "Done",
  failed: "Failed",
  rejected: "Not accepted",
  cancelled: "Cancelled",
  expired: "Ran out of time",
  short: "Not sent: quota is short",
  unsent: "Not sent",
  deleted: "Deleted",
};
const KINDS = {
  reserve: "Reserved",
  commit: "Committed",
  rollback: "Given back",
  refund: "Refunded",
  adjust: "Corrected",
  extend: "Deadline moved",
};
const CAUSES = {
  upload_failed: "upload failed",
  processing_failed: "processing failed",
  cancelled: "upload cancelled",
  validation_failed: "file not accepted",
  expired: "not finished in time",
  admin: "by an administrator",
};
const UNITS = [
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
  ["second", 1],
];
const BYTE_UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];

/** States of an image whose quota is still held. */
export const OPEN_STATES = new Set(["reserved", "uploading", "uploaded", "processing"]);
/** States of an image whose quota was given back. */
export const UNFINISHED_STATES = new Set(["failed", "rejected", "cancelled", "expired"]);

export function stateWord(state) {
  return STATES[state] ?? state;
}

export function movementWord(kind, cause) {
  const word = KINDS[kind] ?? kind;
  return cause ? `${word}: ${CAUSES[cause] ?? cause}` : word;
}

export function causeWord(cause) {
  const word = CAUSES[cause] ?? cause;
  return word.charAt(0).toUpperCase() + word.slice(1);
}

/** The causes in the order in which they are always shown. */
export const CAUSE_ORDER = Object.keys(CAUSES);

export function resourceName(resource) {
  if (resource === "storage_bytes") return "Storage";
  return resource.charAt(0).toUpperCase() + resource.slice(1).replaceAll("_", " ");
}

/** `number("images", 3)` → "3", `number("storage_bytes", 3_000_000)` → "3 MB". */
export function number(resource, value) {
  return resource.endsWith("_bytes") ? bytes(value) : value.toLocaleString();
}

/** As `number`, with its unit: "3 images", "1 image", "3 MB". */
export function amount(resource, value) {
  if (resource.endsWith("_bytes")) return bytes(value);
  return `${value.toLocaleString()} ${Math.abs(value) === 1 ? resource.replace(/s$/, "") : resource}`;
}

export function signedAmount(resource, value) {
  return `${value > 0 ? "+" : "\u2212"}${amount(resource, Math.abs(value))}`;
}

const RIGHT_TO_LEFT = /[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufeff]/;

/** A name within a sentence: one that runs from right to left, or says so, must not turn the rest around. */
export function isolated(name) {
  return RIGHT_TO_LEFT.test(name) ? `\u2068${name}\u2069` : name;
}

/** Decimal units, as the limits are set in: 25_000_000 → "25 MB". */
export function bytes(value) {
  const power = value < 1000 ? 0 : Math.min(Math.floor(Math.log10(value) / 3), BYTE_UNITS.length - 1);
  const scaled = value / 1000 ** power;
  const options = { style: "unit", unit: BYTE_UNITS[power], unitDisplay: power ? "short" : "long" };
  return new Intl.NumberFormat(undefined, { ...options, maximumFractionDigits: scaled < 10 ? 1 : 0 })
    .format(scaled)
    .replace(" ", "\u00a0");
}

/** 90 → "2 min", 12 → "12 s". */
export function duration(seconds) {
  const [value, unit] = seconds < 60 ? [seconds, "second"] : [seconds / 60, "minute"];
  return new Intl.NumberFormat(undefined, { style: "unit", unit, unitDisplay: "short" }).format(Math.ceil(value));
}

export function dayAndMonth(instant) {
  return new Date(instant).toLocaleDateString(undefined, { day: "numeric", month: "long" });
}

export function clock(instant) {
  return new Date(instant).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
}

/** The time of day today, the day and time before. */
export function moment(instant) {
  const today = new Date(instant).toDateString() === new Date().toDateString();
  if (today) return clock(instant);
  const day = new Date(instant).toLocaleDateString(undefined, { day: "numeric", month: "short" });
  return `${day.replaceAll(" ", "\u00a0")}, ${clock(instant)}`;
}

/** "in 5 minutes", "3 hours ago". */
export function fromNow(instant) {
  const seconds = (new Date(instant) - Date.now()) / 1000;
  const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) * 1.01 >= size) ?? UNITS.at(-1);
  return new Intl.RelativeTimeFormat(undefined, { numeric: "always" }).format(Math.round(seconds / size), unit);
}

/** As `amount`, of several resources. */
export function amounts(all) {
  const named = Object.entries(all).map(([resource, value]) => amount(resource, value));
  return named.join(", ") || "nothing";
}
