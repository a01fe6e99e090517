"""Cancelling at every stage: the quota comes back once, what was stored goes, and nobody is told two things."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from earmark.errors import AlreadySettled
from earmark.uploads import _calls
from earmark.uploads.model import File, State
from earmark.uploads.processing import Processed, Source
from earmark.uploads.recovery import sweep
from fixtures.life import complete, preupload, put
from fixtures.pictures import picture
from fixtures.races import all_at_once

JPEG = picture()
NOTHING = (0, 0, 0, 0)
UPLOAD_TTL = 1200
ROUNDS = 12
HOW_IT_ENDED = """
SELECT i.state, ARRAY(SELECT j.kind FROM earmark._private_journal j
    WHERE j.reservation = i.reservation AND j.item = i.item AND j.resource = 'images' ORDER BY j.seq)
FROM earmark._private_image i WHERE i.image = %s
"""


def never_called(source: Source) -> Processed:
    raise AssertionError("a cancelled image was processed")


async def stored(flow):
    return [one.key async for one in flow.storage.list()]


async def put_in_the_middle(flow, image, in_between):
    """A client's own PUT to S3, with something happening between its first and its last byte."""

    async def body() -> AsyncIterator[bytes]:
        yield JPEG[:100]
        await in_between()
        yield JPEG[100:]

    permit = flow.uploads.permits.whole(image)
    async with httpx.AsyncClient(timeout=60) as client:
        headers = {**permit.headers, "Content-Length": str(len(JPEG))}
        return await client.put(permit.url, content=body(), headers=headers)


@pytest.mark.parametrize("when", ["before", "middle", "between"])
def test_a_put_around_a_cancel_leaves_nothing_in_s3(flow_of, clock, s3, when):
    """S3 knows nothing of the cancel, so the bytes may arrive; they are never shown, and do not stay."""

    async def run():
        async with flow_of(storage=s3) as flow:
            image = await flow.reserve(JPEG)

            async def cancel():
                await flow.uploads.cancel(image.image, subject="alice")
                assert (await sweep(flow.uploads)).removed == 1

            async def nothing():
                return None

            if when == "before":
                await cancel()
            await put_in_the_middle(flow, image, cancel if when == "middle" else nothing)
            if when == "between":
                await cancel()
            assert await flow.used() == NOTHING
            with pytest.raises(AlreadySettled):
                await flow.uploads.complete(image.image, subject="alice")
            over = await flow.uploads.image(image.image)
            assert (over.state, flow.uploads.permits.download_url(over)) == ("cancelled", None)
            clock.advance(UPLOAD_TTL + 61)
            await sweep(flow.uploads)
            assert await stored(flow) == []

    asyncio.run(run())


def test_a_put_that_is_under_way_when_its_url_ends_is_accepted_in_s3(flow_of, clock, s3):
    async def run():
        async with flow_of(storage=s3) as flow:
            image = await flow.reserve(JPEG)

            async def url_ends():
                clock.advance((image.upload_expires_at - image.created_at).total_seconds() + 1)
                assert sum((await sweep(flow.uploads)).images.values()) == 0

            assert (await put_in_the_middle(flow, image, url_ends)).status_code == 200
            assert (await flow.uploads.complete(image.image, subject="alice")).state == "uploaded"

    asyncio.run(run())


def test_a_put_that_outlasts_its_deadline_stays_in_s3_for_an_hour_at_most(flow_of, clock, s3):
    async def run():
        async with flow_of(storage=s3) as flow:
            image = await flow.reserve(JPEG)

            async def expire():
                clock.advance(UPLOAD_TTL)
                assert (await sweep(flow.uploads)).removed == 1

            await put_in_the_middle(flow, image, expire)
            assert await flow.state(image) == "expired"
            assert await flow.used() == NOTHING
            assert await stored(flow) == [image.key]
            clock.advance(3600)
            assert (await sweep(flow.uploads)).removed == 1
            assert await stored(flow) == []
            clock.advance(86_400)
            assert (await sweep(flow.uploads)).removed == 0

    asyncio.run(run())


def test_cancelled_between_put_and_complete(flow_of, storage):
    async def run():
        async with flow_of(storage=storage) as flow:
            image = await flow.reserve(JPEG)
            await flow.put(image, JPEG)
            await flow.uploads.cancel(image.image, subject="alice")
            with pytest.raises(AlreadySettled, match="cancelled"):
                await flow.uploads.complete(image.image, subject="alice")
            assert await flow.jobs_waiting() == []
            await sweep(flow.uploads)
            assert (await flow.used(), await stored(flow)) == (NOTHING, [])

    asyncio.run(run())


def test_cancelled_while_it_waits_for_a_worker(flow_of, storage):
    async def run():
        async with flow_of(storage=storage) as flow:
            image = await flow.uploaded(JPEG)
            assert await flow.jobs_waiting() == [image.image]
            await flow.uploads.cancel(image.image, subject="alice")
            assert await flow.jobs(never_called).run(image.image) == "over"
            await sweep(flow.uploads)
            assert (await flow.used(), await stored(flow)) == (NOTHING, [])

    asyncio.run(run())


def test_cancelled_while_its_outputs_are_being_stored(flow_of, monkeypatch):
    async def run():
        async with flow_of() as flow:
            image = await flow.uploaded(JPEG)
            put_output = flow.storage.put

            async def cancelled_just_then(key, data, *, content_type):
                await put_output(key, data, content_type=content_type)
                await flow.uploads.cancel(image.image, subject="alice")

            monkeypatch.setattr(flow.storage, "put", cancelled_just_then)
            assert await flow.jobs().run(image.image) == "stale"
            assert await stored(flow) == [image.key]
            await sweep(flow.uploads)
            assert (await flow.used(), await stored(flow)) == (NOTHING, [])

    asyncio.run(run())


def test_cancelled_in_the_same_instant_as_completion(flow_of, connections):
    """Whoever is second is told what the first has done; one of them settles the hold, once."""

    async def ready():
        async with flow_of() as flow:
            images = [await flow.uploaded(JPEG) for _ in range(ROUNDS)]
            async with flow.uploads.pool.connection() as connection:
                for image in images:
                    await _calls.start(connection, image.image, flow.uploads.deadline(State.PROCESSING))
            return images

    def outcome(connection, query, image):
        return connection.execute(query, (image.image,)).fetchone()[0]

    cancel = "SELECT outcome FROM earmark.image_roll_back(%s, 'cancelled', 'alice')"
    finish = "SELECT outcome FROM earmark.image_complete(%s, 1, 'image/jpeg', '{}', '{}')"
    ends = set()
    for image in asyncio.run(ready()):
        told = tuple(
            all_at_once(
                [
                    lambda image=image: outcome(connections[0], cancel, image),
                    lambda image=image: outcome(connections[1], finish, image),
                ]
            )
        )
        state, kinds = connections[2].execute(HOW_IT_ENDED, (image.image,)).fetchone()
        ends.add((told, state, tuple(kinds)))
    assert ends <= {
        (("rolled_back", "stale"), "cancelled", ("reserve", "rollback")),
        (("already_committed", "completed"), "completed", ("reserve", "commit")),
    }


def test_cancels_and_jobs_at_once_end_in_one_way_each(flow_of):
    async def run():
        async with flow_of() as flow:
            images = [await flow.uploaded(JPEG) for _ in range(ROUNDS)]

            async def cancel(image):
                try:
                    return (await flow.uploads.cancel(image.image, subject="alice")).outcome
                except AlreadySettled:
                    return "too late"

            told = await asyncio.gather(
                *(asyncio.gather(flow.jobs().run(image.image), cancel(image)) for image in images)
            )
            await sweep(flow.uploads)
            completed = 0
            for image, (job, cancelled) in zip(images, told, strict=True):
                state = await flow.state(image)
                completed += state == "completed"
                assert (job == "completed") == (cancelled == "too late") == (state == "completed"), (job, cancelled)
            assert await flow.used() == (completed, 0, completed * len(JPEG), 0)
            assert len(await stored(flow)) == 2 * completed

    asyncio.run(run())


def test_over_http_a_worker_stops_at_what_was_cancelled_and_the_next_image_goes_on(service_of, tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    service = service_of(processor="gated_processor:process", test_gate=gate, processes=1).start()
    (image,) = preupload(service, JPEG)
    put(image, JPEG)
    complete(service, image)
    service.wait_until((tmp_path / "begun-1").exists)
    with service.client() as client:
        cancelled = client.post(f"/api/images/{image['imageId']}/cancel").raise_for_status().json()
    assert cancelled["image"]["state"] == "cancelled"
    assert [one["held"] for one in cancelled["usage"]["resources"].values()] == [0, 0]
    # The gate is still closed: only a worker that was told can have stopped.
    service.wait_until(lambda: [line["outcome"] for line in service.log_lines("job")] == ["stale"])
    gate.unlink()
    (other,) = preupload(service, JPEG)
    put(other, JPEG)
    complete(service, other)
    service.wait_until(lambda: {one["state"] for one in service.images()} == {"cancelled", "completed"})
    usage = service.usage()
    assert [(one["committed"], one["held"]) for one in usage.values()] == [(1, 0), (len(JPEG), 0)]


@pytest.mark.parametrize("where", ["database", "store"])
def test_a_reservation_that_is_cancelled_on_its_way_is_given_back(
    flow_of, connection, connections, eventually, monkeypatch, where
):
    """Without a key nobody could ask for it again, nor name it."""

    async def run():
        async with flow_of(parts_over_bytes=1) as flow:
            await flow.uploads.ledger.configure_subject("alice", plan="pro")
            at_the_store = asyncio.Event()

            async def never(key, *, content_type):
                at_the_store.set()
                await asyncio.Event().wait()

            async def waits_for_a_lock():
                query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
                return connection.execute(query, (connection.info.dbname,)).fetchone() == (1,)

            monkeypatch.setattr(flow.storage, "begin_parts", never)
            busy = connections[0]
            with busy.transaction():
                if where == "database":
                    busy.execute("SELECT FROM earmark._private_subject WHERE subject = 'alice' FOR UPDATE")
                task = asyncio.create_task(flow.uploads.reserve("alice", [File("a.jpg", "image/jpeg", 5)] * 2))
                await (eventually(waits_for_a_lock) if where == "database" else at_the_store.wait())
                task.cancel()
                await asyncio.sleep(0)
            await asyncio.wait([task])
            assert task.cancelled()
            assert await flow.used() == NOTHING
            entries = await flow.uploads.ledger.history("alice")
            assert sorted((one.kind, one.cause) for one in entries if one.resource == "images") == [
                ("reserve", None),
                ("reserve", None),
                ("rollback", "cancelled"),
                ("rollback", "cancelled"),
            ]

    asyncio.run(run())
