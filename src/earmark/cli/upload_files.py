"""The files of a folder: which of them are images, and why the others are left out."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from earmark.cli.upload_report import FileReport, Outcome, well_formed
from earmark.client import File

IMAGE_TYPES = {
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".gif": "image/gif",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".ico": "image/x-icon",
    ".jpe": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".jxl": "image/jxl",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".webp": "image/webp",
}
"""Content types by lower-case ending; a table of our own, since `mimetypes` differs from machine to machine."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """One image found on disk; `name` is its path relative to the folder, `size` is in bytes."""

    path: Path
    name: str
    content_type: str
    size: int

    def declared(self) -> File:
        """The file as it is reserved."""
        return File(well_formed(self.path.name), self.content_type, self.size)


def find_files(folder: Path) -> tuple[list[LocalFile], list[FileReport]]:
    """All regular files below a folder, sorted by path: the images, and a report on each file that is left out.

    Links to files are followed, links to folders are not. What cannot be read is reported as a fault.
    """
    images: list[LocalFile] = []
    left_out: list[FileReport] = []

    def unreadable(path: str, error: OSError) -> None:
        reason = f"cannot be read: {said(error)}"
        left_out.append(FileReport(os.path.relpath(path, folder), 0, Outcome.LEFT_OUT, reason, fault=True))

    for parent, _, names in os.walk(folder, onerror=lambda error: unreadable(error.filename, error)):
        for path in (Path(parent, name) for name in names):
            name = str(path.relative_to(folder))
            content_type = IMAGE_TYPES.get(path.suffix.lower())
            try:
                status = path.stat()
            except OSError as error:
                unreadable(str(path), error)
                continue
            if not stat.S_ISREG(status.st_mode):
                continue
            if content_type is None:
                left_out.append(FileReport(name, status.st_size, Outcome.LEFT_OUT, "not an image"))
            else:
                images.append(LocalFile(path, name, content_type, status.st_size))
    return sorted(images, key=lambda image: image.name), left_out


def said(error: OSError) -> str:
    """What the operating system said."""
    return (error.strerror or str(error)).lower()
