"""The upload flow on a real database, a local store and a pool of real processes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from earmark import AsyncLedger
from earmark.config import Settings
from earmark.ledger.service_pool import ServicePool
from earmark.uploads.flow import Uploads
from earmark.uploads.job import ImageJobs
from earmark.uploads.model import File, Image
from earmark.uploads.process_pool import ImagePool
from earmark.uploads.processing import Processor, make_thumbnail
from earmark.uploads.queue_app import queue_app
from earmark.uploads.storage import LocalStorage, Storage


@dataclass
class Flow:
    """What a test of the flow works with; `pool` is shared by the tests of a process."""

    uploads: Uploads
    storage: Storage
    pool: ImagePool

    async def reserve(self, data: bytes, *, filename: str = "a.jpg", content_type: str = "image/jpeg") -> Image:
        preupload = await self.uploads.reserve("alice", [File(filename, content_type, len(data))])
        return preupload.uploads[0].image

    async def put(self, image: Image, data: bytes) -> None:
        await self.storage.put(image.key, data, content_type=image.content_type)

    async def uploaded(self, data: bytes, *, filename: str = "a.jpg", content_type: str = "image/jpeg") -> Image:
        image = await self.reserve(data, filename=filename, content_type=content_type)
        await self.put(image, data)
        return await self.uploads.complete(image.image, subject="alice")

    async def state(self, image: Image) -> str:
        return (await self.uploads.image(image.image)).state

    async def content(self, key: str) -> bytes:
        found = await self.storage.peek(key, 100_000)
        assert found is not None
        return found[1]

    async def used(self) -> tuple[int, int, int, int]:
        """Committed and held images, committed and held bytes."""
        resources = (await self.uploads.ledger.usage("alice")).resources
        images, storage_bytes = resources["images"], resources["storage_bytes"]
        return images.committed, images.held, storage_bytes.committed, storage_bytes.held

    async def jobs_waiting(self) -> list[UUID]:
        async with self.uploads.pool.connection() as connection:
            rows = await connection.execute(
                "SELECT args->>'image' FROM procrastinate.procrastinate_jobs WHERE status = 'todo' ORDER BY id"
            )
            return [UUID(row[0]) for row in await rows.fetchall()]

    def jobs(self, processor: Processor = make_thumbnail) -> ImageJobs:
        return ImageJobs(self.uploads, self.pool, processor)


@pytest.fixture(scope="session")
def image_pool() -> Iterator[ImagePool]:
    pool = ImagePool(1, 30)
    yield pool
    pool.close()


@pytest.fixture
def flow_of(database: str, tmp_path: Path, image_pool: ImagePool):
    """Opens a flow with the given settings, inside the test's own event loop; with another `url`, as its role."""

    @asynccontextmanager
    async def open_flow(
        *, url: str = database, storage: Storage | None = None, **settings: object
    ) -> AsyncIterator[Flow]:
        async with ServicePool(url, min_size=1, max_size=8, open=False, kwargs={"autocommit": True}) as pool:
            store = storage or LocalStorage(tmp_path / "objects", secret=b"s" * 32, public_url="http://127.0.0.1")
            uploads = Uploads(
                ledger=AsyncLedger(pool),
                pool=pool,
                storage=store,
                queue=queue_app(url),
                settings=Settings(home=tmp_path, **settings),
            )
            yield Flow(uploads, store, image_pool)

    return open_flow


async def until(condition, *, tries: int = 400):
    """Waits, a bounded time, until an async condition holds."""
    for _ in range(tries):
        if await condition():
            return
        await asyncio.sleep(0.025)
    pytest.fail("it never came true")


@pytest.fixture
def eventually():
    return until
