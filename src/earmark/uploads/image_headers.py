"""What a file's bytes say before any pixel is decoded: format, size, frames, and what decoding it will cost."""

# ruff: noqa: PLR2004 - markers and offsets, as the formats' specifications write them

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from mmap import mmap

Bytes = bytes | mmap

NAMES = {
    "jpeg": "a JPEG image",
    "png": "a PNG image",
    "webp": "a WebP image",
    "gif": "a GIF image",
    "avif": "an AVIF image",
    "heic": "a HEIC image",
    "tiff": "a TIFF image",
    "bmp": "a BMP image",
    "ico": "an ICO icon",
    "jp2": "a JPEG 2000 image",
    "jxl": "a JPEG XL image",
    "psd": "a Photoshop document",
    "pdf": "a PDF document",
    "svg": "an SVG drawing",
    "html": "a web page",
    "zip": "a ZIP archive",
    "video": "a video",
}
"""Every format that `read_header` tells apart, as a user calls it."""

# One scan is decoded at an eighth of its size, in next to no memory; several need every coefficient at once.
_ONE_SCAN = 0.2
_REDUCED_PICTURE = 0.6  # what is made of all coefficients, at a fraction of its size
# Measured peaks of a whole decode in Pillow 13, as bytes per pixel of the canvas, rounded up: RGB takes 4 in memory;
# WebP holds two canvases, a copy and the picture; AVIF its planes, RGB, a copy and the picture.
_BYTES_PER_PIXEL = {"png": 4.2, "gif": 5.0, "webp": 17.0, "avif": 14.0, "heic": 14.0}
_ANIMATED_GIF_BYTES_PER_PIXEL = 17.0
_OTHER_BYTES_PER_PIXEL = 10.0


@dataclass(frozen=True, slots=True)
class Header:
    """What the bytes at hand say of a file.

    Attributes:
        format: A key of `NAMES`.
        width: Stored width in pixels, before any EXIF orientation; None where the bytes at hand do not reach it.
        height: Stored height, likewise.
        frames: Frames found so far; a file cut short shows fewer than it has.
        bytes_per_pixel: Peak memory of a decoder for each pixel of the canvas.
        ends: Whether the end of the picture was seen; True also where that cannot be told from the outside.
    """

    format: str
    width: int | None = None
    height: int | None = None
    frames: int = 1
    bytes_per_pixel: float = _OTHER_BYTES_PER_PIXEL
    ends: bool = True

    @property
    def decoder_bytes(self) -> int:
        """Peak memory of a decoder, as far as the canvas is known."""
        return int((self.width or 0) * (self.height or 0) * self.bytes_per_pixel)


def read_header(data: Bytes) -> Header | None:
    """The header of a file or of its beginning; None where the bytes are no format that we know."""
    kind = _sniff(data)
    if kind is None:
        return None
    reader = {"jpeg": _jpeg, "png": _png, "gif": _gif, "webp": _webp, "avif": _boxed, "heic": _boxed}.get(kind)
    unread = Header(kind, bytes_per_pixel=_BYTES_PER_PIXEL.get(kind, _OTHER_BYTES_PER_PIXEL))
    try:
        return replace(reader(data), format=kind) if reader else unread
    except (struct.error, IndexError):  # the bytes end before the size does
        return unread


_MAGIC = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
    (b"\x00\x00\x01\x00", "ico"),
    (b"%PDF-", "pdf"),
    (b"PK\x03\x04", "zip"),
    (b"\x1aE\xdf\xa3", "video"),
    (b"\x00\x00\x00\x0cjP  ", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),
    (b"\x00\x00\x00\x0cJXL ", "jxl"),
    (b"\xff\x0a", "jxl"),
    (b"8BPS", "psd"),
)
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"}


def _sniff(data: Bytes) -> str | None:
    start = data[:512]
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            return kind
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "webp"
    if start[4:8] == b"ftyp":
        return _sniff_boxes(start)
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<svg", b"<?xml")) and b"<svg" in text:
        return "svg"
    return "html" if text.startswith((b"<!doctype html", b"<html")) else None


def _sniff_boxes(start: bytes) -> str:
    length = int.from_bytes(start[:4], "big")
    brands = {start[8:12], *(start[at : at + 4] for at in range(16, min(length, len(start)), 4))}
    if brands & _AVIF_BRANDS:
        return "avif"
    return "heic" if brands & _HEIC_BRANDS else "video"


def _jpeg(data: Bytes) -> Header:
    """ITU-T T.81 annex B: markers up to the first scan."""
    at, found, components, coefficient_bytes = 2, Header("jpeg"), 0, 0.0
    while (at := data.find(b"\xff", at)) >= 0:  # decoders pass over anything between two segments
        while data[at] == 0xFF:  # any number of fill bytes may precede a marker
            at += 1
        marker = data[at]
        at += 1
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD7:
            continue
        (length,) = struct.unpack(">H", data[at : at + 2])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width, components = struct.unpack(">HHB", data[at + 3 : at + 8])
            coefficient_bytes = _coefficient_bytes(data[at + 8 : at + 8 + 3 * components])
            progressive = marker in (0xC2, 0xC6, 0xCA, 0xCE)
            found = Header("jpeg", width, height, bytes_per_pixel=coefficient_bytes if progressive else _ONE_SCAN)
        elif marker == 0xDA:
            # Within scans 0xFF is escaped, so this is the end. Decoders miss its absence or not, as the bits fall.
            found = replace(found, ends=data.rfind(b"\xff\xd9", at) >= 0)
            if data[at + 2] < components:
                found = replace(found, bytes_per_pixel=coefficient_bytes)
        if marker in (0xD9, 0xDA):
            break
        at += length
    return found


def _coefficient_bytes(components: bytes) -> float:
    """Two bytes for each sample of each component, per pixel of the picture."""
    sampling = [(both >> 4, both & 15) for both in components[1::3]]
    largest = max((h for h, _ in sampling), default=0) * max((v for _, v in sampling), default=0)
    return _REDUCED_PICTURE + sum(2 * h * v for h, v in sampling) / max(largest, 1)


def _png(data: Bytes) -> Header:
    """PNG, third edition, 5.3: an IHDR chunk comes first; acTL, which counts frames, before the first IDAT."""
    width, height = struct.unpack(">II", data[16:24])
    frames, at = 1, 8
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IDAT":
            break
        if kind == b"acTL":
            frames = max(frames, *struct.unpack(">I", data[at + 8 : at + 12]))
        at += 12 + length
    return Header("png", width, height, frames, _BYTES_PER_PIXEL["png"])


def _gif(data: Bytes) -> Header:
    """GIF89a: the screen grows to hold the frames, as viewers let it."""
    width, height, flags = struct.unpack("<HHB", data[6:11])
    at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    frames, ends = 0, False
    while at < len(data):
        block = data[at]
        if block == 0x2C:
            if at + 10 > len(data):
                break
            left, top, frame_width, frame_height, flags = struct.unpack("<HHHHB", data[at + 1 : at + 10])
            width, height = max(width, left + frame_width), max(height, top + frame_height)
            frames += 1
            at += 11 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
            at = _after_sub_blocks(data, at)
        elif block == 0x21:
            at = _after_sub_blocks(data, at + 2)
        elif block == 0x00:  # some writers end a block twice
            at += 1
        else:
            ends = True
            break
    cost = _BYTES_PER_PIXEL["gif"] if frames < 2 else _ANIMATED_GIF_BYTES_PER_PIXEL
    return Header("gif", width, height, max(frames, 1), cost, ends)


def _after_sub_blocks(data: Bytes, at: int) -> int:
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1


def _webp(data: Bytes) -> Header:
    """RFC 9649: the size stands in the first chunk, whichever of the three it is; each frame is one ANMF chunk."""
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", data[26:30]))
    elif kind == b"VP8L":
        (bits,) = struct.unpack("<I", data[21:25])
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        return Header("webp")
    frames, at = 0, 12
    while at + 8 <= len(data):
        name, length = struct.unpack("<4sI", data[at : at + 8])
        frames += name == b"ANMF"
        at += 8 + length + (length & 1)
    return Header("webp", width, height, max(frames, 1), _BYTES_PER_PIXEL["webp"])


def _boxed(data: Bytes) -> Header:
    """ISO/IEC 23008-12: the largest `ispe` property; a picture that is stored as tiles lists theirs too."""
    sizes = [struct.unpack(">II", data[at + 4 : at + 12]) for at in _boxes(data, (b"meta", b"iprp", b"ipco"), b"ispe")]
    width, height = max(sizes, key=lambda size: int(size[0] * size[1]), default=(None, None))
    return Header("avif", width, height, bytes_per_pixel=_BYTES_PER_PIXEL["avif"])


def _boxes(data: Bytes, folders: tuple[bytes, ...], wanted: bytes) -> Iterator[int]:
    """Where the payload of each `wanted` box starts inside the nested `folders`."""
    pending = [(0, len(data), folders)]
    while pending:
        at, end, path = pending.pop()
        while at + 8 <= end:
            length, name = struct.unpack(">I4s", data[at : at + 8])
            if length < 8:
                break
            if path and name == path[0]:
                inside = at + (12 if name == b"meta" else 8)
                pending.append((inside, min(at + length, end), path[1:]))
            elif not path and name == wanted and at + 20 <= end:
                yield at + 8
            at += length
