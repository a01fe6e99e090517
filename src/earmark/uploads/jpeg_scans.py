"""Whether the scans of a JPEG can hold all of its picture: a decoder paints what is missing grey, and says nothing.

ITU-T T.81: annex B for the markers, annex G for the scans of a progressive picture.
"""

# ruff: noqa: PLR2004 - markers and offsets, as the specification writes them

import re
import struct
from mmap import mmap

SCAN_PADDING = bytes(16)
"""To follow a scan instead of its end: more than a decoder reads ahead, less than a picture that was cut off lacks."""
_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
_HUFFMAN_SEQUENTIAL = (0xC0, 0xC1)
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_COEFFICIENTS = 64
_COMPONENTS_MAX = 4


class DamagedJpegError(ValueError):
    """A JPEG that lacks scans."""


def check_scans(data: bytes | mmap) -> int | None:
    """Where the only scan of a picture ends; None where it has several, or one that a decoder does not stop in.

    A decoder that is given the file up to there, and `SCAN_PADDING`, wants more of it where the scan was cut short.

    Raises:
        DamagedJpegError: A component, or some of its coefficients, is in no scan, or the bytes end before the first.
    """
    try:
        missing, ends, may_stop = _scans(data)
    except (struct.error, IndexError, ValueError) as error:
        raise DamagedJpegError("The scans cannot be read.") from error
    if missing:
        raise DamagedJpegError("Scans are missing.")
    return ends[0] if len(ends) == 1 and may_stop else None


def _scans(data: bytes | mmap) -> tuple[set[tuple[int, int]], list[int], bool]:
    """What is in no scan, where the scans end, and whether a decoder stops where one of them does."""
    at, frame, missing, ends = 2, 0, set[tuple[int, int]](), list[int]()
    while (found := _MARKER.match(data, at)) is not None:
        marker, at = found[0][-1], found.end()
        if marker == 0xD9 or (ends and not (marker in (0xC4, 0xDA, 0xDB, 0xDD) or marker >= 0xE0)):
            break
        if marker == 0x01:
            continue
        (length,) = struct.unpack(">H", data[at : at + 2])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = marker
            components = data[at + 8 : at + 8 + 3 * min(data[at + 7], _COMPONENTS_MAX) : 3]
            missing = {(one, index) for one in components for index in range(_COEFFICIENTS)}
        elif marker == 0xDA:
            missing -= _made_whole(data[at + 2 : at + length], frame in _PROGRESSIVE)
            end = _MARKER.search(data, at + length)
            ends.append(end.start() if end else len(data))
            length = ends[-1] - at
        at += length
    return missing, ends, frame in _HUFFMAN_SEQUENTIAL


def _made_whole(header: bytes, progressive: bool) -> set[tuple[int, int]]:
    """Component and index of each coefficient whose last bit comes in the scan with this header."""
    components = header[1 : 1 + 2 * header[0] : 2]
    first, last, bits = header[1 + 2 * header[0] :][:3] if progressive else (0, _COEFFICIENTS - 1, 0)
    return {(one, index) for one in components for index in range(first, last + 1)} if bits & 15 == 0 else set()
