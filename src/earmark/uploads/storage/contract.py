"""What the upload flow asks of an object store, and the errors a store answers with."""

import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from earmark.errors import EarmarkError, InvalidRequest

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,400}")
_SEGMENT_BYTES_MAX = 255
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # noqa: S105 - RFC 9110's token, not a secret
_CONTENT_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(; ?{_TOKEN}={_TOKEN})*")
_NOT_IN_A_NAME = re.compile(r"[\x00-\x1f\x7f/\\]")
_NOT_QUOTABLE = re.compile(r'[^\x20-\x7e]|["\\%]')
_ATTR_CHAR = "!#$&+-.^_`|~"


@dataclass(frozen=True, slots=True)
class SignedUpload:
    """Permission to store one object once.

    Attributes:
        url: Where to send the bytes.
        method: `PUT`.
        headers: What must be sent along, exactly. `Content-Length` is signed too but not listed: every client derives
            it from the body, and browsers forbid setting it.
        expires_at: When the upload must have begun.
    """

    url: str
    method: str
    headers: dict[str, str]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as it is stored; `size` in bytes, `modified_at` in UTC, `etag` changes with the content."""

    key: str
    size: int
    etag: str | None
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class UnfinishedParts:
    """An upload in parts that was neither joined nor aborted; `begun_at` in UTC, by the store's clock."""

    key: str
    upload_id: str
    begun_at: datetime


class Storage(Protocol):
    """An object store.

    Every method raises InvalidKey for a key no store of ours would hold, and StorageError when the store fails:
    StorageUnavailable is worth a retry.
    """

    def sign_upload(self, key: str, *, content_type: str, size: int, expires_at: datetime) -> SignedUpload:
        """Permit one upload of exactly `size` bytes of `content_type`; no I/O.

        Raises:
            InvalidRequest: The content type or the size could not be sent in a header.
        """
        ...

    def sign_download(self, key: str, *, content_type: str, filename: str | None, expires_at: datetime) -> str:
        """A URL that shows the object in a browser as `content_type`, inline, under `filename`; no I/O.

        Raises:
            InvalidRequest: The content type could not be sent in a header.
        """
        ...

    async def begin_parts(self, key: str, *, content_type: str) -> str:
        """Begin an upload in parts; its id, which the store has chosen."""
        ...

    def sign_part(self, key: str, upload_id: str, number: int, *, size: int, expires_at: datetime) -> SignedUpload:
        """Permit uploading part `number` (1 to 10,000), of exactly `size` bytes, until the parts are joined; no I/O.

        A part may be sent again. S3 wants 5 MiB at least in all parts but the last.

        Raises:
            InvalidRequest: The size could not be sent in a header.
        """
        ...

    async def join_parts(self, key: str, upload_id: str, size: int) -> None:
        """Make the parts the object, when together they have `size` bytes; else, or when it was done, do nothing."""
        ...

    async def abort_parts(self, key: str, upload_id: str) -> None:
        """Throw away what has come of an upload in parts, and take no more; done before, or joined, is fine."""
        ...

    def unfinished_parts(self, prefix: str = "") -> AsyncIterator[UnfinishedParts]:
        """Every upload in parts to the folder `prefix` that is under way, in no particular order.

        None where the store cannot tell, or throws forgotten ones away itself.
        """
        ...

    async def head(self, key: str) -> StoredObject | None:
        """The object without its bytes, or None when there is none."""
        ...

    async def peek(self, key: str, length: int) -> tuple[StoredObject, bytes] | None:
        """The object with its first `length` bytes, or all of a shorter one; None when there is none. One trip."""
        ...

    async def download(self, key: str, path: Path) -> None:
        """Stream the object into the file `path`, overwriting it; a failure leaves no file.

        Raises:
            ObjectMissing: There is no such object.
        """
        ...

    def as_file(self, key: str) -> AbstractAsyncContextManager[Path]:
        """The object as a file to be read and not changed; it may be the store's own. See also `copied`.

        Raises:
            ObjectMissing: There is no such object.
        """
        ...

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        """Store `data`, replacing what is there: for outputs, which a second attempt makes again."""
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete these objects; one that is missing already is fine."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """Every object in the folder `prefix` (`a/b` holds `a/b/c` but not `a/bc`), in no particular order."""
        ...

    async def ready(self) -> None:
        """Return when the store can be used.

        Raises:
            StorageUnavailable: It cannot; the message says what to do.
        """
        ...


@asynccontextmanager
async def copied(storage: Storage, key: str) -> AsyncIterator[Path]:
    """A copy of the object in a file of its own, which goes when the context ends.

    Raises:
        ObjectMissing: There is no such object.
    """
    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        path = Path(folder) / "original"
        await storage.download(key, path)
        yield path


class StorageError(EarmarkError):
    """The object store failed; the store's own error is the cause."""

    slug = "storage-error"
    remedy = "Nothing was lost; try again, and tell the operator when it stays."


class StorageUnavailable(StorageError):  # noqa: N818 - named for what is wrong
    """The object store cannot be reached or does not let us in; the message says what to do."""

    status = 503
    slug = "storage-unavailable"
    remedy = "Try again after `Retry-After`; nothing has changed."


class StorageFull(StorageError):  # noqa: N818 - named for what is wrong
    """The disk under the local store is full."""

    status = 507
    slug = "storage-full"
    remedy = "The operator makes room; then try again."


class ObjectMissing(StorageError):  # noqa: N818 - named for what is wrong
    """There is no object under this key."""

    status = 404
    slug = "object-missing"
    remedy = "Ask for the image again: its links say what there is."


class InvalidKey(StorageError):  # noqa: N818 - named for what is wrong
    """A key that is not one of ours, or that leads out of the store."""

    status = 422
    slug = "invalid-key"
    remedy = "Use the links as they were given."


class UploadRefused(EarmarkError):  # noqa: N818 - named for what happened
    """An upload, or a link to one, that the local store does not accept; nothing of it was kept."""

    status = 403
    slug = "upload-refused"
    remedy = "Use the link as it was given, and once."


class BadSignature(UploadRefused):
    """The link was not signed by us, or was changed since."""

    slug = "bad-signature"
    remedy = "Use the link as it was given, unchanged."


class LinkExpired(UploadRefused):
    """The link was signed by us and is over."""

    slug = "link-expired"
    remedy = "Ask for a fresh link: the image again, or a new reservation."


class LengthRequired(UploadRefused):
    """The request has neither a length nor a chunked body."""

    status = 411
    slug = "length-required"
    remedy = "Send Content-Length, or the body in chunks."


class WrongLength(UploadRefused):
    """The body is, or says it is, shorter than the declared size; or its length is no number."""

    status = 400
    slug = "wrong-length"
    remedy = "Send exactly as many bytes as were declared."


class TooLong(UploadRefused):
    """The body is, or says it is, longer than the declared size."""

    status = 413
    slug = "too-long"
    remedy = "Send exactly as many bytes as were declared, or reserve for the true size."


class WrongType(UploadRefused):
    """The content type is not the declared one."""

    status = 415
    slug = "wrong-type"
    remedy = "Send the declared content type; the headers that came with the link say which."


class AlreadyUploaded(UploadRefused):
    """The link was used before; what was stored first stays."""

    status = 412
    slug = "already-uploaded"
    remedy = "Go on with `POST /api/images/complete`; for another file, reserve anew."


def check_key(key: str) -> str:
    """The key itself, when it is one of ours: ASCII, at most 401 characters, no empty, `.` or `..` segment.

    Raises:
        InvalidKey: It is not.
    """
    segments = key.split("/")
    if (
        not _KEY.fullmatch(key)
        or any(segment in ("", ".", "..") for segment in segments)
        or any(len(segment) > _SEGMENT_BYTES_MAX for segment in segments)
    ):
        raise InvalidKey(f"not a storage key: {key[:500]!r}")
    return key


def check_folder(prefix: str) -> str:
    """The prefix without its closing slash, when it is empty or could be the folder of a key.

    Raises:
        InvalidKey: It could not.
    """
    return check_key(prefix.removesuffix("/")) if prefix else ""


def check_content_type(content_type: str) -> str:
    """The content type itself, when it can be sent in a header.

    Raises:
        InvalidRequest: It cannot.
    """
    if not _CONTENT_TYPE.fullmatch(content_type):
        raise InvalidRequest(f"not a content type: {content_type[:200]!r}", {"contentType": content_type[:200]})
    return content_type


def check_size(size: int) -> int:
    """The size itself, when it can be sent in a header.

    Raises:
        InvalidRequest: It cannot.
    """
    if size < 0:
        raise InvalidRequest(f"a size cannot be {size} bytes", {"size": size})
    return size


def inline_disposition(filename: str | None) -> str:
    """A Content-Disposition that shows the file in the browser and names it for a download (RFC 6266, RFC 8187).

    The answer is ASCII whatever the name holds: controls and path separators become `_`, and a name that a quoted
    string cannot hold is sent a second time, percent-encoded.
    """
    if not filename:
        return "inline"
    name = _NOT_IN_A_NAME.sub("_", filename)
    fallback = _NOT_QUOTABLE.sub("_", name)
    if fallback == name:
        return f'inline; filename="{name}"'
    return f"inline; filename=\"{fallback}\"; filename*=UTF-8''{quote(name, safe=_ATTR_CHAR, errors='replace')}"
