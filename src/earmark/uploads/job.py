"""One processing attempt of one image: fetch, inspect, process, store what was made, complete. Or give back.

Driven by whoever is told to: our worker, or a queue that calls the service. The fencing number of the attempt guards
every write; a repeated, late or stale job ends without effect.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from datetime import timedelta
from itertools import chain, repeat
from pathlib import Path
from uuid import UUID

import psycopg

from earmark.config import Settings
from earmark.errors import EarmarkError, SchemaMismatch
from earmark.faults import reached
from earmark.ledger.retrying import RETRY_DELAYS, UNREACHABLE
from earmark.model import Cause
from earmark.observing import Operation
from earmark.uploads import _calls
from earmark.uploads._calls import Transition
from earmark.uploads.flow import Uploads, log_transition
from earmark.uploads.inspection import Inspected, Rejection, inspect
from earmark.uploads.lost_outputs import remake_lost_outputs
from earmark.uploads.model import Image, State, StoredOutput, in_one_line
from earmark.uploads.process_pool import ImagePool, PoolCrashed, PoolTimeout
from earmark.uploads.processing import (
    PermanentFailure,
    Processed,
    Processor,
    inspect_and_make_thumbnail,
    make_thumbnail,
    processed,
    source_of,
)
from earmark.uploads.queue import enqueue
from earmark.uploads.storage import ObjectMissing, StorageError, copied

HEARTBEAT_SECONDS = 1.0
"""Between two looks at whether the attempt is still wanted, at most."""

_DOUBLINGS_MAX = 64
_TOO_SLOW = Rejection("too-slow", "The image takes too long to decode.")
_STORE_AWAY = "The object store did not answer; trying again."
_logger = logging.getLogger("earmark.jobs")


class ImageJobs:
    """Carries out processing jobs.

    Args:
        uploads: The upload flow.
        pool: Processes for decoding; shared by all jobs.
        processor: What processing does.
        requeues: Whether an attempt that failed puts the next on our queue; False where a queue outside calls again.
    """

    def __init__(self, uploads: Uploads, pool: ImagePool, processor: Processor, *, requeues: bool = True) -> None:
        self._uploads = uploads
        self._pool = pool
        self._processor = processor
        self._requeues = requeues

    async def run(self, image_id: UUID) -> str:
        """One attempt, if the image is waiting for one.

        Returns:
            `completed`, `remade` (it was, and what the store had lost of it was made again), `rejected`, `failed` or
            `retrying`; `too_late` when its quota had gone back and there was no
            room left; or why nothing was done: `stale`, `busy`, `too_early`, `over`, `not_found`.

        Raises:
            psycopg.OperationalError: The database went away; the image's deadline brings it back here or ends it.
        """
        with Operation("process", image=image_id) as operation:
            moved = await self._start(image_id)
            reached("started")
            image = moved.image
            if moved.outcome == "completed" and image is not None:
                remade = await remake_lost_outputs(self._uploads, self._pool, self._processor, image)
                outcome = "remade" if remade else "completed"
            elif moved.outcome != "started" or image is None:
                outcome = moved.outcome
            else:
                outcome = await self._attempt_while_wanted(image)
            operation.ended(outcome, attempt=image.attempt if image else None, subject=image.subject if image else None)
        fields = {"image": str(image_id), "outcome": outcome, "attempt": image.attempt if image else None}
        _logger.info("job", extra=fields)
        return outcome

    async def _start(self, image_id: UUID) -> Transition:
        async def start() -> Transition:
            async with self._uploads.pool.connection() as connection:
                return await _calls.start(connection, image_id, self._uploads.deadline(State.PROCESSING))

        starting = asyncio.ensure_future(start())
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:  # what was begun is handed on, not left to its deadline
            moved = await starting
            if moved.outcome == "started" and moved.image is not None:
                await self._wait_for_another(moved.image, "interrupted", interrupted=True)
            raise

    async def _attempt_while_wanted(self, image: Image) -> str:
        attempt = asyncio.create_task(self._attempt(image))
        watch = asyncio.create_task(self._beat_until_stale(image))
        try:
            await asyncio.wait({attempt, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not attempt.done():
                await self._abandon(attempt)
            return "stale" if attempt.cancelled() else attempt.result()
        except asyncio.CancelledError:  # the service is shutting down: the next one takes over at once
            if await self._abandon(attempt):
                await self._wait_for_another(image, "interrupted", interrupted=True)
            raise
        finally:
            watch.cancel()

    @staticmethod
    async def _abandon(attempt: asyncio.Task[str]) -> bool:
        attempt.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await attempt
        return attempt.cancelled()

    async def _beat_until_stale(self, image: Image) -> None:
        deadline = self._uploads.deadline(State.PROCESSING)
        while True:
            await asyncio.sleep(min(HEARTBEAT_SECONDS, deadline.ttl_seconds / 3))
            try:
                async with self._uploads.pool.connection() as connection:
                    beat = await _calls.heartbeat(connection, image.image, image.attempt, deadline)
            except (psycopg.Error, EarmarkError):  # that says nothing about the attempt
                continue
            if beat.outcome == "stale":
                return

    async def _attempt(self, image: Image) -> str:
        try:
            async with self._file_of(image) as path:
                found = await self._inspect_and_process(image, path)
            if isinstance(found, Rejection):
                return await self._end(image, Cause.VALIDATION_FAILED, found.reason, "rejected")
            return await self._complete(image, *found)
        except (*UNREACHABLE, SchemaMismatch):  # nothing that the image could help: a deploy is under way, perhaps
            raise
        except ObjectMissing:
            return await self._end(image, Cause.PROCESSING_FAILED, "The file is no longer there.", "failed")
        except PermanentFailure as error:
            reason = in_one_line(f"Processing failed: {error}")
            return await self._end(image, Cause.PROCESSING_FAILED, reason, "failed")
        except Exception as error:  # noqa: BLE001 - the processor is the user's: whatever it raises may pass
            return await self._retry_or_end(image, error)

    def _file_of(self, image: Image) -> AbstractAsyncContextManager[Path]:
        """A processor of the user's gets a copy, as it may break its word and write to the file; ours only reads."""
        storage = self._uploads.storage
        return storage.as_file(image.key) if self._processor is make_thumbnail else copied(storage, image.key)

    async def _inspect_and_process(self, image: Image, path: Path) -> Rejection | tuple[Inspected, Processed]:
        """In one go where the processor is ours and needs the same picture; after a failure each for itself again."""
        source = source_of(image, path)
        if self._processor is make_thumbnail and image.tries == 1:
            try:
                return await self._pool.run(inspect_and_make_thumbnail, source, self._uploads.limits)
            except PoolTimeout:
                return _TOO_SLOW
        inspected = await self.inspect(image, path, is_last_try=image.tries > 1)
        if isinstance(inspected, Rejection):
            return inspected
        source = replace(source, content_type=inspected.content_type)
        return inspected, await processed(self._pool, self._processor, source)

    async def inspect(self, image: Image, path: Path, *, is_last_try: bool = False) -> Inspected | Rejection:
        """Looks at the whole content in a pool process.

        Raises:
            PoolCrashed: It killed its process, which once may be bad luck; the last try is a rejection.
        """
        try:
            return await self._pool.run(
                inspect, path, content_type=image.content_type, filename=image.filename, limits=self._uploads.limits
            )
        except PoolTimeout:
            return _TOO_SLOW
        except PoolCrashed:
            if not is_last_try:
                raise
            return Rejection("damaged", "The image cannot be decoded.")

    async def _complete(self, image: Image, inspected: Inspected, made: Processed) -> str:
        outputs = {
            output.name: StoredOutput(f"{image.folder}/{image.attempt}-{output.name}", output.content_type)
            for output in made.outputs
        }
        for output in made.outputs:
            stored = outputs[output.name]
            await self._uploads.storage.put(stored.key, output.data, content_type=stored.content_type)
        metadata = {
            "width": made.width,
            "height": made.height,
            "format": made.format,
            "frames": made.frames,
            "colors": list(made.colors),
            "thumbhash": made.thumbhash,
        }
        reached("outputs_stored")

        async def complete() -> Transition:
            async with self._uploads.pool.connection() as connection:
                return await _calls.complete(
                    connection,
                    image.image,
                    image.attempt,
                    content_type=inspected.content_type,
                    metadata=metadata,
                    outputs=outputs,
                    actual=made.actual,
                )

        moved = await self._until_answered(image.image, complete)
        reached("completed")
        if moved.outcome == "exceeds_hold":
            raise PermanentFailure("the processor used more than was reserved")
        if moved.outcome in {"stale", "too_late"}:
            await self._uploads.storage.delete([stored.key for stored in outputs.values()])
        return "completed" if moved.outcome == "already_completed" else moved.outcome

    async def _until_answered(self, image_id: UUID, call: Callable[[], Awaitable[Transition]]) -> Transition:
        """Repeats it while the database is away or somebody keeps the books locked, for as long as an attempt may last.

        What was made may have been dear, and nobody else makes it meanwhile.

        Raises:
            psycopg.OperationalError: There was no answer in all that time.
        """
        clock = asyncio.get_running_loop().time
        ends = clock() + self._uploads.deadline(State.PROCESSING).ttl_seconds
        pauses = chain(RETRY_DELAYS, repeat(RETRY_DELAYS[-1]))
        while True:
            try:
                return await call()
            except UNREACHABLE as error:
                pause = next(pauses)
                if clock() + pause > ends:
                    raise
                _logger.warning("completion_postponed", extra={"image": str(image_id), "error": type(error).__name__})
                await asyncio.sleep(pause)

    async def _retry_or_end(self, image: Image, error: Exception) -> str:
        _logger.warning(
            "attempt_failed",
            extra={"image": str(image.image), "attempt": image.attempt, "error": f"{type(error).__name__}: {error}"},
        )
        settings = self._uploads.settings
        too_old = image.updated_at - image.created_at > timedelta(seconds=settings.abandon_after_seconds)
        if isinstance(error, StorageError) and not too_old:
            delay = backoff_seconds(settings, image.attempt)
            return await self._wait_for_another(image, _STORE_AWAY, delay_seconds=delay, interrupted=True)
        if image.tries >= settings.processing_attempts:
            return await self._end(image, Cause.PROCESSING_FAILED, "Processing failed.", "failed")
        delay = backoff_seconds(settings, image.tries)
        return await self._wait_for_another(image, "An attempt failed; trying again.", delay_seconds=delay)

    async def _wait_for_another(
        self, image: Image, reason: str, *, delay_seconds: float = 0, interrupted: bool = False
    ) -> str:
        async with self._uploads.pool.connection() as connection, connection.transaction():
            moved = await _calls.wait(
                connection,
                image.image,
                image.attempt,
                reason,
                self._uploads.deadline(State.UPLOADED),
                interrupted=interrupted,
            )
            if moved.outcome == "waiting" and self._requeues:
                await enqueue(connection, image.image, delay_seconds=delay_seconds)
        reached("waiting")
        return "retrying" if moved.outcome == "waiting" else moved.outcome

    async def _end(self, image: Image, cause: Cause, reason: str, outcome: str) -> str:
        async with self._uploads.pool.connection() as connection:
            moved = await _calls.roll_back(
                connection, image.image, cause, attempt=image.attempt, reason=reason, actor="worker"
            )
        reached("ended")
        log_transition(moved, cause, "worker", reason)
        return outcome if moved.outcome == "rolled_back" else moved.outcome


def backoff_seconds(settings: Settings, attempt: int) -> float:
    """How long to wait after this attempt: doubled each time, capped, and jittered so that retries spread."""
    doublings = min(attempt - 1, _DOUBLINGS_MAX)
    longest: float = min(settings.retry_cap_seconds, settings.retry_base_seconds * 2.0**doublings)
    return longest * random.uniform(0.5, 1)  # noqa: S311 - guards nothing
