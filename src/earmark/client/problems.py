"""What the service's refusals become: the errors of `earmark.errors`, by their slugs; and which of them may pass."""

import os
import socket
import ssl
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import httpx
import msgspec

from earmark.errors import ALL_ERRORS, EarmarkError, QuotaExceeded

T = TypeVar("T")
_BY_SLUG = {error.slug: error for error in ALL_ERRORS}
UNREADABLE = (msgspec.MsgspecError, LookupError, TypeError, AttributeError, RecursionError)
"""What reading something raises that is not what it should be."""
_FRAME = ("type", "title", "status", "detail")
_IN_FLIGHT = "request-in-flight"


class ServiceError(EarmarkError):
    """A problem that has no class in `earmark.errors`, or an answer that is not Earmark's.

    Attributes:
        problem: The problem's slug, such as `body-too-large`; empty where the answer was no problem document.
        answered: The HTTP status; None where there was no answer.
    """

    def __init__(
        self, message: str, detail: dict[str, Any] | None = None, *, problem: str = "", answered: int | None = None
    ) -> None:
        super().__init__(message, detail)
        self.problem = problem
        self.answered = answered


class ServiceUnavailable(ServiceError):  # noqa: N818 - named for what is wrong
    """The service could not be reached, or could not answer, time after time; whether it did it, a repeat will tell."""


class Passing(Exception):  # noqa: N818 - not an error yet, but a reason to try again
    """What may be over when the same is sent again.

    Attributes:
        error: What it is, when it does not pass.
        wait_seconds: How long the service asks to be left alone.
    """

    def __init__(self, error: EarmarkError, wait_seconds: float = 0) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_seconds = wait_seconds


def error_of(response: httpx.Response) -> EarmarkError:
    """The error that a refusal stands for.

    Its `detail` are the problem's further members, and `instance`, the request's id in the service's log.
    """
    status = response.status_code
    told = _problem_of(response)
    slug = str(told.get("type", "")).rstrip("/").rpartition("/")[2]
    phrase = f"{status} {response.reason_phrase}".strip()
    message = str(told.get("detail") or told.get("title") or f"{_place(response)} answered {phrase}.")
    detail = {name: value for name, value in told.items() if name not in _FRAME}
    kind = _BY_SLUG.get(slug)
    if kind is not None:
        return kind(message, detail)
    other = ServiceUnavailable if _may_pass(status, slug) else ServiceError
    return other(message, detail, problem=slug, answered=status)


def refuse(response: httpx.Response) -> None:
    """Returns where the call was answered.

    Raises:
        EarmarkError: It was refused.
        Passing: It was refused, and the same call may yet be answered.
    """
    if response.is_success:
        return
    error = error_of(response)
    slug = error.problem if isinstance(error, ServiceError) else error.slug
    if _may_pass(response.status_code, slug):
        wait = response.headers.get("retry-after", "")
        raise Passing(error, float(wait) if wait.isascii() and wait.isdigit() else 0)
    raise error


def read_refusal(error: EarmarkError, read: Callable[[Mapping[str, Any]], T]) -> T:
    """What a refusal that is an answer says.

    Raises:
        ServiceError: It is not Earmark's, but of somebody on the way who counts something, too.
    """
    try:
        return read(error.detail)
    except UNREADABLE:
        if isinstance(error, ServiceError):
            raise error from None
        raise ServiceError(str(error), error.detail, problem=error.slug, answered=error.status) from None


def not_earmark(url: str, why: Exception, answered: int | None = None) -> ServiceError:
    """The error of an answer that cannot be read."""
    return ServiceError(f"{url} does not answer like Earmark: {why}", answered=answered)


def unreachable(url: str, error: httpx.RequestError) -> Passing:
    """The reason to try again after a connection that failed or broke, or an answer that arrived damaged."""
    return Passing(ServiceUnavailable(f"cannot reach {url}: {_said_by_the_system(error)}"))


def _may_pass(status: int, slug: str) -> bool:
    """Every call of this client may be sent again: it has a key, settles once, or only reads."""
    busy = status == HTTPStatus.TOO_MANY_REQUESTS and slug != QuotaExceeded.slug
    early = status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY} or slug == _IN_FLIGHT
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or busy or early


def _problem_of(response: httpx.Response) -> dict[str, Any]:
    if not response.headers.get("content-type", "").startswith("application/problem+json"):
        return {}
    try:
        return msgspec.json.decode(response.content, type=dict[str, Any])
    except UNREADABLE:
        return {}


def _place(response: httpx.Response) -> str:
    return str(response.url.copy_with(query=None))


def _said_by_the_system(error: Exception) -> str:
    """The innermost sentence of a connection error: what the operating system said, else the kind of error."""
    deepest: BaseException = error
    while (inner := deepest.__cause__ or deepest.__context__) is not None:
        deepest = inner.exceptions[0] if isinstance(inner, BaseExceptionGroup) else inner
    if isinstance(deepest, ssl.SSLError | socket.gaierror) and deepest.strerror:
        return deepest.strerror.lower()
    if isinstance(deepest, OSError) and deepest.errno:
        return os.strerror(deepest.errno).lower()
    return str(error).rstrip(".").lower() or type(error).__name__
