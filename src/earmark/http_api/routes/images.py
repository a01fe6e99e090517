"""Images: reserve and permit uploads, complete, fail, cancel, retry, look, delete."""

import re
from uuid import UUID

from msgspec import UnsetType
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from earmark.http_api.caller import Caller
from earmark.http_api.requests import (
    cursor_for,
    decoded,
    image_cursor,
    key_of,
    limit_of,
    read,
    read_body,
    uuid_of,
)
from earmark.http_api.routing import address, resource
from earmark.http_api.services import Services
from earmark.http_api.wire import (
    CompleteBody,
    FailedBody,
    FileBody,
    PreuploadBody,
    answer,
    image_answer,
    preupload_answer,
    usage_answer,
)
from earmark.uploads._calls import Transition
from earmark.uploads.model import File, Image

ERROR_LENGTH_MAX = 500
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]+")


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
        self._uploads = services.uploads

    async def preupload(self, request: Request) -> Response:
        """Takes quota for all files or none; 201 with an upload for each, in their order."""
        caller = self._services.caller(request)
        key = key_of(request)
        raw = await read_body(request)
        body = decoded(raw, PreuploadBody)
        files = (decoded(raw, FileBody),) if isinstance(body.files, UnsetType) else body.files
        subject = caller.acting_for(body.subject or request.query_params.get("subject"))
        declared = [File(file.filename, file.content_type, file.size) for file in files]
        granted = await self._uploads.reserve(subject, declared, key=key, actor=caller.subject)
        usage = await self._services.ledger.usage(subject)
        location = address(request, f"/api/reservations/{granted.reservation}")
        return answer(preupload_answer(granted, usage, str(request.base_url)), 201, location=location)

    async def complete(self, request: Request) -> Response:
        """The upload is done: 202, and processing is enqueued; repeated: 202 with the state it is in."""
        caller = self._services.caller(request)
        body = await read(request, CompleteBody)
        seen = caller.sees(request.query_params.get("subject"))
        image = await self._uploads.complete(uuid_of(body.image_id, "image"), subject=seen)
        location = address(request, f"/api/images/{image.image}")
        return answer({"imageId": image.image, "status": image.state}, 202, location=location)

    async def cancel(self, request: Request) -> Response:
        """Stops an image before it is completed; repeated: the same answer."""
        caller = self._services.caller(request)
        image, seen = self._named(request, caller)
        return await self._settled(request, await self._uploads.cancel(image, subject=seen, actor=caller.subject))

    async def failed(self, request: Request) -> Response:
        """The upload failed, in the client's words; repeated: the same answer."""
        caller = self._services.caller(request)
        body = await read(request, FailedBody)
        image, seen = self._named(request, caller)
        error = " ".join(_UNPRINTABLE.sub(" ", body.error or "").split())[:ERROR_LENGTH_MAX]
        return await self._settled(
            request, await self._uploads.fail(image, subject=seen, error=error, actor=caller.subject)
        )

    async def retry(self, request: Request) -> Response:
        """Reserves anew for an image that was not accepted; 201 as `preupload`."""
        caller = self._services.caller(request)
        key = key_of(request)
        image = await self._image(request)
        granted = await self._uploads.retry(image.image, subject=image.subject, key=key, actor=caller.subject)
        usage = await self._services.ledger.usage(image.subject)
        location = address(request, f"/api/images/{granted.uploads[0].image.image}")
        return answer(preupload_answer(granted, usage, str(request.base_url)), 201, location=location)

    async def delete(self, request: Request) -> Response:
        """Deletes an image; what its plan refunds comes back."""
        caller = self._services.caller(request)
        image = await self._image(request)
        return await self._settled(
            request, await self._uploads.delete(image.image, subject=image.subject, actor=caller.subject)
        )

    async def one(self, request: Request) -> Response:
        """One image."""
        return answer(image_answer(await self._image(request), self._uploads, str(request.base_url)))

    async def page(self, request: Request) -> Response:
        """A page of a subject's images, newest first."""
        caller = self._services.caller(request)
        subject = caller.acting_for(request.query_params.get("subject"))
        limit = limit_of(request)
        found = await self._uploads.images(subject, before=image_cursor(request), limit=limit + 1)
        more = cursor_for("images", found[limit - 1].image) if len(found) > limit else None
        shown = [image_answer(image, self._uploads, str(request.base_url)) for image in found[:limit]]
        return answer({"images": shown, "nextCursor": more})

    async def _image(self, request: Request) -> Image:
        image, seen = self._named(request, self._services.caller(request))
        return await self._uploads.image(image, subject=seen)

    @staticmethod
    def _named(request: Request, caller: Caller) -> tuple[UUID, str | None]:
        """The image that is named, and whose it must be; None for anybody's."""
        return uuid_of(request.path_params["id"], "image"), caller.sees(request.query_params.get("subject"))

    async def _settled(self, request: Request, moved: Transition) -> Response:
        image = moved.image
        assert image is not None  # noqa: S101 - the flow raises NotFound where there is none
        usage = await self._services.ledger.usage(image.subject)
        return answer(
            {"image": image_answer(image, self._uploads, str(request.base_url)), "usage": usage_answer(usage)}
        )
