"""What a client may send to the store, a file or the parts of a large one, and what it may read there."""

import math
from datetime import UTC, datetime, timedelta

from earmark.config import Settings
from earmark.errors import NotFound
from earmark.uploads import _calls
from earmark.uploads._calls import Connections
from earmark.uploads.model import Image, Part, State, Upload
from earmark.uploads.storage import SignedUpload, Storage

DOWNLOAD_TTL = timedelta(minutes=15)
PARTS_MAX = 1000
"""Of one file: as many as S3 lists at once."""


class Permits:
    """Signs requests; an upload in parts is begun with the store first, and noted."""

    def __init__(self, pool: Connections, storage: Storage, settings: Settings) -> None:
        self._pool = pool
        self._storage = storage
        self._settings = settings

    async def of(self, image: Image) -> Upload:
        """What uploads this image.

        Raises:
            StorageError: The store began no upload in parts.
        """
        if image.upload_id is None and image.size > self._settings.parts_over_bytes:
            image = await self._begin_parts(image)
        if image.upload_id is None:
            return Upload(image, self.whole(image))
        return Upload(image, None, self._parts(image, image.upload_id))

    def whole(self, image: Image) -> SignedUpload:
        """The request that uploads it whole: its size and type signed in, good once, until the upload's deadline."""
        return self._storage.sign_upload(
            image.key, content_type=image.content_type, size=image.size, expires_at=image.upload_expires_at
        )

    def download_url(self, image: Image, output: str | None = None) -> str | None:
        """A short-lived URL of a completed image, or of one of its outputs; None where there is nothing to show."""
        if image.state is not State.COMPLETED:
            return None
        if output is None:
            return self.original_url(image, DOWNLOAD_TTL)
        stored = image.outputs.get(output)
        if stored is None:
            return None
        return self._storage.sign_download(
            stored.key,
            content_type=stored.content_type,
            filename=None,
            expires_at=datetime.now(UTC) + DOWNLOAD_TTL,
        )

    def original_url(self, image: Image, ttl: timedelta) -> str:
        """A URL under which the bytes that were uploaded can be read for as long as `ttl`."""
        return self._storage.sign_download(
            image.key, content_type=image.content_type, filename=image.filename, expires_at=datetime.now(UTC) + ttl
        )

    async def _begin_parts(self, image: Image) -> Image:
        upload_id = await self._storage.begin_parts(image.key, content_type=image.content_type)
        async with self._pool.connection() as connection:
            moved = await _calls.in_parts(connection, image.image, upload_id, self._part_bytes(image))
        if moved.outcome != "begun":
            await self._storage.abort_parts(image.key, upload_id)
        if moved.image is None:
            raise NotFound("There is no such image.", {"imageId": str(image.image)})
        return moved.image

    def _parts(self, image: Image, upload_id: str) -> tuple[Part, ...]:
        step = image.part_bytes or self._part_bytes(image)
        return tuple(
            Part(
                number,
                offset,
                size,
                self._storage.sign_part(image.key, upload_id, number, size=size, expires_at=image.upload_expires_at),
            )
            for number, offset in enumerate(range(0, image.size, step), 1)
            for size in (min(step, image.size - offset),)
        )

    def _part_bytes(self, image: Image) -> int:
        return max(self._settings.part_bytes, math.ceil(image.size / PARTS_MAX))
