"""A file as a decoder is to see it: some ranges of it, one after the other, and then bytes that it does not have."""

import io
from collections.abc import Sequence
from pathlib import Path


class Excerpt(io.RawIOBase):
    """Reads ranges of a file as if they were a file of their own.

    Args:
        path: The file.
        ranges: Where each range begins and ends, in bytes; all lie within the file.
        tail: What follows the last of them.
    """

    def __init__(self, path: Path, ranges: Sequence[tuple[int, int]], tail: bytes = b"") -> None:
        self._file = path.open("rb")
        self._ranges = ranges
        self._tail = tail
        self._at = 0
        self._size = sum(end - start for start, end in ranges) + len(tail)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As `io.IOBase.seek`."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(origin + offset, 0)
        return self._at

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        """As `io.RawIOBase.readinto`: at most to the end of the range that it stands in."""
        piece = self._piece(len(buffer))
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> None:
        """Closes the file, too."""
        self._file.close()
        super().close()

    def _piece(self, most: int) -> bytes:
        at = self._at
        for start, end in self._ranges:
            if at < end - start:
                self._file.seek(start + at)
                return self._file.read(min(most, end - start - at))
            at -= end - start
        return self._tail[at : at + most]
