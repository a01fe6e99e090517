// What a strict TypeScript project writes with @earmark/client; tests/web/test_types.py compiles it.

import {
  type Cause,
  EarmarkClient,
  type Entry,
  type Image,
  isTransient,
  newKey,
  type Outcome,
  Problem,
  type Reservation,
  Unreachable,
  type UploadTarget,
  type Usage,
} from "@earmark/client";

const client = new EarmarkClient({ token: "token", baseUrl: "https://quota.example" });
client.token = null;

export const key: string = newKey();

export async function upload(files: File[], key: string, signal: AbortSignal): Promise<Outcome[]> {
  const reservation: Reservation = await client.reserve(files, { key });
  const outcomes: Outcome[] = [];
  for (const [index, target] of reservation.images.entries()) {
    const options = { onProgress: (sent: number) => sent, onPart: (stored: number) => stored, storedBytes: 0, signal };
    outcomes.push(await client.upload(target, files[index]!, options));
  }
  return outcomes;
}

export async function resume(files: File[], key: string): Promise<void> {
  for (const { file, target, image } of await client.resume(files, key)) {
    if (image.state === "reserved" || image.state === "uploading") await client.send(target, file);
    else if (image.state === "cancelled") await client.retry(image.imageId, { key });
  }
}

export async function follow(signal: AbortSignal): Promise<string | null> {
  for await (const event of client.events({ signal })) {
    if (event.type === "image") return event.image.thumbnailUrl;
    if (event.type === "usage") return event.usage.resources["images"]?.period_end ?? null;
    if (event.type === "lost") return event.error.message;
    const resumed: boolean = event.resumed;
    if (!resumed) return event.id;
  }
  return null;
}

export async function look(): Promise<[Usage, Image[], Entry[], Cause | null]> {
  const [usage, { images, nextCursor }] = await Promise.all([client.usage(), client.images({ limit: 10 })]);
  const { entries } = await client.history({ cursor: nextCursor });
  const told: unknown = await client.get("/api/quota/explain", { subject: usage.subject });
  await client.post("/api/quota/rollback", { count: 1, told }, { key: "key" });
  return [usage, images, entries, entries[0]?.cause ?? null];
}

export async function end(target: UploadTarget): Promise<number> {
  await client.put(target.parts?.[0] ?? { ...target, uploadUrl: target.uploadUrl ?? "" }, new Blob());
  await client.complete(target.imageId);
  await client.failed(target.imageId, "the line broke");
  await client.cancel(target.imageId);
  await client.remove(target.imageId);
  return (await client.release([target.imageId])).rolledBack["images"] ?? 0;
}

export function explained(error: unknown): string {
  if (error instanceof Problem) return `${error.slug} ${error.status} ${String(error.members["limit"])}`;
  return error instanceof Unreachable || isTransient(error) ? "later" : "never";
}

// @ts-expect-error a state that there is not
export const state: Image["state"] = "finished";
// @ts-expect-error files are described by the client, from File objects
client.reserve([{ filename: "a.png" }]);
// @ts-expect-error what an outcome has besides its state is not always known
export const filename: string = (await client.complete("id")).filename;
// @ts-expect-error a large file has no one link
export const link: string = ({} as UploadTarget).uploadUrl;
// @ts-expect-error not everything is a method
client.explain();
