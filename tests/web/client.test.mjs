// The client in Node, against a running service. Each test is a subject of its own; see test_client.py.
import assert from "node:assert/strict";
import { File } from "node:buffer";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { buffer } from "node:stream/consumers";
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

/** A way to the service on which some requests go wrong: `spoil(request, response)` answers true where it did so. */
async function badWay(spoil) {
  const server = createServer(async (request, response) => {
    const body = await buffer(request);
    if (spoil(request, response)) return;
    const { host, connection, ...headers } = request.headers;
    const sent = { method: request.method, headers, body: body.length > 0 ? body : undefined };
    const answer = await fetch(baseUrl + request.url, sent);
    response.writeHead(answer.status, { "content-type": answer.headers.get("content-type") ?? "text/plain" });
    response.end(Buffer.from(await answer.arrayBuffer()));
  });
  server.listen(0, "127.0.0.1").unref(); // a test that fails does not close it
  await once(server, "listening");
  const url = `http://127.0.0.1:${server.address().port}`;
  const close = () => (server.closeAllConnections(), server.close());
  return { url, client: new EarmarkClient({ baseUrl: url, token, timeoutMs: 5000 }), close };
}

/** Spoils the first request to such an address. */
function theFirst(pattern, how) {
  let done = false;
  return (request, response) => {
    if (done || !pattern.test(request.url)) return false;
    done = true;
    how(request, response);
    return true;
  };
}

test("what is being worked on is asked for again", async () => {
  const way = await badWay(
    theFirst(/cancel$/, (_, response) => {
      response.writeHead(409, { "content-type": "application/problem+json" });
      response.end(JSON.stringify({ type: "/problems/request-in-flight", status: 409 }));
    }),
  );
  const { images } = await client.reserve([file("a.png")]);
  assert.equal((await way.client.cancel(images[0].imageId)).state, "cancelled");
  way.close();
});

test("what a busy gateway turns away is sent again, and what quota turns away is not", async () => {
  const turnsAway = { preupload: 429, original: 503, complete: 408 };
  const way = await badWay((request, response) => {
    const step = Object.keys(turnsAway).find((one) => request.url.includes(one));
    if (!step) return false;
    response.writeHead(turnsAway[step], { "content-type": "text/html" }).end("<h1>Busy</h1>");
    delete turnsAway[step];
    return true;
  });
  const { images } = await way.client.reserve([file("a.png")]);
  const target = { ...images[0], uploadUrl: images[0].uploadUrl.replace(baseUrl, way.url) };
  assert.equal((await way.client.upload(target, file("a.png"))).state, "uploaded");
  assert.deepEqual(turnsAway, {});
  way.close();
  assert.equal(isTransient(new Problem(429, { type: "/problems/quota-exceeded" })), false);
  for (const status of [408, 429, 502, 503, 504]) assert.ok(isTransient(new Problem(status, {})));
  for (const status of [403, 500]) assert.equal(isTransient(new Problem(status, {})), false);
});

test("bytes that a connection lost are sent again", async () => {
  const way = await badWay(theFirst(/original/, (request) => request.socket.destroy()));
  const { images } = await client.reserve([file("a.png")]);
  const target = { ...images[0], uploadUrl: images[0].uploadUrl.replace(baseUrl, way.url) };
  assert.equal((await client.upload(target, file("a.png"))).state, "uploaded");
  way.close();
});

/** The client's pauses during `act`, in milliseconds, none of which takes any time. */
async function pausesOf(act) {
  const { setTimeout } = globalThis;
  const pauses = [];
  globalThis.setTimeout = (end, milliseconds, ...given) => {
    if (!new Error().stack.includes(clientUrl)) return setTimeout(end, milliseconds, ...given); // Node's own
    pauses.push(milliseconds);
    return setTimeout(end, 0);
  };
  try {
    await act();
  } finally {
    globalThis.setTimeout = setTimeout;
  }
  return pauses;
}

test("bytes wait for a service that is restarted, each client as long as it happens", async () => {
  let puts = 0;
  const way = await badWay((request) => {
    if (!request.url.includes("original")) return false;
    puts += 1;
    request.socket.destroy();
    return true;
  });
  const { images } = await client.reserve([file("a.png")]);
  const target = { ...images[0], uploadUrl: images[0].uploadUrl.replace(baseUrl, way.url) };
  const pauses = await pausesOf(() => assert.rejects(client.send(target, file("a.png")), Unreachable));
  assert.equal(puts, 7);
  const longest = [500, 1000, 2000, 4000, 8000, 16_000];
  assert.ok(pauses.every((one, n) => longest[n] / 2 <= one && one <= longest[n]), `${pauses}`);
  assert.ok(pauses.some((one) => !Number.isInteger(one)));
  await client.cancel(images[0].imageId);
  way.close();
});

test("what the service asks for is waited for, within reason", async () => {
  for (const [asked, heeded] of [["7", 7000], ["86400", 30_000], ["Fri, 27 Nov 2026 21:00:00 GMT", 0]]) {
    const way = await badWay(
      theFirst(/preupload/, (_, response) => response.writeHead(503, { "retry-after": asked }).end()),
    );
    let granted;
    const [pause] = await pausesOf(async () => (granted = await way.client.reserve([file("a.png")])));
    assert.ok(heeded + 250 <= pause && pause <= heeded + 500, `${asked}: ${pause}`);
    await client.release(granted.images.map(({ imageId }) => imageId));
    way.close();
  }
});

test("bytes whose answer a connection lost are stored once", async () => {
  let puts = 0;
  const way = await badWay((request, response) => {
    if (!request.url.includes("original")) return false;
    puts += 1;
    if (puts === 1) response.end = () => request.socket.destroy();
    return false;
  });
  const { images } = await client.reserve([file("a.png")]);
  const target = { ...images[0], uploadUrl: images[0].uploadUrl.replace(baseUrl, way.url) };
  assert.equal((await client.upload(target, file("a.png"))).state, "uploaded");
  assert.equal(puts, 2);
  assert.equal((await client.usage()).used, 1);
  way.close();
});

test("bytes that the store refuses are not sent again, and cost nothing", async () => {
  let puts = 0;
  const way = await badWay((request, response) => {
    if (!request.url.includes("original")) return false;
    puts += 1;
    response.writeHead(403).end();
    return true;
  });
  const { images } = await client.reserve([file("a.png")]);
  const target = { ...images[0], uploadUrl: images[0].uploadUrl.replace(baseUrl, way.url) };
  const failed = await client.upload(target, file("a.png"));
  assert.deepEqual([failed.state, failed.reason, puts], ["failed", "The upload failed: The upload link is no longer valid.", 1]);
  assert.equal((await client.usage()).used, 0);
  way.close();
});

test("bytes at which a service that ends, or a store, fails are sent again", async () => {
  const way = await badWay(theFirst(/original/, (_, response) => response.writeHead(500).end()));
  const { images } = await client.reserve([file("a.png")]);
  const target = { ...images[0], uploadUrl: images[0].uploadUrl.replace(baseUrl, way.url) };
  assert.equal((await client.upload(target, file("a.png"))).state, "uploaded");
  way.close();
});

test("a body that a proxy finds too large is not said to be longer than declared", async () => {
  const [html, problem] = [{ "content-type": "text/html" }, { "content-type": "application/problem+json" }];
  const answers = [
    [html, "<h1>413 Request Entity Too Large</h1>", "A proxy or the store takes no body of this size (413)."],
    [problem, '{"type": "/problems/too-long", "status": 413}', "More bytes arrived than were declared."],
  ];
  for (const [headers, body, message] of answers) {
    const way = await badWay((_, response) => (response.writeHead(413, headers).end(body), true));
    await assert.rejects(client.put({ uploadUrl: `${way.url}/original` }, file("a.png")), { message });
    way.close();
  }
});

test("of a large file only what was not stored yet is sent", async () => {
  const sent = [];
  const way = await badWay((request, response) => {
    sent.push([request.method, request.url, request.headers["content-length"]]);
    response.writeHead(200).end();
    return true;
  });
  const parts = [0, 10, 20].map((offset) => ({ uploadUrl: `${way.url}/${offset}`, offset, size: offset === 20 ? 5 : 10 }));
  const [stored, progress] = [[], []];
  await client.send({ parts }, file("large.png", PNG.subarray(0, 25)), {
    storedBytes: 10,
    onPart: (bytes) => stored.push(bytes),
    onProgress: (bytes) => progress.push(bytes),
  });
  assert.deepEqual(sent, [
    ["PUT", "/10", "10"],
    ["PUT", "/20", "5"],
  ]);
  assert.deepEqual([stored, progress.at(-1)], [[20, 25], 25]);
  await assert.rejects(client.put(parts[0], PNG, { signal: AbortSignal.abort() }), { name: "AbortError" });
  assert.equal(sent.length, 2);
  way.close();
});

test("what ended meanwhile is told as it ended, and a refusal of the last word is thrown", async () => {
  const { images } = await client.reserve([file("a.png"), file("b.png")]);
  await client.release([images[0].imageId]);
  const ended = await client.complete(images[0].imageId);
  assert.deepEqual([ended.state, ended.cause], ["cancelled", "cancelled"]);
  assert.ok(ended.reason);
  const way = await badWay((request, response) => {
    if (!request.url.endsWith("complete")) return false;
    response.writeHead(403, { "content-type": "application/problem+json" }).end('{"title": "Not now"}');
    return true;
  });
  await assert.rejects(way.client.upload(images[1], file("b.png")), (error) => {
    assert.deepEqual([error instanceof Problem, error.status, error.message], [true, 403, "Not now"]);
    return true;
  });
  way.close();
});

test("events go on after a connection that broke", async () => {
  const asked = [];
  const way = await badWay((request, response) => {
    asked.push(request.headers["last-event-id"]);
    response.writeHead(200, { "content-type": "text/event-stream" });
    if (asked.length === 2) response.write('id: 7-2\nevent: ready\ndata: {"resumed": true}\n\n');
    else response.end('id: 7-1\nevent: ready\ndata: {"resumed": false}\n\n');
    return true;
  });
  const events = way.client.events();
  assert.deepEqual((await events.next()).value, { type: "ready", id: "7-1", resumed: false });
  assert.equal((await events.next()).value.type, "lost");
  assert.deepEqual((await events.next()).value, { type: "ready", id: "7-2", resumed: true });
  assert.deepEqual(asked, [undefined, "7-1"]);
  await events.return();
  way.close();
});

test("aborting while the last word is on its way gives the quota back", async () => {
  const abort = new AbortController();
  const way = await badWay((request) => {
    if (!request.url.endsWith("complete")) return false;
    abort.abort();
    request.socket.destroy();
    return true;
  });
  const { images } = await client.reserve([file("a.png")]);
  assert.equal((await way.client.upload(images[0], file("a.png"), { signal: abort.signal })).state, "cancelled");
  assert.equal((await client.usage()).used, 0);
  way.close();
});

test("an address may end with a slash", async () => {
  const slashed = new EarmarkClient({ baseUrl: `${baseUrl}/`, token });
  const { images } = await slashed.reserve([file("a.png")]);
  assert.equal((await slashed.upload(images[0], file("a.png"))).state, "uploaded");
});

test("a service that says nothing is not waited for without end", async () => {
  const way = await badWay(() => true);
  const impatient = new EarmarkClient({ baseUrl: way.url, token, timeoutMs: 50 });
  await assert.rejects(impatient.usage(), (error) => error instanceof Unreachable && isTransient(error));
  way.close();
});

test("what was deleted is told when the others are resumed", async () => {
  const files = [file("deleted.png"), file("not yet.png")];
  const { images } = await client.reserve(files, { key: "some are deleted" });
  await client.remove(images[0].imageId);
  const found = await client.resume(files, "some are deleted");
  assert.deepEqual(found.map(({ image }) => image.state), ["deleted", "reserved"]);
});

test("what answers in the place of the service is not believed", async () => {
  const portal = (_, response) => response.writeHead(200, { "content-type": "text/html" }).end("<p>Welcome</p>");
  const always = await badWay((request, response) => (portal(request, response), true));
  await assert.rejects(always.client.usage(), (error) => error instanceof Unreachable);
  always.close();
  const way = await badWay(theFirst(/preupload/, portal));
  assert.equal((await way.client.reserve([file("a.png")])).images.length, 1);
  assert.equal((await client.usage()).used, 1);
  way.close();
});
