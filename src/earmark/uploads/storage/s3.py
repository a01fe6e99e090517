"""Any S3-compatible store: obstore moves the bytes, botocore signs the links.

obstore's own signing covers only the host, so it could bind neither size nor type nor single use.
"""

import os
import re
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import obstore
from botocore.auth import S3SigV4QueryAuth  # type: ignore[import-untyped] # botocore has no types
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped] # botocore has no types
from botocore.config import Config  # type: ignore[import-untyped] # botocore has no types
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped] # botocore has no types
from botocore.session import Session  # type: ignore[import-untyped] # botocore has no types
from obstore.exceptions import BaseError, GenericError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from earmark.errors import InvalidRequest
from earmark.uploads.storage.contract import (
    ObjectMissing,
    SignedUpload,
    StorageError,
    StorageUnavailable,
    StoredObject,
    UnfinishedParts,
    check_content_type,
    check_folder,
    check_key,
    check_size,
    copied,
    inline_disposition,
)
from earmark.uploads.storage.disk import BATCH_BYTES, NewFile, in_thread

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Credential

_REGION = "us-east-1"
_BUCKET = re.compile(r"[\w.-]+", re.ASCII)  # no user:password@
_CODE = re.compile("<Code>([A-Za-z]+)</Code>")
_REFUSALS = frozenset(
    {
        "AccessDenied",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
_SIGNED_SECONDS_MAX = 7 * 24 * 3600  # SigV4's own limit
_CREDENTIALS_FOR = timedelta(minutes=10)  # botocore renews a role's well before; obstore asks again within 5 of the end
_RETRIES: "RetryConfig" = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}
_TIMEOUTS: "ClientConfig" = {
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(seconds=30),
    "timeout": timedelta(minutes=5),
}
_CLIENT = Config(
    connect_timeout=5,
    read_timeout=30,
    retries={"mode": "standard", "total_max_attempts": 4},
    request_checksum_calculation="when_required",  # stores that are not Amazon's refuse what they do not know
    response_checksum_validation="when_required",
)


class _NotOffered(StorageError):  # noqa: N818 - named for what is wrong
    """The store does not have this operation."""


class S3Storage:
    """Objects in a bucket, under an optional prefix. Browsers talk to the bucket directly: it needs a CORS rule.

    Credentials are found as every AWS tool finds them; the region and the endpoint come from `AWS_REGION` (or
    `AWS_DEFAULT_REGION`) and `AWS_ENDPOINT_URL_S3` (or `AWS_ENDPOINT_URL`). An endpoint of one's own is addressed
    path-style.

    Args:
        url: `s3://bucket/prefix`.

    Raises:
        InvalidRequest: The URL names no bucket, or a prefix that no key could have.
        StorageUnavailable: There are no credentials.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if not _BUCKET.fullmatch(parts.netloc) or parts.query or parts.fragment:
            raise InvalidRequest("that is no bucket; write s3://bucket/prefix, and credentials in AWS_ACCESS_KEY_ID")
        self._bucket = parts.netloc
        prefix = check_folder(parts.path.strip("/"))
        self._region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or _REGION
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        self._session = Session()
        self._credentials = self._session.get_credentials()
        if self._credentials is None:
            raise StorageUnavailable("no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        config: S3Config = {
            "region": self._region,
            "virtual_hosted_style_request": endpoint is None and "." not in self._bucket,
        }
        if endpoint is not None:
            config["endpoint"] = endpoint
        self._store = S3Store(
            self._bucket,
            prefix=prefix or None,
            config=config,
            client_options={**_TIMEOUTS, "allow_http": bool(endpoint and endpoint.startswith("http://"))},
            retry_config=_RETRIES,
            credential_provider=self._current_credentials,
        )
        self._endpoint = endpoint
        self._making_client = threading.Lock()
        self._client_config = _CLIENT.merge(Config(s3={"addressing_style": "path" if endpoint else "auto"}))
        self._prefix = f"{prefix}/" if prefix else ""
        self._base = _address(self._bucket, self._region, endpoint) + self._prefix

    def sign_upload(self, key: str, *, content_type: str, size: int, expires_at: datetime) -> SignedUpload:
        """See Storage. SigV4 allows 7 days; the answer's `expires_at` is never later."""
        headers = {"Content-Type": check_content_type(content_type), "If-None-Match": "*"}
        signed = {**headers, "Content-Length": str(check_size(size))}
        url, expires_at = self._sign("PUT", self._base + check_key(key), signed, expires_at)
        return SignedUpload(url=url, method="PUT", headers=headers, expires_at=expires_at)

    def sign_download(self, key: str, *, content_type: str, filename: str | None, expires_at: datetime) -> str:
        """See Storage. S3 cannot be told to send `nosniff`; the type it sends is the signed one."""
        query = urlencode(
            {
                "response-content-disposition": inline_disposition(filename),
                "response-content-type": check_content_type(content_type),
            }
        )
        url, _ = self._sign("GET", f"{self._base}{check_key(key)}?{query}", {}, expires_at)
        return url

    async def begin_parts(self, key: str, *, content_type: str) -> str:
        """See Storage."""
        named = self._named(key) | {"ContentType": check_content_type(content_type)}
        answer = await in_thread(self._call, "create_multipart_upload", named)
        return str(answer["UploadId"])

    def sign_part(self, key: str, upload_id: str, number: int, *, size: int, expires_at: datetime) -> SignedUpload:
        """See Storage and `sign_upload`."""
        query = urlencode({"partNumber": number, "uploadId": upload_id})
        signed = {"Content-Length": str(check_size(size))}
        url, expires_at = self._sign("PUT", f"{self._base}{check_key(key)}?{query}", signed, expires_at)
        return SignedUpload(url=url, method="PUT", headers={}, expires_at=expires_at)

    async def join_parts(self, key: str, upload_id: str, size: int) -> None:
        """See Storage."""
        await in_thread(self._join, self._named(key) | {"UploadId": upload_id}, size)

    async def abort_parts(self, key: str, upload_id: str) -> None:
        """See Storage."""
        with suppress(ObjectMissing):
            await in_thread(self._call, "abort_multipart_upload", self._named(key) | {"UploadId": upload_id})

    async def unfinished_parts(self, prefix: str = "") -> AsyncIterator[UnfinishedParts]:
        """See Storage. Some stores list by whole keys only, or not at all: then there are none."""
        folder = check_folder(prefix)
        listing: dict[str, object] = {"Bucket": self._bucket, "Prefix": self._prefix + (folder and f"{folder}/")}
        before: dict[str, object] | None = None
        after: dict[str, object] = {}
        while after != before:
            page = await in_thread(self._page_of_unfinished_parts, listing | after)
            for found in page.get("Uploads", ()):
                key = str(found["Key"]).removeprefix(self._prefix)
                yield UnfinishedParts(key, str(found["UploadId"]), found["Initiated"].astimezone(UTC))
            before = after
            if page.get("IsTruncated"):  # SeaweedFS names no key to go on after
                after = {
                    name: page[f"Next{name}"] for name in ("KeyMarker", "UploadIdMarker") if page.get(f"Next{name}")
                }

    async def head(self, key: str) -> StoredObject | None:
        """See Storage."""
        try:
            async with self._reading(check_key(key)):
                return _stored(key, await obstore.head_async(self._store, key))
        except ObjectMissing:
            return None

    async def peek(self, key: str, length: int) -> tuple[StoredObject, bytes] | None:
        """See Storage."""
        try:
            async with self._reading(check_key(key)):
                found = await obstore.get_async(self._store, key, options={"range": (0, length)})
                return _stored(key, found.meta), bytes(await found.bytes_async())
        except ObjectMissing:
            return None
        except _NoSuchRange:
            stored = await self.head(key)
            return None if stored is None else (stored, b"")

    async def download(self, key: str, path: Path) -> None:
        """See Storage."""
        target = NewFile(path)
        try:
            async with self._reading(check_key(key)):
                result = await obstore.get_async(self._store, key)
                await in_thread(target.open)
                async for batch in result.stream(min_chunk_size=BATCH_BYTES):
                    await in_thread(target.write, batch)
            await in_thread(target.close)
        except BaseException:
            await in_thread(target.discard)
            raise

    def as_file(self, key: str) -> AbstractAsyncContextManager[Path]:
        """See Storage."""
        return copied(self, key)

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        """See Storage."""
        attributes = {"Content-Type": check_content_type(content_type)}
        with self._errors():
            await obstore.put_async(self._store, check_key(key), data, attributes=attributes)

    async def delete(self, keys: Sequence[str]) -> None:
        """See Storage."""
        paths = [check_key(key) for key in keys]
        if paths:
            with self._errors():
                await obstore.delete_async(self._store, paths)

    async def list(self, prefix: str = "") -> AsyncIterator[StoredObject]:
        """See Storage."""
        with self._errors():
            async for batch in obstore.list(self._store, check_folder(prefix) or None):
                for found in batch:
                    yield _stored(found["path"], found)

    async def ready(self) -> None:
        """See Storage. Asks for one page of the bucket's list."""
        with self._errors():
            async for _ in obstore.list(self._store, chunk_size=1):
                break

    def _named(self, key: str) -> dict[str, object]:
        return {"Bucket": self._bucket, "Key": self._prefix + check_key(key)}

    def _join(self, upload: dict[str, object], size: int) -> None:
        with suppress(ObjectMissing):  # joined or aborted before
            parts = self._parts(upload)
            if not parts or sum(part["Size"] for part in parts) != size:
                return
            listed = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in parts]
            self._call("complete_multipart_upload", upload | {"MultipartUpload": {"Parts": listed}})

    def _parts(self, upload: dict[str, object]) -> Sequence[dict[str, Any]]:
        listed = deque[dict[str, Any]]()
        while True:
            after = {"PartNumberMarker": listed[-1]["PartNumber"]} if listed else {}
            page = self._call("list_parts", upload | after)
            listed += page.get("Parts", ())
            if not page.get("IsTruncated") or not page.get("Parts"):
                break
        # SeaweedFS lists a part that was sent twice with other bytes twice.
        latest = {part["PartNumber"]: part for part in sorted(listed, key=lambda part: part["LastModified"])}
        return [latest[number] for number in sorted(latest)]

    def _page_of_unfinished_parts(self, listing: dict[str, object]) -> dict[str, Any]:
        with suppress(_NotOffered):
            return self._call("list_multipart_uploads", listing)
        return {}

    def _call(self, operation: str, parameters: dict[str, object]) -> dict[str, Any]:
        """One blocking call that obstore does not have; few enough that each may open its own connection."""
        with self._making_client:  # a session is not made for threads, a client is
            client = self._session.create_client(
                "s3", region_name=self._region, endpoint_url=self._endpoint, config=self._client_config
            )
        with closing(client):
            try:
                answer: dict[str, Any] = getattr(client, operation)(**parameters)
            except ClientError as error:
                code = error.response.get("Error", {}).get("Code", "")
                if code in {"NoSuchUpload", "NoSuchKey"}:
                    raise ObjectMissing("this upload is over") from error
                if not code or code.isdigit():  # that is something in between
                    raise self._away(str(error)) from error
                if code in {"NotImplemented", "MethodNotAllowed"}:
                    raise _NotOffered(str(error)) from error
                raise self._refused(code, str(error)) from error
            except BotoCoreError as error:
                raise self._away(str(error)) from error
        return answer

    def _sign(self, method: str, url: str, headers: dict[str, str], expires_at: datetime) -> tuple[str, datetime]:
        now = int(time.time())
        seconds = max(1, min(int(expires_at.timestamp()) - now, _SIGNED_SECONDS_MAX))
        request = AWSRequest(method=method, url=url, headers=headers)
        credentials = self._credentials.get_frozen_credentials()
        S3SigV4QueryAuth(credentials, "s3", self._region, expires=seconds).add_auth(request)
        return str(request.url), datetime.fromtimestamp(now + seconds, UTC)

    def _current_credentials(self) -> "S3Credential":
        # Called from obstore's own threads, so a renewal over the network blocks nobody.
        current = self._credentials.get_frozen_credentials()
        return {
            "access_key_id": current.access_key,
            "secret_access_key": current.secret_key,
            "token": current.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_FOR,
        }

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise self._no_bucket() from error
        except BaseError as error:
            raise self._storage_error(error) from error

    @asynccontextmanager
    async def _reading(self, key: str) -> AsyncIterator[None]:
        """Errors about one object. An image is lost by its absence, and a proxy whose store is gone says 404, too."""
        try:
            yield
        except FileNotFoundError as error:
            if _code_of(error) != "NoSuchKey":  # a HEAD's answer has no body to say so
                await self._assert_not_listed(key)
            raise ObjectMissing(f"there is no object {key}") from error
        except BaseError as error:
            raise self._storage_error(error) from error

    async def _assert_not_listed(self, key: str) -> None:
        with self._errors():
            async for batch in obstore.list(self._store, key.rpartition("/")[0] or None):
                if any(found["path"] == key for found in batch):
                    raise self._away(f"it lists {key}, and does not find it")

    def _storage_error(self, error: BaseError) -> StorageError:
        summary = str(error).partition("\n")[0]
        code = _code_of(error)
        if code == "InvalidRange":
            return _NoSuchRange(summary)
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            code = code or "AccessDenied"
        if isinstance(error, GenericError) and code not in _REFUSALS and code != "NoSuchBucket":
            return self._away(summary)
        return self._refused(code, summary)

    def _refused(self, code: str, summary: str) -> StorageError:
        if code == "NoSuchBucket":
            return self._no_bucket()
        if code in _REFUSALS:
            return StorageUnavailable(
                f"the bucket {self._bucket} refuses our credentials ({code}); check them, and that they may "
                "list, get, put and delete in it (who may not list sees a missing object as a forbidden one)"
            )
        return StorageError(summary)

    @staticmethod
    def _away(summary: str) -> StorageUnavailable:
        return StorageUnavailable(
            f"the object store does not answer as it should; check AWS_ENDPOINT_URL and the network: {summary}"
        )

    def _no_bucket(self) -> StorageUnavailable:
        return StorageUnavailable(f"there is no bucket {self._bucket}; create it, or correct the URL")


class _NoSuchRange(StorageError):  # noqa: N818 - named for what happened
    """An empty object has no first byte."""


def _code_of(error: Exception) -> str:
    return found[1] if (found := _CODE.search(str(error))) else ""


def _address(bucket: str, region: str, endpoint: str | None) -> str:
    if endpoint is not None:
        return f"{endpoint.rstrip('/')}/{bucket}/"
    if "." in bucket:  # a wildcard certificate covers one label
        return f"https://s3.{region}.amazonaws.com/{bucket}/"
    return f"https://{bucket}.s3.{region}.amazonaws.com/"


def _stored(key: str, meta: "ObjectMeta") -> StoredObject:
    return StoredObject(key, meta["size"], meta["e_tag"], meta["last_modified"].astimezone(UTC))
