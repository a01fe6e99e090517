"""Images: reserve and permit uploads, complete, fail, cancel, retry, look, delete."""

import time
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from earmark.errors import (
    AlreadySettled,
    BulkLimitExceeded,
    InvalidFile,
    InvalidRequest,
    KeyConflict,
    NotFound,
    QuotaExceeded,
    UnknownSubject,
    UploadFailed,
    ValidationFailed,
)
from earmark.http_api.answers import Connection, Effect, RequestInFlight
from earmark.http_api.bodies import ONE_FILE_BODY, CompleteBody, FailedBody, FileBody, FilesBody, OneFileBody
from earmark.http_api.caller import Caller
from earmark.http_api.conditional import versioned
from earmark.http_api.requests import (
    cursor_for,
    decoded,
    image_cursor,
    key_of,
    limit_of,
    named_in_query,
    read,
    read_body,
    uuid_of,
)
from earmark.http_api.routing import CURSOR, LIMIT, SUBJECT, address, operation, resource
from earmark.http_api.services import Services
from earmark.http_api.usage_reader import UsageReader
from earmark.http_api.wire import (
    CompleteAnswer,
    ImageAnswer,
    ImageEndedAnswer,
    ImagesAnswer,
    PreuploadAnswer,
    answer,
    image_answer,
    preupload_answer,
    usage_answer,
)
from earmark.uploads._calls import Transition
from earmark.uploads.model import File, Image, in_one_line
from earmark.uploads.storage import StorageUnavailable

LINKS_SECONDS = 300
"""How long an image's version stays the same: a client that is told so has links that are good for longer yet."""


def routes(services: Services) -> list[Route]:
    """The calls of this noun."""
    calls = Images(services)
    return [
        resource("/api/images", GET=calls.page),
        resource("/api/images/preupload", POST=calls.preupload),
        resource("/api/images/complete", POST=calls.complete),
        resource("/api/images/{id}", GET=calls.one, DELETE=calls.delete),
        resource("/api/images/{id}/cancel", POST=calls.cancel),
        resource("/api/images/{id}/failed", POST=calls.failed),
        resource("/api/images/{id}/retry", POST=calls.retry),
    ]


class Images:
    """Each method answers one call. A service finds everybody's images; `?subject=` narrows it to one subject's."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._usage = UsageReader(services.ledger)
        self._uploads = services.uploads

    @operation(
        body=(FilesBody, ONE_FILE_BODY),
        example=FilesBody((FileBody("beach.jpg", "image/jpeg", 2_400_000),)),
        answers={201: PreuploadAnswer},
        problems=(InvalidFile, BulkLimitExceeded, QuotaExceeded, KeyConflict, UnknownSubject),
        query=(SUBJECT,),
        keyed=True,
        quota=True,
        located=True,
    )
    async def preupload(self, request: Request) -> Response:
        """Takes quota for all files or none; 201 with an upload for each, in their order."""
        caller = self._services.caller(request)
        key = key_of(request)
        body = _files(await read_body(request))
        subject = caller.acting_for(body.subject or named_in_query(request))
        declared = [File(file.filename, file.content_type, file.size) for file in body.files]
        granted = await self._uploads.reserve(subject, declared, key=key, actor=caller.subject)
        usage = await self._usage.usage(subject)
        location = address(request, f"/api/reservations/{granted.reservation}")
        told = preupload_answer(granted, usage, str(request.base_url))
        return answer(told, 201, location=location, usage=told.usage, replayed=granted.replayed)

    @operation(
        body=CompleteBody,
        example=CompleteBody("0199a3f2-7c1e-8a4b-9d20-3f5e6a7b8c9d"),
        answers={202: CompleteAnswer},
        problems=(NotFound, AlreadySettled, UploadFailed, ValidationFailed, StorageUnavailable),
        query=(SUBJECT,),
        located=True,
    )
    async def complete(self, request: Request) -> Response:
        """The upload is done: 202, and processing is enqueued; repeated: 202 with the state it is in."""
        caller = self._services.caller(request)
        body = await read(request, CompleteBody)
        seen = caller.sees(named_in_query(request))
        image = await self._uploads.complete(uuid_of(body.image_id, "image"), subject=seen)
        location = address(request, f"/api/images/{image.image}")
        return answer(CompleteAnswer(image.image, image.state), 202, location=location)

    @operation(
        answers={200: ImageEndedAnswer},
        problems=(NotFound, AlreadySettled, RequestInFlight),
        query=(SUBJECT,),
        keyed=True,
        quota=True,
    )
    async def cancel(self, request: Request) -> Response:
        """Stops an image before it is completed; repeated: the same answer."""
        caller = self._services.caller(request)

        async def effect(connection: Connection | None) -> Response:
            image, seen = self._named(request, caller)
            uploads = self._services.uploads_on(connection)
            moved = await uploads.cancel(image, subject=seen, actor=caller.subject)
            return await self._settled(request, moved, connection)

        return await self._once(request, caller, None, effect)

    @operation(
        body=FailedBody,
        example=FailedBody("connection reset"),
        answers={200: ImageEndedAnswer},
        problems=(NotFound, AlreadySettled, RequestInFlight),
        query=(SUBJECT,),
        keyed=True,
        quota=True,
    )
    async def failed(self, request: Request) -> Response:
        """The upload failed, in the client's words; repeated: the same answer."""
        caller = self._services.caller(request)
        body = await read(request, FailedBody)
        error = in_one_line(body.error or "")

        async def effect(connection: Connection | None) -> Response:
            image, seen = self._named(request, caller)
            uploads = self._services.uploads_on(connection)
            moved = await uploads.fail(image, subject=seen, error=error, actor=caller.subject)
            return await self._settled(request, moved, connection)

        return await self._once(request, caller, body, effect)

    @operation(
        answers={201: PreuploadAnswer},
        problems=(NotFound, AlreadySettled, QuotaExceeded, KeyConflict, InvalidFile),
        query=(SUBJECT,),
        keyed=True,
        quota=True,
        located=True,
    )
    async def retry(self, request: Request) -> Response:
        """Reserves anew for an image that was not accepted; 201 as `preupload`."""
        caller = self._services.caller(request)
        key = key_of(request)
        image = await self._image(request)
        granted = await self._uploads.retry(image.image, subject=image.subject, key=key, actor=caller.subject)
        usage = await self._usage.usage(image.subject)
        location = address(request, f"/api/images/{granted.uploads[0].image.image}")
        told = preupload_answer(granted, usage, str(request.base_url))
        return answer(told, 201, location=location, usage=told.usage, replayed=granted.replayed)

    @operation(answers={200: ImageEndedAnswer}, problems=(NotFound,), query=(SUBJECT,), quota=True)
    async def delete(self, request: Request) -> Response:
        """Deletes an image; what its plan refunds comes back."""
        caller = self._services.caller(request)
        image = await self._image(request)
        return await self._settled(
            request, await self._uploads.delete(image.image, subject=image.subject, actor=caller.subject)
        )

    @operation(answers={200: ImageAnswer}, problems=(NotFound,), query=(SUBJECT,), tagged=True)
    async def one(self, request: Request) -> Response:
        """One image; when it is completed, with links that are good for some minutes."""
        told = image_answer(await self._image(request), self._uploads, str(request.base_url))
        return versioned(request, told, _version(told))

    @operation(answers={200: ImagesAnswer}, problems=(InvalidRequest,), query=(SUBJECT, LIMIT, CURSOR), tagged=True)
    async def page(self, request: Request) -> Response:
        """A page of a subject's images, newest first."""
        caller = self._services.caller(request)
        subject = caller.acting_for(named_in_query(request))
        limit = limit_of(request)
        found = await self._uploads.images(subject, before=image_cursor(request), limit=limit + 1)
        more = cursor_for("images", found[limit - 1].image) if len(found) > limit else None
        shown = [image_answer(image, self._uploads, str(request.base_url)) for image in found[:limit]]
        return versioned(request, ImagesAnswer(shown, more), [*map(_version, shown), more])

    async def _image(self, request: Request) -> Image:
        image, seen = self._named(request, self._services.caller(request))
        return await self._uploads.image(image, subject=seen)

    @staticmethod
    def _named(request: Request, caller: Caller) -> tuple[UUID, str | None]:
        """The image that is named, and whose it must be; None for anybody's."""
        return uuid_of(request.path_params["id"], "image"), caller.sees(named_in_query(request))

    async def _once(self, request: Request, caller: Caller, body: msgspec.Struct | None, effect: Effect) -> Response:
        seen = caller.sees(named_in_query(request))
        return await self._services.answers.once(
            request, lambda: self._services.owner_of_image(request.path_params["id"], seen), body, effect
        )

    async def _settled(self, request: Request, moved: Transition, connection: Connection | None = None) -> Response:
        image = moved.image
        assert image is not None  # noqa: S101 - the flow raises NotFound where there is none
        usage = await self._usage.usage(image.subject, connection)
        told = ImageEndedAnswer(image_answer(image, self._uploads, str(request.base_url)), usage_answer(usage))
        return answer(told, usage=told.usage)


def _files(body: bytes) -> FilesBody | OneFileBody:
    """Several files, or one whose fields stand at the top."""
    if "files" in decoded(body, dict[str, msgspec.Raw]):
        return decoded(body, FilesBody)
    return decoded(body, OneFileBody)


def _version(image: ImageAnswer) -> tuple[object, ...]:
    """What an image's ETag is made of: all but the links, which differ each time, and which links those are."""
    window = None if image.url is None else _now() // LINKS_SECONDS
    return msgspec.structs.replace(image, url=None, thumbnail_url=None), image.thumbnail_url is None, window


def _now() -> int:
    return int(time.time())
