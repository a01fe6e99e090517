"""What of a JPEG a decoder is to see, and whether its scans can hold all of the picture.

A decoder paints what is missing grey and says nothing; Pillow refuses all of a file for a description cut short.
ITU-T T.81: annex B for the markers, annex G for the scans of a progressive picture.
"""

# ruff: noqa: PLR2004 - markers and offsets, as the specification writes them

import struct
from dataclasses import dataclass, field
from mmap import mmap

_PADDING = bytes(16)  # more than a decoder reads ahead, less than a picture that was cut off lacks
_HUFFMAN_SEQUENTIAL = (0xC0, 0xC1)
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_COEFFICIENTS = 64
_COMPONENTS_MAX = 4
_SEGMENTS_MAX = 2000
"""Of one picture, scans among them: a decoder goes over all of the picture for each of these."""
_LENGTHS = {0xE0: 16, 0xE2: 17, 0xEE: 14}
"""Least length of a segment that a reader makes something of: JFIF, a piece of a colour profile, and Adobe's."""
_PHOTOSHOP = 0xED


class DamagedJpegError(ValueError):
    """A JPEG that lacks scans, or cannot be read."""


@dataclass(slots=True)
class _Found:
    frame: int = 0
    has_restarts: bool = False
    missing: set[tuple[int, int]] = field(default_factory=set)  # component and index of coefficients, in no scan yet
    ends: list[int] = field(default_factory=list)  # of scans
    ranges: list[tuple[int, int]] = field(default_factory=list)
    kept_from: int = 0

    def leave_out(self, start: int, end: int) -> None:
        if start > self.kept_from:
            self.ranges.append((self.kept_from, start))
        self.kept_from = end


def shown_ranges(data: bytes | mmap) -> tuple[list[tuple[int, int]], bytes]:
    """Where in the file of a JPEG the pieces are that show its picture, and what is to follow them.

    An only scan is followed by some bytes instead of an end: where it was cut short, a decoder wants more of them.

    Raises:
        DamagedJpegError: A component, or some of its coefficients, is in no scan, or the bytes end before the first.
    """
    try:
        found = _walk(data)
    except (struct.error, IndexError) as error:
        raise DamagedJpegError("The scans cannot be read.") from error
    if found.missing or not found.ends:
        raise DamagedJpegError("Scans are missing.")
    if len(found.ends) > 1 or found.frame not in _HUFFMAN_SEQUENTIAL:
        return [*found.ranges, (found.kept_from, len(data))], b""
    return [*found.ranges, (found.kept_from, found.ends[0])], _PADDING


def _walk(data: bytes | mmap) -> _Found:
    found, at = _Found(), 2
    for _ in range(_SEGMENTS_MAX):
        start = _next_marker(data, at)
        if start is None:
            return found
        marker, at = data[start + 1], start + 2
        if marker == 0xD9 or (found.ends and not (marker in (0xC4, 0xDA, 0xDB, 0xDD) or marker >= 0xE0)):
            return found
        if marker == 0x01:
            continue
        (length,) = struct.unpack(">H", data[at : at + 2])
        if marker == _PHOTOSHOP or length < _LENGTHS.get(marker, 0):
            found.leave_out(start, at + length)
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            components = data[at + 8 : at + 8 + 3 * min(data[at + 7], _COMPONENTS_MAX) : 3]
            found.frame = marker
            found.missing = {(one, index) for one in components for index in range(_COEFFICIENTS)}
        elif marker == 0xDD:
            found.has_restarts = data[at + 2 : at + 4] != b"\0\0"
        elif marker == 0xDA:
            found.missing -= _made_whole(data[at + 2 : at + length], found.frame in _PROGRESSIVE)
            found.ends.append(_scan_end(data, at + length, found.has_restarts))
            length = found.ends[-1] - at
        at += length
    raise DamagedJpegError("It is in too many pieces.")


def _scan_end(data: bytes | mmap, at: int, has_restarts: bool) -> int:
    """Where a decoder stops: at any marker but the next restart, as one that is out of turn tells of a gap."""
    restart = 0xD0
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 1:
        marker = data[at + 1]
        if marker == restart and has_restarts:
            restart = 0xD0 + (restart + 1) % 8
        elif marker not in (0x00, 0xFF):
            return at
        at += 1 if marker == 0xFF else 2
    return len(data)


def _next_marker(data: bytes | mmap, at: int) -> int | None:
    """Where the next marker stands that is none of those within scans, and no stuffing or filling."""
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 1:
        marker = data[at + 1]
        if marker not in (0x00, 0xFF) and not 0xD0 <= marker <= 0xD7:
            return at
        at += 1 if marker == 0xFF else 2
    return None


def _made_whole(header: bytes, progressive: bool) -> set[tuple[int, int]]:
    """Component and index of each coefficient whose last bit comes in the scan with this header."""
    components = header[1 : 1 + 2 * min(header[0], _COMPONENTS_MAX) : 2]
    spectrum = header[1 + 2 * header[0] :]
    first, last, bits = struct.unpack("3B", spectrum[:3]) if progressive else (0, _COEFFICIENTS - 1, 0)
    return {(one, index) for one in components for index in range(first, last + 1)} if bits & 15 == 0 else set()
