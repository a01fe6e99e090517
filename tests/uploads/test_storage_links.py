"""How the local store answers its own links."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from earmark.uploads.storage import (
    BadSignature,
    LengthRequired,
    LinkExpired,
    LocalStorage,
    ObjectMissing,
    TooLong,
    UploadGrant,
    UploadRefused,
    WrongLength,
    WrongType,
)
from earmark.uploads.storage.contract import inline_disposition

pytestmark = pytest.mark.anyio
NOW = datetime(2030, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=15)
KEY = "images/a-b_c.1/original"
HEADERS = {"Content-Type": "image/png", "Content-Length": "5"}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def storage(root: Path) -> LocalStorage:
    return LocalStorage(root, secret=b"a secret of the tests", public_url="http://127.0.0.1:8787/")


def split(url: str) -> tuple[str, dict[str, str]]:
    parts = urlsplit(url)
    return unquote(parts.path.removeprefix("/storage/")), dict(parse_qsl(parts.query, keep_blank_values=True))


def upload_link(storage: LocalStorage, size: int = 5) -> tuple[str, dict[str, str]]:
    return split(storage.sign_upload(KEY, content_type="image/png", size=size, expires_at=LATER).url)


def download_link(storage: LocalStorage, filename: str | None = "cat.png") -> tuple[str, dict[str, str]]:
    return split(storage.sign_download(KEY, content_type="image/png", filename=filename, expires_at=LATER))


def test_an_upload_link_says_what_it_permits(storage: LocalStorage):
    signed = storage.sign_upload(KEY, content_type="image/png", size=5, expires_at=LATER + timedelta(milliseconds=900))
    assert signed.url.startswith(f"http://127.0.0.1:8787/storage/{KEY}?")
    assert signed.expires_at == LATER
    assert storage.verify_upload(*upload_link(storage), HEADERS, NOW) == UploadGrant(KEY, "image/png", 5, LATER)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("expires", str(int(LATER.timestamp()) + 1)), ("expires", "x"), ("expires", ""), ("size", "6"), ("size", "05"),
        ("size", "-5"), ("type", "text/html"), ("type", ""), ("signature", ""), ("signature", "0" * 64),
        ("signature", "ä"), ("signature", "\udcff"), ("key", "images/other"), ("key", "../etc/passwd"), ("key", ""),
        ("key", KEY + "/"), ("key", "\udcff"),
    ],
)  # fmt: skip
def test_an_upload_link_changed_anywhere_is_refused(storage: LocalStorage, part: str, value: str):
    key, query = upload_link(storage)
    if part == "key":
        key = value
    else:
        assert query[part] != value
        query[part] = value
    with pytest.raises(BadSignature) as refused:
        storage.verify_upload(key, query, HEADERS, NOW)
    assert (refused.value.status, refused.value.slug) == (403, "bad-signature")


@pytest.mark.parametrize("part", ["expires", "size", "type", "signature"])
def test_an_upload_link_without_a_part_is_refused(storage: LocalStorage, part: str):
    key, query = upload_link(storage)
    del query[part]
    with pytest.raises(BadSignature):
        storage.verify_upload(key, query, HEADERS, NOW)


@pytest.mark.parametrize("part", ["expires", "disposition", "type", "signature", "key"])
async def test_a_download_link_changed_anywhere_is_refused(storage: LocalStorage, part: str):
    await storage.put(KEY, b"hello", content_type="image/png")
    key, query = download_link(storage)
    assert storage.verify_download(key, query, NOW).path.read_bytes() == b"hello"
    if part == "key":
        key += "x"
    else:
        query[part] += "0"
    with pytest.raises(BadSignature):
        storage.verify_download(key, query, NOW)


def test_text_cannot_move_from_one_signed_part_into_another(storage: LocalStorage):
    seen = {
        storage._signature("PUT", "a", {"size": "12", "type": "3"}),
        storage._signature("GET", "a", {"size": "12", "type": "3"}),
        storage._signature("PUT", "a", {"size": "1", "type": "23"}),
        storage._signature("PUT", "a1", {"size": "2", "type": "3"}),
        storage._signature("PUT", "a", {"size": '12", "type": "3'}),
    }
    assert len(seen) == 5


async def test_a_link_works_for_its_own_method_only(storage: LocalStorage):
    await storage.put(KEY, b"hello", content_type="image/png")
    with pytest.raises(BadSignature):
        storage.verify_download(*upload_link(storage), NOW)
    with pytest.raises(BadSignature):
        storage.verify_upload(*download_link(storage), HEADERS, NOW)


def test_a_link_of_another_service_is_refused(storage: LocalStorage, root: Path):
    other = LocalStorage(root, secret=b"another secret", public_url="http://127.0.0.1:8787")
    with pytest.raises(BadSignature):
        storage.verify_upload(*upload_link(other), HEADERS, NOW)


async def test_links_expire_at_their_second(storage: LocalStorage):
    await storage.put(KEY, b"hello", content_type="image/png")
    just_before = LATER - timedelta(microseconds=1)
    storage.verify_upload(*upload_link(storage), HEADERS, just_before)
    storage.verify_download(*download_link(storage), just_before)
    with pytest.raises(LinkExpired) as refused:
        storage.verify_upload(*upload_link(storage), HEADERS, LATER)
    assert (refused.value.status, refused.value.slug) == (403, "link-expired")
    with pytest.raises(LinkExpired):
        storage.verify_download(*download_link(storage), LATER)


@pytest.mark.parametrize(
    ("headers", "refusal", "status"),
    [
        ({"Content-Length": "6"}, TooLong, 413),
        ({"Content-Length": "9" * 19}, TooLong, 413),
        ({"Content-Length": "4"}, WrongLength, 400),
        ({"Content-Length": "-5"}, WrongLength, 400),
        ({"Content-Length": "5, 5"}, WrongLength, 400),
        ({"Content-Length": "\u0665"}, WrongLength, 400),
        ({"Content-Length": "9" * 5000}, WrongLength, 400),
        ({"Content-Length": None}, LengthRequired, 411),
        ({"Content-Type": "image/jpeg"}, WrongType, 415),
        ({"Content-Type": "image/png; charset=utf-8"}, WrongType, 415),
        ({"Content-Type": None}, WrongType, 415),
    ],
)
def test_headers_that_do_not_fit_the_link_are_refused(
    storage: LocalStorage, headers: dict[str, str | None], refusal: type[UploadRefused], status: int
):
    sent = {name: value for name, value in {**HEADERS, **headers}.items() if value is not None}
    with pytest.raises(refusal) as refused:
        storage.verify_upload(*upload_link(storage), sent, NOW)
    assert refused.value.status == status


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "Image/PNG", "CONTENT-LENGTH": " 5 "},
        {"Content-Type": "image/png", "Transfer-Encoding": "chunked"},
    ],
)
def test_headers_that_fit_are_accepted(storage: LocalStorage, headers: dict[str, str]):
    assert storage.verify_upload(*upload_link(storage), headers, NOW).size == 5


async def test_a_download_of_a_missing_object_is_404(storage: LocalStorage):
    with pytest.raises(ObjectMissing) as missing:
        storage.verify_download(*download_link(storage), NOW)
    assert missing.value.status == 404


async def test_a_download_runs_nothing_in_the_browser(storage: LocalStorage, root: Path):
    await storage.put(KEY, b"hello", content_type="image/png")
    grant = storage.verify_download(*download_link(storage), NOW)
    assert grant.path == root / KEY
    assert grant.headers == {
        "Content-Type": "image/png",
        "Content-Disposition": 'inline; filename="cat.png"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
    }
    assert storage.verify_download(*download_link(storage, None), NOW).disposition == "inline"


@pytest.mark.parametrize(
    ("filename", "disposition"),
    [
        (None, "inline"),
        ("", "inline"),
        ("my cat.png", 'inline; filename="my cat.png"'),
        ("ä€.png", "inline; filename=\"__.png\"; filename*=UTF-8''%C3%A4%E2%82%AC.png"),
        ('a"b.png', "inline; filename=\"a_b.png\"; filename*=UTF-8''a%22b.png"),
        ("100%.png", "inline; filename=\"100_.png\"; filename*=UTF-8''100%25.png"),
        ("a'(b)*c.png", 'inline; filename="a\'(b)*c.png"'),
        ("é'(*", "inline; filename=\"_'(*\"; filename*=UTF-8''%C3%A9%27%28%2A"),
        ("a\r\nX-Evil: 1", 'inline; filename="a__X-Evil: 1"'),
        ("../../etc/passwd", 'inline; filename=".._.._etc_passwd"'),
        ("a\\b\0", 'inline; filename="a_b_"'),
        ("\udcff", "inline; filename=\"_\"; filename*=UTF-8''%3F"),
        ("日本.png", "inline; filename=\"__.png\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.png"),
    ],
)
def test_the_name_of_a_download_is_safe_in_a_header(filename: str | None, disposition: str):
    assert inline_disposition(filename) == disposition
