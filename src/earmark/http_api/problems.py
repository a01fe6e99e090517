"""Problem documents (RFC 9457): what every error looks like over HTTP."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import msgspec
import psycopg
from starlette.exceptions import HTTPException
from starlette.responses import Response

from earmark.errors import EarmarkError, InvalidRequest, NotFound, NotSignedIn, QuotaExceeded, SchemaMismatch
from earmark.http_api.rate_limit import shortage_headers
from earmark.ledger.retrying import UNREACHABLE
from earmark.uploads.signatures import MessageNotSigned
from earmark.uploads.storage import StorageError

RETRY_AFTER_SECONDS = 1
REPLAYED = {"Idempotency-Replayed": "true"}
"""Headers of what was answered under the same key before."""
_TOLD = ("earmark.errors", "earmark.http_api", "earmark.uploads")
"""Where the errors are defined that can reach a client."""
_UNSTORABLE = (psycopg.errors.UntranslatableCharacter, psycopg.errors.CharacterNotInRepertoire)
_NO_SCHEMA = (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedFunction, psycopg.errors.UndefinedTable)


class MalformedBody(EarmarkError):  # noqa: N818 - named for what is wrong
    """A body that is not JSON."""

    status = 400
    slug = "malformed-json"
    remedy = "Send JSON in UTF-8; numbers are finite."


class MethodNotAllowed(EarmarkError):  # noqa: N818 - named for what is wrong
    """An address that does not know this method; the header Allow names those it knows."""

    status = 405
    slug = "method-not-allowed"
    remedy = "Use one of the methods in Allow."


class BodyTooLarge(EarmarkError):  # noqa: N818 - named for what is wrong
    """A body longer than a call may have."""

    status = 413
    slug = "body-too-large"
    remedy = "Send at most `limit` bytes; name fewer things in one call."
    members = ("limit",)


class BodyTooSlow(EarmarkError):  # noqa: N818 - named for what is wrong
    """A body that did not come in time."""

    status = 408
    slug = "body-too-slow"
    remedy = "Send the whole body at once; then try again."


class ReservationOver(EarmarkError):  # noqa: N818 - named for what is wrong
    """Bytes for an image whose quota was given back; none of them were kept."""

    status = 410
    slug = "reservation-over"
    remedy = "Reserve anew, for example with `POST /api/images/{id}/retry`."
    members = ("imageId", "state", "cause", "at")


class AdjustmentDenied(EarmarkError):  # noqa: N818 - named for what is wrong
    """An adjustment that would take more than is there, or than refunds leave; nothing was changed."""

    status = 409
    slug = "adjustment-denied"
    remedy = "Take away less; `short` says with whom it would have gone too far."
    members = ("subject", "resource", "amount", "short", "levels", "replayed")


class DatabaseUnavailable(EarmarkError):  # noqa: N818 - named for what is wrong
    """The database cannot be reached; nothing was changed, or it was and a repeat under the same key will say so."""

    status = 503
    slug = "database-unavailable"
    remedy = "Try again after `Retry-After`, with the same Idempotency-Key."


class BooksLocked(EarmarkError):  # noqa: N818 - named for what is wrong
    """Another transaction keeps the books of this subject locked; nothing was changed, and others are served."""

    status = 503
    slug = "books-locked"
    remedy = (
        "Try again after `Retry-After`, with the same Idempotency-Key. Where it goes on, the operator looks for a "
        "transaction that was left open."
    )


class ServiceStopping(EarmarkError):  # noqa: N818 - named for what is wrong
    """The service ended before this request did; what it had changed by then stands."""

    status = 503
    slug = "service-stopping"
    remedy = "Try again after `Retry-After`, with the same Idempotency-Key; bytes are sent to the same URL again."


class DatabaseFull(EarmarkError):  # noqa: N818 - named for what is wrong
    """The disk of the database is full; nothing was changed, and what is held comes back once there is room."""

    status = 503
    slug = "database-full"
    remedy = "The operator makes room on the database's disk; then try again, with the same Idempotency-Key."


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as it is told to the client."""

    status: int
    slug: str
    detail: str
    members: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def document(self, request_id: str) -> dict[str, Any]:
        """The problem document; `instance` is the request's id, under which the service has logged it."""
        return {
            **self.members,
            "type": f"/problems/{self.slug}",
            "title": title_of(self.slug),
            "status": self.status,
            "detail": self.detail,
            "instance": request_id,
        }

    def response(self, request_id: str) -> Response:
        """The answer."""
        return Response(
            msgspec.json.encode(self.document(request_id)),
            self.status,
            {"Cache-Control": "no-store", **self.headers},
            "application/problem+json",
        )


class Told(Exception):  # noqa: N818 - not an error but how one is told
    """A problem that is to be answered as it is, with further headers."""

    def __init__(self, problem: Problem, headers: Mapping[str, str]) -> None:
        super().__init__(problem.detail)
        self.problem = replace(problem, headers={**problem.headers, **headers})


def title_of(slug: str) -> str:
    """What a problem is called."""
    return slug.replace("-", " ").capitalize()


def catalogue() -> dict[str, type[EarmarkError]]:
    """Every problem by its slug, in the order of slugs: what the documentation says of each, the error itself says."""
    found = {error.slug: error for error in _kinds(EarmarkError) if "slug" in vars(error)}
    return {slug: found[slug] for slug in sorted(found) if found[slug].__module__.startswith(_TOLD)}


def _kinds(kind: type[EarmarkError]) -> Iterator[type[EarmarkError]]:
    yield kind
    for one in kind.__subclasses__():
        yield from _kinds(one)


def problem_of(error: Exception) -> Problem:
    """The problem that an error is told as; what nobody expected is told without its internals."""
    if isinstance(error, Told | EarmarkError):
        return error.problem if isinstance(error, Told) else _known(error)
    if isinstance(error, HTTPException):
        return _of_the_protocol(error)
    if isinstance(error, UNREACHABLE):
        return _without_database(error)
    if isinstance(error, _NO_SCHEMA):
        return _unavailable(SchemaMismatch.slug, "The database's schema is missing or old: run `earmark migrate`.")
    if isinstance(error, _UNSTORABLE) or (isinstance(error, psycopg.DataError) and error.sqlstate is None):
        return Problem(InvalidRequest.status, InvalidRequest.slug, "A text holds a character that cannot be stored.")
    return Problem(500, EarmarkError.slug, "Something went wrong on our side; it was logged under this instance.")


def _known(error: EarmarkError) -> Problem:
    if isinstance(error, NotSignedIn):
        challenge = 'Bearer error="invalid_token"' if error.token_given else "Bearer"
        return Problem(error.status, error.slug, str(error), headers={"WWW-Authenticate": challenge})
    if error.status == HTTPStatus.SERVICE_UNAVAILABLE and not isinstance(error, StorageError):
        return _unavailable(error.slug, str(error))
    if isinstance(error, StorageError) and error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # Its message is for the operator: it names folders, buckets and settings.
        told = _unavailable(error.slug, "The object store cannot be used right now; try again.")
        return Problem(error.status, told.slug, told.detail, headers=told.headers)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Problem(error.status, error.slug, "Something went wrong on our side; it was logged under this instance.")
    if isinstance(error, MessageNotSigned):
        return Problem(error.status, error.slug, str(error), headers={"WWW-Authenticate": "Webhook-Signature"})
    headers = shortage_headers(error.detail.get("short", ())) if isinstance(error, QuotaExceeded) else {}
    headers |= REPLAYED if error.detail.get("replayed") else {}
    return Problem(error.status, error.slug, str(error), error.detail, headers)


def _of_the_protocol(error: HTTPException) -> Problem:
    status = HTTPStatus(error.status_code)
    told = {
        HTTPStatus.NOT_FOUND: (NotFound.slug, "There is nothing at this address."),
        HTTPStatus.METHOD_NOT_ALLOWED: (MethodNotAllowed.slug, "This address does not know this method."),
    }
    slug, detail = told.get(status, (InvalidRequest.slug, f"{status.phrase}."))
    return Problem(status, slug, detail, headers=error.headers or {})


def _without_database(error: Exception) -> Problem:
    if isinstance(error, psycopg.errors.DiskFull):
        return _unavailable(DatabaseFull.slug, "The database's disk is full; nothing was changed. Try again later.")
    if isinstance(error, psycopg.errors.LockNotAvailable):
        told = "Another transaction kept these books locked for too long; nothing was changed. Try again."
        return _unavailable(BooksLocked.slug, told)
    if isinstance(error, psycopg.errors.QueryCanceled):
        return _unavailable(DatabaseUnavailable.slug, "The database gave this up; nothing was changed. Try again.")
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return _unavailable(DatabaseUnavailable.slug, "The database takes no changes right now; try again.")
    return _unavailable(DatabaseUnavailable.slug, "The database cannot be reached right now; try again.")


def _unavailable(slug: str, detail: str) -> Problem:
    return Problem(503, slug, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
