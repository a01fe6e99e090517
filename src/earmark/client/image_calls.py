"""Images as the client knows them, what is sent about them, and what its answers mean; nothing here sends anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from earmark.client.calls import Call, Json, key_or_own, path_of, value_of
from earmark.model import Amounts, Cause


@dataclass(frozen=True, slots=True)
class File:
    """A file as its uploader declares it; `size` in bytes."""

    filename: str
    content_type: str
    size: int


@dataclass(frozen=True, slots=True)
class Sending:
    """Where and how `size` bytes of a file, from `offset` on, are to be sent."""

    upload_url: str
    method: str
    headers: Mapping[str, str]
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Upload:
    """Permission to send one file: in one piece or, where it is large, in parts, one after another."""

    image: UUID
    sendings: tuple[Sending, ...]


@dataclass(frozen=True, slots=True)
class Preupload:
    """A reservation of images: an upload for each file, in their order."""

    reservation: UUID
    expires_at: datetime
    uploads: tuple[Upload, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """An image as it stands; `url` and `thumbnail_url`, when it is completed, are good for some minutes."""

    image: UUID
    filename: str
    state: str
    cause: Cause | None
    reason: str | None
    url: str | None = None
    thumbnail_url: str | None = None


def preupload(files: Sequence[File], *, subject: str | None, key: str | None) -> Call[Preupload]:
    """Quota for all files or none, and where to send them."""
    declared = [{"filename": one.filename, "contentType": one.content_type, "size": one.size} for one in files]

    def decode(told: Json) -> Preupload:
        if len(told["images"]) != len(files):
            raise LookupError(f"{len(told['images'])} uploads for {len(files)} files")
        uploads = [_upload(one, file) for one, file in zip(told["images"], files, strict=True)]
        return value_of(Preupload, told, uploads=uploads)

    def lost(told: Preupload) -> UUID:
        return told.reservation

    body = {"files": declared, "subject": subject}
    return Call("POST", "/api/images/preupload", decode, {}, body, key_or_own(key), lost if key is None else None)


def complete(image: UUID, *, subject: str | None) -> Call[str]:
    """The state of an image whose upload is done."""
    body = {"imageId": str(image)}
    return Call("POST", "/api/images/complete", lambda told: str(told["status"]), {"subject": subject}, body)


def fail(image: UUID, error: str, *, subject: str | None) -> Call[Image]:
    """An image whose upload failed."""
    return Call("POST", f"{_path(image)}/failed", _ended, {"subject": subject}, {"error": error})


def cancel(image: UUID, *, subject: str | None) -> Call[Image]:
    """An image that was stopped."""
    return Call("POST", f"{_path(image)}/cancel", _ended, {"subject": subject}, {})


def one(image: UUID, *, subject: str | None) -> Call[Image]:
    """An image as it stands."""
    return Call("GET", _path(image), lambda told: value_of(Image, told), {"subject": subject})


def roll_back(images: Sequence[UUID], *, cause: Cause, subject: str | None, reason: str | None) -> Call[Amounts]:
    """What came back of these images."""
    body = {"imageIds": [str(image) for image in images], "cause": cause, "reason": reason, "subject": subject}
    return Call("POST", "/api/quota/rollback", lambda told: value_of(dict[str, int], told["rolledBack"]), {}, body)


def _path(image: UUID) -> str:
    return f"/api/images/{path_of(image)}"


def _ended(told: Json) -> Image:
    return value_of(Image, told["image"])


def _upload(told: Json, file: File) -> Upload:
    whole: dict[str, Any] = {**told, "offset": 0, "size": file.size}
    sendings = [value_of(Sending, part) for part in told.get("parts") or [whole]]
    return value_of(Upload, told, sendings=sendings)
