"""Answers, as they go over the wire: camelCase, except usage, whose names are those of the SQL functions."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urljoin
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct, UnsetType
from starlette.responses import Response

from earmark.http_api.problems import REPLAYED
from earmark.http_api.rate_limit import rate_limit_headers
from earmark.model import (
    AdjustedLevel,
    Cause,
    Entry,
    Item,
    ReservationStory,
    ResourceUsage,
    Settlement,
    Subject,
    Usage,
)
from earmark.uploads.flow import Uploads
from earmark.uploads.model import Image, Preupload, State, Upload


class UsageAnswer(Struct, frozen=True):
    """What a subject may use and uses; the numbers at the top are those of `images`."""

    subject: str
    tier: str
    used: int
    quota_limit: int
    remaining: int
    period_start: datetime | None
    period_end: datetime | None
    features: Mapping[str, Any]
    resources: Mapping[str, ResourceUsage]


class LevelAnswer(Struct, frozen=True):
    """What a subject, or one of those above him, may use and uses."""

    subject: str
    tier: str
    resources: Mapping[str, ResourceUsage]


class LevelsAnswer(Struct, frozen=True):
    """A subject, his parent and so on up to the root."""

    subject: str
    levels: Sequence[LevelAnswer]


class SubjectAnswer(Struct, frozen=True, rename="camel"):
    """What is set for a subject, and what he may use and uses."""

    subject: str
    plan: str
    parent: str | None
    ancestors: Sequence[str]
    anchor: datetime
    quotas: Mapping[str, int]
    registered_at: datetime | None
    usage: UsageAnswer


class AdjustAnswer(Struct, frozen=True):
    """An adjustment that was made: the figures of the subject and of those above him after it."""

    subject: str
    resource: str
    amount: int
    replayed: bool
    levels: Sequence[AdjustedLevel]


class PartAnswer(Struct, frozen=True, rename="camel"):
    """Permission to upload the bytes of a file from `offset` on, `size` of them."""

    number: int
    offset: int
    size: int
    upload_url: str
    method: str
    headers: dict[str, str]


class UploadAnswer(Struct, frozen=True, rename="camel"):
    """Permission to upload one image; only a large one has `parts`, and then `upload_url` is null."""

    image_id: UUID
    upload_url: str | None
    method: str
    headers: dict[str, str]
    s3_key: str = msgspec.field(name="s3Key")
    expires_at: datetime
    parts: Sequence[PartAnswer] | UnsetType = UNSET


class PreuploadAnswer(Struct, frozen=True, rename="camel"):
    """A reservation of images, in the order of the files."""

    reservation_id: UUID
    expires_at: datetime
    images: Sequence[UploadAnswer]
    usage: UsageAnswer


class ImageAnswer(Struct, frozen=True, rename="camel"):
    """An image as its owner sees it."""

    image_id: UUID
    reservation_id: UUID
    item: str
    filename: str
    content_type: str
    size: int
    state: State
    cause: Cause | None
    reason: str | None
    attempt: int
    width: Any
    height: Any
    format: Any
    thumbhash: Any
    colors: Any
    url: str | None
    thumbnail_url: str | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None


class ImagesAnswer(Struct, frozen=True, rename="camel"):
    """A page of images, newest first; without a cursor it is the last one."""

    images: Sequence[ImageAnswer]
    next_cursor: str | None


class CompleteAnswer(Struct, frozen=True, rename="camel"):
    """The state of an image whose upload is done."""

    image_id: UUID
    status: State


class ImageEndedAnswer(Struct, frozen=True):
    """An image that was ended, and what its subject uses now."""

    image: ImageAnswer
    usage: UsageAnswer


class StoredAnswer(Struct, frozen=True, rename="camel"):
    """An upload that was taken in; `size` in bytes."""

    image_id: UUID
    size: int


class EntryAnswer(Struct, frozen=True, rename="camel"):
    """A journal entry."""

    seq: int
    at: datetime
    kind: str
    resource: str
    period_start: datetime | None
    item: str | None
    reservation_id: UUID | None
    committed: int
    held: int
    cause: Cause | None
    actor: str
    reason: str | None


class HistoryAnswer(Struct, frozen=True, rename="camel"):
    """A page of the journal, newest first; without a cursor it is the last one."""

    entries: Sequence[EntryAnswer]
    next_cursor: str | None


class ItemAnswer(Struct, frozen=True, rename="camel"):
    """An item of a reservation, and what happened to it."""

    state: str
    cause: Cause | None
    at: datetime | None
    by: str | None
    expires_at: datetime
    amounts: Mapping[str, int]
    committed: Mapping[str, int]


class ReservationAnswer(Struct, frozen=True, rename="camel"):
    """A reservation as it stands."""

    reservation_id: UUID
    subject: str
    created_at: datetime
    items: Mapping[str, ItemAnswer]


class JobAnswer(Struct, frozen=True, rename="camel"):
    """What became of a job that was to be done now."""

    image_id: str
    outcome: str


class ResultAnswer(Struct, frozen=True, rename="camel"):
    """What was made of a report on a job."""

    image_id: str
    attempt: int
    outcome: Literal["completed", "failed", "retrying", "too_late"]


class HealthAnswer(Struct, frozen=True):
    """The process answers."""

    status: Literal["ok"]


class ReadyAnswer(Struct, frozen=True):
    """Whether the service can be used: `ok`, or what is wrong, for each thing that it needs."""

    status: Literal["ok", "unavailable"]
    checks: Mapping[str, str]


class ReservedAnswer(Struct, frozen=True, rename="camel"):
    """Quota that was taken; `replayed` where an earlier request under the same key took it."""

    reservation_id: UUID
    expires_at: datetime
    replayed: bool
    usage: UsageAnswer


class SettledAnswer(Struct, frozen=True, rename="camel", kw_only=True):
    """What became of the items that were named; `done` are those that this call settled."""

    subject: str
    outcome: str
    items: Mapping[str, ItemAnswer]
    done: Sequence[str]


class CommittedAnswer(SettledAnswer, frozen=True, rename="camel", kw_only=True):
    """What this call committed and what it gave back: nothing, where an earlier one had."""

    committed: Mapping[str, int]
    returned: Mapping[str, int]
    usage: UsageAnswer


class ReturnedAnswer(Struct, frozen=True, rename="camel"):
    """An item that was given back by count."""

    reservation_id: UUID
    item: str
    amounts: Mapping[str, int]


class RolledBackAnswer(Struct, frozen=True, rename="camel"):
    """What this call gave back: nothing, where an earlier one had. `returned` are the items, newest first, by count."""

    rolled_back: Mapping[str, int]
    usage: UsageAnswer
    returned: Sequence[ReturnedAnswer] | UnsetType = UNSET


class ReservationRolledBackAnswer(SettledAnswer, frozen=True, rename="camel", kw_only=True):
    """What this call gave back: nothing, where an earlier one had."""

    rolled_back: Mapping[str, int]
    usage: UsageAnswer


class RefundedAnswer(SettledAnswer, frozen=True, rename="camel", kw_only=True):
    """What of the use this call gave back: nothing, where an earlier one had."""

    returned: Mapping[str, int]
    usage: UsageAnswer


class ExtendedAnswer(SettledAnswer, frozen=True, rename="camel", kw_only=True):
    """The earliest deadline of what is still held."""

    reservation_id: UUID
    expires_at: datetime


def answer(
    value: object,
    status: int = 200,
    *,
    location: str | None = None,
    usage: UsageAnswer | None = None,
    replayed: bool = False,
) -> Response:
    """A JSON answer; `usage` is told in the RateLimit headers too, `replayed` in Idempotency-Replayed."""
    headers = {} if location is None else {"Location": location}
    headers |= REPLAYED if replayed else {}
    if usage is not None:
        headers |= rate_limit_headers(usage.resources)
    return _Json(msgspec.json.encode(value), status, headers)


class _Json(Response):
    """Starlette's, but that it knows what its headers are and so need not look."""

    def __init__(self, body: bytes, status: int, headers: Mapping[str, str]) -> None:
        self.body = body
        self.status_code = status
        self.background = None
        self.raw_headers = [(name.lower().encode(), text.encode("latin-1")) for name, text in headers.items()]
        self.raw_headers += [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]


def usage_answer(usage: Usage) -> UsageAnswer:
    """Usage as it is told; a plan that counts no images has none."""
    images = usage.resources.get("images")
    return UsageAnswer(
        subject=usage.subject,
        tier=usage.plan,
        used=images.used if images else 0,
        quota_limit=images.quota_limit if images else 0,
        remaining=images.remaining if images else 0,
        period_start=images.period_start if images else None,
        period_end=images.period_end if images else None,
        features=usage.features,
        resources=usage.resources,
    )


def subject_answer(subject: Subject, usage: Usage) -> SubjectAnswer:
    """A subject as it is told."""
    return SubjectAnswer(
        subject=subject.subject,
        plan=subject.plan,
        parent=subject.parent,
        ancestors=subject.ancestors,
        anchor=subject.anchor,
        quotas=subject.quotas,
        registered_at=subject.registered_at,
        usage=usage_answer(usage),
    )


def preupload_answer(preupload: Preupload, usage: Usage, base_url: str) -> PreuploadAnswer:
    """A reservation of images as it is told; `base_url` is where the caller reaches the service."""
    uploads = [_upload_answer(upload, base_url) for upload in preupload.uploads]
    return PreuploadAnswer(preupload.reservation, preupload.expires_at, uploads, usage_answer(usage))


def _upload_answer(upload: Upload, base_url: str) -> UploadAnswer:
    whole = upload.request
    parts = [
        PartAnswer(
            number=part.number,
            offset=part.offset,
            size=part.size,
            upload_url=_absolute(base_url, part.request.url),
            method=part.request.method,
            headers=part.request.headers,
        )
        for part in upload.parts
    ]
    first = whole or upload.parts[0].request
    return UploadAnswer(
        image_id=upload.image.image,
        upload_url=_absolute(base_url, whole.url) if whole else None,
        method=first.method,
        headers=first.headers,
        s3_key=upload.image.key,
        expires_at=first.expires_at,
        parts=parts or UNSET,
    )


def image_answer(image: Image, uploads: Uploads, base_url: str) -> ImageAnswer:
    """An image as it is told, with fresh links when it is completed; `base_url` as for `preupload_answer`."""
    url, thumbnail_url = uploads.permits.download_url(image), uploads.permits.download_url(image, "thumbnail")
    return ImageAnswer(
        image_id=image.image,
        reservation_id=image.reservation,
        item=image.item,
        filename=image.filename,
        content_type=image.content_type,
        size=image.size,
        state=image.state,
        cause=image.cause,
        reason=image.reason,
        attempt=image.attempt,
        width=image.metadata.get("width"),
        height=image.metadata.get("height"),
        format=image.metadata.get("format"),
        thumbhash=image.metadata.get("thumbhash"),
        colors=image.metadata.get("colors"),
        url=url and _absolute(base_url, url),
        thumbnail_url=thumbnail_url and _absolute(base_url, thumbnail_url),
        created_at=image.created_at,
        updated_at=image.updated_at,
        expires_at=image.due_at,
    )


def _absolute(base_url: str, link: str) -> str:
    """A link of the local store, which is relative to the service unless its public address is set, as an address."""
    return urljoin(base_url, link.removeprefix("/"))


def entry_answer(entry: Entry) -> EntryAnswer:
    """A journal entry as it is told."""
    return EntryAnswer(
        seq=entry.seq,
        at=entry.at,
        kind=entry.kind,
        resource=entry.resource,
        period_start=entry.period_start,
        item=entry.item,
        reservation_id=entry.reservation,
        committed=entry.committed,
        held=entry.held,
        cause=entry.cause,
        actor=entry.actor,
        reason=entry.reason,
    )


def item_answers(items: Mapping[str, Item]) -> dict[str, ItemAnswer]:
    """Items as they are told."""
    return {
        name: ItemAnswer(item.state, item.cause, item.at, item.by, item.expires_at, item.amounts, item.committed)
        for name, item in items.items()
    }


def committed_answer(settlement: Settlement, usage: UsageAnswer) -> CommittedAnswer:
    """A commit as it is told."""
    return CommittedAnswer(
        **_settled(settlement), committed=settlement.committed, returned=settlement.returned, usage=usage
    )


def rolled_back_answer(settlement: Settlement, usage: UsageAnswer) -> ReservationRolledBackAnswer:
    """The rollback of a reservation as it is told."""
    return ReservationRolledBackAnswer(**_settled(settlement), rolled_back=settlement.returned, usage=usage)


def refunded_answer(settlement: Settlement, usage: UsageAnswer) -> RefundedAnswer:
    """A refund as it is told."""
    return RefundedAnswer(**_settled(settlement), returned=settlement.returned, usage=usage)


def extended_answer(reservation: UUID, settlement: Settlement) -> ExtendedAnswer:
    """A moved deadline as it is told."""
    held = [item.expires_at for item in settlement.items.values() if item.state == "held"]
    return ExtendedAnswer(**_settled(settlement), reservation_id=reservation, expires_at=min(held))


def _settled(settlement: Settlement) -> dict[str, Any]:
    return {
        "subject": settlement.subject,
        "outcome": settlement.outcome,
        "items": item_answers(settlement.items),
        "done": settlement.done,
    }


def reservation_answer(story: ReservationStory) -> ReservationAnswer:
    """A reservation as it is told."""
    return ReservationAnswer(story.reservation, story.subject, story.created_at, item_answers(story.items))
