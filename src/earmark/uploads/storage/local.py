"""The local store: a folder, with upload and download links that we sign and our HTTP service answers."""

import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from urllib.parse import urlencode

from earmark.uploads.storage.contract import (
    AlreadyUploaded,
    BadSignature,
    LengthRequired,
    LinkExpired,
    ObjectMissing,
    SignedUpload,
    StoredObject,
    TooLong,
    UnfinishedParts,
    WrongLength,
    WrongType,
    check_content_type,
    check_folder,
    check_key,
    check_size,
    inline_disposition,
)
from earmark.uploads.storage.disk import BATCH_BYTES, Folder, NewFile, in_thread
from earmark.uploads.storage.local_parts import Parts

_LIST_BATCH = 500
_BATCH_CHUNKS = 64
"""So that who sends a byte at a time does not fill the memory with what surrounds each."""
_UPLOAD = "PUT"
_PART = "PUT part"
_DOWNLOAD = "GET"
_LENGTH = re.compile("[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class UploadGrant:
    """What a verified upload link permits: one object of exactly `size` bytes."""

    key: str
    content_type: str
    size: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class PartGrant:
    """What a verified link of a part permits: exactly `size` bytes of it."""

    key: str
    upload_id: str
    number: int
    size: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class DownloadGrant:
    """What a verified download link shows."""

    path: Path
    content_type: str
    disposition: str

    @property
    def headers(self) -> dict[str, str]:
        """The response's headers: a browser takes the file for its type and nothing else, and runs nothing in it."""
        return {
            "Content-Type": self.content_type,
            "Content-Disposition": self.disposition,
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "X-Content-Type-Options": "nosniff",
        }


class LocalStorage:
    """Objects as files in a folder; links look like `{public_url}/storage/{key}?…`.

    Content types are not stored: they travel in the signed links.

    Args:
        root: The folder; made when first needed. Nothing else may keep files in it.
        secret: Signs the links; may serve other purposes too, since the key in use is derived from it.
        public_url: Where browsers reach the service; empty: links are relative to it.
    """

    def __init__(self, root: Path, *, secret: bytes, public_url: str) -> None:
        self._folder = Folder(root)
        self._parts = Parts(self._folder)
        self._signing_key = hmac.digest(secret, b"earmark local storage links, version 1", hashlib.sha256)
        self._base = public_url.rstrip("/") + "/storage/"

    def sign_upload(self, key: str, *, content_type: str, size: int, expires_at: datetime) -> SignedUpload:
        """See Storage. The link's time has whole seconds; `expires_at` in the answer is exact."""
        expires = int(expires_at.timestamp())
        signed = {
            "expires": str(expires),
            "size": str(check_size(size)),
            "type": check_content_type(content_type),
        }
        return SignedUpload(
            url=self._link(_UPLOAD, key, signed),
            method=_UPLOAD,
            headers={"Content-Type": content_type, "If-None-Match": "*"},
            expires_at=datetime.fromtimestamp(expires, UTC),
        )

    def sign_download(self, key: str, *, content_type: str, filename: str | None, expires_at: datetime) -> str:
        """See Storage."""
        signed = {
            "expires": str(int(expires_at.timestamp())),
            "disposition": inline_disposition(filename),
            "type": check_content_type(content_type),
        }
        return self._link(_DOWNLOAD, key, signed)

    def verify_upload(
        self, key: str, query: Mapping[str, str], headers: Mapping[str, str], now: datetime
    ) -> UploadGrant:
        """What this PUT may do, judged before its body is read; no I/O.

        Args:
            key: The path after `/storage/`, decoded.
            query: The link's parameters.
            headers: The request's headers, their names in any case.
            now: Aware time.

        Raises:
            UploadRefused: BadSignature or LinkExpired (403), WrongType (415), LengthRequired (411), TooLong (413) or
                WrongLength (400).
        """
        signed = self._verified(_UPLOAD, key, query, ("expires", "size", "type"), now)
        grant = UploadGrant(key, signed["type"], int(signed["size"]), _moment(signed["expires"]))
        _check_headers(grant, {name.lower(): value.strip() for name, value in headers.items()})
        return grant

    async def receive(self, grant: UploadGrant, chunks: AsyncIterator[bytes]) -> StoredObject:
        """Store the body of a verified PUT: all of it, durably, or nothing; the first of several wins.

        Reads no further than the first byte too many. An error of `chunks` passes through; whatever ends this early,
        a cancellation included, leaves no file.

        Raises:
            UploadRefused: AlreadyUploaded (412), TooLong (413) or WrongLength (400).
            StorageError: The disk failed; StorageFull when it is full.
        """
        incoming = self._folder.incoming()
        try:
            await in_thread(self._begin, incoming, grant.key)
            rest = await _fill(incoming, grant.size, chunks)
            return await in_thread(self._publish, incoming, rest, grant.key)
        except BaseException:
            await in_thread(incoming.discard)
            raise

    def _begin(self, incoming: NewFile, key: str) -> None:
        if self._folder.stat(key) is not None:
            raise AlreadyUploaded(f"{key} was uploaded before")
        self._folder.begin(incoming)

    def _publish(self, incoming: NewFile, rest: Sequence[bytes], key: str) -> StoredObject:
        incoming.write(*rest)
        stored = self._folder.publish(incoming, key)
        incoming.discard()
        return stored

    async def begin_parts(self, key: str, *, content_type: str) -> str:
        """See Storage."""
        check_key(key)
        check_content_type(content_type)
        return await in_thread(self._parts.begin)

    def sign_part(self, key: str, upload_id: str, number: int, *, size: int, expires_at: datetime) -> SignedUpload:
        """See Storage."""
        expires = int(expires_at.timestamp())
        signed = {"expires": str(expires), "size": str(check_size(size)), "part": str(number), "upload": upload_id}
        url = self._link(_PART, key, signed)
        return SignedUpload(url=url, method="PUT", headers={}, expires_at=datetime.fromtimestamp(expires, UTC))

    def verify_part(self, key: str, query: Mapping[str, str], headers: Mapping[str, str], now: datetime) -> PartGrant:
        """What this PUT of a part may do, as `verify_upload`; a part has no type of its own."""
        signed = self._verified(_PART, key, query, ("expires", "size", "part", "upload"), now)
        grant = PartGrant(key, signed["upload"], int(signed["part"]), int(signed["size"]), _moment(signed["expires"]))
        _check_length_header(grant.size, {name.lower(): value.strip() for name, value in headers.items()})
        return grant

    async def receive_part(self, grant: PartGrant, chunks: AsyncIterator[bytes]) -> None:
        """Store the body of a verified PUT of a part: all of it, or nothing; the last of several wins.

        Raises:
            UploadRefused: TooLong (413) or WrongLength (400).
            ObjectMissing: The parts were joined or thrown away.
            StorageError: As `receive`.
        """
        await in_thread(self._parts.check, grant.upload_id)
        incoming = self._folder.incoming()
        try:
            await in_thread(self._folder.begin, incoming)
            rest = await _fill(incoming, grant.size, chunks)
            await in_thread(incoming.write, *rest)
            await in_thread(self._parts.place, incoming, grant.upload_id, grant.number)
        finally:
            await in_thread(incoming.discard)

    async def join_parts(self, key: str, upload_id: str, size: int) -> None:
        """See Storage."""
        await in_thread(self._parts.join, upload_id, check_key(key), size)

    async def abort_parts(self, key: str, upload_id: str) -> None:
        """See Storage."""
        check_key(key)
        await in_thread(self._parts.abort, upload_id)

    async def unfinished_parts(self, prefix: str = "") -> AsyncIterator[UnfinishedParts]:
        """See Storage. None: `remove_abandoned` sees to them, which knows when the latest part came."""
        check_folder(prefix)
        none: tuple[UnfinishedParts, ...] = ()
        for one in none:
            yield one

    def verify_download(self, key: str, query: Mapping[str, str], now: datetime) -> DownloadGrant:
        """What this GET shows: a file that exists, and the headers to send it with.

        Raises:
            UploadRefused: BadSignature or LinkExpired (403).
            ObjectMissing: The link is good but the object is gone (404).
        """
        signed = self._verified(_DOWNLOAD, key, query, ("expires", "disposition", "type"), now)
        if self._folder.stat(key) is None:
            raise ObjectMissing(f"there is no object {key}")
        return DownloadGrant(self._folder.locate(key), signed["type"], signed["disposition"])

    async def head(self, key: str) -> StoredObject | None:
        """See Storage."""
        return await in_thread(self._folder.stat, key)

    async def peek(self, key: str, length: int) -> tuple[StoredObject, bytes] | None:
        """See Storage."""
        return await in_thread(self._folder.peek, key, length)

    async def download(self, key: str, path: Path) -> None:
        """See Storage."""
        target = NewFile(path)
        try:
            await in_thread(self._folder.copy, key, target)
        except BaseException:
            await in_thread(target.discard)
            raise

    @asynccontextmanager
    async def as_file(self, key: str) -> AsyncIterator[Path]:
        """See Storage."""
        yield await in_thread(self._folder.readable, key)

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        """See Storage."""
        check_content_type(content_type)
        await in_thread(self._folder.replace, key, data)

    async def delete(self, keys: Sequence[str]) -> None:
        """See Storage."""
        await in_thread(self._folder.delete, keys)

    async def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """See Storage."""
        found = self._folder.walk(prefix)
        while batch := await in_thread(lambda: tuple(islice(found, _LIST_BATCH))):
            for stored in batch:
                yield stored

    async def ready(self) -> None:
        """See Storage. Writes and removes a probe of one byte."""
        await in_thread(self._folder.probe)

    async def remove_abandoned(self, older_than: timedelta) -> int:
        """Remove what killed uploads left: files and parts not written to for that long; return how many."""
        before = datetime.now(UTC) - older_than
        files = await in_thread(self._folder.remove_abandoned, before)
        return files + await in_thread(self._parts.remove_abandoned, before)

    def _link(self, method: str, key: str, signed: Mapping[str, str]) -> str:
        signature = self._signature(method, check_key(key), signed)
        return f"{self._base}{key}?{urlencode({**signed, 'signature': signature})}"

    def _signature(self, method: str, key: str, signed: Mapping[str, str]) -> str:
        # JSON keeps the parts apart, so no text can move from one into the next under the same signature.
        message = json.dumps([method, key, sorted(signed.items())]).encode()
        return hmac.digest(self._signing_key, message, hashlib.sha256).hex()

    def _verified(
        self, method: str, key: str, query: Mapping[str, str], names: Sequence[str], now: datetime
    ) -> dict[str, str]:
        signed = {name: query.get(name, "") for name in names}
        expected = self._signature(method, key, signed)
        if not hmac.compare_digest(expected.encode(), query.get("signature", "").encode(errors="replace")):
            raise BadSignature("this link was not signed by this service, or was changed")
        if now.timestamp() >= int(signed["expires"]):
            raise LinkExpired("this link is over; ask for a new one")
        return signed


def _moment(seconds: str) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def _check_headers(grant: UploadGrant, headers: Mapping[str, str]) -> None:
    if headers.get("content-type", "").lower() != grant.content_type.lower():
        raise WrongType(f"send Content-Type: {grant.content_type}, as declared", {"declared": grant.content_type})
    _check_length_header(grant.size, headers)


def _check_length_header(size: int, headers: Mapping[str, str]) -> None:
    length = headers.get("content-length")
    if length is None:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            raise LengthRequired(f"send Content-Length: {size}", {"declared": size})
    elif not _LENGTH.fullmatch(length):
        raise WrongLength("Content-Length is not a length", {"declared": size})
    else:
        _check_length(size, int(length))


def _check_length(declared: int, length: int) -> None:
    detail = {"declared": declared, "received": length}
    if length > declared:
        raise TooLong(f"the file is longer than the {declared} bytes declared", detail)
    if length < declared:
        raise WrongLength(f"{length} bytes instead of the {declared} declared", detail)


async def _fill(incoming: NewFile, size: int, chunks: AsyncIterator[bytes]) -> Sequence[bytes]:
    """Writes what comes, but for the last batch, which is returned when all has come."""
    received, waiting, batch = 0, 0, list[bytes]()
    async for chunk in chunks:
        received += len(chunk)
        if received > size:
            raise TooLong(f"the file is longer than the {size} bytes declared", {"declared": size})
        if waiting >= BATCH_BYTES or len(batch) == _BATCH_CHUNKS:
            await in_thread(incoming.write, *batch)
            waiting, batch = 0, []
        waiting += len(chunk)
        batch.append(chunk)
    _check_length(size, received)
    return batch
