"""What the upload flow speaks of: a file that is offered, an image and its state."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from earmark.model import Cause
from earmark.uploads.storage import SignedUpload

REASON_LENGTH_MAX = 500
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]+")


def in_one_line(text: str) -> str:
    """A text that somebody else wrote, as it may stand in a reason: one line of at most 500 characters."""
    sendable = text.encode(errors="replace").decode()
    return " ".join(_UNPRINTABLE.sub(" ", sendable).split())[:REASON_LENGTH_MAX]


class State(StrEnum):
    """Where an image is in its life; the last five are final."""

    RESERVED = "reserved"
    UPLOADING = "uploading"
    UPLOADED = "uploaded"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DELETED = "deleted"


OPEN_STATES = frozenset({State.RESERVED, State.UPLOADING, State.UPLOADED, State.PROCESSING})


@dataclass(frozen=True, slots=True)
class File:
    """A file as its uploader declares it; size in bytes."""

    filename: str
    content_type: str
    size: int


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """An output of processing, as it lies in the store."""

    key: str
    content_type: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image as the books have it.

    Attributes:
        key: Of its object in the store.
        due_at: When the current stage is overdue; None when final.
        upload_id: The store's name of its upload in parts; None where the file comes whole.
        part_bytes: Size of these parts, but for the last.
        attempt: Fencing number of the latest processing attempt.
        interrupted: How many attempts ended because their worker was shut down or the store was away.
        cause: Why its quota was given back, None when it was not.
        reason: A sentence for the user on why it was not accepted.
        metadata: What processing found: width, height, format, frames, colors, thumbhash.
        outputs: What processing made, by name, such as `thumbnail`.
    """

    image: UUID
    subject: str
    reservation: UUID
    item: str
    filename: str
    content_type: str
    size: int
    key: str
    state: State
    attempt: int
    cause: Cause | None
    reason: str | None
    metadata: Mapping[str, object]
    outputs: Mapping[str, StoredOutput]
    created_at: datetime
    updated_at: datetime
    due_at: datetime | None
    upload_expires_at: datetime
    upload_id: str | None = None
    part_bytes: int | None = None
    interrupted: int = 0

    @property
    def is_open(self) -> bool:
        """Whether it still holds quota."""
        return self.state in OPEN_STATES

    @property
    def tries(self) -> int:
        """How many attempts there were, without those that were interrupted."""
        return self.attempt - self.interrupted

    @property
    def folder(self) -> str:
        """Where all its objects are in the store."""
        return self.key.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a large file, from byte `offset` on, and the request that will upload it; sizes in bytes."""

    number: int
    offset: int
    size: int
    request: SignedUpload


@dataclass(frozen=True, slots=True)
class Upload:
    """An image for which quota was reserved, and the request that will upload it, or those of its parts."""

    image: Image
    request: SignedUpload | None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Preupload:
    """A granted reservation of one or more images."""

    reservation: UUID
    expires_at: datetime
    replayed: bool
    uploads: tuple[Upload, ...]
