"""The upload flow's calls to SQL, each one transition and one transaction unless the caller has opened a wider one."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Protocol
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

from earmark.errors import translated
from earmark.model import Amounts, Cause
from earmark.observing import observed
from earmark.uploads.model import File, Image, StoredOutput
from earmark.uploads.queue import with_job

Connection = AsyncConnection[Any]
_UPLOADED = with_job("SELECT outcome, document FROM earmark.image_uploaded(%s, %s, %s, %s)", "uploaded")


class Connections(Protocol):
    """A pool, or what stands in for one."""

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """A connection, for the duration of the block."""
        ...


@dataclass(frozen=True, slots=True)
class Deadline:
    """How long a stage may last, and how long its hold outlives that, in seconds."""

    ttl_seconds: float
    evidence_seconds: float


@dataclass(frozen=True, slots=True)
class Transition:
    """What a transition answered: its outcome, the image after it, and the amounts that came back."""

    outcome: str
    image: Image | None
    returned: Amounts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reserved:
    """What `images_reserve` answered."""

    outcome: str
    reservation: UUID | None
    replayed: bool
    detail: Mapping[str, Any]
    images: tuple[Image, ...]


def image_of(document: object) -> Image | None:
    """An image as the SQL functions answer it."""
    return None if document is None else msgspec.convert(document, Image)


def _about(moved: Transition) -> tuple[str, Mapping[str, object]]:
    image = moved.image
    if image is None:
        return moved.outcome, {}
    return moved.outcome, {
        "subject": image.subject,
        "reservation": image.reservation,
        "image": image.image,
        "attempt": image.attempt,
        "cause": image.cause,
    }


def _about_reserved(answer: Reserved) -> tuple[str, Mapping[str, object]]:
    return "replayed" if answer.replayed else answer.outcome, {"reservation": answer.reservation}


@observed("images_reserve", _about_reserved)
async def reserve(
    connection: Connection,
    subject: str,
    files: Sequence[File],
    deadline: Deadline,
    *,
    grace_seconds: float,
    key: str | None,
    actor: str | None,
    resources: Amounts,
    retry_of: UUID | None = None,
    only_replay: bool = False,
) -> Reserved:
    """Take quota for files, and `resources` besides for each, and open an image for each.

    With `retry_of` the file is that image's once more: another request under a key than the same file anew. With
    `only_replay` only what was answered under the key before is answered, else `new`.
    """
    more: dict[str, object] = {"resources": dict(resources)} if resources else {}
    if retry_of is not None:
        more["retry_of"] = str(retry_of)
    row = await _one(
        connection,
        "SELECT outcome, reservation, replayed, detail, images "
        "FROM earmark.images_reserve(%s, %s, %s, %s, %s, %s, %s, %s)",
        subject,
        Jsonb([{**asdict(file), **more} for file in files]),
        deadline.ttl_seconds,
        deadline.evidence_seconds,
        key,
        actor,
        grace_seconds,
        only_replay,
    )
    return Reserved(row[0], row[1], row[2], row[3] or {}, msgspec.convert(row[4] or (), tuple[Image, ...]))


@observed("image_in_parts", _about)
async def in_parts(connection: Connection, image: UUID, upload_id: str, part_bytes: int) -> Transition:
    """The file comes in parts of this size, under this name of the store's."""
    query = "SELECT outcome, document FROM earmark.image_in_parts(%s, %s, %s)"
    return _moved(await _one(connection, query, image, upload_id, part_bytes))


@observed("image_uploading", _about)
async def uploading(connection: Connection, image: UUID) -> Transition:
    """The first byte has come."""
    return _moved(await _one(connection, "SELECT outcome, document FROM earmark.image_uploading(%s)", image))


@observed("image_uploaded", _about)
async def uploaded(connection: Connection, image: UUID, subject: str | None, deadline: Deadline) -> Transition:
    """The object is there and passed the first look: its job is on the queue."""
    return _moved(await _one(connection, _UPLOADED, image, subject, deadline.ttl_seconds, deadline.evidence_seconds))


@observed("image_start", _about)
async def start(connection: Connection, image: UUID, deadline: Deadline) -> Transition:
    """A worker begins, under the next fencing number."""
    query = "SELECT outcome, document FROM earmark.image_start(%s, %s, %s)"
    return _moved(await _one(connection, query, image, deadline.ttl_seconds, deadline.evidence_seconds))


async def hand_over(
    connection: Connection,
    image: UUID,
    attempt: int,
    deadline: Deadline,
    metadata: Mapping[str, object] = MappingProxyType({}),
) -> Transition:
    """A processor outside has taken this attempt; `metadata` was found before."""
    query = "SELECT outcome, document FROM earmark.image_hand_over(%s, %s, %s, %s, %s)"
    ttl, evidence = deadline.ttl_seconds, deadline.evidence_seconds
    return _moved(await _one(connection, query, image, attempt, ttl, evidence, Jsonb(dict(metadata))))


async def delivery(connection: Connection, image: UUID, delivery: str) -> tuple[Image | None, Any]:
    """The image, locked for the rest of the transaction, and what this delivery was answered before, or None."""
    row = await _one(connection, "SELECT document, answer FROM earmark.delivery(%s, %s)", image, delivery)
    return image_of(row[0]), row[1]


async def delivery_answered(connection: Connection, image: UUID, delivery: str, answer: Mapping[str, object]) -> Any:
    """Remember what a delivery was answered; the answer that stands."""
    query = "SELECT earmark.delivery_answered(%s, %s, %s)"
    return (await _one(connection, query, image, delivery, Jsonb(dict(answer))))[0]


async def prune_deliveries(connection: Connection, older_than_seconds: float) -> int:
    """Forget old deliveries; how many."""
    count: int = (await _one(connection, "SELECT earmark.prune_deliveries(%s)", older_than_seconds))[0]
    return count


async def heartbeat(connection: Connection, image: UUID, attempt: int, deadline: Deadline) -> Transition:
    """A worker is alive."""
    query = "SELECT outcome, document FROM earmark.image_heartbeat(%s, %s, %s, %s)"
    return _moved(await _one(connection, query, image, attempt, deadline.ttl_seconds, deadline.evidence_seconds))


@observed("image_wait", _about)
async def wait(
    connection: Connection,
    image: UUID,
    attempt: int,
    reason: str | None,
    deadline: Deadline,
    *,
    only_overdue: bool = False,
    interrupted: bool = False,
) -> Transition:
    """Back to waiting for a worker."""
    query = "SELECT outcome, document FROM earmark.image_wait(%s, %s, %s, %s, %s, %s, %s)"
    ttl, evidence = deadline.ttl_seconds, deadline.evidence_seconds
    return _moved(await _one(connection, query, image, attempt, reason, ttl, evidence, only_overdue, interrupted))


@observed("image_complete", _about)
async def complete(
    connection: Connection,
    image: UUID,
    attempt: int,
    *,
    content_type: str,
    metadata: Mapping[str, object],
    outputs: Mapping[str, StoredOutput],
    actual: Amounts,
) -> Transition:
    """Finish, and commit the hold."""
    row = await _one(
        connection,
        "SELECT outcome, document FROM earmark.image_complete(%s, %s, %s, %s, %s, %s)",
        image,
        attempt,
        content_type,
        Jsonb(dict(metadata)),
        Jsonb({name: asdict(output) for name, output in outputs.items()}),
        Jsonb(dict(actual)),
    )
    return _moved(row)


@observed("image_roll_back", _about)
async def roll_back(
    connection: Connection,
    image: UUID,
    cause: Cause,
    *,
    subject: str | None = None,
    attempt: int | None = None,
    reason: str | None = None,
    actor: str | None = None,
    only_overdue: bool = False,
) -> Transition:
    """End it, and give back what it holds."""
    query = "SELECT outcome, document, returned FROM earmark.image_roll_back(%s, %s, %s, %s, %s, %s, %s)"
    return _moved(await _one(connection, query, image, cause.value, subject, attempt, reason, actor, only_overdue))


async def record_failed_rollback(
    connection: Connection,
    target: UUID,
    cause: Cause,
    *,
    attempts: int,
    error: str,
    failed_at: datetime,
    outcome: str | None,
) -> None:
    """Note a rollback that could not be carried out at once; no outcome where it has not ended yet."""
    query = "SELECT earmark.record_failed_rollback(%s, %s, %s, %s, %s, %s)"
    await _one(connection, query, target, cause.value, attempts, error, failed_at, outcome)


async def record_duty(connection: Connection, duty: str, error: str | None) -> None:
    """Note that a background duty was done or, with an error, that it failed."""
    await _one(connection, "SELECT earmark.record_duty(%s, %s)", duty, error)


@observed("image_delete", _about)
async def delete(connection: Connection, image: UUID, subject: str, *, actor: str | None) -> Transition:
    """Delete it, and refund what its plan refunds."""
    query = "SELECT outcome, document, returned FROM earmark.image_delete(%s, %s, %s)"
    return _moved(await _one(connection, query, image, subject, actor))


async def image(connection: Connection, image: UUID, *, subject: str | None) -> Image | None:
    """One image, or None."""
    row = await _one(connection, "SELECT earmark.image(%s, %s)", image, subject)
    return image_of(row[0])


async def images(connection: Connection, subject: str, *, before: UUID | None, limit: int) -> tuple[Image, ...]:
    """A page of the subject's images, newest first."""
    return await _images(connection, "SELECT earmark.images(%s, %s, %s)", subject, before, limit)


async def moment(connection: Connection) -> datetime:
    """The database's clock."""
    now: datetime = (await _one(connection, "SELECT earmark.moment()"))[0]
    return now


async def due(connection: Connection, limit: int, *, after: Image | None) -> tuple[Image, ...]:
    """A page of the open images whose stage is overdue, longest first; `after` is the last of the page before."""
    place = (after.due_at, after.image) if after else (None, None)
    return await _images(connection, "SELECT earmark.images_due(%s, %s, %s)", limit, *place)


async def to_remove(connection: Connection, limit: int) -> tuple[Image, ...]:
    """Images whose objects are to be removed."""
    return await _images(connection, "SELECT earmark.images_to_remove(%s)", limit)


async def removed(connection: Connection, images: Sequence[UUID]) -> None:
    """Their objects were removed."""
    await _one(connection, "SELECT earmark.images_removed(%s)", list(images))


async def named(connection: Connection, images: Sequence[UUID]) -> dict[UUID, tuple[Image, bool]]:
    """Those of these images that there are, and whether the sweeper is still to remove their objects."""
    rows = await _all(connection, "SELECT document, removal_due FROM earmark.images_named(%s)", list(images))
    found = [(msgspec.convert(document, Image), removal_due) for document, removal_due in rows]
    return {image.image: (image, removal_due) for image, removal_due in found}


async def completed(connection: Connection, *, after: UUID | None, limit: int) -> tuple[Image, ...]:
    """A page of everybody's completed images, in the order of their ids."""
    return await _images(connection, "SELECT earmark.images_completed(%s, %s)", after, limit)


async def lost(connection: Connection, image: UUID, reason: str, *, actor: str) -> Transition:
    """A completed image's object is gone: it has failed, and what is refundable comes back."""
    query = "SELECT outcome, document, returned FROM earmark.image_lost(%s, %s, %s)"
    return _moved(await _one(connection, query, image, reason, actor))


async def outputs_lost(connection: Connection, image: UUID, outputs: Sequence[str]) -> Transition:
    """Outputs of a completed image are gone: forget them."""
    query = "SELECT outcome, document FROM earmark.image_outputs_lost(%s, %s)"
    return _moved(await _one(connection, query, image, list(outputs)))


async def _one(connection: Connection, query: Any, *parameters: object) -> tuple[Any, ...]:
    with translated():
        async with connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(query, parameters)
            row = await cursor.fetchone()
            assert row is not None, query  # noqa: S101 - these functions always answer one row
            return row


async def _images(connection: Connection, query: Any, *parameters: object) -> tuple[Image, ...]:
    return tuple(msgspec.convert(row[0], Image) for row in await _all(connection, query, *parameters))


async def _all(connection: Connection, query: Any, *parameters: object) -> list[tuple[Any, ...]]:
    with translated():
        async with connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(query, parameters)
            return await cursor.fetchall()


def _moved(row: tuple[Any, ...]) -> Transition:
    outcome, document, *returned = row
    return Transition(outcome, image_of(document), (returned[0] if returned else None) or {})
