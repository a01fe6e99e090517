"""Every error Earmark raises: one table of class, SQLSTATE and HTTP status.

The SQL functions raise SQLSTATEs of the private class `QT` with a JSON object in DETAIL; `from_database` turns them
into these classes, and the lack of one of our functions or tables into SchemaMismatch. Expected outcomes (denied,
already rolled back…) are values, not errors; psycopg's other errors pass through untouched.
"""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import psycopg


class EarmarkError(Exception):
    """Base of every error raised by Earmark.

    Attributes:
        detail: What a program needs to act on the error, as JSON values.
        remedy: What whoever meets it can do.
        members: What of `detail` a caller may meet, by name.
    """

    sqlstate: ClassVar[str | None] = None
    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"
    remedy: ClassVar[str] = "Try again; when it stays, tell the operator the `instance`, under which it was logged."
    members: ClassVar[tuple[str, ...]] = ()

    def __init__(self, message: str, detail: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.detail: dict[str, Any] = dict(detail or {})


class InvalidRequest(EarmarkError):  # noqa: N818 - the name users read, as in HTTP's own vocabulary
    """A request no state of the ledger could grant: a bad amount, a missing field, an unknown cause."""

    sqlstate = "QT001"
    status = 422
    slug = "invalid-request"
    remedy = "Correct what `field` names, and send it again."
    members = ("field",)


class UnknownSubject(EarmarkError):  # noqa: N818 - named for what is wrong
    """A subject that was never registered, where no default plan is configured."""

    sqlstate = "QT002"
    status = 404
    slug = "unknown-subject"
    remedy = "Register the subject, or set a default plan with `earmark migrate --default-plan`."
    members = ("subject",)


class UnknownPlan(EarmarkError):  # noqa: N818 - named for what is wrong
    """A plan that does not exist."""

    sqlstate = "QT003"
    status = 422
    slug = "unknown-plan"
    remedy = "Name a plan that `earmark plan` lists, or create it first."
    members = ("plan",)


class UnknownResource(EarmarkError):  # noqa: N818 - named for what is wrong
    """A resource that the subject's plan does not count."""

    sqlstate = "QT004"
    status = 422
    slug = "unknown-resource"
    remedy = "Name a resource of the subject's plan, or add it to the plan."
    members = ("plan", "resource")


class Forbidden(EarmarkError):  # noqa: N818 - named for what is wrong
    """A caller naming somebody else, or stating a cause that is not his to state."""

    sqlstate = "QT005"
    status = 403
    slug = "forbidden"
    remedy = "Name yourself, or let a service make the call."


class NotSignedIn(EarmarkError):  # noqa: N818 - named for what is wrong
    """A request without a token, or with one that does not hold.

    Attributes:
        token_given: Which of both.
    """

    status = 401
    slug = "not-signed-in"
    remedy = "Send `Authorization: Bearer <token>` with a token that is still good."

    def __init__(self, message: str, detail: Mapping[str, Any] | None = None, *, token_given: bool = True) -> None:
        super().__init__(message, detail)
        self.token_given = token_given


class SchemaMismatch(EarmarkError):  # noqa: N818 - named for what is wrong
    """The database's schema is older or newer than this library can work with; run `earmark migrate` or upgrade."""

    sqlstate = "QT006"
    status = 503
    slug = "schema-mismatch"
    remedy = "The operator runs `earmark migrate`, or upgrades the service; then try again."


class KeyConflict(EarmarkError):  # noqa: N818 - named for what is wrong
    """An idempotency key that was used before for a different request; `differs` names the fields."""

    status = 422
    slug = "idempotency-key-reused"
    remedy = "Use a new key for a new request; to repeat the old one, send it unchanged."
    members = ("differs",)


class QuotaExceeded(EarmarkError):  # noqa: N818 - named for what is wrong
    """There is not room for all that was asked for; nothing was taken. `short` says what was missing, and with whom.

    `replayed` is there, and true, where that was so when the same key was used first: another key asks anew.
    """

    status = 429
    slug = "quota-exceeded"
    remedy = "Ask for less, free some quota, or wait for the next period; repeating alone does not help."
    members = ("subject", "resource", "requested", "quota_limit", "used", "remaining", "short", "replayed")


class NotFound(EarmarkError):  # noqa: N818 - named for what is wrong
    """Something that does not exist, or is somebody else's."""

    status = 404
    slug = "not-found"
    remedy = "Check the address, or the id and whose it is."
    members = ("imageId",)


class AlreadySettled(EarmarkError):  # noqa: N818 - named for what is wrong
    """It was settled before, in another way than was asked for now; nothing was changed."""

    status = 409
    slug = "already-settled"
    remedy = "Nothing is to be done: what happened, stands. `state`, `at` and `by` say what that was."
    members = ("imageId", "outcome", "state", "item", "at", "by", "cause")


class NotRefundable(EarmarkError):  # noqa: N818 - named for what is wrong
    """Use that nothing can be given back of: it is not committed yet, or the plan does not refund its resources."""

    status = 409
    slug = "not-refundable"
    remedy = "Roll back what is still held; of what is used, only the plan's refundable resources come back."
    members = ("outcome", "subject")


class BulkLimitExceeded(EarmarkError):  # noqa: N818 - named for what is wrong
    """More files in one request than the plan's `max_bulk_upload`; nothing was reserved."""

    status = 422
    slug = "bulk-limit-exceeded"
    remedy = "Send at most `limit` files in one request."
    members = ("limit", "count")


class InvalidFile(EarmarkError):  # noqa: N818 - named for what is wrong
    """A declared file that would never be accepted; nothing was reserved."""

    status = 422
    slug = "invalid-file"
    remedy = "Leave out or replace the file at `index`; `reason` says what is wrong with it."
    members = ("index", "filename", "reason", "code")


class UploadFailed(EarmarkError):  # noqa: N818 - named for what is wrong
    """The object is not in the store, or not of the declared size; its quota was given back."""

    status = 422
    slug = "upload-failed"
    remedy = "Reserve anew and upload again; it has cost nothing."
    members = ("imageId", "reason")


class ValidationFailed(EarmarkError):  # noqa: N818 - named for what is wrong
    """The content was refused; its quota was given back."""

    status = 422
    slug = "validation-failed"
    remedy = "Choose another file; `reason` says what is wrong with this one. It has cost nothing."
    members = ("imageId", "reason")


ALL_ERRORS: tuple[type[EarmarkError], ...] = (
    InvalidRequest,
    UnknownSubject,
    UnknownPlan,
    UnknownResource,
    Forbidden,
    NotSignedIn,
    SchemaMismatch,
    KeyConflict,
    QuotaExceeded,
    NotFound,
    AlreadySettled,
    NotRefundable,
    BulkLimitExceeded,
    InvalidFile,
    UploadFailed,
    ValidationFailed,
)
_BY_SQLSTATE = {error.sqlstate: error for error in ALL_ERRORS if error.sqlstate is not None}
_MISSING = (
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
)


def from_database(error: psycopg.Error) -> Exception:
    """The Earmark error that an error of one of Earmark's own calls stands for, or the database error itself."""
    message = error.diag.message_primary or str(error)
    if isinstance(error, _MISSING):
        return SchemaMismatch(
            f"The database's schema is not the one this Earmark was made for ({message}): run `earmark migrate`, "
            "or upgrade this Earmark where the schema is the newer one."
        )
    kind = _BY_SQLSTATE.get(error.sqlstate or "")
    if kind is None:
        return error
    return kind(message, json.loads(error.diag.message_detail or "{}"))


class translated:  # noqa: N801 - reads as a phrase: `with translated():`
    """Block in which psycopg errors of class `QT`, and those of a missing schema, leave as Earmark errors.

    The original is their cause.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, psycopg.Error):
            known = from_database(error)
            if known is not error:
                raise known from error
