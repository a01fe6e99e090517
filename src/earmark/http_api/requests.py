"""Reading what a request carries: its JSON body, ids, pages, key."""

import asyncio
import base64
import binascii
import re
from typing import TypeVar
from uuid import UUID

import msgspec
from starlette.requests import ClientDisconnect, Request

from earmark.errors import InvalidRequest, NotFound
from earmark.http_api.caller import subject_name
from earmark.http_api.problems import BodyTooLarge, BodyTooSlow, MalformedBody

BODY_BYTES_MAX = 1_048_576
BODY_SECONDS_MAX = 60.0
PAGE_DEFAULT = 50
PAGE_MAX = 200
KEY_LENGTH_MAX = 255
KEY_PATTERN = r'^("([ !#-\[\]-~]|\\["\\])+"|[!#-~]([ -~]*[!-~])?)$'

T = TypeVar("T")
_UUID = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SMALL_NUMBER = re.compile("[0-9]{1,6}")
_SEQ = re.compile("[0-9]{1,18}")
_KEY = re.compile(KEY_PATTERN)
_ESCAPED = re.compile(r"\\(.)")
_FIELD = re.compile(r" - at `(?:key in )?\$\.?(.*)`$")
_NAMED = re.compile("(?:missing required|unknown) field `([^`]*)`")


async def read_body(request: Request) -> bytes:
    """The body; an empty one is `{}`. Its content type does not matter: plain `fetch` calls it text.

    Raises:
        BodyTooLarge: It is, or says it is, longer than 1 MiB; read no further than that.
        BodyTooSlow: It was not all there after a minute.
        ClientDisconnect: The client has gone.
    """
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            return await _read_body(request)
    except TimeoutError:
        raise BodyTooSlow(f"A body is waited for {BODY_SECONDS_MAX:g} seconds at most.") from None


async def _read_body(request: Request) -> bytes:
    declared = request.headers.get("content-length", "0")
    fits = declared.isdigit() and int(declared) <= BODY_BYTES_MAX
    body = bytearray()
    while fits:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        fits = len(body) <= BODY_BYTES_MAX
        if fits and not message.get("more_body", False):
            return bytes(body) or b"{}"
    raise BodyTooLarge(f"A body has at most {BODY_BYTES_MAX} bytes.", {"limit": BODY_BYTES_MAX})


def decoded(body: bytes, kind: type[T]) -> T:
    """The body as a value of this kind, strictly typed.

    Raises:
        MalformedBody: It is not JSON.
        InvalidRequest: A value is missing, of another kind, or in a field that the kind forbids; `field` says where.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        message = str(error)
        where, named = _FIELD.search(message), _NAMED.search(message)
        place = [part for part in (where and where[1], named and named[1]) if part]
        raise InvalidRequest(_FIELD.sub("", message) + ".", {"field": ".".join(place)}) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody(f"The body is not JSON that can be read: {error}.") from error


async def read(request: Request, kind: type[T]) -> T:
    """The request's body as a value of this kind.

    Raises:
        BodyTooLarge, BodyTooSlow, MalformedBody, InvalidRequest: As `read_body` and `decoded`.
    """
    return decoded(await read_body(request), kind)


def uuid_of(text: str, what: str) -> UUID:
    """An id; text that is no id names nothing.

    Raises:
        NotFound: It is not a UUID.
    """
    if not _UUID.fullmatch(text):
        raise NotFound(f"There is no such {what}.")
    return UUID(text)


def key_of(request: Request) -> str | None:
    """The idempotency key, or None: a structured string (RFC 9651, section 3.3.3), or, as many send it, bare.

    Raises:
        InvalidRequest: There are several, or it is empty, longer than 255 characters or not printable ASCII.
    """
    sent = request.headers.getlist("idempotency-key")
    if not sent:
        return None
    key = _ESCAPED.sub(r"\1", sent[0][1:-1]) if sent[0].startswith('"') else sent[0]
    if len(sent) > 1 or not _KEY.fullmatch(sent[0]) or not 1 <= len(key) <= KEY_LENGTH_MAX:
        message = f"Idempotency-Key must be one text of 1 to {KEY_LENGTH_MAX} printable ASCII characters."
        raise InvalidRequest(message, {"field": "Idempotency-Key"})
    return key


def named_in_query(request: Request) -> str | None:
    """Whom the query names, or None."""
    return request.query_params.get("subject") if request.scope.get("query_string") else None


def subject_of(request: Request) -> str:
    """The subject that the path names.

    Raises:
        InvalidRequest: It could not be one.
    """
    return subject_name(request.path_params["subject"])


def limit_of(request: Request) -> int:
    """How many a page may hold.

    Raises:
        InvalidRequest: Not a whole number from 1 to 200.
    """
    return number_of(request, "limit", default=PAGE_DEFAULT, most=PAGE_MAX)


def number_of(request: Request, name: str, *, default: int, most: int) -> int:
    """A whole number from 1 on that the query may give.

    Raises:
        InvalidRequest: It is none, or more than `most`.
    """
    text = request.query_params.get(name, str(default))
    if not _SMALL_NUMBER.fullmatch(text) or not 1 <= int(text) <= most:
        raise InvalidRequest(f"{name} must be a whole number from 1 to {most}.", {"field": name})
    return int(text)


def cursor_for(kind: str, position: object) -> str:
    """An opaque cursor of one kind of list, at this position."""
    return base64.urlsafe_b64encode(f"{kind}:{position}".encode()).decode().rstrip("=")


def image_cursor(request: Request) -> UUID | None:
    """The image before which a page of images starts.

    Raises:
        InvalidRequest: A cursor that no such page has given.
    """
    position = _position(request, "images", _UUID)
    return None if position is None else UUID(position)


def history_cursor(request: Request) -> int | None:
    """The `seq` before which a page of the journal starts.

    Raises:
        InvalidRequest: A cursor that no such page has given.
    """
    position = _position(request, "history", _SEQ)
    return None if position is None else int(position)


def _position(request: Request, kind: str, form: re.Pattern[str]) -> str | None:
    cursor = request.query_params.get("cursor")
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    found, _, position = text.partition(":")
    if found != kind or not form.fullmatch(position):
        raise InvalidRequest("cursor must be the nextCursor of an earlier page.", {"field": "cursor"})
    return position
