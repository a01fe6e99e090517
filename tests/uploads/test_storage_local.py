"""What the local store does on the disk: whole objects, once, and nothing left behind."""

import asyncio
import hashlib
import os
import sys
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import anyio
import pytest

from earmark.uploads.storage import (
    AlreadyUploaded,
    InvalidKey,
    LocalStorage,
    StorageError,
    StorageFull,
    StorageUnavailable,
    TooLong,
    UploadGrant,
    WrongLength,
)
from earmark.uploads.storage.disk import in_thread

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


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())


def granted(size: int = 5) -> UploadGrant:
    return UploadGrant(KEY, "image/png", size, LATER)


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def a_turn() -> None:
    await asyncio.sleep(0)


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_the_upload_is_stored_whole_and_private(storage: LocalStorage, root: Path):
    stored = await storage.receive(granted(), pieces(b"he", b"", b"llo"))
    assert (root / KEY).read_bytes() == b"hello"
    assert stored == await storage.head(KEY)
    assert files(root) == [KEY]
    assert (root / KEY).stat().st_mode & 0o077 == 0


async def test_nothing_is_read_after_the_first_byte_too_many(storage: LocalStorage, root: Path):
    read: list[bytes] = []

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            read.append(b"12")
            yield b"12"

    with pytest.raises(TooLong):
        await storage.receive(granted(), endless())
    assert len(read) == 3
    assert files(root) == []


async def test_a_short_body_is_refused(storage: LocalStorage, root: Path):
    with pytest.raises(WrongLength) as refused:
        await storage.receive(granted(), pieces(b"hell"))
    assert refused.value.detail == {"declared": 5, "received": 4}
    assert files(root) == []


async def test_a_used_link_reads_nothing(storage: LocalStorage):
    await storage.receive(granted(), pieces(b"hello"))
    again = pieces(b"again")
    with pytest.raises(AlreadyUploaded) as refused:
        await storage.receive(granted(), again)
    assert refused.value.status == 412
    assert await anext(again) == b"again"


async def test_of_twenty_uploads_that_all_began_one_wins(storage: LocalStorage, root: Path):
    all_began = asyncio.Barrier(20)

    async def body(number: int) -> AsyncIterator[bytes]:
        await all_began.wait()  # by then every upload has found the key free
        for _ in range(2):
            yield bytes([number]) * 300_000

    outcomes = await asyncio.gather(
        *(storage.receive(granted(600_000), body(number)) for number in range(20)), return_exceptions=True
    )
    winners = [number for number, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
    assert len(winners) == 1
    assert [type(outcome) for number, outcome in enumerate(outcomes) if number not in winners] == [AlreadyUploaded] * 19
    assert (root / KEY).read_bytes() == bytes(winners) * 600_000
    assert files(root) == [KEY]


@pytest.mark.parametrize("by", ["task", "scope"])
async def test_a_cancelled_upload_leaves_nothing(storage: LocalStorage, root: Path, by: str):
    written = asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield b"x" * 400_000
        assert len(files(root)) == 1  # a part of it is on the disk by now
        written.set()
        await asyncio.Event().wait()

    async def upload() -> None:
        await storage.receive(granted(500_000), stalling())

    if by == "task":
        task = asyncio.create_task(upload())
        await written.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        async with anyio.create_task_group() as group:
            group.start_soon(upload)
            await written.wait()
            group.cancel_scope.cancel()
    assert files(root) == []


async def test_a_cancelled_upload_leaves_nothing_wherever_it_is_cancelled(storage: LocalStorage, root: Path):
    """The task is cancelled after each number of turns of the event loop, twice in a row, until one gets through."""
    for turns in range(2000):
        task = asyncio.create_task(storage.receive(granted(600_000), pieces(b"x" * 300_000, b"y" * 300_000)))
        for _ in range(turns):
            await asyncio.sleep(0)
        finished = task.done()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert [name for name in files(root) if name.startswith(".")] == []
        await storage.delete([KEY])  # cancelled in the instant of publication, it is there whole
        if finished:
            break
    else:
        pytest.fail("no upload ever got through")
    assert turns > 3


async def test_a_client_that_goes_away_leaves_nothing(storage: LocalStorage, root: Path):
    async def broken() -> AsyncIterator[bytes]:
        yield b"he"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await storage.receive(granted(), broken())
    assert files(root) == []
    await storage.receive(granted(), pieces(b"hello"))


async def test_a_thread_is_waited_for_when_its_caller_is_cancelled():
    order: list[str] = []
    with anyio.CancelScope() as scope:
        loop = asyncio.get_running_loop()

        def work() -> None:
            loop.call_soon_threadsafe(scope.cancel)
            asyncio.run_coroutine_threadsafe(a_turn(), loop).result(10)
            order.append("worked")

        try:
            await in_thread(work)
        finally:
            order.append("cleaned up")
    assert scope.cancelled_caught
    assert order == ["worked", "cleaned up"]


@pytest.mark.parametrize(("length", "count"), [(65_536, 1024), (2, 100_000)])
async def test_a_file_passes_in_little_memory(storage: LocalStorage, tmp_path: Path, length: int, count: int):
    """A big one, and one that comes in tiny pieces."""
    whole = hashlib.sha256()

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(count):
            chunk = os.urandom(length)
            whole.update(chunk)
            yield chunk

    tracemalloc.start()
    try:
        await storage.receive(granted(count * length), chunks())
        await storage.download(KEY, tmp_path / "copy")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
    with (tmp_path / "copy").open("rb") as copy:
        assert hashlib.file_digest(copy, "sha256").digest() == whole.digest()


@contextmanager
def audited(react: Callable[[str, tuple[object, ...]], None]) -> Iterator[None]:
    """Let `react` see each file operation of the interpreter just before it happens (PEP 578)."""
    on = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if on:
            react(event, arguments)

    sys.addaudithook(hook)  # cannot be removed, hence the switch
    try:
        yield
    finally:
        on = False


async def test_no_file_is_touched_from_the_event_loop(storage: LocalStorage, root: Path, tmp_path: Path):
    event_loop_thread = threading.get_ident()
    touched: list[tuple[str, bool]] = []

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if any(str(root) in str(argument) for argument in arguments[:2]):
            touched.append((event, threading.get_ident() == event_loop_thread))

    with audited(note):
        await storage.ready()
        await storage.receive(granted(), pieces(b"hello"))
        await storage.put("other", b"1", content_type="image/png")
        await storage.peek(KEY, 5)
        await storage.download(KEY, tmp_path / "copy")
        async with storage.as_file(KEY):
            pass
        await storage.delete([stored.key async for stored in storage.list()])
        await storage.remove_abandoned(timedelta())
    assert {"open", "os.link", "os.rename", "os.remove", "os.scandir"} <= {event for event, _ in touched}
    assert [event for event, on_loop in touched if on_loop] == []


async def test_a_folder_removed_in_the_instant_of_publication_is_made_again(storage: LocalStorage, root: Path):
    removed: list[Path] = []

    def remove_folder(event: str, _arguments: tuple[object, ...]) -> None:
        folder = (root / KEY).parent
        if event == "os.link" and len(removed) < 3:
            removed.append(folder)
            folder.rmdir()

    with audited(remove_folder):
        await storage.receive(granted(), pieces(b"hello"))
    assert len(removed) == 3
    assert files(root) == [KEY]


async def test_symbolic_links_lead_nowhere(storage: LocalStorage, root: Path, tmp_path: Path):
    outside = made(tmp_path / "outside")
    (outside / "secret").write_bytes(b"secret")
    (made(root) / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    for key in ("folder/secret", "file", "folder/new"):
        grant = UploadGrant(key, "image/png", 1, LATER)
        for attempt in (
            storage.head(key),
            storage.peek(key, 6),
            storage.download(key, tmp_path / "target"),
            storage.as_file(key).__aenter__(),
            storage.put(key, b"1", content_type="image/png"),
            storage.delete([key]),
            storage.receive(grant, pieces(b"1")),
        ):
            with pytest.raises(InvalidKey):
                await attempt
        parts = urlsplit(storage.sign_download(key, content_type="image/png", filename=None, expires_at=LATER))
        with pytest.raises(InvalidKey):
            storage.verify_download(key, dict(parse_qsl(parts.query)), NOW)
    assert [stored.key async for stored in storage.list()] == []
    assert files(outside) == ["secret"]
    assert (outside / "secret").read_bytes() == b"secret"
    assert not (tmp_path / "target").exists()


async def test_an_object_cannot_be_a_folder_too(storage: LocalStorage, root: Path):
    await storage.put("a", b"1", content_type="image/png")
    with pytest.raises(StorageError, match="in its way"):
        await storage.put("a/b", b"1", content_type="image/png")
    with pytest.raises(StorageError, match="in its way"):
        await storage.receive(UploadGrant("a/b", "image/png", 1, LATER), pieces(b"1"))
    assert files(root) == ["a"]


async def test_deleting_removes_the_folders_it_empties(storage: LocalStorage, root: Path):
    await storage.put("a/b/c/1", b"1", content_type="image/png")
    await storage.put("a/2", b"1", content_type="image/png")
    await storage.delete(["a/b/c/1"])
    assert names(root / "a") == ["2"]
    await storage.delete(["a/2"])
    assert names(root) == [".incoming"]


async def test_uploads_and_deletes_in_one_folder_do_not_disturb_each_other(storage: LocalStorage, root: Path):
    async def come_and_go(name: str) -> None:
        for _ in range(25):
            key = f"deep/er/{name}"
            await storage.receive(UploadGrant(key, "image/png", 1, LATER), pieces(b"1"))
            await storage.delete([key])

    async with anyio.create_task_group() as group:
        for name in "abcdef":
            group.start_soon(come_and_go, name)
    assert files(root) == []


async def test_only_abandoned_temporary_files_are_removed(storage: LocalStorage, root: Path):
    await storage.put("kept", b"1", content_type="image/png")
    assert await storage.remove_abandoned(timedelta()) == 0
    for name, age_seconds in (("old.part", 7200), ("young.part", 60)):
        path = root / ".incoming" / name
        path.write_bytes(b"1")
        then = datetime.now(UTC).timestamp() - age_seconds
        os.utime(path, (then, then))
        os.utime(root / "kept", (then, then))
    assert await storage.remove_abandoned(timedelta(hours=1)) == 1
    assert files(root) == [".incoming/young.part", "kept"]


async def test_a_store_that_was_never_used_is_empty(storage: LocalStorage):
    assert await storage.remove_abandoned(timedelta()) == 0
    assert [stored async for stored in storage.list()] == []
    await storage.delete(["nothing"])


async def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    storage = LocalStorage(tmp_path / "file" / "objects", secret=b"s", public_url="http://x")
    with pytest.raises(StorageUnavailable, match="EARMARK_HOME"):
        await storage.ready()


async def test_ready_leaves_nothing(storage: LocalStorage, root: Path):
    await storage.ready()
    assert files(root) == []


async def test_a_listing_is_complete_beyond_one_batch(storage: LocalStorage, root: Path):
    made(root)
    for number in range(1201):
        folder = root / str(number % 7)
        folder.mkdir(exist_ok=True)
        (folder / str(number)).touch()
    (root / "not ours").touch()
    assert len({stored.key async for stored in storage.list()}) == 1201


async def test_a_full_disk_is_reported_and_left_clean(small_disk: Path, tmp_path: Path):
    storage = LocalStorage(small_disk / "objects", secret=b"s", public_url="http://x")
    size = 3_000_000
    with pytest.raises(StorageFull) as full:
        await storage.receive(granted(size), pieces(*[b"x" * 100_000] * 30))
    assert full.value.status == 507
    assert isinstance(full.value.__cause__, OSError)
    with pytest.raises(StorageFull):
        await storage.put("a", b"x" * size, content_type="image/png")
    assert files(small_disk) == []
    await storage.receive(granted(), pieces(b"hello"))

    roomy = LocalStorage(tmp_path / "roomy", secret=b"s", public_url="http://x")
    await roomy.put("big", b"x" * size, content_type="image/png")
    with pytest.raises(StorageFull):
        await roomy.download("big", small_disk / "copy")
    assert not (small_disk / "copy").exists()
