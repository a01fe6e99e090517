"""The local store's links: an upload is taken in, an object shown. With any other store there is nothing here."""

import asyncio
import re
from collections.abc import Awaitable
from datetime import UTC, datetime
from uuid import UUID

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from earmark.errors import AlreadySettled, NotFound
from earmark.faults import reached
from earmark.http_api.problems import ReservationOver
from earmark.http_api.routing import Access, Media, Parameter, operation, resource
from earmark.http_api.services import Services
from earmark.http_api.wire import StoredAnswer, answer
from earmark.uploads.model import OPEN_STATES, State
from earmark.uploads.storage import (
    AlreadyUploaded,
    BadSignature,
    LengthRequired,
    LinkExpired,
    LocalStorage,
    ObjectMissing,
    PartGrant,
    StorageFull,
    StorageUnavailable,
    TooLong,
    UploadGrant,
    WrongLength,
    WrongType,
)

_KEY = re.compile("images/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/original")
_PATH = {"key": {"type": "string", "minLength": 1, "maxLength": 401}}
_ARRIVED = frozenset({State.UPLOADED, State.PROCESSING, State.COMPLETED})


def _parameter(name: str, text: str, *, required: bool = True) -> Parameter:
    return Parameter(name, {"type": "string"}, text, required=required)


_LINK = (
    _parameter("expires", "Until when the link is good, in seconds since 1970."),
    _parameter("signature", "Of all the others, the method and the key."),
)


def routes(services: Services) -> list[Route]:
    """The store's addresses, when it is the local one."""
    if not isinstance(services.storage, LocalStorage):
        return []
    calls = Objects(services, services.storage)
    return [resource("/storage/{key:path}", GET=calls.show, PUT=calls.take_in)]


class Objects:
    """Each method answers one call; the link itself is the permission, and no token is asked for."""

    def __init__(self, services: Services, storage: LocalStorage) -> None:
        self._uploads = services.uploads
        self._storage = storage

    @operation(
        body=Media("*/*"),
        answers={201: StoredAnswer},
        access=Access.SIGNATURE,
        problems=(
            NotFound,
            ObjectMissing,
            ReservationOver,
            BadSignature,
            LinkExpired,
            LengthRequired,
            WrongLength,
            TooLong,
            WrongType,
            AlreadyUploaded,
            StorageUnavailable,
            StorageFull,
        ),
        query=(
            *_LINK,
            _parameter("size", "How many bytes it may have, and has."),
            _parameter("type", "The content type of a whole file.", required=False),
            _parameter("part", "The number of a part of a large file.", required=False),
            _parameter("upload", "The upload that the part is of.", required=False),
        ),
        path=_PATH,
    )
    async def take_in(self, request: Request) -> Response:
        """Stores the body of a signed upload, or of a part of one: 201, or nothing of it is kept.

        Everything that can be refused is refused before the first byte is read. A reservation that ends while the
        bytes arrive is noticed afterwards.
        """
        key: str = request.path_params["key"]
        if "part" in request.query_params:
            return await self._take_in_part(request, key)
        grant = self._storage.verify_upload(key, request.query_params, dict(request.headers), datetime.now(UTC))
        image_id = await self._expected(key)
        await self._in_time(grant, self._storage.receive(grant, request.stream()))
        reached("stored")
        if await self._is_over(image_id):
            await self._storage.delete([key])
            raise ReservationOver("The reservation ended while the bytes arrived; they were not kept.")
        return answer(StoredAnswer(image_id, grant.size), 201)

    async def _take_in_part(self, request: Request, key: str) -> Response:
        grant = self._storage.verify_part(key, request.query_params, dict(request.headers), datetime.now(UTC))
        image_id = await self._expected(key)
        await self._in_time(grant, self._storage.receive_part(grant, request.stream()))
        reached("stored")
        if await self._is_over(image_id):
            await self._storage.abort_parts(key, grant.upload_id)
            raise ReservationOver("The reservation ended while the bytes arrived; they were not kept.")
        return answer(StoredAnswer(image_id, grant.size), 201)

    async def _in_time(self, grant: UploadGrant | PartGrant, receiving: Awaitable[object]) -> None:
        """What began in time is waited for as long as its reservation is, however slowly it comes."""
        seconds = (grant.expires_at - datetime.now(UTC)).total_seconds()
        try:
            async with asyncio.timeout(seconds + self._uploads.settings.upload_grace_seconds):
                await receiving
        except TimeoutError:
            raise ReservationOver("The time for this upload is over; its bytes were not kept.") from None

    async def _expected(self, key: str) -> UUID:
        """The image whose bytes may come now."""
        image_id = _image_of(key)
        try:
            await self._uploads.receiving(image_id)
        except AlreadySettled as error:
            if error.detail.get("state") in _ARRIVED:
                raise AlreadyUploaded("This image was uploaded before.") from error
            raise ReservationOver(f"{error} No bytes are taken for it.", error.detail) from error
        return image_id

    @operation(
        answers={200: Media("*/*")},
        access=Access.SIGNATURE,
        problems=(ObjectMissing, BadSignature, LinkExpired, StorageUnavailable),
        query=(
            *_LINK,
            _parameter("type", "The content type."),
            _parameter("disposition", "How a browser shows and names it."),
        ),
        path=_PATH,
    )
    async def show(self, request: Request) -> Response:
        """The object of a signed link, whole: ranges are not offered."""
        grant = self._storage.verify_download(request.path_params["key"], request.query_params, datetime.now(UTC))
        request.scope["headers"] = [header for header in request.scope["headers"] if header[0].lower() != b"range"]
        shown = {"Accept-Ranges": "none", "Cross-Origin-Resource-Policy": "cross-origin"}  # the link is the permission
        return FileResponse(grant.path, headers={**grant.headers, **shown})

    async def _is_over(self, image_id: UUID) -> bool:
        try:
            image = await self._uploads.image(image_id)
        except NotFound:
            return True
        return image.state not in OPEN_STATES | _ARRIVED


def _image_of(key: str) -> UUID:
    found = _KEY.fullmatch(key)
    if found is None:
        raise NotFound("There is no such image.")
    return UUID(found[1])
