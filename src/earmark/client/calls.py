"""What is sent for each of the ledger's words, and what its answer means; nothing here sends anything."""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar
from urllib.parse import quote
from uuid import UUID

import msgspec

from earmark.errors import InvalidRequest
from earmark.model import (
    Adjustment,
    Amounts,
    Cause,
    Change,
    Configured,
    Entry,
    Explanation,
    Grant,
    Item,
    Late,
    OpenItem,
    ReservationStory,
    Returned,
    Settlement,
    Shortage,
    Story,
    StoryImage,
    Subject,
    Usage,
    UsageLevel,
)

T = TypeVar("T")
Json = dict[str, Any]
KEY_LENGTH_MAX = 255
_ESCAPED = re.compile(r'(["\\])')
_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")
_OUR_WORDS = {"reservation_id": "reservation", "image_id": "image", "tier": "plan"}
"""Names that differ on the wire."""


@dataclass(frozen=True, slots=True)
class History:
    """A page of a subject's journal, newest first; without a cursor it is the last one."""

    entries: tuple[Entry, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and what to make of the JSON that answers it.

    `lost` names the reservation that nobody could settle, should the answer reach nobody.
    """

    method: str
    path: str
    decode: Callable[[Any], T]
    query: Mapping[str, str | int | None]
    body: Json | None = None
    key: str | None = None
    lost: Callable[[T], UUID] | None = None

    @property
    def content(self) -> bytes | None:
        """The body, without what is not said."""
        if self.body is None:
            return None
        return msgspec.json.encode({name: value for name, value in self.body.items() if value is not None})

    @property
    def params(self) -> dict[str, str | int]:
        """The query, without what is not said."""
        return {name: value for name, value in self.query.items() if value is not None}

    @property
    def headers(self) -> dict[str, str]:
        """What is said of the body, and the key as a structured string (RFC 9651, section 3.3.3)."""
        found = {"Accept": "application/json"}
        if self.body is not None:
            found["Content-Type"] = "application/json"
        if self.key is not None:
            found["Idempotency-Key"] = '"' + _ESCAPED.sub(r"\\\1", self.key) + '"'
        return found


def reserve(
    subject: str | None,
    amounts: Amounts | None,
    items: Mapping[str, Amounts] | None,
    *,
    key: str | None,
    ttl: timedelta | None,
) -> Call[tuple[str, Grant]]:
    """Whose quota was taken, and the grant."""
    seconds = None if ttl is None else ttl.total_seconds()
    body = {"subject": subject, "amounts": amounts, "items": items, "ttlSeconds": seconds}

    def decode(told: Json) -> tuple[str, Grant]:
        grant = value_of(Grant, told, outcome="granted")
        return told["usage"]["subject"], grant

    def lost(told: tuple[str, Grant]) -> UUID:
        reservation = told[1].reservation
        assert reservation is not None  # noqa: S101 - a refusal is no answer
        return reservation

    return Call("POST", "/api/reservations", decode, {}, body, key_or_own(key), lost if key is None else None)


def denied(detail: Mapping[str, Any]) -> tuple[str, Grant]:
    """Whose quota was short, and the grant that a problem stands for which says what was missing."""
    short = msgspec.convert(detail["short"], tuple[Shortage, ...])
    return detail["subject"], Grant("denied", None, None, replayed=detail.get("replayed", False), short=short)


def commit(
    reservation: UUID,
    *,
    subject: str | None,
    items: Sequence[str] | Mapping[str, Amounts] | None,
    amounts: Amounts | None,
    late: Late,
    grow: bool,
    reason: str | None,
) -> Call[Settlement]:
    """What was committed, and what came back."""
    body = {"items": items, "amounts": amounts, "late": late, "grow": grow, "reason": reason}
    return _settling(reservation, "commit", subject, body)


def rollback(
    reservation: UUID, *, subject: str | None, cause: Cause, items: Sequence[str] | None, reason: str | None
) -> Call[Settlement]:
    """What came back."""
    return _settling(reservation, "rollback", subject, {"items": items, "cause": cause, "reason": reason})


def extend(
    reservation: UUID, *, subject: str | None, ttl: timedelta, items: Sequence[str] | None, reason: str | None
) -> Call[Settlement]:
    """The new deadlines."""
    body = {"ttlSeconds": ttl.total_seconds(), "items": items, "reason": reason}
    return _settling(reservation, "extend", subject, body)


def refund(
    reservation: UUID, *, subject: str | None, items: Sequence[str] | None, reason: str | None
) -> Call[Settlement]:
    """What of the use came back."""
    return _settling(reservation, "refund", subject, {"items": items, "reason": reason})


def rollback_newest(
    subject: str | None, resource: str, max_amount: int, *, cause: Cause, reason: str | None
) -> Call[tuple[Returned, ...]]:
    """The items that came back; under a key, since the same words again would give back more."""
    body = {"subject": subject, "resource": resource, "count": max_amount, "cause": cause, "reason": reason}
    return Call(
        "POST", "/api/quota/rollback", lambda told: _all(Returned, told["returned"]), {}, body, key_or_own(None)
    )


def adjust(subject: str, resource: str, amount: int, *, reason: str, key: str | None) -> Call[Adjustment]:
    """What was corrected."""
    body = {"subject": subject, "resource": resource, "amount": amount, "reason": reason}

    def decode(told: Json) -> Adjustment:
        return msgspec.convert({**told, "outcome": "adjusted"}, Adjustment)

    return Call("POST", "/api/admin/adjust", decode, {}, body, key_or_own(key))


def adjustment_denied(detail: Mapping[str, Any]) -> Adjustment:
    """The adjustment that a problem stands for which says with whom it went too far."""
    return msgspec.convert({"replayed": False, **detail, "outcome": "denied"}, Adjustment)


def subject(subject: str) -> Call[Subject]:
    """What is set for a subject."""
    return Call("GET", _subject_path(subject), lambda told: value_of(Subject, told), {})


def configure_subject(
    subject: str,
    *,
    plan: str | None,
    quotas: Mapping[str, int | None],
    anchor: datetime | None,
    parent: str | None,
) -> Call[Subject]:
    """What is set for the subject after it."""
    body = {"plan": plan, "quotas": quotas, "anchor": anchor, "parent": parent}
    return Call("PUT", _subject_path(subject), lambda told: value_of(Subject, told), {}, body)


def usage(subject: str | None) -> Call[Usage]:
    """What a subject uses."""
    return Call("GET", "/api/usage", lambda told: value_of(Usage, told), {"subject": subject})


def usage_levels(subject: str | None) -> Call[tuple[UsageLevel, ...]]:
    """What a subject and those above him use."""
    return Call("GET", "/api/usage/levels", lambda told: _all(UsageLevel, told["levels"]), {"subject": subject})


def reservation(about: UUID, *, subject: str | None) -> Call[ReservationStory]:
    """A reservation as it stands."""
    return Call(
        "GET",
        f"/api/reservations/{path_of(about)}",
        lambda told: value_of(ReservationStory, told, key=None, items=_items(told)),
        {"subject": subject},
    )


def history(subject: str | None, *, cursor: str | None, limit: int) -> Call[History]:
    """A page of the journal."""
    return Call(
        "GET",
        "/api/quota/history",
        lambda told: History(_all(Entry, told["entries"]), told["nextCursor"]),
        {"subject": subject, "cursor": cursor, "limit": limit},
    )


def explain(subject: str | None) -> Call[Explanation]:
    """Why quota is what it is."""
    return Call(
        "GET",
        "/api/quota/explain",
        lambda told: value_of(
            Explanation,
            told,
            levels=_all(UsageLevel, told["levels"]),
            open=_all(OpenItem, told["open"], key=None),
            configured=_all(Configured, told["configured"]),
            changes=_all(Change, told["changes"]),
        ),
        {"subject": subject},
    )


def story(about: UUID, *, subject: str | None) -> Call[Story]:
    """What became of a reservation or image."""
    return Call(
        "GET",
        "/api/quota/explain",
        lambda told: value_of(
            Story,
            told,
            key=None,
            items=_items(told),
            images=_all(StoryImage, told["images"]),
            entries=_all(Entry, told["entries"]),
        ),
        {"id": str(about), "subject": subject},
    )


def key_or_own(key: str | None) -> str:
    """The key, or one that nobody else has.

    Raises:
        InvalidRequest: It could not be sent.
    """
    if key is None:
        return str(uuid.uuid4())
    if not (1 <= len(key) <= KEY_LENGTH_MAX and key.isascii() and key.isprintable()):
        message = f"key must be 1 to {KEY_LENGTH_MAX} printable ASCII characters."
        raise InvalidRequest(message, {"field": "key"})
    return key


def path_of(about: UUID) -> str:
    """An id as a part of a path."""
    return quote(str(about), safe="")


def value_of(kind: type[T], told: Json, **more: object) -> T:
    """A value of the model, of what is told in the words of the wire; `more` is what is already in the model's."""
    return msgspec.convert({_ours(name): value for name, value in told.items()} | more, kind)


def _subject_path(subject: str) -> str:
    return f"/api/admin/subjects/{quote(subject, safe='')}"


def _settling(reservation: UUID, verb: str, subject: str | None, body: Json) -> Call[Settlement]:
    return Call("POST", f"/api/reservations/{path_of(reservation)}/{verb}", _settlement, {"subject": subject}, body)


def _settlement(told: Json) -> Settlement:
    returned = told.get("rolledBack", told.get("returned", {}))
    return value_of(
        Settlement, told, returned=returned, committed=told.get("committed", {}), items=_items(told), done=told["done"]
    )


def _items(told: Json) -> dict[str, Item]:
    return {name: value_of(Item, item) for name, item in told["items"].items()}


def _all(kind: type[T], told: Sequence[Json], **more: object) -> tuple[T, ...]:
    return tuple(value_of(kind, one, **more) for one in told)


def _ours(name: str) -> str:
    plain = _HUMP.sub(r"_\1", name).lower()
    return _OUR_WORDS.get(plain, plain)
