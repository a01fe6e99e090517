"""Checks every frame of a PNG in constant memory: checksums, chunk order, and as many bytes as the header promises.

Pillow's own `load` ignores checksums and takes a compressed stream that ends early, and composing an animation costs
it five canvases. What is checked here is all that a decoder can trip over, apart from the filters of a row. What is
not needed to show the picture is not looked at, and kept from Pillow, which refuses all of a file for a broken comment.
"""

import struct
import zlib
from collections.abc import Iterator
from mmap import mmap

_PIECE_BYTES = 1 << 20
_PACKED_PIECE_BYTES = 1 << 16
_HEADER_AT = 8
_IHDR_BYTES = 13
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # per pixel, by colour type
_BY_PALETTE = 3
_PALETTE_BYTES = range(3, 3 * 256 + 1, 3)
_ANCILLARY = 0x20  # set in the first letter of a chunk that a decoder may pass over
_SHOWN_BY = frozenset({b"IHDR", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"IDAT", b"IEND"})
_TOLD_BY = frozenset({b"iCCP", b"eXIf"})  # colours and orientation, where these chunks are sound
_PROFILE_BYTES_MAX = 1_000_000  # unpacked; a little less than Pillow takes
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


class DamagedPngError(ValueError):
    """A PNG that does not hold what its header promises."""


def check_png(data: bytes | mmap) -> int:
    """Number of pictures in a PNG whose every frame is whole: its animation's frames, and a default image outside it.

    Raises:
        DamagedPngError: A checksum is wrong, a chunk is cut short or missing, or a picture has too few pixels.
    """
    chunks = _shown_chunks(data)
    pictures = _Pictures(next(chunks)[1])
    for kind, body in chunks:
        if kind == b"PLTE":
            pictures.begin_palette(body)
        elif kind == b"acTL":
            pictures.promise(body)
        elif kind == b"fcTL":
            pictures.begin_frame(body)
        elif kind in (b"IDAT", b"fdAT"):
            pictures.feed(kind, body)
    return pictures.finish()


class _Pictures:
    """The pictures of one PNG, told chunk by chunk."""

    def __init__(self, header: bytes) -> None:
        width, height, depth, self._colour, self._interlaced = _header(header)
        self._canvas = self._size = width, height
        self._bits_per_pixel = depth * _SAMPLES.get(self._colour, 4)
        self._has_palette = False
        self._pictures = self._frames = self._promised_frames = 0
        self._stream: _Stream | None = None

    def begin_palette(self, body: bytes) -> None:
        if self._has_palette or len(body) not in _PALETTE_BYTES:
            raise DamagedPngError("The palette holds what no PNG does, or there are two.")
        self._has_palette = True

    def promise(self, body: bytes) -> None:
        if not self._pictures:
            self._promised_frames = int.from_bytes(body[:4], "big")

    def begin_frame(self, body: bytes) -> None:
        if not self._promised_frames:
            return
        if self._pictures or self._frames:
            self._finish_picture()
        self._frames += 1
        self._size = _frame_size(body, *self._canvas)

    def feed(self, kind: bytes, body: bytes) -> None:
        if kind == b"fdAT" and not self._promised_frames:
            return
        if self._colour == _BY_PALETTE and not self._has_palette:
            raise DamagedPngError("The palette is missing.")
        if self._stream is None:
            self._pictures += 1
            self._stream = _Stream(_promised_bytes(self._size, self._bits_per_pixel, self._interlaced))
        if (kind == b"IDAT") != (self._pictures == 1) or (kind == b"IDAT" and self._size != self._canvas):
            raise DamagedPngError("The first picture does not come first, or is not the whole canvas.")
        self._stream.feed(body if kind == b"IDAT" else body[4:])

    def finish(self) -> int:
        self._finish_picture()
        if self._frames != self._promised_frames:
            raise DamagedPngError("Frames are missing.")
        return self._pictures

    def _finish_picture(self) -> None:
        if self._stream is None:
            raise DamagedPngError("A picture is missing.")
        self._stream.finish()
        self._stream = None


def _header(body: bytes) -> tuple[int, int, int, int, bool]:
    if len(body) != _IHDR_BYTES:
        raise DamagedPngError("The header is cut short.")
    width, height, depth, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", body)
    if compression or filtering or interlace > 1:
        raise DamagedPngError("The header holds what no PNG does.")
    return width, height, depth, colour, interlace == 1


def shown_ranges(data: bytes | mmap) -> tuple[list[tuple[int, int]], bytes]:
    """Where in the file of a sound PNG the pieces are that show its first picture, and what is to follow them: nothing.

    Raises:
        DamagedPngError: A chunk is cut short.
    """
    ranges, kinds = [(0, _HEADER_AT)], set[bytes]()
    for kind, start, end in _chunks(data):
        follows = ranges[-1][1] == start
        if kind in kinds and not (kind == b"IDAT" and follows):
            continue
        if (kind in _SHOWN_BY and kind != b"fdAT") or (kind in _TOLD_BY and _is_usable(kind, data[start:end])):
            kinds.add(kind)
            ranges.append((ranges.pop()[0] if follows else start, end))
    return ranges, b""


def _is_usable(kind: bytes, chunk: bytes) -> bool:
    if not _is_whole(chunk):
        return False
    if kind != b"iCCP":
        return True
    _, named, packed = chunk[8:-4].partition(b"\0")
    if not (named and packed.startswith(b"\0")):
        return False
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(packed[1:], _PROFILE_BYTES_MAX)
    except zlib.error:
        return False
    return unpacking.eof


def _frame_size(body: bytes, width: int, height: int) -> tuple[int, int]:
    frame_width, frame_height, left, top = (int.from_bytes(body[at : at + 4], "big") for at in (4, 8, 12, 16))
    if not frame_width or not frame_height or left + frame_width > width or top + frame_height > height:
        raise DamagedPngError("A frame is empty, or lies outside the picture.")
    return frame_width, frame_height


def _shown_chunks(data: bytes | mmap) -> Iterator[tuple[bytes, bytes]]:
    """Type and body of each chunk that has a part in showing the picture."""
    for kind, start, end in _chunks(data):
        if kind not in _SHOWN_BY:
            if not kind[0] & _ANCILLARY:
                raise DamagedPngError("A chunk is there that nobody knows and that the picture needs.")
            continue
        chunk = data[start:end]
        if not _is_whole(chunk):
            raise DamagedPngError("A checksum is wrong.")
        if (kind == b"IHDR") != (start == _HEADER_AT):
            raise DamagedPngError("The header is missing, or there are two.")
        yield kind, chunk[8:-4]


def _is_whole(chunk: bytes) -> bool:
    return zlib.crc32(memoryview(chunk)[4:-4]) == int.from_bytes(chunk[-4:], "big")


def _chunks(data: bytes | mmap) -> Iterator[tuple[bytes, int, int]]:
    """Type, begin and end of each chunk up to IEND; what follows it is nobody's business."""
    at = _HEADER_AT
    kind = b""
    while kind != b"IEND":
        if at + 12 > len(data):
            raise DamagedPngError("The end is missing.")
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        end = at + 12 + length
        if end > len(data):
            raise DamagedPngError("A chunk is cut short.")
        yield kind, at, end
        at = end


class _Stream:
    """One picture's compressed pixels, unpacked a piece at a time and counted."""

    def __init__(self, promised_bytes: int) -> None:
        self._inflate = zlib.decompressobj()
        self._missing = promised_bytes

    def feed(self, packed: bytes) -> None:
        for at in range(0, len(packed), _PACKED_PIECE_BYTES):
            piece = packed[at : at + _PACKED_PIECE_BYTES]
            while piece and self._missing > 0 and not self._inflate.eof:
                try:
                    self._missing -= len(self._inflate.decompress(piece, _PIECE_BYTES))
                except zlib.error as error:
                    raise DamagedPngError("The compressed pixels are damaged.") from error
                piece = self._inflate.unconsumed_tail

    def finish(self) -> None:
        if self._missing > 0 and not self._inflate.eof:
            self._missing -= len(self._inflate.flush())
        if self._missing > 0:
            raise DamagedPngError("Pixels are missing.")


def _promised_bytes(size: tuple[int, int], bits_per_pixel: int, interlaced: bool) -> int:
    """Unpacked size of a picture: each row of each pass that has any pixels is one filter byte and its pixels."""
    width, height = size
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits_per_pixel // 8))
    return total
