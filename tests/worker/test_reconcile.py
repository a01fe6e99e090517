"""The store against the books, both ways: found, told, and repaired without touching what is on its way."""

import asyncio
import base64
import dataclasses
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from earmark.uploads import reconcile as module
from earmark.uploads.processing import make_thumbnail
from earmark.uploads.reconcile import A_FEW, LittleInCommon, reconcile
from earmark.uploads.recovery import sweep
from earmark.uploads.storage import LocalStorage
from earmark.worker.sweeper import abort_forgotten_parts_once
from fixtures.pictures import picture

JPEG = picture()
TYPE = "image/jpeg"
OUTSIDE = {
    "processing": "external",
    "public_url": "https://earmark.test",
    "processor_url": "https://processor.test",
    "webhook_secrets": "whsec_" + base64.b64encode(b"k" * 32).decode(),
}


async def differences(flow, *, repair=False, force=False, later=timedelta(days=1)):
    found = reconcile(flow.uploads, moment=datetime.now(UTC) + later, repair=repair, force=force)
    return {(drift.difference.value, drift.key): drift async for drift in found}


async def completed(flow):
    image = await flow.uploaded(JPEG)
    assert await flow.jobs().run(image.image) == "completed"
    return await flow.uploads.image(image.image)


async def keys(flow):
    return {stored.key async for stored in flow.storage.list()}


async def repaired(flow, *expected):
    """What was found is told, then dealt with, then gone."""
    assert set(await differences(flow)) == set(expected)
    done = await differences(flow, repair=True)
    assert set(done) == set(expected)
    assert all(drift.repaired for drift in done.values())
    assert await differences(flow) == {}


def test_where_they_agree_there_is_nothing_to_tell(flow_of, storage):
    async def run():
        async with flow_of(storage=storage) as flow:
            await completed(flow)
            await flow.uploaded(JPEG)
            await flow.put(await flow.reserve(JPEG), JPEG)
            before = await keys(flow)
            assert await differences(flow, repair=True) == {}
            assert await keys(flow) == before

    asyncio.run(run())


def test_objects_that_nothing_needs_are_removed(flow_of, storage):
    async def run():
        async with flow_of(storage=storage) as flow:
            image = await completed(flow)
            wanted = await keys(flow)
            stray, stale = f"images/{uuid4()}/original", f"{image.folder}/7-thumbnail"
            for key in (stray, stale):
                await flow.storage.put(key, JPEG, content_type=TYPE)
            assert await differences(flow, later=timedelta(0)) == {}, "too young to be judged"
            await repaired(flow, ("unknown", stray), ("left_over", stale))
            assert await keys(flow) == wanted

    asyncio.run(run())


def test_what_came_after_the_last_sweep_for_it_is_removed(flow_of, clock):
    async def run():
        async with flow_of() as flow:
            image = await flow.reserve(JPEG)
            await flow.put(image, JPEG)
            await flow.uploads.cancel(image.image, subject="alice")
            assert await differences(flow, repair=True) == {}, "the sweeper is to remove it"
            assert await flow.storage.head(image.key) is not None
            clock.advance(4600)
            assert [(await sweep(flow.uploads)).removed for _ in range(4)] == [1, 1, 1, 0]
            await flow.put(image, JPEG)
            await repaired(flow, ("left_over", image.key))
            assert await keys(flow) == set()

    asyncio.run(run())


def test_what_is_not_ours_is_told_and_never_removed(flow_of):
    async def run():
        async with flow_of() as flow:
            await flow.storage.put("images/holiday.jpg", JPEG, content_type=TYPE)
            await flow.storage.put("elsewhere/holiday.jpg", JPEG, content_type=TYPE)
            for repair in (False, True, True):
                (drift,) = (await differences(flow, repair=repair)).values()
                assert (drift.difference, drift.key, drift.repaired) == ("foreign", "images/holiday.jpg", False)
            assert len(await keys(flow)) == 2

    asyncio.run(run())


def test_a_completed_image_without_its_object_fails_and_what_is_refundable_comes_back(flow_of, storage):
    async def run():
        async with flow_of(storage=storage) as flow:
            image, other = await completed(flow), await completed(flow)
            await flow.storage.delete([image.key])
            await repaired(flow, ("missing", image.key))
            lost = await flow.uploads.image(image.image)
            assert (lost.state, lost.cause, flow.uploads.permits.download_url(lost)) == ("failed", None, None)
            assert "lost from the store" in lost.reason
            assert await flow.used() == (2, 0, len(JPEG), 0), "bytes come back, the month's images do not"
            (entry,) = (await flow.uploads.ledger.history("alice"))[:1]
            assert (entry.kind, entry.actor, entry.committed) == ("refund", "reconcile", -len(JPEG))
            assert "lost" in entry.reason
            await sweep(flow.uploads)
            assert {key.rpartition("/")[0] for key in await keys(flow)} == {other.folder}
            again = await flow.uploads.retry(image.image, subject="alice")
            assert len(again.uploads) == 1

    asyncio.run(run())


def test_a_completed_image_with_another_object_fails_and_the_other_is_never_shown(flow_of, storage):
    async def run():
        async with flow_of(storage=storage) as flow:
            image = await completed(flow)
            await flow.put(image, JPEG + b"<script>")
            (drift,) = (await differences(flow)).values()
            assert (drift.expected, drift.found) == (len(JPEG), len(JPEG) + 8)
            await repaired(flow, ("size_differs", image.key))
            lost = await flow.uploads.image(image.image)
            assert (lost.state, flow.uploads.permits.download_url(lost)) == ("failed", None)
            assert "changed" in lost.reason
            await sweep(flow.uploads)
            assert await keys(flow) == set()

    asyncio.run(run())


def without_outputs(source):
    return dataclasses.replace(make_thumbnail(source), outputs=())


def test_a_lost_thumbnail_is_made_again(flow_of, storage):
    async def run():
        async with flow_of(storage=storage) as flow:
            image = await completed(flow)
            thumbnail = image.outputs["thumbnail"].key
            before = await flow.content(thumbnail)
            assert await flow.jobs().run(image.image) == "completed", "nothing is lost yet"
            waiting = await flow.jobs_waiting()
            await flow.storage.delete([thumbnail])
            assert set(await differences(flow)) == {("output_missing", thumbnail)}
            (drift,) = (await differences(flow, repair=True)).values()
            assert drift.repaired
            assert await flow.jobs_waiting() == [*waiting, image.image]
            assert await flow.jobs().run(image.image) == "remade"
            assert await flow.jobs().run(image.image) == "completed"
            assert await differences(flow) == {}
            assert await flow.content(thumbnail) == before
            assert await flow.uploads.image(image.image) == image
            assert await flow.used() == (1, 0, len(JPEG), 0)

    asyncio.run(run())


@pytest.mark.parametrize("settings", [{}, OUTSIDE], ids=["worker", "external"])
def test_an_output_that_cannot_be_made_again_is_forgotten_and_the_image_stays(flow_of, settings):
    async def run():
        async with flow_of(**settings) as flow:
            image = await completed(flow)
            thumbnail = image.outputs["thumbnail"].key
            await flow.storage.delete([thumbnail])
            assert set(await differences(flow, repair=True)) == {("output_missing", thumbnail)}
            assert await flow.jobs(without_outputs).run(image.image) == "completed"
            assert await differences(flow) == {}
            kept = await flow.uploads.image(image.image)
            assert (kept.state, dict(kept.outputs)) == ("completed", {})
            assert await flow.used() == (1, 0, len(JPEG), 0)

    asyncio.run(run())


def test_what_is_made_again_of_an_image_that_is_deleted_meanwhile_does_not_stay(flow_of, monkeypatch):
    async def run():
        async with flow_of() as flow:
            image = await completed(flow)
            await flow.storage.delete([image.outputs["thumbnail"].key])
            put = flow.storage.put

            async def deleted_just_before(key, data, *, content_type):
                await flow.uploads.delete(image.image, subject="alice")
                await sweep(flow.uploads)
                await put(key, data, content_type=content_type)

            monkeypatch.setattr(flow.storage, "put", deleted_just_before)
            assert await flow.jobs().run(image.image) == "completed"
            assert await keys(flow) == set()

    asyncio.run(run())


def test_what_is_deleted_while_it_is_looked_at_is_no_drift(flow_of, monkeypatch):
    async def run():
        async with flow_of() as flow:
            image = await completed(flow)
            head = flow.storage.head

            async def deleted_just_then(key):
                monkeypatch.undo()
                await flow.uploads.delete(image.image, subject="alice")
                await sweep(flow.uploads)
                return await head(key)

            monkeypatch.setattr(flow.storage, "head", deleted_just_then)
            assert await differences(flow, repair=True) == {}

    asyncio.run(run())


@pytest.mark.parametrize("page", [1, 3, 4])
def test_everything_is_found_whatever_the_size_of_a_page(flow_of, monkeypatch, page):
    monkeypatch.setattr(module, "PAGE", page)
    monkeypatch.setattr(module, "LOOKS_AT_ONCE", 2)

    async def run():
        async with flow_of() as flow:
            images = [await completed(flow) for _ in range(4)]
            await flow.storage.delete([image.key for image in images])
            strays = [f"images/{uuid4()}/original" for _ in range(4)]
            for stray in strays:
                await flow.storage.put(stray, JPEG, content_type=TYPE)
            expected = {("missing", image.key) for image in images} | {("unknown", stray) for stray in strays}
            assert set(await differences(flow)) == expected

    asyncio.run(run())


def test_neither_another_store_nor_another_database_is_repaired_unless_it_is_meant(flow_of, tmp_path, connection):
    async def run():
        async with flow_of() as flow:
            images = [await completed(flow) for _ in range(A_FEW + 1)]
            before, used = await keys(flow), await flow.used()
            empty = LocalStorage(tmp_path / "another", secret=b"s" * 32, public_url="")
            async with flow_of(storage=empty) as elsewhere:
                with pytest.raises(LittleInCommon, match="11 of the first 11 completed images have no object"):
                    await differences(elsewhere, repair=True)
                assert len(await differences(elsewhere)) == len(images)
                assert await elsewhere.used() == used
                assert len(await differences(elsewhere, repair=True, force=True)) == len(images)
                assert await elsewhere.used() == (used[0], 0, 0, 0)
            assert await keys(flow) == before
            connection.execute("UPDATE earmark._private_image SET image = gen_random_uuid()")  # as in other books
            with pytest.raises(LittleInCommon, match="22 of the first 22 objects are of images that are not in"):
                await differences(flow, repair=True)
            assert await keys(flow) == before
            await differences(flow, repair=True, force=True)
            assert await keys(flow) == set()

    asyncio.run(run())


def test_an_upload_in_parts_that_nobody_noted_is_aborted(flow_of, s3):
    """As a service leaves it that dies between beginning one and noting its id."""

    async def unfinished(flow):
        return {one.upload_id async for one in flow.storage.unfinished_parts()}

    async def run():
        async with flow_of(storage=s3, parts_over_bytes=10) as flow:
            awaited = await flow.reserve(JPEG)
            foreign = await s3.begin_parts("images/holiday.jpg", content_type=TYPE)
            unknown = f"images/{uuid4()}/original"
            forgotten = [await s3.begin_parts(key, content_type=TYPE) for key in (awaited.key, unknown)]
            noted = (await flow.uploads.image(awaited.image)).upload_id
            everything = {noted, foreign, *forgotten}
            assert await unfinished(flow) == everything
            assert await differences(flow, repair=True, later=timedelta(0)) == {}, "too young to be judged"
            assert await unfinished(flow) == everything
            await repaired(flow, ("unfinished", awaited.key), ("unfinished", unknown))
            assert await unfinished(flow) == {noted, foreign}
            assert await abort_forgotten_parts_once(flow.uploads) == {}
            await flow.uploads.cancel(awaited.image, subject="alice")
            await repaired(flow, ("unfinished", awaited.key))
            assert await unfinished(flow) == {foreign}

    asyncio.run(run())
