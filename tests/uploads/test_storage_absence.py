"""When an S3 store's 404 means that an object is not there: an image is lost by it, and proxies say 404 too."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from earmark.uploads.storage import ObjectMissing, StorageUnavailable, open_storage
from earmark.uploads.storage.s3 import S3Storage
from fixtures.object_store import ACCESS

pytestmark = pytest.mark.anyio

KEY = "images/one/original"
NO_KEY = "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"
NO_BUCKET = "<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>"
HTML = "<html><body>default backend - 404</body></html>"
LISTED = """<ListBucketResult><Name>b</Name><KeyCount>1</KeyCount><IsTruncated>false</IsTruncated><Contents>
<Key>images/one/original</Key><Size>5</Size><LastModified>2026-01-31T00:00:00.000Z</LastModified><ETag>"e"</ETag>
</Contents></ListBucketResult>"""
NOTHING_LISTED = (
    "<ListBucketResult><Name>b</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"
)


class Store:
    """Something at the store's address: what it says of an object, and to a list where that is no 404 too."""

    def __init__(self) -> None:
        self.of_objects = self.of_lists = ""
        self.lists = 0
        store = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                is_list = "list-type=2" in self.path
                store.lists += is_list
                body = (store.of_lists if is_list else store.of_objects).encode()
                self.send_response(200 if body.startswith(b"<List") else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_POST = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.server.shutdown()
    store.server.server_close()


@pytest.fixture
def storage(store: Store, aws: pytest.MonkeyPatch, tmp_path: Path) -> S3Storage:
    for name, value in {**ACCESS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{store.server.server_port}"}.items():
        aws.setenv(name, value)
    made = open_storage("s3://b", home=tmp_path, secret=b"s" * 32, public_url="")
    assert isinstance(made, S3Storage)
    return made


@pytest.mark.parametrize("of_objects", [NO_BUCKET, HTML, ""], ids=["no bucket", "a page", "nothing"])
@pytest.mark.parametrize(
    "of_lists", [NO_BUCKET, HTML, "", LISTED], ids=["no bucket", "a page", "nothing", "the object"]
)
async def test_a_404_that_may_be_a_proxys_is_no_evidence(
    store: Store, storage: S3Storage, tmp_path: Path, of_objects: str, of_lists: str
):
    store.of_objects, store.of_lists = of_objects, of_lists
    for asked in (
        storage.head(KEY),
        storage.peek(KEY, 10),
        storage.download(KEY, tmp_path / "copy"),
        storage.join_parts(KEY, "upload", 5),
        storage.abort_parts(KEY, "upload"),
    ):
        with pytest.raises(StorageUnavailable):
            await asked
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("of_objects", [NO_KEY, ""], ids=["no such key", "nothing"])
async def test_what_the_store_names_missing_or_does_not_list_is_missing(
    store: Store, storage: S3Storage, tmp_path: Path, of_objects: str
):
    store.of_objects, store.of_lists = of_objects, NOTHING_LISTED
    assert await storage.peek(KEY, 10) is None
    with pytest.raises(ObjectMissing):
        await storage.download(KEY, tmp_path / "copy")
    assert store.lists == (0 if of_objects else 2)
    assert await storage.head(KEY) is None  # whose answer never has a body
