"""Uploads in parts in the local store: a folder for each, whose files are joined into the object."""

import re
import shutil
import uuid
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from earmark.uploads.storage.contract import AlreadyUploaded, ObjectMissing
from earmark.uploads.storage.disk import BATCH_BYTES, Folder, NewFile

_PARTS = ".parts"  # no key begins with a dot, so no key reaches into it
_UPLOAD_ID = re.compile("[0-9a-f]{32}")


class Parts:
    """The parts of uploads that are under way; every method blocks and raises OSError or StorageError."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._root = folder.root / _PARTS

    def begin(self) -> str:
        """Make room for an upload; its id."""
        upload_id = uuid.uuid4().hex
        (self._root / upload_id).mkdir(parents=True)
        return upload_id

    def check(self, upload_id: str) -> None:
        """Return when parts of this upload are taken.

        Raises:
            ObjectMissing: It was joined or aborted.
        """
        if not self._of(upload_id).is_dir():
            raise ObjectMissing("this upload is over")

    def place(self, new: NewFile, upload_id: str, number: int) -> None:
        """Make the written file a part, whatever was there, unless the upload is over by now.

        Raises:
            ObjectMissing: It is.
        """
        new.close(durable=True)
        try:
            new.path.replace(self._of(upload_id) / f"{number:05}")
        except FileNotFoundError:
            raise ObjectMissing("this upload is over") from None

    def join(self, upload_id: str, key: str, size: int) -> None:
        """Make the parts the object in the order of their numbers, when together they have this size."""
        with suppress(FileNotFoundError, ObjectMissing):  # joined or aborted, also by somebody else in this moment
            parts = sorted(self._of(upload_id).iterdir())
            if not parts or sum(part.stat().st_size for part in parts) != size:
                return
            new = self._folder.incoming()
            try:
                self._folder.begin(new)
                for part in parts:
                    with part.open("rb") as file:
                        while batch := file.read(BATCH_BYTES):
                            new.write(batch)
                with suppress(AlreadyUploaded):
                    self._folder.publish(new, key)
            finally:
                new.discard()
            self.abort(upload_id)

    def abort(self, upload_id: str) -> None:
        """Throw the parts away, those that are being written included."""
        with suppress(ObjectMissing):  # another store's, from before they were exchanged
            shutil.rmtree(self._of(upload_id), ignore_errors=True)

    def remove_abandoned(self, before: datetime) -> int:
        """Throw away uploads no part of which has come since `before`; return how many there were."""
        removed = 0
        with suppress(FileNotFoundError):
            for path in self._root.iterdir():
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < before.timestamp():
                        shutil.rmtree(path, ignore_errors=True)
                        removed += 1
        return removed

    def _of(self, upload_id: str) -> Path:
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise ObjectMissing("there is no such upload")
        return self._root / upload_id
