"""The HTTP calls of `earmark upload`: bounded retries, typed answers, and one place that turns errors into messages."""

import asyncio
import contextlib
import os
import random
import socket
import ssl
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import msgspec

from earmark.cli.upload_report import ResourceUsage

FIRST_ATTEMPTS = 3
"""For the very first call: an address that is wrong should be said soon."""
ATTEMPTS = 8
"""For every later one: outlives a restart of the service, about 8 s on average and 16 s at most."""
PUT_ATTEMPTS = 3
BACKOFF_BASE_SECONDS = 0.25
BACKOFF_CAP_SECONDS = 4.0
CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 30.0
LONGEST_ERROR = 500

T = TypeVar("T")


class ServiceError(Exception):
    """The service refused a call, answered with nonsense, or could not be reached; its text is for people.

    Attributes:
        status: HTTP status; None where there was no answer.
        slug: Last part of the problem's type, such as `quota-exceeded`; empty where the answer was no problem document.
        members: The problem's further members.
        transient: Whether the same call may succeed when it is repeated.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        slug: str = "",
        members: Mapping[str, Any] | None = None,
        transient: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.slug = slug
        self.members = dict(members or {})
        self.transient = transient


class Usage(msgspec.Struct, frozen=True):
    """The answer of `GET /api/usage`, as far as an upload needs it."""

    subject: str
    resources: dict[str, ResourceUsage]
    features: dict[str, Any] = {}


class Request(msgspec.Struct, frozen=True, rename="camel"):
    """Where and how `size` bytes of a file, from `offset` on, are to be sent."""

    upload_url: str
    headers: dict[str, str] = {}
    method: str = "PUT"
    offset: int = 0
    size: int = 0


class Grant(msgspec.Struct, frozen=True, rename="camel"):
    """Where and how one reserved file is to be sent; a large one in parts."""

    image_id: str
    upload_url: str | None = None
    headers: dict[str, str] = {}
    method: str = "PUT"
    parts: tuple[Request, ...] | None = None

    def requests(self, size: int) -> tuple[Request, ...]:
        """What to send for a file of that size, one after another."""
        if self.upload_url is None:
            return self.parts or ()
        return (Request(self.upload_url, self.headers, self.method, 0, size),)


class Image(msgspec.Struct, frozen=True, rename="camel"):
    """An image's state, and why it ended there."""

    image_id: str
    state: str
    cause: str | None = None
    reason: str | None = None


class _Reservation(msgspec.Struct, frozen=True, rename="camel"):
    images: list[Grant]


class _RolledBack(msgspec.Struct, frozen=True, rename="camel"):
    rolled_back: dict[str, int]


class UploadClient:
    """The calls of an upload, as one subject; use it as an async context manager.

    The token goes to the service only: uploads have a client of their own, since their addresses may be another host's.

    Args:
        url: The service's address, `http://host:port`.
        token: Bearer token.
        parallel: Most uploads at a time.
    """

    def __init__(self, url: str, token: str, parallel: int) -> None:
        self._url = httpx.URL(url)
        timeout = httpx.Timeout(READ_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS)
        # A proxy meant for the outside must not be asked for a service on this machine.
        direct = dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://[::1]"))
        tls = ssl.create_default_context()
        self._api = httpx.AsyncClient(
            base_url=self._url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout,
            mounts=direct,
            verify=tls,
        )
        self._uploads = httpx.AsyncClient(
            timeout=timeout, mounts=direct, verify=tls, limits=httpx.Limits(max_connections=parallel)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._api.aclose()
        await self._uploads.aclose()

    async def usage(self, *, attempts: int = ATTEMPTS) -> Usage:
        """The subject's usage and features."""
        return await self._call("GET", "/api/usage", answer=Usage, attempts=attempts)

    async def reserve(self, files: Sequence[Mapping[str, Any]]) -> list[Grant]:
        """Reserve these files, all or none; repeated safely under a key of its own."""
        key = str(uuid.uuid4())
        body = {"files": list(files)}
        reservation = await self._call("POST", "/api/images/preupload", answer=_Reservation, body=body, key=key)
        if len(reservation.images) != len(files):
            raise ServiceError(f"the service answered {len(reservation.images)} grants for {len(files)} files")
        return reservation.images

    async def complete(self, image_id: str) -> None:
        """Say that a file has arrived in the store."""
        await self._call("POST", "/api/images/complete", answer=Any, body={"imageId": image_id})

    async def upload_failed(self, image_id: str, error: str) -> None:
        """Say that a file did not arrive: its quota comes back."""
        body = {"error": error[:LONGEST_ERROR]}
        await self._call("POST", f"/api/images/{image_id}/failed", answer=Any, body=body)

    async def image(self, image_id: str) -> Image:
        """One image's state."""
        return await self._call("GET", f"/api/images/{image_id}", answer=Image)

    async def cancel(self, image_id: str) -> None:
        """Cancel one image, at whatever stage before it is completed."""
        await self._call("POST", f"/api/images/{image_id}/cancel", answer=Any, body={})

    async def cancel_all(self, image_ids: Sequence[str]) -> int:
        """Cancel these images in one call; the number whose quota came back by it."""
        body = {"imageIds": list(image_ids), "cause": "cancelled"}
        answer = await self._call("POST", "/api/quota/rollback", answer=_RolledBack, body=body)
        return answer.rolled_back.get("images", 0)

    async def put(self, request: Request, content: Callable[[], AsyncGenerator[bytes, None]]) -> None:
        """Send the bytes of one request, from their start again after a broken connection or a 5xx.

        The address of a whole file takes it once: a 412 on a repeat says that an earlier attempt arrived after all.

        Args:
            request: Where to, how many bytes, and with which headers.
            content: Yields these bytes, anew for each attempt.

        Raises:
            ServiceError: It did not arrive, or nobody can know.
        """
        url = self._url.join(request.upload_url)
        headers = {name.title(): value for name, value in request.headers.items()}
        headers["Content-Length"] = str(request.size)

        async def attempt(number: int) -> None:
            try:
                async with contextlib.aclosing(content()) as chunks:
                    response = await self._uploads.request(request.method, url, headers=headers, content=chunks)
            except httpx.TransportError as error:
                raise ServiceError(f"connection lost ({_cause_of(error)})", transient=True) from error
            arrived_before = number > 1 and response.status_code == HTTPStatus.PRECONDITION_FAILED
            if not response.is_success and not arrived_before:
                raise _error_of(response)

        await _repeated(attempt, PUT_ATTEMPTS)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        answer: type[T],
        body: Any = None,
        key: str | None = None,
        attempts: int = ATTEMPTS,
    ) -> T:
        headers = {} if key is None else {"Idempotency-Key": key}

        async def attempt(_: int) -> T:
            try:
                response = await self._api.request(method, path, json=body, headers=headers)
            except httpx.TransportError as error:
                message = f"cannot reach {self._url}: {_cause_of(error)}"
                raise ServiceError(message, transient=True) from error
            # With a key, 409 means that the first try of this very call is still under way.
            if response.status_code == HTTPStatus.CONFLICT and key is not None:
                raise ServiceError("the service is still busy with this request", transient=True)
            if not response.is_success:
                raise _error_of(response)
            try:
                return msgspec.json.decode(response.content, type=answer)
            except msgspec.MsgspecError as error:
                message = f"{self._url} does not answer like Earmark ({method} {path}: {error})"
                raise ServiceError(message, status=response.status_code) from error

        return await _repeated(attempt, attempts)


async def _repeated(attempt: Callable[[int], Awaitable[T]], attempts: int) -> T:
    for number in range(1, attempts):
        try:
            return await attempt(number)
        except ServiceError as error:
            if not error.transient:
                raise
        longest = min(BACKOFF_BASE_SECONDS * 2 ** (number - 1), BACKOFF_CAP_SECONDS)
        await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - jitter, not a secret
    return await attempt(attempts)


def _error_of(response: httpx.Response) -> ServiceError:
    """The error that an answer stands for: a problem document's words, else its status."""
    status = response.status_code
    phrase = f"{status} {response.reason_phrase}".strip()
    members: dict[str, Any] = {}
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        try:
            members = msgspec.json.decode(response.content, type=dict[str, Any])
        except msgspec.MsgspecError:
            members = {}
    slug = str(members.get("type", "")).rstrip("/").rpartition("/")[2]
    message = str(members.get("detail") or members.get("title") or f"answered {phrase}")
    if status == HTTPStatus.UNAUTHORIZED:
        message = f"the token was refused: {message}"
    busy = status == HTTPStatus.TOO_MANY_REQUESTS and slug != "quota-exceeded"
    transient = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT or busy
    return ServiceError(message, status=status, slug=slug, members=members, transient=transient)


def _cause_of(error: Exception) -> str:
    """The innermost sentence of a connection error: what the operating system said, else the kind of error."""
    deepest: BaseException = error
    while (inner := deepest.__cause__ or deepest.__context__) is not None:
        deepest = inner.exceptions[0] if isinstance(inner, BaseExceptionGroup) else inner
    if isinstance(deepest, ssl.SSLError | socket.gaierror) and deepest.strerror:
        return deepest.strerror.lower()
    if isinstance(deepest, OSError) and deepest.errno:
        return os.strerror(deepest.errno).lower()
    return str(error).rstrip(".").lower() or type(error).__name__
