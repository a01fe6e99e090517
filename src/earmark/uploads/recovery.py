"""What the sweeper does about images whose stage is overdue: it looks at the evidence before quota is given back.

Of all of them, and of a hold that became overdue meanwhile the next sweep: after an outage, everything is overdue.

The object is there: the upload is adopted. A worker may still come: the job is driven again. Neither: expired.
Re-driven work takes the same paths as the first time.
"""

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import psycopg

from earmark.errors import EarmarkError
from earmark.faults import reached
from earmark.ledger.retrying import GAVE_UP, is_away
from earmark.model import Cause
from earmark.uploads import _calls
from earmark.uploads.flow import Uploads, log_transition
from earmark.uploads.model import Image, State
from earmark.uploads.queue import enqueue
from earmark.uploads.storage import StorageError

BATCH = 100
MAX_BATCHES = 1000
"""Of images whose objects are removed in one sweep; what is left is for the next."""
STORE_FAILURES_MAX = 5
"""So many are the store's fault, not theirs, and each may take its time: the next sweep tries again."""

_NOT_ARRIVED = frozenset({State.RESERVED, State.UPLOADING})
_logger = logging.getLogger("earmark.recovery")


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What one sweep did.

    Attributes:
        images: How many overdue images were adopted, re-driven (`driven`), `expired` or otherwise ended.
        expired_holds: Overdue holds given back besides.
        removed: Images whose objects were removed from the store.
        failed: What could not be dealt with this time, by error.
    """

    images: Counter[str] = field(default_factory=Counter)
    expired_holds: int = 0
    removed: int = 0
    failed: Counter[str] = field(default_factory=Counter)


async def sweep(uploads: Uploads) -> SweepReport:
    """Looks after every overdue image, gives back every overdue hold, and removes what is left in the store."""
    async with uploads.pool.connection() as connection:
        began = await _calls.moment(connection)
    images, failed = await recover(uploads)
    expired = await uploads.ledger.sweep(before=began)
    reached("holds_swept")
    removed, kept = await remove_objects(uploads)
    return SweepReport(images, len(expired), removed, failed + kept)


@dataclass
class _OutOfReach:
    """What a sweep found out of reach, and does not wait for again: a store, and the locks that somebody keeps."""

    silences: list[StorageError] = field(default_factory=list)
    locked: dict[str, psycopg.Error] = field(default_factory=dict)

    def what_is(self, image: Image) -> Exception | None:
        """What the image would wait for in vain."""
        if image.state in _NOT_ARRIVED and len(self.silences) >= STORE_FAILURES_MAX:
            return self.silences[-1]
        return self.locked.get(image.subject)

    def note(self, image: Image, error: StorageError | psycopg.Error) -> None:
        if isinstance(error, StorageError):  # no evidence either way
            self.silences.append(error)
        else:
            self.locked[image.subject] = error


async def recover(uploads: Uploads) -> tuple[Counter[str], Counter[str]]:
    """Looks after all overdue images; what became of them, and what could not be dealt with.

    A store that has not answered a few times in a row is not asked about the others, and a subject's lock that was not
    to be had is not waited for again.
    """
    done: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    out_of_reach = _OutOfReach()
    last: Image | None = None
    while True:
        async with uploads.pool.connection() as connection:
            overdue = await _calls.due(connection, BATCH, after=last)
        for image in overdue:
            last = image
            if (missing := out_of_reach.what_is(image)) is not None:
                failed[type(missing).__name__] += 1
                continue
            try:
                done[await _recover_one(uploads, image)] += 1
                if image.state in _NOT_ARRIVED:
                    out_of_reach.silences.clear()
            except (StorageError, *GAVE_UP) as error:
                out_of_reach.note(image, error)
                failed[type(error).__name__] += 1
                _logger.warning("recovery_postponed", extra={"image": str(image.image), "error": str(error)})
            except (psycopg.Error, EarmarkError) as error:
                if is_away(error):
                    raise
                # About this image: the others are not to wait for it.
                failed[type(error).__name__] += 1
                _logger.error(  # noqa: TRY400 - the next sweep says it again
                    "recovery_failed", extra={"image": str(image.image), "error": str(error)}
                )
        if len(overdue) < BATCH:
            return done, failed


async def _recover_one(uploads: Uploads, image: Image) -> str:
    if image.state in _NOT_ARRIVED:
        return await _adopt_or_expire(uploads, image)
    abandoned_at = image.created_at + timedelta(seconds=uploads.settings.abandon_after_seconds)
    if image.state is State.UPLOADED and image.due_at is not None and image.due_at >= abandoned_at:
        return await _end(uploads, image, Cause.EXPIRED, "No worker took the image in time.")
    if image.state is State.PROCESSING and image.tries >= uploads.settings.processing_attempts:
        return await _end(uploads, image, Cause.PROCESSING_FAILED, "Processing failed.")
    return await _drive_again(uploads, image)


async def _adopt_or_expire(uploads: Uploads, image: Image) -> str:
    if await uploads.arrived(image) is None:
        return await _end(uploads, image, Cause.EXPIRED, "The upload was not finished in time.")
    try:
        adopted = await uploads.complete(image.image)
    except StorageError:
        raise
    except EarmarkError as error:  # rejected, or settled by somebody else meanwhile: dealt with either way
        return type(error).__name__
    _logger.info("adopted", extra={"image": str(image.image), "state": adopted.state})
    return "adopted"


async def _drive_again(uploads: Uploads, image: Image) -> str:
    async with uploads.pool.connection() as connection, connection.transaction():
        moved = await _calls.wait(
            connection, image.image, image.attempt, image.reason, uploads.deadline(State.UPLOADED), only_overdue=True
        )
        if moved.outcome == "waiting":
            await enqueue(connection, image.image)
    reached("driven_again")
    _logger.info("driven_again", extra={"image": str(image.image), "outcome": moved.outcome})
    return "driven" if moved.outcome == "waiting" else moved.outcome


async def _end(uploads: Uploads, image: Image, cause: Cause, reason: str) -> str:
    async with uploads.pool.connection() as connection:
        moved = await _calls.roll_back(
            connection, image.image, cause, reason=reason, actor="deadline", only_overdue=True
        )
    reached("overdue_ended")
    log_transition(moved, cause, "deadline", reason)
    return cause.value if moved.outcome == "rolled_back" else moved.outcome


async def remove_objects(uploads: Uploads) -> tuple[int, Counter[str]]:
    """Removes what the store need not keep; how many images that concerned, and what the store did not let go.

    That is all of an image that was not accepted or is deleted; of a completed one, what attempts that died have left.
    An image with such an object keeps no other waiting, unless there are many.
    """
    removed = 0
    failed: Counter[str] = Counter()
    for _ in range(MAX_BATCHES):
        async with uploads.pool.connection() as connection:
            images = await _calls.to_remove(connection, BATCH)
        done: list[UUID] = []
        for image in images:
            try:
                await _remove_objects_of(uploads, image)
            except StorageError as error:
                failed[type(error).__name__] += 1
                _logger.warning("removal_postponed", extra={"image": str(image.image), "error": str(error)})
                if failed.total() == STORE_FAILURES_MAX:
                    break
            else:
                done.append(image.image)
        if done:
            reached("objects_removed")
            async with uploads.pool.connection() as connection:
                await _calls.removed(connection, done)
        removed += len(done)
        if len(images) < BATCH or failed:
            break
    return removed, failed


async def _remove_objects_of(uploads: Uploads, image: Image) -> None:
    if image.upload_id is not None:
        await uploads.storage.abort_parts(image.key, image.upload_id)
    named = _named(image)
    keys = [stored.key async for stored in uploads.storage.list(image.folder) if stored.key not in named]
    if keys:
        await uploads.storage.delete(keys)


def _named(image: Image) -> set[str]:
    if image.state is not State.COMPLETED:
        return set()
    return {image.key, *(output.key for output in image.outputs.values())}
