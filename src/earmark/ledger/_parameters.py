"""What is sent to the database: JSON text, and parameters that PostgreSQL can hold; anything else is refused here."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar, cast
from uuid import UUID

from earmark.errors import InvalidRequest

_encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_INTEGERS = range(-(2**63), 2**63)
_COUNTS = range(2**31)
_KINDS = {str: "a text", int: "a whole number", datetime: "a datetime with a time zone", timedelta: "a timedelta"}
T = TypeVar("T")


def document(value: object) -> str:
    """A value as JSON text.

    Raises:
        InvalidRequest: It holds what JSON cannot say, or a text that PostgreSQL cannot hold.
    """
    try:
        text = _encode(value)
        text.encode()
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"The request cannot be written as JSON: {error}.") from error
    if _NUL.search(text):
        raise InvalidRequest("The request holds a text with a NUL character.")
    return text


def count_of(field: str, value: int) -> int:
    """How many of something are wanted, such as the entries of a page.

    Raises:
        InvalidRequest: Below 0, more than 32 bits hold, or no whole number.
    """
    if type(value) is not int or value not in _COUNTS:
        raise InvalidRequest(f"{field} must be a whole number from 0 to {_COUNTS[-1]}, not {value}.", {"field": field})
    return value


def value_of(field: str, kind: type[T], value: T | None) -> T | None:
    """A value of this kind, where one is given; a UUID, as many users' ids are, as text. For what it holds see below.

    Raises:
        InvalidRequest: It is of another kind.
    """
    if kind is str and isinstance(value, UUID):
        return cast("T", str(value))
    if value is None or (isinstance(value, kind) and not isinstance(value, bool)):
        return value
    raise InvalidRequest(f"{field} must be {_KINDS[kind]}, not {value!r:.80}.", {"field": field})


def mapping_of(field: str, value: Mapping[str, T], holds: str) -> dict[str, T]:
    """What is given by names; `holds`: an example of it.

    Raises:
        InvalidRequest: It is something else.
    """
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{field} must be a mapping such as {holds}, not {value!r:.80}.", {"field": field})
    return dict(value)


def id_of(field: str, value: UUID) -> UUID:
    """The id of a reservation or an image, which may be a text.

    Raises:
        InvalidRequest: It is no UUID.
    """
    try:
        return UUID(str(value))
    except ValueError:
        raise InvalidRequest(f"{field} must be a UUID.", {"field": field}) from None


def word_of(field: str, words: type[StrEnum], value: str) -> str:
    """One of a closed set of words, which may be a text.

    Raises:
        InvalidRequest: It is none of them.
    """
    try:
        return words(value).value
    except ValueError:
        raise InvalidRequest(f"{field} must be one of {', '.join(words)}, not {value}.", {"field": field}) from None


def check_parameters(parameters: Sequence[object]) -> None:
    """Lets pass what PostgreSQL can hold.

    Raises:
        InvalidRequest: A text with a NUL character or half a surrogate pair, a number beyond 64 bits, or a moment
            without a time zone, which would be another one on every server.
    """
    for value in parameters:
        if isinstance(value, str):
            _check_text(value)
        elif isinstance(value, int) and value not in _INTEGERS:
            raise InvalidRequest(f"{value} is more than 64 bits hold.")
        elif isinstance(value, datetime) and value.tzinfo is None:
            raise InvalidRequest(f"{value.isoformat()} must say its time zone, such as {value.isoformat()}+00:00.")
        elif isinstance(value, list):
            check_parameters(value)


def _check_text(text: str) -> None:
    if "\0" in text:
        raise InvalidRequest("The request holds a text with a NUL character.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"The request holds a text that is no Unicode: {error.reason}.") from error
