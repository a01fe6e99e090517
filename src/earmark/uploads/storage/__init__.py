"""The object store as the upload flow sees it: one contract, a local folder and S3 behind it."""

from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from earmark.errors import InvalidRequest
from earmark.uploads.storage.contract import (
    AlreadyUploaded,
    BadSignature,
    InvalidKey,
    LengthRequired,
    LinkExpired,
    ObjectMissing,
    SignedUpload,
    Storage,
    StorageError,
    StorageFull,
    StorageUnavailable,
    StoredObject,
    TooLong,
    UnfinishedParts,
    UploadRefused,
    WrongLength,
    WrongType,
    copied,
)
from earmark.uploads.storage.local import DownloadGrant, LocalStorage, PartGrant, UploadGrant

__all__ = [
    "AlreadyUploaded",
    "BadSignature",
    "DownloadGrant",
    "InvalidKey",
    "LengthRequired",
    "LinkExpired",
    "LocalStorage",
    "ObjectMissing",
    "PartGrant",
    "SignedUpload",
    "Storage",
    "StorageError",
    "StorageFull",
    "StorageUnavailable",
    "StoredObject",
    "TooLong",
    "UnfinishedParts",
    "UploadGrant",
    "UploadRefused",
    "WrongLength",
    "WrongType",
    "copied",
    "open_storage",
]


def open_storage(url: str | None, *, home: Path, secret: bytes, public_url: str) -> Storage:
    """The store that a URL names; nothing is contacted yet, see `Storage.ready`.

    Args:
        url: `s3://bucket/prefix`, `file:///folder`, or None for the folder `objects` under `home`.
        home: The service's own folder.
        secret: Signs the local store's links.
        public_url: Where browsers reach the service, which answers the local store's links.

    Raises:
        InvalidRequest: The URL is of another kind, or names no bucket.
        StorageUnavailable: There are no AWS credentials.
    """
    if url is None:
        return LocalStorage(home / "objects", secret=secret, public_url=public_url)
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path.strip("/"):
        return LocalStorage(Path(url2pathname(parts.path)), secret=secret, public_url=public_url)
    if parts.scheme == "s3":
        from earmark.uploads.storage.s3 import S3Storage  # noqa: PLC0415 - botocore takes long to import

        return S3Storage(url)
    raise InvalidRequest(
        "that is no object store; EARMARK_STORAGE_URL is s3://bucket/prefix or file:///folder, or left out"
    )
