"""Bodies of requests, as they come over the wire: camelCase, strictly typed.

Those that move quota refuse a field that they do not know: without its `items` a rollback is of everything. Others
ignore it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from earmark.model import Cause, Late

INTEGER_MAX = 2**63 - 1
_NO_NUL = r"^[^\x00]*$"
_TEXT = {"type": "string"}
_NAMES = {"type": "array"}
_AMOUNTS = {"type": "object"}
_ABSENT = {"type": "null"}

Integer = Annotated[int, Meta(ge=-(2**63), le=INTEGER_MAX)]
Amount = Annotated[int, Meta(ge=1, le=INTEGER_MAX)]
Used = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
Size = Annotated[int, Meta(extra_json_schema={"minimum": 1})]
"""Of a file. One below 1 is an invalid file, which is answered as such, not as a malformed body."""
Id = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
"""Text that is no id names nothing: that is answered as such, too."""
_RESOURCE = "^[a-z][a-z0-9_]{0,62}$"
ResourceName = Annotated[str, Meta(extra_json_schema={"pattern": _RESOURCE})]
"""A name that no plan counts is answered as such."""
ItemName = Annotated[str, Meta(min_length=1, max_length=255, pattern=_NO_NUL)]
Amounts = Annotated[dict[ResourceName, Amount], Meta(min_length=1)]
Names = Annotated[tuple[ItemName, ...], Meta(min_length=1)]
Seconds = Annotated[float, Meta(ge=0.001, le=315_360_000)]
Reason = Annotated[str, Meta(max_length=500, pattern=_NO_NUL)]
SubjectName = Annotated[str, Meta(min_length=1, max_length=255, pattern=_NO_NUL)]
IMAGES_MAX = 1000
"""Most images named in one rollback."""


class FileBody(Struct, frozen=True, rename="camel"):
    """A file as its uploader declares it."""

    filename: str
    content_type: str
    size: Size


class FilesBody(Struct, frozen=True):
    """Several files."""

    files: Annotated[tuple[FileBody, ...], Meta(min_length=1)]
    subject: SubjectName | None = None


class OneFileBody(FileBody, frozen=True, rename="camel"):
    """One file, whose fields stand at the top."""

    subject: SubjectName | None = None

    @property
    def files(self) -> tuple[FileBody, ...]:
        """The file."""
        return (self,)


ONE_FILE_BODY = Annotated[OneFileBody, Meta(extra_json_schema={"not": {"required": ["files"]}})]


class CompleteBody(Struct, frozen=True, rename="camel"):
    """An upload that is done. What else a client may say of it is not believed, and so not read."""

    image_id: Id


class FailedBody(Struct, frozen=True):
    """An upload that failed, in the client's words."""

    error: str | None = None


class RollbackBody(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What is to be given back: of a reservation, of images, or up to `count` of a resource."""

    reservation_id: Id | None = None
    items: Names | None = None
    image_ids: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=IMAGES_MAX)] | None = None
    count: Amount | None = None
    resource: Annotated[str, Meta(pattern=_RESOURCE)] | None = None
    cause: Cause = Cause.CANCELLED
    reason: Reason | None = None
    subject: SubjectName | None = None


ROLLBACK_BODY = Annotated[
    RollbackBody,
    Meta(
        extra_json_schema={
            "oneOf": [
                {"required": ["reservationId"], "properties": {"reservationId": _TEXT, "resource": _ABSENT}},
                {"required": ["imageIds"], "properties": {"imageIds": _NAMES, "items": _ABSENT, "resource": _ABSENT}},
                {"required": ["count"], "properties": {"count": {"type": "integer"}, "items": _ABSENT}},
            ]
        }
    ),
]


class ReserveBody(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What is to be held: `amounts` of one item, or `items` with their amounts."""

    amounts: Amounts | None = None
    items: Annotated[dict[ItemName, Amounts], Meta(min_length=1)] | None = None
    ttl_seconds: Seconds = 900
    subject: SubjectName | None = None


RESERVE_BODY = Annotated[
    ReserveBody,
    Meta(
        extra_json_schema={
            "oneOf": [
                {"required": ["amounts"], "properties": {"amounts": _AMOUNTS}},
                {"required": ["items"], "properties": {"items": _AMOUNTS}},
            ]
        }
    ),
]


class CommitBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What was used: all that is held, some items, or, of items or the only item, less than was held.

    With `grow`, more than was held too, where there is room for the difference.
    """

    items: Names | dict[ItemName, dict[ResourceName, Used]] | None = None
    amounts: dict[ResourceName, Used] | None = None
    late: Late = Late.REACQUIRE
    grow: bool = False
    reason: Reason | None = None


class ReservationRollbackBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What of a reservation is to be given back, and why."""

    items: Names | None = None
    cause: Cause = Cause.CANCELLED
    reason: Reason | None = None


class ExtendBody(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A new deadline, from now; with a reason, the journal says who moved it and why."""

    ttl_seconds: Seconds
    items: Names | None = None
    reason: Annotated[str, Meta(min_length=1, max_length=500, pattern=_NO_NUL)] | None = None


class RefundBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Which items are no longer used, and why; without items, all of them."""

    items: Names | None = None
    reason: Reason | None = None


class SubjectBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to change of a subject; what is absent stays. A quota of -1 is unlimited, null is the plan's again."""

    plan: Annotated[str, Meta(pattern=_NO_NUL)] | None = None
    quotas: dict[ResourceName, Annotated[int, Meta(ge=-1, le=2**63 - 1)] | None] = {}
    anchor: Annotated[datetime, Meta(tz=True)] | None = None
    parent: SubjectName | None = None


class AdjustBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A correction of committed use: what is added to it or, below 0, taken away, and why."""

    subject: SubjectName
    resource: ResourceName
    amount: Annotated[Integer, Meta(extra_json_schema={"not": {"const": 0}})]
    reason: Annotated[str, Meta(min_length=1, max_length=500, pattern=_NO_NUL)]


class JobBody(Struct, frozen=True, rename="camel"):
    """An image to process now. `attempt` is the one the message was made for; a repetition drives the next one."""

    image_id: str
    attempt: Annotated[int, Meta(ge=1, le=1000)] = 1


class ResultBody(Struct, frozen=True, rename="camel"):
    """What a processor outside made of a job."""

    image_id: str
    attempt: Annotated[int, Meta(ge=1, le=1000)]
    outcome: Literal["completed", "failed"]
    permanent: bool = False
    actual: Mapping[str, Integer] = {}
    error: str | None = None
