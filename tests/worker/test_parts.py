"""Large files come in parts: the same flow, on both stores, and nothing is left of one that ends before its time."""

import asyncio
from datetime import UTC, datetime
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import pytest

from earmark.errors import UploadFailed
from earmark.uploads.model import File
from earmark.uploads.recovery import sweep
from earmark.uploads.storage import LocalStorage, ObjectMissing, StorageUnavailable, UploadRefused
from fixtures.pictures import large_picture

PART = 5 * 2**20
SETTINGS = {"parts_over_bytes": PART, "part_bytes": PART}
UPLOAD_TTL = 1201


PNG = large_picture()


async def reserved(flow, data=PNG, key=None):
    preupload = await flow.uploads.reserve("alice", [File("large.png", "image/png", len(data))], key=key)
    (upload,) = preupload.uploads
    return upload


async def send(storage, part, data):
    """PUTs one part as a client would; the status."""
    body = data[part.offset : part.offset + part.size]
    if not isinstance(storage, LocalStorage):
        async with httpx.AsyncClient(timeout=60) as client:
            return (await client.put(part.request.url, content=body)).status_code

    async def chunks():
        yield body

    url = urlsplit(part.request.url)
    key, query = unquote(url.path.removeprefix("/storage/")), dict(parse_qsl(url.query))
    try:
        grant = storage.verify_part(key, query, {"Content-Length": str(len(body))}, datetime.now(UTC))
        await storage.receive_part(grant, chunks())
    except (UploadRefused, ObjectMissing) as error:
        return error.status
    return 201


async def left(flow):
    return [stored.key async for stored in flow.storage.list()]


def test_a_large_file_comes_in_parts_and_completes(flow_of, storage, tmp_path):
    async def run():
        async with flow_of(storage=storage, **SETTINGS) as flow:
            upload = await reserved(flow, key="k")
            assert upload.request is None
            assert [(part.number, part.offset, part.size) for part in upload.parts] == [
                (1, 0, PART),
                (2, PART, len(PNG) - PART),
            ]
            again = await reserved(flow, key="k")
            assert again.image.upload_id == upload.image.upload_id
            assert [await send(storage, part, PNG) < 300 for part in reversed(again.parts)] == [True, True]
            image = await flow.uploads.complete(upload.image.image, subject="alice")
            assert (image.state, await send(storage, upload.parts[0], PNG)) == ("uploaded", 404)
            assert await flow.jobs().run(image.image) == "completed"
            assert await flow.used() == (1, 0, len(PNG), 0)
            await storage.download(image.key, tmp_path / "whole")
            assert (tmp_path / "whole").read_bytes() == PNG

    asyncio.run(run())


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "begun before sizes were noted"])
def test_an_upload_goes_on_in_the_parts_it_began_with(flow_of, storage, connection, noted):
    """A client that comes back has sent some of them."""

    async def run():
        async with flow_of(storage=storage, **SETTINGS) as flow:
            before = await reserved(flow, key="k")
            assert await send(storage, before.parts[0], PNG) < 300
        if not noted:
            connection.execute("UPDATE earmark._private_image SET part_bytes = NULL")
        larger = SETTINGS | {"part_bytes": 2 * PART}
        async with flow_of(storage=storage, **(larger if noted else SETTINGS)) as flow:
            after = await reserved(flow, key="k")
            assert [(part.offset, part.size) for part in after.parts] == [
                (part.offset, part.size) for part in before.parts
            ]
            assert await send(storage, after.parts[1], PNG) < 300
            assert (await flow.uploads.complete(after.image.image, subject="alice")).state == "uploaded"

    asyncio.run(run())


def test_a_file_that_is_not_larger_comes_whole(flow_of):
    async def run():
        async with flow_of(parts_over_bytes=len(PNG), part_bytes=PART) as flow:
            upload = await reserved(flow)
            assert (upload.request is None, upload.parts, upload.image.upload_id) == (False, (), None)

    asyncio.run(run())


def test_complete_without_all_parts_gives_back_and_leaves_nothing(flow_of, storage):
    async def run():
        async with flow_of(storage=storage, **SETTINGS) as flow:
            upload = await reserved(flow)
            await send(storage, upload.parts[0], PNG)
            with pytest.raises(UploadFailed, match="Not all parts"):
                await flow.uploads.complete(upload.image.image)
            assert await flow.used() == (0, 0, 0, 0)
            assert (await sweep(flow.uploads)).removed == 1
            assert await send(storage, upload.parts[1], PNG) == 404
            assert await left(flow) == []

    asyncio.run(run())


@pytest.mark.parametrize("end", ["cancel", "expiry"])
def test_an_upload_that_ends_before_its_time_is_aborted(flow_of, clock, storage, end):
    async def run():
        async with flow_of(storage=storage, **SETTINGS) as flow:
            upload = await reserved(flow)
            await send(storage, upload.parts[0], PNG)
            if end == "cancel":
                await flow.uploads.cancel(upload.image.image, subject="alice")
            else:
                clock.advance(UPLOAD_TTL)
            await sweep(flow.uploads)
            assert await flow.state(upload.image) == ("cancelled" if end == "cancel" else "expired")
            assert [await send(storage, part, PNG) for part in upload.parts] == [404, 404]
            await storage.join_parts(upload.image.key, upload.image.upload_id, len(PNG))
            assert await left(flow) == []
            assert await flow.used() == (0, 0, 0, 0)

    asyncio.run(run())


def test_parts_that_have_all_come_without_a_word_are_adopted(flow_of, clock, storage):
    async def run():
        async with flow_of(storage=storage, **SETTINGS) as flow:
            upload = await reserved(flow)
            for part in upload.parts:
                await send(storage, part, PNG)
            clock.advance(UPLOAD_TTL)
            assert dict((await sweep(flow.uploads)).images) == {"adopted": 1}
            assert await flow.jobs().run(upload.image.image) == "completed"

    asyncio.run(run())


@pytest.mark.parametrize("end", ["cancel", "expiry"])
@pytest.mark.parametrize("foreign", ["0123456789abcdef" * 2, "VXBsb2FkIElEIGZvciBlbHZpbmcncyBtb3ZpZS5tMnRzIHVwbG9hZA"])
def test_an_upload_in_parts_that_another_store_began_ends_too(flow_of, clock, storage, connection, end, foreign):
    """Of before `EARMARK_STORAGE_URL` was changed."""

    async def run():
        async with flow_of(storage=storage, **SETTINGS) as flow:
            upload = await reserved(flow)
            connection.execute("UPDATE earmark._private_image SET upload_id = %s", (foreign,))
            if end == "cancel":
                await flow.uploads.cancel(upload.image.image, subject="alice")
            else:
                clock.advance(UPLOAD_TTL)
            report = await sweep(flow.uploads)
            assert (report.removed, dict(report.failed)) == (1, {})
            assert await flow.state(upload.image) == ("cancelled" if end == "cancel" else "expired")
            assert await flow.used() == (0, 0, 0, 0)

    asyncio.run(run())


def test_many_completes_at_once_enqueue_one_job(flow_of, storage):
    async def run():
        async with flow_of(storage=storage, **SETTINGS) as flow:
            upload = await reserved(flow)
            for part in upload.parts:
                await send(storage, part, PNG)
            images = await asyncio.gather(*(flow.uploads.complete(upload.image.image) for _ in range(4)))
            assert {image.state for image in images} == {"uploaded"}
            assert await flow.jobs_waiting() == [upload.image.image]

    asyncio.run(run())


def test_replays_at_once_begin_one_upload(flow_of):
    async def run():
        async with flow_of(**SETTINGS) as flow:
            uploads = await asyncio.gather(*(reserved(flow, key="k") for _ in range(5)))
            assert len({upload.image.upload_id for upload in uploads}) == 1
            assert len(list((flow.storage._folder.root / ".parts").iterdir())) == 1

    asyncio.run(run())


@pytest.mark.parametrize(("key", "held"), [(None, 0), ("k", 1)])
def test_a_store_that_is_away_leaves_no_hold_behind_unless_it_can_be_asked_for_again(flow_of, monkeypatch, key, held):
    async def run():
        async with flow_of(**SETTINGS) as flow:

            async def away(key, *, content_type):
                raise StorageUnavailable("the store does not answer")

            monkeypatch.setattr(flow.storage, "begin_parts", away)
            with pytest.raises(StorageUnavailable):
                await reserved(flow, key=key)
            assert (await flow.used())[1] == held
            monkeypatch.undo()
            upload = await reserved(flow, key=key)
            assert len(upload.parts) == 2
            assert (await flow.used())[1] == 1

    asyncio.run(run())
