/** Types of client.js; what each call does is said there. */

export type ImageState =
  | "reserved"
  | "uploading"
  | "uploaded"
  | "processing"
  | "completed"
  | "failed"
  | "rejected"
  | "cancelled"
  | "expired"
  | "deleted";

export type Cause =
  | "upload_failed"
  | "processing_failed"
  | "cancelled"
  | "validation_failed"
  | "expired"
  | "admin";

/** Balance of one resource. `quota_limit` and `remaining` are -1 where there is no limit. */
export interface ResourceUsage {
  quota_limit: number;
  committed: number;
  held: number;
  used: number;
  remaining: number;
  over_by: number;
  period: string;
  period_start: string | null;
  period_end: string | null;
}

/** The numbers at the top are those of `images`. Instants are ISO 8601. */
export interface Usage {
  subject: string;
  tier: string;
  used: number;
  quota_limit: number;
  remaining: number;
  period_start: string | null;
  period_end: string | null;
  features: { max_bulk_upload?: number; [name: string]: unknown };
  resources: Record<string, ResourceUsage>;
}

export interface Image {
  imageId: string;
  reservationId: string;
  item: string;
  filename: string;
  contentType: string;
  size: number;
  state: ImageState;
  cause: Cause | null;
  reason: string | null;
  attempt: number;
  width: number | null;
  height: number | null;
  format: string | null;
  thumbhash: string | null;
  colors: string[] | null;
  /** Short-lived. */
  url: string | null;
  /** Short-lived. */
  thumbnailUrl: string | null;
  createdAt: string;
  updatedAt: string;
  expiresAt: string | null;
}

/** What is known of an image right after its upload, or when it was deleted: not all of it. */
export type Outcome = Pick<Image, "imageId" | "state"> & Partial<Image>;

export interface Entry {
  seq: number;
  at: string;
  kind: "reserve" | "commit" | "rollback" | "refund" | "adjust" | "extend";
  resource: string;
  item: string | null;
  periodStart: string | null;
  reservationId: string | null;
  committed: number;
  held: number;
  cause: Cause | null;
  actor: string;
  reason: string | null;
}

export interface UploadRequest {
  uploadUrl: string;
  method: string;
  headers: Record<string, string>;
}

/** Permission to upload one image; a large file comes in `parts`, and has no one `uploadUrl`. */
export interface UploadTarget extends Omit<UploadRequest, "uploadUrl"> {
  uploadUrl: string | null;
  imageId: string;
  s3Key: string;
  expiresAt: string;
  parts?: (UploadRequest & { offset: number; size: number })[] | null;
}

export interface Reservation {
  reservationId: string;
  expiresAt: string;
  images: UploadTarget[];
  usage: Usage;
}

export interface UploadOptions {
  /** Bytes sent so far; in Node once, at the end. */
  onProgress?: (sentBytes: number) => void;
  /** So many bytes, from the first one on, are stored: what `storedBytes` may be after a reload. */
  onPart?: (storedBytes: number) => void;
  /** What an earlier `onPart` told of the same file; it is not sent again. */
  storedBytes?: number;
  /** The bytes are there; their first look begins. */
  onStored?: () => void;
  /** Aborting cancels the image, and its quota comes back. */
  signal?: AbortSignal;
}

export type Event =
  | { type: "ready"; id: string; resumed: boolean }
  | { type: "image"; id: string; image: Image }
  | { type: "usage"; id: string; usage: Usage }
  | { type: "lost"; error: Problem | Unreachable };

export interface PageOptions {
  limit?: number;
  cursor?: string | null;
}

export class Problem extends Error {
  readonly status: number;
  readonly slug: string;
  readonly members: Record<string, unknown>;
  /** Seconds after which the service wants to be asked again; 0 where it says nothing of it. */
  readonly retryAfter: number;
}

export class Unreachable extends Error {}

export function isTransient(error: unknown): boolean;

/** An idempotency key, also on plain http, where browsers have no `crypto.randomUUID`. */
export function newKey(): string;

export class EarmarkClient {
  constructor(options?: { token?: string | null; baseUrl?: string; timeoutMs?: number });
  token: string | null;
  baseUrl: string;
  /** How long an answer, or, in a browser, the next bit of an upload's progress, is waited for; 60 seconds. */
  timeoutMs: number;

  /** A call that has no method of its own here. */
  get(path: string, query?: Record<string, string | number | null | undefined>): Promise<unknown>;
  /** As `get`; repeated after a lost answer, under one key. */
  post(path: string, body: unknown, options?: { key?: string }): Promise<unknown>;

  usage(): Promise<Usage>;
  image(imageId: string): Promise<Image>;
  images(options?: PageOptions): Promise<{ images: Image[]; nextCursor: string | null }>;
  history(options?: PageOptions): Promise<{ entries: Entry[]; nextCursor: string | null }>;

  reserve(files: File[], options?: { key?: string }): Promise<Reservation>;
  resume(files: File[], key: string): Promise<{ file: File; target: UploadTarget; image: Outcome }[]>;
  retry(imageId: string, options?: { key?: string }): Promise<Reservation>;
  upload(target: UploadTarget, file: Blob, options?: UploadOptions): Promise<Outcome>;
  send(target: UploadTarget, file: Blob, options?: Omit<UploadOptions, "onStored">): Promise<void>;
  put(target: UploadRequest, bytes: Blob, options?: Pick<UploadOptions, "onProgress" | "signal">): Promise<void>;
  complete(imageId: string, options?: { signal?: AbortSignal }): Promise<Outcome>;

  cancel(imageId: string): Promise<Image>;
  failed(imageId: string, error?: string): Promise<Image>;
  release(imageIds: string[]): Promise<{ rolledBack: Record<string, number>; usage: Usage }>;
  remove(imageId: string): Promise<Image>;

  events(options?: { signal?: AbortSignal; lastEventId?: string | null }): AsyncGenerator<Event, void, void>;
}
