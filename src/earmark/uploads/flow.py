"""The upload flow in named phases, one transaction each; network and disk are touched between them, never inside.

reserve -> (PUT) -> complete -> job (see job.py) -> completed; fail, cancel, retry and delete from the side.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

import procrastinate
import psycopg
from psycopg import AsyncConnection

from earmark.config import Settings
from earmark.errors import (
    AlreadySettled,
    BulkLimitExceeded,
    EarmarkError,
    InvalidRequest,
    KeyConflict,
    NotFound,
    UploadFailed,
    ValidationFailed,
)
from earmark.faults import reached
from earmark.ledger import AsyncLedger
from earmark.ledger._calls import shortages_of
from earmark.ledger.denial import exceeded
from earmark.ledger.retrying import finish, insist
from earmark.ledger.rollback_log import log_failed_rollback, log_rollback
from earmark.model import Amounts, Cause
from earmark.uploads import _calls
from earmark.uploads._calls import Connections, Deadline, Transition
from earmark.uploads.failed_rollbacks import FailedRollbacks
from earmark.uploads.inspection import Limits, display_name, first_invalid, inspect_head
from earmark.uploads.model import File, Image, Preupload, State, in_one_line
from earmark.uploads.permits import Permits
from earmark.uploads.storage import Storage, StoredObject

T = TypeVar("T")
HEAD_BYTES = 65_536
"""How much of an object the first look reads."""
_UNHEARD = "whoever reserved it got no answer"


class Uploads:
    """Images of subjects, from the reservation to the end, whatever the end is.

    Args:
        ledger: The quota ledger of the same database.
        pool: Connections to it.
        storage: The object store.
        queue: The processing queue.
        settings: Deadlines and limits.
    """

    def __init__(
        self,
        *,
        ledger: AsyncLedger,
        pool: Connections,
        storage: Storage,
        queue: procrastinate.App,
        settings: Settings,
    ) -> None:
        self.ledger = ledger
        self.pool = pool
        self.storage = storage
        self.queue = queue
        self.settings = settings
        self.limits = Limits.from_settings(settings)
        self.failed_rollbacks = FailedRollbacks(pool)
        self.permits = Permits(pool, storage, settings)
        self._home = self

    def on(self, connection: AsyncConnection[Any]) -> "Uploads":
        """The same flow on the caller's connection, whose transaction every call joins.

        A rollback that fails there is the caller's to repeat, with his transaction; kept and tried again it is here.
        """
        joined = Uploads(
            ledger=self.ledger,
            pool=_Joined(connection),
            storage=self.storage,
            queue=self.queue,
            settings=self.settings,
        )
        joined._home, joined.failed_rollbacks = self, self.failed_rollbacks
        return joined

    def deadline(self, stage: State) -> Deadline:
        """How long an image may stay in this stage."""
        ttl = {
            State.RESERVED: self.settings.upload_ttl_seconds,
            State.UPLOADED: self.settings.queue_ttl_seconds,
            State.PROCESSING: self.settings.processing_ttl_seconds,
        }[stage]
        return Deadline(ttl, self.settings.evidence_ttl_seconds)

    async def reserve(
        self,
        subject: str,
        files: Sequence[File],
        *,
        key: str | None = None,
        actor: str | None = None,
        retry_of: UUID | None = None,
    ) -> Preupload:
        """Takes quota for all the files or none, and permits one upload for each.

        Where that fails later on, or its task is cancelled, what was taken without a key is given back.

        Args:
            subject: Whose quota.
            files: At most as many as the plan's `max_bulk_upload`.
            key: Idempotency key: the same files under it get the same images.
            actor: Who asks; the subject by default.
            retry_of: The image whose file it is once more.

        Raises:
            InvalidFile: A file that would never be accepted.
            BulkLimitExceeded: Too many at once.
            QuotaExceeded: There is not room for all of them.
            KeyConflict: The key was used for other files.
            StorageError: The store began no upload in parts.
        """
        if not files:
            raise InvalidRequest("files must name at least one file.", {"field": "files"})
        invalid = first_invalid(files, self.limits)
        if invalid is not None and key is None:
            raise invalid
        named = [File(display_name(file.filename), file.content_type, file.size) for file in files]
        if key is not None:  # under which whoever has it can ask again, whatever the limits are by then
            answer = await self._taken(subject, named, key, actor, retry_of, only_replay=invalid is not None)
            if invalid is not None and answer.outcome == "new":
                raise invalid
            return await self._permitted(subject, answer)
        taking = asyncio.ensure_future(self._taken(subject, named, None, actor, retry_of))
        try:
            return await self._permitted(subject, await asyncio.shield(taking))
        except BaseException as error:
            cause = Cause.UPLOAD_FAILED if isinstance(error, Exception) else Cause.CANCELLED
            await finish(self._give_back(taking, cause))
            raise

    async def _taken(
        self,
        subject: str,
        files: Sequence[File],
        key: str | None,
        actor: str | None,
        retry_of: UUID | None,
        *,
        only_replay: bool = False,
    ) -> _calls.Reserved:
        async with self.pool.connection() as connection:
            answer = await _calls.reserve(
                connection,
                subject,
                files,
                self.deadline(State.RESERVED),
                grace_seconds=self.settings.upload_grace_seconds,
                key=key,
                actor=actor,
                resources=self.settings.image_resources,
                retry_of=retry_of,
                only_replay=only_replay,
            )
        reached("reserved")
        return answer

    async def _permitted(self, subject: str, answer: _calls.Reserved) -> Preupload:
        return Preupload(
            _granted(subject, answer),
            min(image.upload_expires_at for image in answer.images),
            answer.replayed,
            tuple(await asyncio.gather(*map(self.permits.of, answer.images))),
        )

    async def _give_back(self, taking: Awaitable[_calls.Reserved], cause: Cause) -> None:
        with suppress(psycopg.Error, EarmarkError):  # nothing was taken, or its rollback is kept and tried again
            images = [image.image for image in (await taking).images]
            if images:
                await self.roll_back_many(images, cause, subject=None, reason=_UNHEARD, actor="service")

    async def arrived(self, image: Image) -> StoredObject | None:
        """The image's object as far as it has arrived; the parts of a large file are joined when all are there."""
        await self._join_parts(image)
        return await self.storage.head(image.key)

    async def _join_parts(self, image: Image) -> None:
        if image.upload_id is not None:
            await self.storage.join_parts(image.key, image.upload_id, image.size)

    async def receiving(self, image_id: UUID) -> None:
        """Notes that the first byte of an upload has come; to be asked before bytes are taken in.

        Raises:
            NotFound: No such image.
            AlreadySettled: Its quota was given back, or it was uploaded before.
        """
        async with self.pool.connection() as connection:
            moved = await _calls.uploading(connection, image_id)
        reached("uploading")
        image = _found(moved, image_id)
        if moved.outcome != "uploading":
            raise _settled(image)

    async def complete(self, image_id: UUID, *, subject: str | None = None) -> Image:
        """Takes a client's word that the upload is done, looks at the object, and enqueues its processing.

        Safe to repeat: an image that is further on is answered as it stands.

        Raises:
            NotFound: No such image, or somebody else's.
            AlreadySettled: Its quota was given back already.
            UploadFailed: The object is missing or not of the declared size; the quota was given back.
            ValidationFailed: What was uploaded is not what may be uploaded; the quota was given back.
            StorageError: The store did not answer; nothing has changed, try again.
        """
        image = await self.image(image_id, subject=subject)
        if image.state not in {State.RESERVED, State.UPLOADING}:
            if image.state in {State.UPLOADED, State.PROCESSING, State.COMPLETED}:
                return image
            raise _settled(image)
        problem = await self._first_look(image)
        if problem is not None:
            cause, reason = problem
            ended = await self.roll_back(image_id, cause, attempt=0, reason=reason, actor="service")
            if ended.outcome == "stale":  # it arrived while we looked, and another call has seen it
                return _found(ended, image_id)
            if ended.outcome != "rolled_back":
                raise _settled(_found(ended, image_id))  # it ended in another way while we looked
            failure = UploadFailed if cause is Cause.UPLOAD_FAILED else ValidationFailed
            raise failure(reason, {"imageId": str(image_id), "reason": reason})
        async with self.pool.connection() as connection:
            moved = await _calls.uploaded(connection, image_id, subject, self.deadline(State.UPLOADED))
        reached("uploaded")
        image = _found(moved, image_id)
        if moved.outcome == "over":
            raise _settled(image)
        return image

    async def _first_look(self, image: Image) -> tuple[Cause, str] | None:
        await self._join_parts(image)
        found = await self.storage.peek(image.key, HEAD_BYTES)
        if found is None:
            what = "The file did not arrive." if image.upload_id is None else "Not all parts of the file arrived."
            return Cause.UPLOAD_FAILED, what
        stored, head = found
        if stored.size != image.size:
            return Cause.UPLOAD_FAILED, f"{stored.size} bytes arrived instead of {image.size}."
        rejection = inspect_head(head, content_type=image.content_type, filename=image.filename, limits=self.limits)
        return None if rejection is None else (Cause.VALIDATION_FAILED, rejection.reason)

    async def fail(
        self, image_id: UUID, *, subject: str | None, error: str | None = None, actor: str | None = None
    ) -> Transition:
        """The client says that its upload failed.

        Raises:
            NotFound, AlreadySettled: As `roll_back`.
        """
        reason = in_one_line(f"The upload failed: {error}") if error else "The upload failed."
        return await self.roll_back(image_id, Cause.UPLOAD_FAILED, subject=subject, reason=reason, actor=actor)

    async def cancel(self, image_id: UUID, *, subject: str | None, actor: str | None = None) -> Transition:
        """Stops it at any stage before `completed`; repeating it is fine.

        Raises:
            NotFound, AlreadySettled: As `roll_back`.
        """
        return await self.roll_back(image_id, Cause.CANCELLED, subject=subject, actor=actor)

    async def roll_back(
        self,
        image_id: UUID,
        cause: Cause,
        *,
        subject: str | None = None,
        attempt: int | None = None,
        reason: str | None = None,
        actor: str | None = None,
    ) -> Transition:
        """Ends an open image and gives back what it holds, in one transaction; with `attempt`, only during that one.

        Attempt 0 is the upload. Repeated while the database is away: for a moment before the caller hears of it, and
        then until it has ended.

        Raises:
            NotFound: No such image, or somebody else's.
            AlreadySettled: It was completed; the detail says when and by whom.
            psycopg.Error: The database stayed away, or could not do it; it is tried again, and the quota returns at
                its deadline at the latest.
        """
        call = self._rollback_of(image_id, cause, subject=subject, attempt=attempt, reason=reason, actor=actor)
        moved = await self._insist(
            call, [image_id], cause, subject=subject, attempt=attempt, reason=reason, actor=actor
        )
        image = _found(moved, image_id)
        if moved.outcome in {"already_committed", "already_refunded"}:
            raise await self._completed(image)
        return moved

    async def _insist(
        self,
        call: Callable[[], Awaitable[T]],
        image_ids: Sequence[UUID],
        cause: Cause,
        *,
        subject: str | None,
        attempt: int | None = None,
        reason: str | None,
        actor: str | None,
    ) -> T:
        """Attempts a rollback to its end, even when the caller is cancelled; keeps it where it failed."""
        home = self._home

        async def persist() -> T:
            try:
                return await (insist(call) if home is self else call())
            except psycopg.Error as error:
                for image_id in image_ids:
                    log_failed_rollback(image_id, cause, error, subject=subject, items=None, actor=actor)
                    again = home._rollback_of(  # noqa: SLF001 - our own
                        image_id, cause, subject=subject, attempt=attempt, reason=reason, actor=actor
                    )
                    home.failed_rollbacks.keep(image_id, cause, error, again, attempt)
                raise

        return await finish(persist())

    def _rollback_of(
        self,
        image_id: UUID,
        cause: Cause,
        *,
        subject: str | None,
        attempt: int | None,
        reason: str | None,
        actor: str | None,
    ) -> Callable[[], Awaitable[Transition]]:
        async def call() -> Transition:
            async with self.pool.connection() as connection:
                moved = await _calls.roll_back(
                    connection, image_id, cause, subject=subject, attempt=attempt, reason=reason, actor=actor
                )
            reached("rolled_back")
            log_transition(moved, cause, actor, reason)
            return moved

        return call

    async def roll_back_many(
        self,
        image_ids: Sequence[UUID],
        cause: Cause,
        *,
        subject: str | None,
        reason: str | None = None,
        actor: str | None = None,
    ) -> Amounts:
        """Ends several open images in one transaction; those that are settled already are left as they are.

        Repeated while the database is away, as `roll_back` does.

        Returns:
            What came back, per resource.

        Raises:
            NotFound: One of them does not exist or is somebody else's; then nothing was done.
            AlreadySettled: All of them had been completed.
            psycopg.Error: As `roll_back`.
        """

        async def attempt() -> list[Transition]:
            moves = []
            async with self.pool.connection() as connection, connection.transaction():
                for image_id in sorted(set(image_ids)):
                    moved = await _calls.roll_back(
                        connection, image_id, cause, subject=subject, reason=reason, actor=actor
                    )
                    _found(moved, image_id)
                    moves.append(moved)
            reached("many_rolled_back")
            for moved in moves:
                log_transition(moved, cause, actor, reason or "images")
            return moves

        moves = await self._insist(attempt, image_ids, cause, subject=subject, reason=reason, actor=actor)
        returned: Counter[str] = Counter()
        for moved in moves:
            returned.update(moved.returned)
        if moves and all(
            moved.outcome.startswith("already_") and moved.outcome != "already_rolled_back" for moved in moves
        ):
            raise await self._completed(_found(moves[0], image_ids[0]))
        return returned

    async def retry(
        self, image_id: UUID, *, subject: str, key: str | None = None, actor: str | None = None
    ) -> Preupload:
        """Reserves anew for a file that was not accepted; the old image stays as it is. `key`: as `reserve`.

        Raises:
            NotFound: No such image, or somebody else's.
            AlreadySettled: It is still open, or completed: there is nothing to retry.
            QuotaExceeded: As `reserve`.
        """
        image = await self.image(image_id, subject=subject)
        if image.is_open or image.state in {State.COMPLETED, State.DELETED}:
            raise AlreadySettled(
                f"The image is {image.state}; only one that was not accepted can be retried.", {"state": image.state}
            )
        files = [File(image.filename, image.content_type, image.size)]
        return await self.reserve(subject, files, key=key, actor=actor, retry_of=image_id)

    async def delete(self, image_id: UUID, *, subject: str, actor: str | None = None) -> Transition:
        """Deletes an image; what its plan marks as refundable comes back, and its objects go.

        Raises:
            NotFound: No such image, somebody else's, or deleted already.
        """
        async with self.pool.connection() as connection:
            moved = await _calls.delete(connection, image_id, subject, actor=actor)
        reached("deleted")
        _found(moved, image_id)
        if moved.outcome == "already_deleted":
            raise NotFound("There is no such image.", {"imageId": str(image_id)})
        if moved.image is not None and moved.image.cause is not None and moved.returned:
            log_transition(replace(moved, outcome="rolled_back"), moved.image.cause, actor, "deleted")
        return moved

    async def image(self, image_id: UUID, *, subject: str | None = None) -> Image:
        """One image.

        Raises:
            NotFound: No such image, or somebody else's.
        """
        async with self.pool.connection() as connection:
            image = await _calls.image(connection, image_id, subject=subject)
        if image is None or image.state is State.DELETED:
            raise NotFound("There is no such image.", {"imageId": str(image_id)})
        return image

    async def images(self, subject: str, *, before: UUID | None = None, limit: int = 50) -> tuple[Image, ...]:
        """A page of the subject's images, newest first."""
        async with self.pool.connection() as connection:
            return await _calls.images(connection, subject, before=before, limit=limit)

    async def note_duty(self, duty: str, error: str | None) -> None:
        """Notes, for operators, that a background duty was done or, with an error, that it failed."""
        async with self.pool.connection() as connection:
            await _calls.record_duty(connection, duty, error)

    async def _completed(self, image: Image) -> AlreadySettled:
        async with self.pool.connection() as connection:
            story = await self.ledger.reservation(image.reservation, connection=connection)
        item = story.items[image.item] if story else None
        return AlreadySettled(
            "The image was completed; its quota is used and cannot be rolled back. Delete the image instead.",
            {
                "imageId": str(image.image),
                "state": image.state,
                "at": item and item.at and item.at.isoformat(),
                "by": item and item.by,
            },
        )


class _Joined:
    """In place of a pool: one connection, the caller's."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        yield self._connection


def log_transition(moved: Transition, cause: Cause, actor: str | None, trigger: str | None) -> None:
    """The structured line of a rollback by image, where it was one."""
    image = moved.image
    if image is not None and moved.outcome == "rolled_back":
        log_rollback(
            image.subject,
            image.reservation,
            image.item,
            moved.returned,
            cause,
            actor or image.subject,
            trigger or "image",
        )


def _found(moved: Transition, image_id: UUID) -> Image:
    if moved.image is None or moved.outcome == "not_found":
        raise NotFound("There is no such image.", {"imageId": str(image_id)})
    return moved.image


def _settled(image: Image) -> AlreadySettled:
    return AlreadySettled(
        f"The image is {image.state}" + (f": {image.reason}" if image.reason else "."),
        {
            "imageId": str(image.image),
            "state": image.state,
            "cause": image.cause,
            "at": image.updated_at.isoformat(),
        },
    )


def _granted(subject: str, answer: _calls.Reserved) -> UUID:
    detail = dict(answer.detail)
    if answer.outcome == "bulk_limit":
        raise BulkLimitExceeded(
            f"{detail['count']} files at once are more than the {detail['limit']} that the plan allows.", detail
        )
    if answer.outcome == "conflict":
        raise KeyConflict("This Idempotency-Key was used before for other files.", detail)
    if answer.reservation is None:
        raise exceeded(subject, shortages_of(detail), replayed=answer.replayed)
    return answer.reservation
