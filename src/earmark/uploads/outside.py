"""Jobs that somebody outside carries out or sets off: how they are told, and what they answer.

A job comes off our own queue, which was filled in the transaction that made it necessary; telling the outside of it is
what is done with it then. So nothing is told that did not happen, and nothing that happened is left untold.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Protocol
from uuid import UUID

import httpx
import msgspec

from earmark.config import Settings
from earmark.errors import EarmarkError, NotFound
from earmark.faults import reached
from earmark.model import Cause
from earmark.uploads import _calls
from earmark.uploads._calls import Deadline
from earmark.uploads.flow import Uploads, log_transition
from earmark.uploads.inspection import Inspected, Rejection
from earmark.uploads.job import ImageJobs, backoff_seconds
from earmark.uploads.model import Image, State
from earmark.uploads.process_pool import PoolCrashed
from earmark.uploads.queue import enqueue
from earmark.uploads.signatures import WebhookSignatures
from earmark.uploads.storage import ObjectMissing, StorageError

PROCESS_PATH = "/api/jobs/process-image"
RESULT_PATH = "/api/jobs/result"
TRIES = 3
"""How often the outside is told at once, before the job goes back on the queue for a while."""
TIMEOUT_SECONDS = 30

_logger = logging.getLogger("earmark.jobs")


class Jobs(Protocol):
    """What the job loop does with an image that it takes off the queue."""

    async def run(self, image_id: UUID) -> str:
        """Deals with it; what became of it."""
        ...


class NotTold(EarmarkError):  # noqa: N818 - named for what is wrong
    """The outside did not take a job; it is told again later."""


class QStashJobs:
    """Publishes jobs to Upstash QStash, which calls `POST /api/jobs/process-image`."""

    def __init__(self, uploads: Uploads, client: httpx.AsyncClient) -> None:
        self._uploads = uploads
        self._client = client

    async def run(self, image_id: UUID) -> str:
        """Publishes the image's next attempt: `told`, `retrying`, or `stale` where it waits for none."""
        image = await _waiting(self._uploads, image_id)
        return "stale" if image is None else await _tell(self._uploads, image, self._publish)

    async def _publish(self, image: Image) -> None:
        settings = self._uploads.settings
        assert settings.qstash_token is not None  # noqa: S101 - the settings see to it
        await _post(
            self._client,
            f"{settings.qstash_url.rstrip('/')}/v2/publish/{address(settings, PROCESS_PATH)}",
            msgspec.json.encode({"imageId": image.image, "attempt": image.attempt + 1}),
            {
                "Authorization": f"Bearer {settings.qstash_token.get_secret_value()}",
                "Upstash-Deduplication-Id": message_id(image),
            },
        )
        reached("published")


class ProcessorJobs:
    """Posts jobs, signed, to the processor outside; its results come to `POST /api/jobs/result`.

    The content is inspected here first, as it is for our own processor.
    """

    def __init__(self, jobs: ImageJobs, uploads: Uploads, client: httpx.AsyncClient) -> None:
        self._jobs = jobs
        self._uploads = uploads
        self._client = client
        self._signatures = WebhookSignatures([one.get_secret_value() for one in uploads.settings.webhook_secrets])

    async def run(self, image_id: UUID) -> str:
        """Hands the next attempt over: `told`, `rejected`, `failed`, `retrying`, or `stale` where it waits for none."""
        image = await _waiting(self._uploads, image_id)
        if image is None:
            return "stale"
        try:
            found = await self._inspect(image)
        except ObjectMissing:
            return await self._end(image, Cause.PROCESSING_FAILED, "The file is no longer there.", "failed")
        except (StorageError, PoolCrashed) as error:
            _logger.warning("job_not_told", extra={"image": str(image.image), "error": type(error).__name__})
            return await _later(self._uploads, image)
        if isinstance(found, Rejection):
            return await self._end(image, Cause.VALIDATION_FAILED, found.reason, "rejected")
        return await _tell(self._uploads, image, partial(self._post, found))

    async def _inspect(self, image: Image) -> Inspected | Rejection:
        async with self._uploads.storage.as_file(image.key) as path:
            with suppress(PoolCrashed):  # killed once may be bad luck; twice is the image
                return await self._jobs.inspect(image, path)
            return await self._jobs.inspect(image, path, is_last_try=True)

    async def _post(self, found: Inspected, image: Image) -> None:
        settings, deadline = self._uploads.settings, external_deadline(self._uploads)
        job = {
            "imageId": image.image,
            "attempt": image.attempt + 1,
            "subject": image.subject,
            "filename": image.filename,
            "contentType": image.content_type,
            "size": image.size,
            "downloadUrl": self._uploads.permits.original_url(image, timedelta(seconds=deadline.ttl_seconds)),
            "resultUrl": address(settings, RESULT_PATH),
        }
        body = msgspec.json.encode(job)
        assert settings.processor_url is not None  # noqa: S101 - the settings see to it
        await _post(self._client, settings.processor_url, body, self._signatures.signed(message_id(image), body))
        reached("posted")
        async with self._uploads.pool.connection() as connection:
            await _calls.hand_over(connection, image.image, image.attempt + 1, deadline, found.metadata)
        reached("handed_over")

    async def _end(self, image: Image, cause: Cause, reason: str, outcome: str) -> str:
        async with self._uploads.pool.connection() as connection, connection.transaction():
            moved = await _calls.hand_over(connection, image.image, image.attempt + 1, external_deadline(self._uploads))
            if moved.outcome != "handed_over":
                return "stale"
            moved = await _calls.roll_back(
                connection, image.image, cause, attempt=image.attempt + 1, reason=reason, actor="worker"
            )
        reached("refused")
        log_transition(moved, cause, "worker", reason)
        return outcome


def external_deadline(uploads: Uploads) -> Deadline:
    """How long a processor outside may take."""
    return Deadline(uploads.settings.external_ttl_seconds, uploads.settings.evidence_ttl_seconds)


def address(settings: Settings, path: str) -> str:
    """Where the outside reaches one of our paths."""
    assert settings.public_url is not None  # noqa: S101 - the settings see to it
    return f"{settings.public_url.rstrip('/')}{path}"


def message_id(image: Image) -> str:
    """One id for all messages about the image's next attempt: whoever knows it already may drop it."""
    return f"{image.image}-{image.attempt + 1}"


async def _waiting(uploads: Uploads, image_id: UUID) -> Image | None:
    try:
        image = await uploads.image(image_id)
    except NotFound:
        return None
    return image if image.state is State.UPLOADED else None


async def _tell(uploads: Uploads, image: Image, tell: Callable[[Image], Awaitable[None]]) -> str:
    for number in range(1, TRIES + 1):
        try:
            await tell(image)
        except NotTold as error:
            extra = {"image": str(image.image), "attempt": image.attempt + 1, "error": str(error)}
            _logger.warning("job_not_told", extra=extra)
        else:
            _logger.info("job", extra={"image": str(image.image), "outcome": "told", "attempt": image.attempt + 1})
            return "told"
        if number < TRIES:
            await asyncio.sleep(backoff_seconds(uploads.settings, number))
    return await _later(uploads, image)


async def _later(uploads: Uploads, image: Image) -> str:
    async with uploads.pool.connection() as connection, connection.transaction():
        delay = uploads.settings.retry_cap_seconds * random.uniform(0.5, 1)  # noqa: S311 - spreads retries
        await enqueue(connection, image.image, delay_seconds=delay)
    reached("told_later")
    return "retrying"


async def _post(client: httpx.AsyncClient, url: str, body: bytes, headers: dict[str, str]) -> None:
    """Sends it; the status is the answer, and what comes with it is not read, however long or slow it is."""
    sent = {"Content-Type": "application/json", **headers}
    try:
        # The client's own limit is for each piece of the answer.
        async with asyncio.timeout(TIMEOUT_SECONDS), client.stream("POST", url, content=body, headers=sent) as answer:
            if not answer.is_success:
                raise NotTold(f"{httpx.URL(url).host} answered {answer.status_code}")
    except (httpx.HTTPError, TimeoutError) as error:
        raise NotTold(f"{httpx.URL(url).host}: {type(error).__name__}") from error
