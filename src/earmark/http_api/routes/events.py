"""Server-sent events: a subject's own images and usage, as they change."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Send

from earmark.errors import EarmarkError, NotSignedIn, UnknownSubject
from earmark.http_api.follower import Follower, Watch
from earmark.http_api.requests import named_in_query
from earmark.http_api.routing import SUBJECT, Media, Parameter, operation, resource
from earmark.http_api.services import Services
from earmark.http_api.wire import image_answer, usage_answer
from earmark.ledger.retrying import UNREACHABLE
from earmark.uploads.changes import Position, images_changed, positions

HEARTBEAT_SECONDS = 15.0
SEND_SECONDS = 20.0
"""How long a client may take to make room for one more event before it is cut off; it resumes where it was."""
STREAMS_PER_SUBJECT = 20
IMAGES_PER_READ = 50
RETRY_MS = 1000

_POSITION = re.compile("([0-9]{1,18})-([0-9]{1,18})")
_LAST = Parameter("Last-Event-ID", {"type": "string"}, "The `id` of the last event that the client has seen.")
_HEADERS = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}


class TooManyStreams(EarmarkError):  # noqa: N818 - named for what is wrong
    """More streams of events of one subject than one process keeps open."""

    status = 429
    slug = "too-many-streams"
    remedy = "Close a stream that nobody reads: a page needs one, and none while it is hidden."
    members = ("limit",)


def routes(services: Services) -> list[Route]:
    """The calls of this noun."""
    return [resource("/api/events", GET=Events(services).stream)]


class Events:
    """All streams of one process, and the follower they share."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._pool = services.uploads.pool
        self._follower = Follower(partial(positions, self._pool), services.stopping)

    @operation(
        answers={200: Media("text/event-stream")},
        query=(SUBJECT,),
        headers=(_LAST,),
        problems=(TooManyStreams, UnknownSubject),
    )
    async def stream(self, request: Request) -> Response:
        """`ready`, then an `image` or `usage` whenever one changes, until the token or the service ends.

        With `Last-Event-ID` it goes on from that event: what changed since comes first, each image once, as it is now.
        Where it cannot (`ready` says `resumed: false`) the client reads the lists anew.
        """
        caller = self._services.caller(request)
        subject = caller.acting_for(named_in_query(request))
        await self._services.ledger.usage(subject)  # who is unknown is told so by a status, not by a stream that breaks
        if request.method == "HEAD":
            return Response(None, 200, _HEADERS)
        if self._follower.watching(subject) >= STREAMS_PER_SUBJECT:
            raise TooManyStreams(
                f"There are {STREAMS_PER_SUBJECT} streams of {subject} already; close one.",
                {"limit": STREAMS_PER_SUBJECT},
            )
        return _Stream(self._told(request, subject))

    async def _told(self, request: Request, subject: str) -> AsyncGenerator[bytes]:
        with self._follower.watch(subject) as watch:
            try:
                async for told in self._changes(request, subject, watch):
                    yield told
            except (NotSignedIn, *UNREACHABLE):
                return  # the client comes again, and is told then

    async def _changes(self, request: Request, subject: str, watch: Watch) -> AsyncIterator[bytes]:
        now = (await positions(self._pool, [subject]))[subject]
        at = _resumed_at(request, now)
        yield f"retry: {RETRY_MS}\n".encode() + _event("ready", at or now, {"resumed": at is not None})
        at, usage = at or now, b""
        while not watch.is_over:
            self._services.caller(request)  # nothing is told once the token is over
            async for reached, told in self._images(request, subject, at):
                at = reached
                yield told
            at = now._replace(changes=max(at.changes, now.changes))
            latest = msgspec.json.encode(usage_answer(await self._services.ledger.usage(subject)))
            if latest != usage:
                usage = latest
                yield _event("usage", at, msgspec.Raw(latest))
            while not await watch.moved(HEARTBEAT_SECONDS):
                self._services.caller(request)
                yield b":\n\n"
            now = (await positions(self._pool, [subject]))[subject]

    async def _images(self, request: Request, subject: str, at: Position) -> AsyncIterator[tuple[Position, bytes]]:
        """Images that changed after `at`, each with where that leaves the stream."""
        while found := await images_changed(self._pool, subject, at.changes, IMAGES_PER_READ):
            for change, image in found:
                at = at._replace(changes=change)
                shown = image_answer(image, self._services.uploads, str(request.base_url))
                yield at, _event("image", at, shown)


class _Stream(StreamingResponse):
    """A stream that gives up on a client that does not read."""

    def __init__(self, told: AsyncGenerator[bytes]) -> None:
        super().__init__(told, 200, _HEADERS)
        self._told = told

    async def stream_response(self, send: Send) -> None:
        async def in_time(message: object) -> None:
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await send(message)  # type: ignore[arg-type]
            except TimeoutError as error:
                raise ClientDisconnect from error

        async with aclosing(self._told):
            await super().stream_response(in_time)


def _resumed_at(request: Request, now: Position) -> Position | None:
    """Where the client says it is; None where that is no place in these books."""
    found = _POSITION.fullmatch(request.headers.get("last-event-id", ""))
    at = found and Position(int(found[1]), int(found[2]))
    return at if at and at.entries <= now.entries and at.changes <= now.changes else None


def _event(name: str, at: Position, value: object) -> bytes:
    return b"event: %b\nid: %d-%d\ndata: %b\n\n" % (name.encode(), at.entries, at.changes, msgspec.json.encode(value))
