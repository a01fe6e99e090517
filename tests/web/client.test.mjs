// The client in Node, against a running service. Each test is a subject of its own; see test_client.py.
import assert from "node:assert/strict";
import { File } from "node:buffer";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

const { client: clientUrl, url: baseUrl, token, picture } = JSON.parse(process.env.EARMARK_CLIENT_TEST);
const { EarmarkClient, Problem, Unreachable, isTransient } = await import(clientUrl);
const PNG = await readFile(picture);
const client = new EarmarkClient({ baseUrl, token });
const file = (name, content = PNG) => new File([content], name, { type: "image/png" });

/** Reads events until one fits; the test's own time limit bounds it. */
async function until(events, fits) {
  for (;;) {
    const { value, done } = await events.next();
    assert.ok(!done, "the events ended");
    if (fits(value)) return value;
  }
}

const isHolding = (held) => (event) => event.type === "usage" && event.usage.resources.images.held === held;
const isImage = (imageId, state) => (event) =>
  event.type === "image" && event.image.imageId === imageId && event.image.state === state;

test("reserve, upload with progress, and the events of it", async () => {
  const events = client.events();
  const ready = (await events.next()).value;
  assert.deepEqual([ready.type, ready.resumed], ["ready", false]);
  const { images, usage } = await client.reserve([file("a.png")]);
  assert.equal(usage.resources.images.held, 1);
  await until(events, isHolding(1));
  const progress = [];
  let stored = false;
  const image = await client.upload(images[0], file("a.png"), {
    onProgress: (sent) => progress.push(sent),
    onStored: () => (stored = true),
  });
  assert.deepEqual([image.state, progress.at(-1), stored], ["uploaded", PNG.length, true]);
  const done = await until(events, isImage(image.imageId, "completed"));
  assert.ok((await fetch(done.image.thumbnailUrl)).ok);
  await until(events, (event) => event.type === "usage" && event.usage.resources.images.committed === 1);
  await events.return();
  const kinds = (await client.history()).entries.filter((entry) => entry.resource === "images").map(({ kind }) => kind);
  assert.deepEqual(kinds, ["commit", "reserve"]);
  assert.equal((await client.remove(image.imageId)).state, "deleted");
  assert.deepEqual((await client.images()).images, []);
});

test("aborting an upload gives the quota back", async () => {
  const { images } = await client.reserve([file("a.png"), file("b.png")]);
  const abort = new AbortController();
  abort.abort();
  assert.equal((await client.upload(images[0], file("a.png"), { signal: abort.signal })).state, "cancelled");
  const midway = new AbortController();
  const sending = client.upload(images[1], file("b.png"), { signal: midway.signal, onStored: () => midway.abort() });
  assert.ok(["cancelled", "processing", "completed"].includes((await sending).state));
  const { held } = (await client.usage()).resources.images;
  assert.ok(held === 0 || (await client.image(images[1].imageId)).state === "processing");
});

test("an upload that fails says why and costs nothing", async () => {
  const bad = file("bad.png", "this is no picture");
  const { images } = await client.reserve([bad, file("short.png")]);
  const rejected = await client.upload(images[0], bad);
  assert.deepEqual([rejected.state, rejected.cause], ["rejected", "validation_failed"]);
  assert.ok(rejected.reason);
  const failed = await client.upload(images[1], file("short.png", PNG.subarray(0, 20)));
  assert.deepEqual([failed.state, failed.cause], ["failed", "upload_failed"]);
  assert.equal((await client.usage()).used, 0);
  const again = await client.retry(images[1].imageId);
  assert.equal((await client.upload(again.images[0], file("short.png"))).state, "uploaded");
});

test("resume after a reload", async () => {
  const files = [file("arrived.png"), file("not yet.png")];
  const { images } = await client.reserve(files, { key: "before the reload" });
  await client.upload(images[0], files[0]);

  const reloaded = new EarmarkClient({ baseUrl, token });
  const found = await reloaded.resume(files, "before the reload");
  assert.deepEqual(found.map(({ target }) => target.imageId), images.map(({ imageId }) => imageId));
  assert.notEqual(found[0].image.state, "reserved");
  assert.equal(found[1].image.state, "reserved");
  assert.equal((await reloaded.upload(found[1].target, found[1].file)).state, "uploaded");
  assert.equal((await reloaded.usage()).used, 2);
  await assert.rejects(reloaded.resume([files[0]], "before the reload"), (error) => error.status === 422);
});

test("events go on where they were", async () => {
  const first = client.events();
  const { id } = await until(first, isHolding(0));
  await first.return();
  const { images } = await client.reserve([file("a.png")]);
  const abort = new AbortController();
  const second = client.events({ lastEventId: id, signal: abort.signal });
  assert.deepEqual((await second.next()).value, { type: "ready", id, resumed: true });
  await until(second, isImage(images[0].imageId, "reserved"));
  await client.release([images[0].imageId]);
  await until(second, isImage(images[0].imageId, "cancelled"));
  abort.abort();
  assert.equal((await second.next()).done, true);
});

test("refusals are problems, and no answer is another thing", async () => {
  const many = Array.from({ length: 21 }, (_, n) => file(`${n}.png`));
  await assert.rejects(client.reserve(many), (error) => {
    assert.ok(error instanceof Problem);
    assert.deepEqual([error.slug, error.members.limit, isTransient(error)], ["bulk-limit-exceeded", 20, false]);
    return true;
  });
  const nobody = new EarmarkClient({ baseUrl });
  await assert.rejects(nobody.usage(), (error) => error.status === 401);
  await assert.rejects(nobody.events().next(), (error) => error.status === 401);
  const nowhere = new EarmarkClient({ baseUrl: "http://127.0.0.1:9" });
  await assert.rejects(nowhere.usage(), (error) => error instanceof Unreachable && isTransient(error));
  const events = nowhere.events();
  assert.equal((await events.next()).value.type, "lost");
  await events.return();
});
