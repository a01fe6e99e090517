"""The folder behind the local store: blocking file operations, and how to run them beside the event loop."""

import asyncio
import errno
import functools
import os
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

import anyio

from earmark.uploads.storage.contract import (
    AlreadyUploaded,
    InvalidKey,
    ObjectMissing,
    StorageError,
    StorageFull,
    StorageUnavailable,
    StoredObject,
    check_folder,
    check_key,
)

BATCH_BYTES = 256 * 1024
"""How much is handed to a thread at once."""

_INCOMING = ".incoming"  # no key begins with a dot, so no key reaches into it
_PLACE_ATTEMPTS = 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_CLOSED_TO_US = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking file operation in a thread; when cancelled, wait for the thread first.

    So no two operations of one caller ever overlap, and what runs in a `finally` finds the file at rest.

    Raises:
        StorageError: The operation raised an OSError, which is the cause.
    """
    call = functools.partial(_translated, functools.partial(function, *args, **kwargs))
    future = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            while not future.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
        raise


def _translated(call: Callable[[], T]) -> T:
    try:
        return call()
    except OSError as error:
        raise _storage_error(error) from error


def _storage_error(error: OSError) -> StorageError:
    if error.errno in _FULL:
        return StorageFull(f"the disk is full: {error}")
    if error.errno in _CLOSED_TO_US:
        return StorageUnavailable(f"{error}; give the service's user read and write access to this folder")
    return StorageError(str(error))


class NewFile:
    """A file being written: open, write and close, or discard at any moment. Not safe from two threads at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def open(self) -> None:
        """Create the file, or empty it; only the service's user can read it."""
        self._file = open(self.path, "wb", opener=_private)  # noqa: SIM115 - `close` and `discard` close it

    def write(self, *data: bytes) -> None:
        """Append."""
        if self._file is None:
            raise ValueError("write to a file that is not open")
        self._file.writelines(data)

    def close(self, *, durable: bool = False) -> None:
        """Flush, to the disk itself where `durable`, and close."""
        if self._file is None:
            return
        self._file.flush()
        if durable:
            os.fsync(self._file.fileno())
        self._file.close()
        self._file = None

    def discard(self) -> None:
        """Close without caring for the content, and remove the file's name."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
        self.path.unlink(missing_ok=True)


class Folder:
    """Objects as files under `root`; every method blocks and raises OSError or StorageError.

    Keys are relative paths. A key that leads through a symbolic link is refused, so nothing leaves the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._incoming = self.root / _INCOMING

    def locate(self, key: str) -> Path:
        """The object's path.

        Raises:
            InvalidKey: The key is not one of ours, or leads through a symbolic link.
        """
        path = self.root / check_key(key)
        if os.path.realpath(path) != str(path):
            raise InvalidKey(f"{key!r} leads through a symbolic link")
        return path

    def stat(self, key: str) -> StoredObject | None:
        """The object, or None when there is none."""
        try:
            found = self.locate(key).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _stored(key, found) if stat.S_ISREG(found.st_mode) else None

    def peek(self, key: str, length: int) -> tuple[StoredObject, bytes] | None:
        """The object and its first `length` bytes, or None when there is none."""
        with suppress(ObjectMissing), self._open(key) as file:
            return _stored(key, os.fstat(file.fileno())), file.read(length)
        return None

    def readable(self, key: str) -> Path:
        """The path of an object that we can read."""
        with self._open(key):
            return self.locate(key)

    def copy(self, key: str, target: NewFile) -> None:
        """Copy the object's bytes into `target`."""
        with self._open(key) as file:
            target.open()
            while batch := file.read(BATCH_BYTES):
                target.write(batch)
        target.close()

    def incoming(self) -> NewFile:
        """A file on the same filesystem that no key can name; nothing is created yet."""
        return NewFile(self._incoming / f"{uuid.uuid4().hex}.part")

    def begin(self, new: NewFile) -> None:
        """Create the incoming file."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        new.open()

    def publish(self, new: NewFile, key: str) -> StoredObject:
        """Make the written file the object, in one step, durably, unless there is one already.

        Raises:
            AlreadyUploaded: There is.
        """
        try:
            return self._place(new, key, os.link)
        except FileExistsError:
            raise AlreadyUploaded(f"{key} was uploaded before") from None

    def replace(self, key: str, data: bytes) -> None:
        """Make `data` the object, in one step, durably, whatever was there."""
        new = self.incoming()
        try:
            self.begin(new)
            new.write(data)
            self._place(new, key, os.replace)
        finally:
            new.discard()

    def delete(self, keys: Sequence[str]) -> None:
        """Delete the objects, and the folders that this empties."""
        for path in [self.locate(key) for key in keys]:
            with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                path.unlink()
            for folder in self._folders_of(path):
                try:
                    folder.rmdir()
                except OSError:  # not empty, or gone
                    break

    def walk(self, prefix: str) -> Iterator[StoredObject]:
        """Every object in the folder `prefix`; what comes or goes meanwhile may be missed."""
        prefix = check_folder(prefix)
        folders = [self.locate(prefix) if prefix else self.root]
        while folders:
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                    elif found := self._listed(entry):
                        yield found

    def remove_abandoned(self, before: datetime) -> int:
        """Remove incoming files that nothing was written to since `before`; return how many there were."""
        removed = 0
        with suppress(FileNotFoundError):
            for path in self._incoming.iterdir():
                with suppress(FileNotFoundError):
                    if path.lstat().st_mtime < before.timestamp():
                        path.unlink()
                        removed += 1
        return removed

    def probe(self) -> None:
        """Do once what a publication does.

        Raises:
            StorageUnavailable: The folder cannot be written, or its filesystem has no hard links.
        """
        new = self.incoming()
        link = new.path.with_suffix(".probe")
        try:
            self.begin(new)
            new.write(b"\0")
            new.close()
            os.link(new.path, link)
            link.unlink()
            new.discard()
        except OSError as error:
            with suppress(OSError):
                new.discard()
            raise StorageUnavailable(
                f"the local store cannot write to {self.root} ({error}); point EARMARK_HOME at a folder that the "
                "service's user may write to, with free space, on a filesystem with hard links"
            ) from error

    def _open(self, key: str) -> BinaryIO:
        try:
            return open(self.locate(key), "rb", opener=_unlinked)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ObjectMissing(f"there is no object {key}") from error

    def _place(self, new: NewFile, key: str, place: Callable[[Path, Path], None]) -> StoredObject:
        new.close(durable=True)
        stored = _stored(key, new.path.lstat())
        path = self.locate(key)
        for _ in range(_PLACE_ATTEMPTS):
            made = [folder for folder in self._folders_of(path) if not folder.exists()]
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except (FileNotFoundError, FileExistsError, NotADirectoryError):
                continue
            with suppress(FileNotFoundError):  # a delete may remove the emptied folder in between
                place(new.path, path)
                for folder in dict.fromkeys((path.parent, *(folder.parent for folder in made))):
                    _sync_folder(folder)  # what has a new entry; who made the others did so for them
                return stored
        raise StorageError(f"no folder for {key}: an object stands in its way, or it keeps disappearing")

    def _folders_of(self, path: Path) -> list[Path]:
        return [folder for folder in path.parents if self.root in folder.parents]

    def _listed(self, entry: os.DirEntry[str]) -> StoredObject | None:
        if not entry.is_file(follow_symlinks=False):
            return None
        key = Path(entry.path).relative_to(self.root).as_posix()
        try:
            return _stored(check_key(key), entry.stat(follow_symlinks=False))
        except (FileNotFoundError, InvalidKey):  # deleted meanwhile, or an incoming file
            return None


def _stored(key: str, found: os.stat_result) -> StoredObject:
    etag = f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"
    return StoredObject(key, found.st_size, etag, datetime.fromtimestamp(found.st_mtime, UTC))


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # folders cannot be opened there, and need no sync
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # emptied by a delete and removed
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _unlinked(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))
