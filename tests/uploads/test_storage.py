"""What every store must do, asked of the local one and of a real S3 server (SeaweedFS)."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit, urlunsplit
from uuid import uuid4

import anyio
import httpx
import pytest

from earmark.errors import InvalidRequest
from earmark.uploads.storage import (
    InvalidKey,
    LocalStorage,
    ObjectMissing,
    SignedUpload,
    Storage,
    StorageUnavailable,
    UploadRefused,
    copied,
    open_storage,
)
from earmark.uploads.storage.s3 import S3Storage
from fixtures.object_store import ACCESS
from seaweedfs import free_ports

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=5)


def permit(storage: Storage, key: str = "images/one", size: int = 5) -> SignedUpload:
    return storage.sign_upload(key, content_type="image/png", size=size, expires_at=soon())


async def once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def send(storage: Storage, signed: SignedUpload, body: bytes, **changed: str) -> int:
    """PUT the bytes the way a client would; the status."""
    headers = {**signed.headers, **{name.replace("_", "-"): value for name, value in changed.items()}}
    if not isinstance(storage, LocalStorage):
        async with httpx.AsyncClient(timeout=60) as client:
            return (await client.put(signed.url, content=body, headers=headers)).status_code
    parts = urlsplit(signed.url)
    headers["content-length"] = str(len(body))
    try:
        key, query, now = unquote(parts.path.removeprefix("/storage/")), dict(parse_qsl(parts.query)), datetime.now(UTC)
        if "part" in query:
            await storage.receive_part(storage.verify_part(key, query, headers, now), once(body))
        else:
            await storage.receive(storage.verify_upload(key, query, headers, now), once(body))
    except (UploadRefused, ObjectMissing) as refused:
        return refused.status
    return 201


async def content(storage: Storage, key: str, folder: Path) -> bytes:
    path = folder / uuid4().hex
    await storage.download(key, path)
    return path.read_bytes()


async def keys(storage: Storage, prefix: str = "") -> list[str]:
    return sorted([stored.key async for stored in storage.list(prefix)])


async def test_an_upload_becomes_an_object(storage: Storage, tmp_path: Path):
    signed = permit(storage)
    assert signed.method == "PUT"
    assert signed.headers == {"Content-Type": "image/png", "If-None-Match": "*"}
    assert await send(storage, signed, b"hello") in (200, 201)
    stored = await storage.head("images/one")
    assert stored is not None
    assert (stored.key, stored.size) == ("images/one", 5)
    assert stored.etag
    assert stored.modified_at.utcoffset() == timedelta(0)
    assert await content(storage, "images/one", tmp_path) == b"hello"


async def test_a_second_upload_is_refused_and_the_first_bytes_stay(storage: Storage, tmp_path: Path):
    signed = permit(storage)
    assert await send(storage, signed, b"first") in (200, 201)
    assert await send(storage, signed, b"other") == 412
    assert await content(storage, "images/one", tmp_path) == b"first"


@pytest.mark.parametrize("body", [b"hell", b"hello!", b""])
async def test_another_size_is_refused(storage: Storage, body: bytes):
    assert await send(storage, permit(storage), body) >= 400
    assert await storage.head("images/one") is None


async def test_another_content_type_is_refused(storage: Storage):
    assert await send(storage, permit(storage), b"hello", content_type="text/html") >= 400
    assert await storage.head("images/one") is None


@pytest.mark.parametrize("change", ["key", "size", "type", "expires"])
async def test_a_changed_link_is_refused(storage: Storage, change: Literal["key", "size", "type", "expires"]):
    signed = permit(storage)
    parts = urlsplit(signed.url)
    if change == "key":
        parts = parts._replace(path=parts.path.replace("images/one", "images/two"))
    elif change == "expires":
        seconds = parse_qs(parts.query).get("X-Amz-Expires", parse_qs(parts.query).get("expires", [""]))[0]
        parts = parts._replace(query=parts.query.replace(f"xpires={seconds}", f"xpires={int(seconds) + 60}"))
    elif change == "size":
        parts = parts._replace(query=parts.query.replace("size=5", "size=6").replace("content-length%3B", ""))
    else:
        parts = parts._replace(query=parts.query.replace("image%2Fpng", "text%2Fhtml").replace("content-type%3B", ""))
    changed = SignedUpload(urlunsplit(parts), "PUT", signed.headers, signed.expires_at)
    assert changed.url != signed.url
    assert await send(storage, changed, b"hello") == 403
    assert await keys(storage) == []


PART = 5 * 2**20
"""The least that S3 takes for any part but the last."""
WHOLE = os.urandom(PART) + b"the rest"


async def send_part(storage: Storage, upload_id: str, number: int, body: bytes, key: str = "images/one") -> int:
    signed = storage.sign_part(key, upload_id, number, size=len(body), expires_at=soon())
    assert (signed.method, signed.headers) == ("PUT", {})
    return await send(storage, signed, body)


async def test_parts_become_an_object(storage: Storage, tmp_path: Path):
    upload_id = await storage.begin_parts("images/one", content_type="image/png")
    assert await send_part(storage, upload_id, 2, WHOLE[PART:]) < 300
    for _ in range(2):
        assert await send_part(storage, upload_id, 1, WHOLE[:PART]) < 300
    assert await keys(storage) == []
    await storage.join_parts("images/one", upload_id, len(WHOLE))
    assert await content(storage, "images/one", tmp_path) == WHOLE
    await storage.join_parts("images/one", upload_id, len(WHOLE))
    assert await send_part(storage, upload_id, 1, WHOLE[:PART]) == 404
    await storage.abort_parts("images/one", upload_id)
    assert await content(storage, "images/one", tmp_path) == WHOLE
    assert await keys(storage) == ["images/one"]


async def test_many_uploads_in_parts_begin_at_once(storage: Storage):
    begun: set[str] = set()

    async def begin(number: int) -> None:
        begun.add(await storage.begin_parts(f"images/{number}", content_type="image/png"))

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(begin, number)
    assert len(begun) == 20
    assert await keys(storage) == []


async def test_parts_are_not_joined_before_all_have_come(storage: Storage):
    upload_id = await storage.begin_parts("images/one", content_type="image/png")
    await storage.join_parts("images/one", upload_id, len(WHOLE))
    await send_part(storage, upload_id, 1, WHOLE[:PART])
    await storage.join_parts("images/one", upload_id, len(WHOLE))
    assert await storage.head("images/one") is None
    await send_part(storage, upload_id, 2, WHOLE[PART:])
    await storage.join_parts("images/one", upload_id, len(WHOLE))
    assert await storage.head("images/one") is not None


async def test_an_upload_in_parts_that_was_aborted_takes_nothing_more(storage: Storage):
    upload_id = await storage.begin_parts("images/one", content_type="image/png")
    await send_part(storage, upload_id, 1, WHOLE[:PART])
    for _ in range(2):
        await storage.abort_parts("images/one", upload_id)
    assert await send_part(storage, upload_id, 2, WHOLE[PART:]) == 404
    await storage.join_parts("images/one", upload_id, len(WHOLE))
    assert await keys(storage) == []


@pytest.mark.parametrize("body", [b"hell", b"hello!", b""])
async def test_a_part_of_another_size_is_refused(storage: Storage, body: bytes):
    upload_id = await storage.begin_parts("images/one", content_type="image/png")
    signed = storage.sign_part("images/one", upload_id, 1, size=5, expires_at=soon())
    assert await send(storage, signed, body) >= 400
    await storage.join_parts("images/one", upload_id, len(body))
    assert await storage.head("images/one") is None


@pytest.mark.parametrize("name", ["part", "upload", "size"])
async def test_a_changed_link_of_a_part_is_refused(storage: Storage, name: str):
    upload_id = await storage.begin_parts("images/one", content_type="image/png")
    signed = storage.sign_part("images/one", upload_id, 1, size=5, expires_at=soon())
    parts = urlsplit(signed.url)
    s3_names = {"part": "partNumber", "upload": "uploadId", "size": "X-Amz-SignedHeaders"}
    query = dict(parse_qsl(parts.query))
    query[name if isinstance(storage, LocalStorage) else s3_names[name]] = "2"
    changed = SignedUpload(urlunsplit(parts._replace(query=urlencode(query))), "PUT", {}, soon())
    assert await send(storage, changed, b"hello") >= 400


async def test_an_upload_of_the_whole_is_not_permitted_by_the_link_of_a_part(storage: Storage):
    upload_id = await storage.begin_parts("images/one", content_type="image/png")
    signed = storage.sign_part("images/one", upload_id, 1, size=5, expires_at=soon())
    parts = urlsplit(signed.url)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in {"part", "partNumber"}]
    whole = SignedUpload(urlunsplit(parts._replace(query=urlencode(query))), "PUT", {}, soon())
    assert await send(storage, whole, b"hello") >= 400
    assert await keys(storage) == []


async def test_of_uploads_at_once_one_wins(storage: Storage, tmp_path: Path):
    size = 300_000
    signed = permit(storage, size=size)
    statuses: list[int] = []

    async def upload(number: int) -> None:
        statuses.append(await send(storage, signed, bytes([number]) * size))

    async with anyio.create_task_group() as group:
        for number in range(20 if isinstance(storage, LocalStorage) else 4):  # SeaweedFS locks keys, slowly
            group.start_soon(upload, number)
    assert len([status for status in statuses if status in (200, 201)]) == 1, statuses
    stored = await content(storage, "images/one", tmp_path)
    assert len(stored) == size
    assert len(set(stored)) == 1


async def test_the_permission_never_outlives_what_was_asked(storage: Storage):
    asked = soon()
    signed = storage.sign_upload("a", content_type="image/png", size=1, expires_at=asked)
    assert asked - timedelta(seconds=2) < signed.expires_at <= asked


async def test_the_head_of_an_object(storage: Storage):
    await storage.put("a/b", b"0123456789", content_type="image/png")
    await storage.put("a/empty", b"", content_type="image/png")
    stored = await storage.head("a/b")
    assert await storage.peek("a/b", 4) == (stored, b"0123")
    assert await storage.peek("a/b", 10) == (stored, b"0123456789")
    assert await storage.peek("a/b", 400) == (stored, b"0123456789")
    assert await storage.peek("a/empty", 4) == (await storage.head("a/empty"), b"")


async def test_what_is_missing(storage: Storage, tmp_path: Path):
    await storage.put("folder/object", b"1", content_type="image/png")
    for key in ("nothing", "folder", "folder/object/below"):
        assert await storage.head(key) is None
        assert await storage.peek(key, 10) is None
        with pytest.raises(ObjectMissing):
            await storage.download(key, tmp_path / "target")
        assert not (tmp_path / "target").exists()
        for opened in (storage.as_file(key), copied(storage, key)):
            with pytest.raises(ObjectMissing):
                await opened.__aenter__()


async def test_an_object_is_read_as_a_file(storage: Storage):
    await storage.put("a/b", b"0123456789", content_type="image/png")
    async with storage.as_file("a/b") as path:
        assert path.read_bytes() == b"0123456789"
    assert await storage.peek("a/b", 400) == (await storage.head("a/b"), b"0123456789")


async def test_who_spoils_a_copy_spoils_no_object(storage: Storage):
    await storage.put("a/b", b"0123456789", content_type="image/png")
    async with copied(storage, "a/b") as path:
        path.write_bytes(b"spoilt")
    assert await storage.peek("a/b", 400) == (await storage.head("a/b"), b"0123456789")
    assert not path.parent.exists()


async def test_put_overwrites(storage: Storage, tmp_path: Path):
    await storage.put("thumb", b"one", content_type="image/webp")
    before = await storage.head("thumb")
    await storage.put("thumb", b"two!", content_type="image/webp")
    after = await storage.head("thumb")
    assert await content(storage, "thumb", tmp_path) == b"two!"
    assert before is not None
    assert after is not None
    assert before.etag != after.etag


async def test_list_goes_by_folder(storage: Storage):
    for key in ("a/b/1", "a/b/c/2", "a/bc", "d"):
        await storage.put(key, b"1", content_type="image/png")
    assert await keys(storage) == ["a/b/1", "a/b/c/2", "a/bc", "d"]
    assert await keys(storage, "a/b") == await keys(storage, "a/b/") == ["a/b/1", "a/b/c/2"]
    assert await keys(storage, "nothing") == []
    assert await keys(storage, "d") == []
    assert [stored.size async for stored in storage.list("a/b/c")] == [1]


async def test_delete_takes_what_is_missing_too(storage: Storage):
    for key in ("a/1", "a/2", "b"):
        await storage.put(key, b"1", content_type="image/png")
    await storage.delete(["a/1", "b", "nothing", "a/1/below"])
    await storage.delete([])
    assert await keys(storage) == ["a/2"]


async def test_an_object_may_be_uploaded_again_once_deleted(storage: Storage):
    signed = permit(storage)
    assert await send(storage, signed, b"hello") in (200, 201)
    await storage.delete(["images/one"])
    assert await send(storage, permit(storage), b"again") in (200, 201)


BAD_KEYS = [
    "", "/", "/etc/passwd", "../x", "a/../../x", "a/..", "a//b", "a/", "./a", "a/./b", ".incoming/x", "a\\b", "a\0b",
    "a\n", "ä", "a b", "a%2e", "C:/x", "a" * 402, "a" * 256, "a?b",
]  # fmt: skip


@pytest.mark.parametrize("key", BAD_KEYS)
async def test_a_key_that_is_not_ours_is_refused_everywhere(storage: Storage, key: str, tmp_path: Path):
    with pytest.raises(InvalidKey):
        storage.sign_upload(key, content_type="image/png", size=1, expires_at=soon())
    with pytest.raises(InvalidKey):
        storage.sign_download(key, content_type="image/png", filename=None, expires_at=soon())
    with pytest.raises(InvalidKey):
        await storage.head(key)
    with pytest.raises(InvalidKey):
        await storage.peek(key, 1)
    with pytest.raises(InvalidKey):
        await storage.download(key, tmp_path / "target")
    with pytest.raises(InvalidKey):
        await storage.as_file(key).__aenter__()
    with pytest.raises(InvalidKey):
        await storage.put(key, b"1", content_type="image/png")
    with pytest.raises(InvalidKey):
        await storage.delete([key])


@pytest.mark.parametrize("content_type", ["", "image", "image/png\r\nX: y", "image/png;", "image/\u00e9", "a b/c"])
async def test_a_content_type_that_breaks_a_header_is_refused(storage: Storage, content_type: str):
    with pytest.raises(InvalidRequest):
        storage.sign_upload("a", content_type=content_type, size=1, expires_at=soon())
    with pytest.raises(InvalidRequest):
        storage.sign_download("a", content_type=content_type, filename=None, expires_at=soon())


async def test_ready(storage: Storage):
    await storage.ready()
    assert await keys(storage) == []


async def test_a_download_is_streamed(storage: Storage, tmp_path: Path):
    data = os.urandom(9_000_000)
    await storage.put("big", data, content_type="image/png")
    assert await content(storage, "big", tmp_path) == data


async def test_s3_shows_an_object_with_the_signed_type_and_name(s3: S3Storage):
    await s3.put("a/b", b"hello", content_type="application/octet-stream")
    url = s3.sign_download("a/b", content_type="image/png", filename='schön "1".png', expires_at=soon())
    async with httpx.AsyncClient() as client:
        shown = await client.get(url)
        unsigned = await client.get(url.replace("image%2Fpng", "text%2Fhtml"))
    assert shown.content == b"hello"
    assert shown.headers["content-type"] == "image/png"
    assert shown.headers["content-disposition"] == (
        "inline; filename=\"sch_n _1_.png\"; filename*=UTF-8''sch%C3%B6n%20%221%22.png"
    )
    assert unsigned.status_code == 403


async def test_s3_links_expire(s3: S3Storage):
    signed = s3.sign_upload("late", content_type="image/png", size=5, expires_at=datetime.now(UTC))
    assert "X-Amz-Expires=1&" in signed.url
    for _ in range(100):
        if await send(s3, signed, b"hello") == 403:
            break
        await s3.delete(["late"])
        await anyio.sleep(0.05)  # between two looks at a condition, not instead of one
    else:
        pytest.fail("the link never expired")


async def test_s3_signs_length_type_and_single_use(s3: S3Storage):
    query = parse_qs(urlsplit(permit(s3).url).query)
    assert query["X-Amz-SignedHeaders"] == ["content-length;content-type;host;if-none-match"]
    without = SignedUpload(permit(s3).url, "PUT", {"Content-Type": "image/png"}, soon())
    assert await send(s3, without, b"hello") == 403


async def test_s3_keeps_prefixes_apart(s3: S3Storage, tmp_path: Path):
    other = open_storage(f"s3://objects/{uuid4().hex}/deeper/", home=tmp_path, secret=b"", public_url="")
    assert await send(other, permit(other), b"other") in (200, 201)
    assert await keys(s3) == []
    assert await keys(other) == ["images/one"]


@pytest.mark.usefixtures("s3")
async def test_s3_says_what_to_do_when_it_cannot_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def opened(url: str) -> Storage:
        return open_storage(url, home=tmp_path, secret=b"", public_url="")

    with pytest.raises(StorageUnavailable, match="no bucket nowhere"):
        await opened("s3://nowhere").ready()
    with monkeypatch.context() as wrong:
        wrong.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(StorageUnavailable, match="refuses our credentials") as refused:
            await opened("s3://objects").ready()
        assert refused.value.__cause__ is not None
        with pytest.raises(StorageUnavailable):
            await opened("s3://objects").put("a", b"1", content_type="image/png")
    with monkeypatch.context() as closed:
        closed.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
        with pytest.raises(StorageUnavailable, match="AWS_ENDPOINT_URL"):
            await opened("s3://objects").ready()


async def test_s3_that_cannot_be_used_is_not_asked_in_another_way_too(aws: pytest.MonkeyPatch):
    methods: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        methods.append((await reader.readuntil(b"\r\n\r\n")).split()[0])
        writer.write(b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        aws.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for name, value in ACCESS.items():
            aws.setenv(name, value)
        with pytest.raises(StorageUnavailable):
            await S3Storage("s3://objects").peek("a", 1)
    assert set(methods) == {b"GET"}


@pytest.mark.usefixtures("s3")
async def test_s3_finds_credentials_where_other_aws_tools_do(aws: pytest.MonkeyPatch, tmp_path: Path):
    lines = [f"{name.lower()} = {value}" for name, value in ACCESS.items()]
    (tmp_path / "credentials").write_text("\n".join(["[default]", *lines]))
    for name in ACCESS:
        aws.delenv(name)
    store = S3Storage(f"s3://objects/{uuid4().hex}")
    assert await send(store, permit(store), b"hello") in (200, 201)
    assert await keys(store) == ["images/one"]


@pytest.mark.usefixtures("aws")
async def test_s3_without_credentials_says_so():
    with pytest.raises(StorageUnavailable, match="AWS_ACCESS_KEY_ID"):
        S3Storage("s3://objects")


async def test_amazon_itself_is_addressed_by_bucket(aws: pytest.MonkeyPatch):
    for name, value in {**ACCESS, "AWS_REGION": "eu-central-1", "AWS_SESSION_TOKEN": "token"}.items():
        aws.setenv(name, value)
    url = permit(S3Storage("s3://bucket/some/prefix")).url
    assert url.startswith("https://bucket.s3.eu-central-1.amazonaws.com/some/prefix/images/one?")
    assert "X-Amz-Security-Token=token" in url
    dotted = permit(S3Storage("s3://dotted.name")).url
    assert dotted.startswith("https://s3.eu-central-1.amazonaws.com/dotted.name/images/one?")


async def test_a_url_of_another_kind_is_refused(tmp_path: Path):
    for url in (
        "gs://bucket",
        "bucket",
        "s3://",
        "s3://bucket?x=1",
        "file://",
        "file://host/folder",
        "s3://key:hush@bucket",
    ):
        with pytest.raises(InvalidRequest):
            open_storage(url, home=tmp_path, secret=b"", public_url="")
    folder = tmp_path / "given folder"
    store = open_storage(folder.as_uri(), home=tmp_path, secret=b"s", public_url="http://x")
    await store.put("a", b"1", content_type="image/png")
    assert (folder / "a").read_bytes() == b"1"
