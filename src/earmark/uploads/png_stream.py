"""Checks every frame of a PNG in constant memory: checksums, chunk order, and as many bytes as the header promises.

Pillow's own `load` ignores checksums and takes a compressed stream that ends early, and composing an animation costs
it five canvases. What is checked here is all that a decoder can trip over, apart from the filters of a row.
"""

import struct
import zlib
from collections.abc import Iterator
from mmap import mmap

_PIECE_BYTES = 1 << 20
_PACKED_PIECE_BYTES = 1 << 16
_IHDR_BYTES = 13
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # per pixel, by colour type
_BY_PALETTE = 3
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


class DamagedPngError(ValueError):
    """A PNG that does not hold what its header promises."""


def check_png(data: bytes | mmap) -> int:
    """Number of pictures in a PNG whose every frame is whole: its animation's frames, and a default image outside it.

    Raises:
        DamagedPngError: A checksum is wrong, a chunk is cut short or missing, or a picture has too few pixels.
    """
    chunks = _chunks(data)
    kind, body = next(chunks)
    if kind != b"IHDR" or len(body) < _IHDR_BYTES:
        raise DamagedPngError("The header is missing.")
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", body[:_IHDR_BYTES])
    size, row = (width, height), (depth * _SAMPLES.get(colour, 4), bool(interlace))
    pictures = frames = promised_frames = 0
    lacks_palette = colour == _BY_PALETTE
    stream: _Stream | None = None
    for kind, body in chunks:
        lacks_palette = lacks_palette and kind != b"PLTE"
        if kind == b"acTL" and not pictures:
            promised_frames = int.from_bytes(body[:4], "big")
        elif kind == b"fcTL" and promised_frames:
            if stream is not None:
                stream.finish()
            stream, frames = None, frames + 1
            size = _frame_size(body, width, height)
        elif kind == b"IDAT" or (kind == b"fdAT" and promised_frames):
            if stream is None:
                stream, pictures = _Stream(_promised_bytes(size, *row)), pictures + 1
            stream.feed(body if kind == b"IDAT" else body[4:])
    if stream is None or lacks_palette:
        raise DamagedPngError("The picture, or its palette, is missing.")
    stream.finish()
    if frames != promised_frames:
        raise DamagedPngError("Frames are missing.")
    return pictures


def _frame_size(body: bytes, width: int, height: int) -> tuple[int, int]:
    frame_width, frame_height, left, top = (int.from_bytes(body[at : at + 4], "big") for at in (4, 8, 12, 16))
    if left + frame_width > width or top + frame_height > height:
        raise DamagedPngError("A frame lies outside the picture.")
    return frame_width, frame_height


def _chunks(data: bytes | mmap) -> Iterator[tuple[bytes, bytes]]:
    """Type and body of each chunk up to IEND; what follows it is nobody's business."""
    at = 8
    kind = b""
    while kind != b"IEND":
        if at + 12 > len(data):
            raise DamagedPngError("The end is missing.")
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        end = at + 8 + length
        if end + 4 > len(data):
            raise DamagedPngError("A chunk is cut short.")
        body = data[at + 8 : end]
        if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(data[end : end + 4], "big"):
            raise DamagedPngError("A checksum is wrong.")
        yield kind, body
        at = end + 4


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
