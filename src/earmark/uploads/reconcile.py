"""Compares the object store with the books, both ways, and repairs what differs.

Only pages are ever in memory. What is on its way is never touched: objects of open images, objects that the sweeper is
yet to remove, and objects younger than an upload URL may live.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from earmark.errors import EarmarkError
from earmark.uploads import _calls
from earmark.uploads.flow import Uploads
from earmark.uploads.model import Image, State
from earmark.uploads.queue import enqueue
from earmark.uploads.storage import StoredObject

T = TypeVar("T")
PAGE = 200
LOOKS_AT_ONCE = 16
CLOCKS_DIFFER = timedelta(minutes=1)
"""By how much the store's clock may differ from ours."""
FOLDER = "images"
"""Where the objects of images are."""
ACTOR = "reconcile"
A_FEW = 10
"""Differences that a store and the books that belong together may begin with, however few they hold."""

_KEY = re.compile(f"{FOLDER}/([0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}})/.+")


class Difference(StrEnum):
    """How the store and the books differ: about objects, then completed images, then uploads that are under way."""

    FOREIGN = "foreign"
    """An object that Earmark has not made. It is never removed."""
    UNKNOWN = "unknown"
    """An object of an image that is not in the books. Repaired by removing it."""
    LEFT_OVER = "left_over"
    """An object that its image does not need, or no longer. Repaired by removing it."""
    MISSING = "missing"
    """A completed image has no object. Repaired by `image_lost`."""
    SIZE_DIFFERS = "size_differs"
    """A completed image's object is not of the size that was inspected. Repaired by `image_lost`."""
    OUTPUT_MISSING = "output_missing"
    """A completed image lacks an output of processing. Repaired by our worker, which makes it anew; else forgotten."""
    UNFINISHED = "unfinished"
    """An upload in parts that no open image waits for. Repaired by aborting it, which the worker does besides."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference; sizes in bytes.

    Attributes:
        expected: The size in the books, None where they have none.
        found: The size in the store, None where nothing is there.
        repaired: Whether it has been dealt with.
    """

    difference: Difference
    key: str
    image: UUID | None = None
    subject: str | None = None
    expected: int | None = None
    found: int | None = None
    repaired: bool = False


class LittleInCommon(EarmarkError):  # noqa: N818 - named for what is wrong
    """Most of the store is not in the books, or most of the books not in the store; nothing was repaired."""


async def reconcile(
    uploads: Uploads, *, moment: datetime, repair: bool = False, force: bool = False
) -> AsyncIterator[Drift]:
    """Every difference between the store and the books, as it is found and, with `repair`, dealt with.

    Safe beside live traffic, and to break off and repeat.

    Args:
        uploads: The flow whose store and books they are.
        moment: Now.
        repair: Whether to remove objects that nothing needs, to have lost outputs made anew, and to bring completed
            images whose object is gone to `failed`; see `Difference`.
        force: Whether to repair even what looks like another store's, or another database's.

    Raises:
        LittleInCommon: Without `force`: most of the oldest images lack their objects, or most of the first objects
            their images. Whoever has set the wrong store or database would lose everything.
        StorageError: The store did not answer; what has been reported until then stands.
    """
    if repair and not force:
        await _check_they_belong_together(uploads, moment)
    async for drift in _unneeded_objects(uploads, moment, repair):
        yield drift
    async for drift in _lost_objects(uploads, repair):
        yield drift
    async for drift in forgotten_parts(uploads, moment, repair=repair):
        yield drift


async def _check_they_belong_together(uploads: Uploads, moment: datetime) -> None:
    async with aclosing(_pages(uploads.storage.list(FOLDER))) as pages:
        objects: list[StoredObject] = await anext(pages, [])
    drifts = await _judged(uploads, objects, moment)
    unknown = sum(drift.difference is Difference.UNKNOWN for drift in drifts)
    async with uploads.pool.connection() as connection:
        images = await _calls.completed(connection, after=None, limit=PAGE)
    missing = 0
    for start in range(0, len(images), LOOKS_AT_ONCE):
        looks = (uploads.storage.head(image.key) for image in images[start : start + LOOKS_AT_ONCE])
        missing += (await asyncio.gather(*looks)).count(None)
    for what, lost, looked_at in (
        ("objects are of images that are not in the books", unknown, len(objects)),
        ("completed images have no object", missing, len(images)),
    ):
        if lost > A_FEW and 2 * lost > looked_at:
            raise LittleInCommon(
                f"{lost} of the first {looked_at} {what}, so nothing was repaired: is EARMARK_STORAGE_URL the store, "
                "and EARMARK_DATABASE_URL the database, that you mean? If they are, repair with --force."
            )


async def forgotten_parts(uploads: Uploads, moment: datetime, *, repair: bool) -> AsyncIterator[Drift]:
    """Uploads in parts that no open image waits for, as when the service died between beginning one and noting its id.

    Those that are younger than an upload URL may live are left alone. Arguments and errors: as `reconcile`.
    """
    before = moment - _life(uploads)
    async for page in _pages(uploads.storage.unfinished_parts(FOLDER)):
        owners = {one.upload_id: UUID(found[1]) for one in page if (found := _KEY.fullmatch(one.key))}
        async with uploads.pool.connection() as connection:
            known = await _calls.named(connection, list(set(owners.values())))
        for one in page:
            owner = owners.get(one.upload_id)
            image = known[owner][0] if owner in known else None
            awaited = image is not None and image.is_open and image.upload_id == one.upload_id
            if owner is not None and one.begun_at < before and not awaited:
                if repair:
                    await uploads.storage.abort_parts(one.key, one.upload_id)
                subject = None if image is None else image.subject
                yield Drift(Difference.UNFINISHED, one.key, owner, subject, repaired=repair)


async def _unneeded_objects(uploads: Uploads, moment: datetime, repair: bool) -> AsyncIterator[Drift]:
    before = moment - _life(uploads)
    async for page in _pages(uploads.storage.list(FOLDER)):
        old = [stored for stored in page if stored.modified_at < before]
        drifts = await _judged(uploads, old, moment)
        removable = [drift.key for drift in drifts if drift.difference is not Difference.FOREIGN]
        if repair and removable:
            await uploads.storage.delete(removable)
        for drift in drifts:
            yield replace(drift, repaired=repair and drift.difference is not Difference.FOREIGN)


def _life(uploads: Uploads) -> timedelta:
    return timedelta(seconds=uploads.settings.upload_hold_seconds) + CLOCKS_DIFFER


async def _judged(uploads: Uploads, objects: Sequence[StoredObject], moment: datetime) -> list[Drift]:
    owners = {stored.key: UUID(found[1]) for stored in objects if (found := _KEY.fullmatch(stored.key))}
    async with uploads.pool.connection() as connection:
        known = await _calls.named(connection, list(set(owners.values())))
    drifts = []
    for stored in objects:
        owner = owners.get(stored.key)
        if owner is None:
            drifts.append(Drift(Difference.FOREIGN, stored.key, found=stored.size))
        elif owner not in known:
            drifts.append(Drift(Difference.UNKNOWN, stored.key, owner, found=stored.size))
        else:
            image, removal_due = known[owner]
            if not removal_due and not _needs(image, stored.key, moment):
                drifts.append(Drift(Difference.LEFT_OVER, stored.key, owner, image.subject, found=stored.size))
    return drifts


def _needs(image: Image, key: str, moment: datetime) -> bool:
    """Whether the image has use for the object, or may yet come to it."""
    if image.is_open or moment < image.upload_expires_at + CLOCKS_DIFFER:
        return True
    return image.state is State.COMPLETED and key in {image.key, *(one.key for one in image.outputs.values())}


async def _lost_objects(uploads: Uploads, repair: bool) -> AsyncIterator[Drift]:
    after: UUID | None = None
    while True:
        async with uploads.pool.connection() as connection:
            page = await _calls.completed(connection, after=after, limit=PAGE)
        for start in range(0, len(page), LOOKS_AT_ONCE):
            looks = (_missed(uploads, image) for image in page[start : start + LOOKS_AT_ONCE])
            for drifts in await asyncio.gather(*looks):
                for drift in drifts:
                    yield replace(drift, repaired=repair and await _repair_image(uploads, drift))
        if len(page) < PAGE:
            return
        after = page[-1].image


async def _missed(uploads: Uploads, image: Image) -> list[Drift]:
    drifts = await _looked_at(uploads, image)
    if drifts:  # it may have been deleted, and its objects with it, since its page was read
        async with uploads.pool.connection() as connection:
            now = await _calls.named(connection, [image.image])
        if image.image not in now or now[image.image][0].state is not State.COMPLETED:
            return []
    return drifts


async def _looked_at(uploads: Uploads, image: Image) -> list[Drift]:
    stored = await uploads.storage.head(image.key)
    if stored is None:
        return [Drift(Difference.MISSING, image.key, image.image, image.subject, image.size)]
    if stored.size != image.size:
        return [Drift(Difference.SIZE_DIFFERS, image.key, image.image, image.subject, image.size, stored.size)]
    return [
        Drift(Difference.OUTPUT_MISSING, output.key, image.image, image.subject)
        for output in image.outputs.values()
        if await uploads.storage.head(output.key) is None
    ]


async def _repair_image(uploads: Uploads, drift: Drift) -> bool:
    assert drift.image is not None  # noqa: S101 - found by its image
    async with uploads.pool.connection() as connection, connection.transaction():
        if drift.difference is Difference.OUTPUT_MISSING:
            if uploads.settings.processing == "worker":
                await enqueue(connection, drift.image)
                return True
            image = (await _calls.named(connection, [drift.image]))[drift.image][0]
            names = [name for name, output in image.outputs.items() if output.key == drift.key]
            moved = await _calls.outputs_lost(connection, drift.image, names)
        else:
            what = "was lost from" if drift.difference is Difference.MISSING else "was changed in"
            reason = f"Its file {what} the store; what it took there was given back. Upload it again."
            moved = await _calls.lost(connection, drift.image, reason, actor=ACTOR)
    return moved.outcome in {"lost", "forgotten"}


async def _pages(found: AsyncIterator[T]) -> AsyncGenerator[list[T], None]:
    page: list[T] = []
    async for one in found:
        page.append(one)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page
