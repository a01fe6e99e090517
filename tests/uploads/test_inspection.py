import asyncio
import base64
import errno
import io
import json
import os
import platform
import random
import resource
import struct
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from earmark.config import DEFAULT_TYPES, Settings
from earmark.uploads import inspection
from earmark.uploads.decoder_memory import limited_memory
from earmark.uploads.inspection import (
    FORMATS,
    HEAD_BYTES,
    Inspected,
    Limits,
    Rejection,
    check_declared,
    inspect,
    inspect_head,
    strict_pillow,
)
from earmark.uploads.process_pool import ImagePool
from earmark.uploads.processing import Source, inspect_and_make_thumbnail, make_thumbnail

CASES = Path(__file__).parents[2].parent / "shared/cases/files"
MANIFEST: dict[str, Any] = (
    json.loads((CASES / "manifest.json").read_text()) if CASES.is_dir() else {"files": [], "names": []}
)
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="the shared case files are not beside the project")

LIMITS = Limits(25_000_000, 50_000_000, 200_000_000, DEFAULT_TYPES)
ALL_TYPES = Limits(25_000_000, 50_000_000, 200_000_000, tuple(known.content_types[0] for known in FORMATS.values()))

# Where the manifest leaves the choice to us, this is the choice; else only the code of the rejection is ours to pick.
CODES = {
    "truncated_60pct.jpg": "damaged",
    "missing_eoi.jpg": "damaged",
    "soi_only.jpg": "damaged",
    "text_renamed.jpg": "not-an-image",
    "zero_bytes.jpg": "empty",
    "png_named.jpg": "content-mismatch",
    "script.svg": "type-not-allowed",
    "pdf_named.png": "content-mismatch",
    "png_bad_idat_crc.png": "damaged",
    "bomb_30000_1bit.png": "too-many-pixels",
    "ihdr_60000_tiny.png": "too-many-pixels",
    "gif_second_frame_cut.gif": "damaged",
    "multipage.tif": "type-not-allowed",
    "phone.heic": "type-not-allowed",
    "three_sizes.ico": "type-not-allowed",
    "plain.bmp": "type-not-allowed",
    "bmp_bogus_size.bmp": "type-not-allowed",
    "bmp_truncated.bmp": "type-not-allowed",
}
SEEN_IN_THE_HEAD = {"empty", "not-an-image", "content-mismatch", "type-not-allowed", "too-many-pixels"}


def case_name(case: dict[str, Any]) -> str:
    return str(case.get("upload_name") or case.get("id"))


def inspect_bytes(folder: Path, data: bytes, content_type: str, limits: Limits = LIMITS) -> Inspected | Rejection:
    path = folder / "upload"
    path.write_bytes(data)
    return inspect(path, content_type=content_type, filename="", limits=limits)


def code_of(verdict: Inspected | Rejection | None) -> str | None:
    return verdict.code if isinstance(verdict, Rejection) else None


@needs_cases
@pytest.mark.parametrize("case", MANIFEST["files"], ids=case_name)
def test_every_case_gets_its_verdict(case: dict[str, Any]):
    path = CASES / case["file"]
    declared = {"content_type": case["declared_type"], "filename": case["upload_name"], "limits": LIMITS}
    head = inspect_head(path.read_bytes()[:HEAD_BYTES], **declared)
    verdict = inspect(path, **declared)
    expected = CODES.get(case["upload_name"])
    assert (expected is None) >= (case["verdict"] == "accept")
    assert (expected is not None) >= (case["verdict"] == "reject")
    assert code_of(verdict) == expected
    assert code_of(head) == (expected if expected in SEEN_IN_THE_HEAD else None)
    if isinstance(verdict, Inspected):
        shown = case["after_exif"]
        assert (verdict.width, verdict.height, verdict.frames) == (shown["width"], shown["height"], shown["frames"])
        assert verdict.format == {"MPO": "jpeg"}.get(shown["format"], shown["format"].lower())
        assert verdict.content_type == f"image/{verdict.format}"
    else:
        assert verdict.reason.endswith(".")
        assert "Error" not in verdict.reason


@needs_cases
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("multipage.tif", (72, 54, 3)),
        ("phone.heic", (128, 96, 1)),
        ("three_sizes.ico", (48, 48, 1)),
        ("plain.bmp", (50, 40, 1)),
        ("bmp_bogus_size.bmp", "too-many-pixels"),
        ("bmp_truncated.bmp", "damaged"),
    ],
)
def test_what_an_operator_may_allow_besides(file: str, expected: object):
    case = next(case for case in MANIFEST["files"] if case["upload_name"] == file)
    verdict = inspect(CASES / case["file"], content_type=case["declared_type"], filename=file, limits=ALL_TYPES)
    found = (verdict.width, verdict.height, verdict.frames) if isinstance(verdict, Inspected) else verdict.code
    assert found == expected


def test_a_rejection_says_what_contradicts_what(tmp_path: Path):
    png = encoded(Image.new("RGB", (4, 3)), "PNG")
    verdict = inspect_bytes(tmp_path, png, "image/jpeg")
    assert verdict == Rejection("content-mismatch", "The file is a PNG image but was sent as image/jpeg.")
    refused = inspect_head(png, content_type="image/png", filename="page.html", limits=LIMITS)
    assert refused == Rejection("content-mismatch", "The file's name ends in .html but it was sent as image/png.")
    refused = check_declared("a.tif", "image/tiff", 9, LIMITS)
    assert refused is not None
    assert refused.reason == "Files of type image/tiff are not accepted, only JPEG, PNG, WebP, GIF, AVIF."


def test_limits_come_from_the_settings():
    limits = Limits.from_settings(Settings(max_file_bytes=7, allowed_types=("image/png",)))
    assert (limits.max_file_bytes, limits.max_frame_pixels, limits.max_total_pixels) == (7, 50_000_000, 200_000_000)
    assert limits.allowed_types == ("image/png",)


def test_the_real_size_counts(tmp_path: Path):
    data = encoded(Image.new("RGB", (4, 3)), "PNG")
    assert (
        code_of(inspect_bytes(tmp_path, data, "image/png", Limits(len(data) - 1, 99, 99, DEFAULT_TYPES))) == "too-large"
    )
    assert isinstance(inspect_bytes(tmp_path, data, "image/png", Limits(len(data), 12, 12, DEFAULT_TYPES)), Inspected)
    assert code_of(inspect_bytes(tmp_path, data, "image/png", Limits(999, 11, 12, DEFAULT_TYPES))) == "too-many-pixels"


# --- files made here ---


def encoded(image: Image.Image, name: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def noise(width: int, height: int, seed: int = 1) -> Image.Image:
    return Image.frombytes("RGB", (width, height), random.Random(seed).randbytes(width * height * 3))


def png_chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int,
    height: int,
    *chunks: bytes,
    depth: int = 8,
    colour: int = 0,
    compression: int = 0,
    filtering: int = 0,
    interlace: int = 0,
) -> bytes:
    about = struct.pack(">IIBBBBB", width, height, depth, colour, compression, filtering, interlace)
    header = png_chunk(b"IHDR", about)
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + png_chunk(b"IEND")


def idat(size: int) -> bytes:
    return png_chunk(b"IDAT", zlib.compress(bytes(size)))


def fctl(number: int, width: int, height: int, left: int = 0, top: int = 0) -> bytes:
    return png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, left, top, 1, 10, 0, 0))


def actl(frames: int) -> bytes:
    return png_chunk(b"acTL", struct.pack(">II", frames, 0))


def fdat(number: int, size: int) -> bytes:
    return png_chunk(b"fdAT", struct.pack(">I", number) + zlib.compress(bytes(size)))


def gif(width: int, height: int, frames: int, *, end: bytes = b";") -> bytes:
    one = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + one * frames + end


def webp_header(width: int, height: int, frames: int) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = (
        b"WEBPVP8X"
        + struct.pack("<I", 10)
        + b"\x02\0\0\0"
        + sides
        + (b"ANMF" + struct.pack("<I", 16) + bytes(16)) * frames
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg() -> bytes:
    return encoded(noise(64, 48), "JPEG")


def restarted(*, cut: bytes = b"", put: bytes = b"") -> bytes:
    """A JPEG in restart intervals; what stands between the fourth and the fifth marker is cut out, or replaced."""
    data = encoded(noise(160, 160), "JPEG", restart_marker_rows=1)
    third, fourth = data.index(b"\xff\xd3"), data.index(b"\xff\xd4")
    return data[:third] + put + data[{b"": third, b"marker": third + 2, b"interval": fourth}[cut] :]


def mpo(*, between: bytes = b"", cut: bool = False) -> bytes:
    """A camera's two pictures, as a program leaves them that knows of one and copies the index of both."""
    data = encoded(noise(64, 48), "MPO", save_all=True, append_images=[noise(64, 48, 2)])
    second = data.index(b"\xff\xd8\xff", 2)
    return data[:second] + between + (b"" if cut else data[second:])


BOMBS: dict[str, tuple[str, bytes, str]] = {
    "apng of a thousand frames": (
        "image/png",
        png(6000, 6000, actl(1000), fctl(0, 6000, 6000), idat(9)),
        "too-many-pixels",
    ),
    "apng of a million frames": ("image/png", png(1, 1, actl(10**6), fctl(0, 1, 1), idat(2)), "too-many-frames"),
    "apng with more frames than it says": (
        "image/png",
        png(4, 4, actl(1), fctl(0, 4, 4), idat(20), fctl(1, 4, 4), fdat(2, 20)),
        "damaged",
    ),
    "apng frame outside": ("image/png", png(4, 4, actl(1), fctl(0, 9, 9), idat(90)), "damaged"),
    "gif of many large frames": ("image/gif", gif(6000, 6000, 6), "too-many-pixels"),
    "animated gif's memory": ("image/gif", gif(4300, 4300, 2), "too-many-pixels"),
    "gif frame beyond the screen": (
        "image/gif",
        gif(1, 1, 1, end=b"," + struct.pack("<HHHHB", 0, 0, 60000, 60000, 0) + b"\x02\x02\x44\x01\x00;"),
        "too-many-pixels",
    ),
    "gif of countless tiny frames": ("image/gif", gif(1, 1, 20_000), "too-many-frames"),
    "webp of a large canvas": ("image/webp", webp_header(16_000, 16_000, 1), "too-many-pixels"),
    "webp of many frames": ("image/webp", webp_header(3000, 3000, 40), "too-many-pixels"),
    "webp decoder's memory": ("image/webp", webp_header(5000, 5000, 1), "too-many-pixels"),
    "jpeg of countless scans": (
        "image/jpeg",
        jpeg()[:-2] + (b"\xff\xda\0\x08\1\1\0\0\x3f\0") * 3000 + b"\xff\xd9",
        "damaged",
    ),
    "jpeg of 65500 squared": (
        "image/jpeg",
        jpeg().replace(struct.pack(">HH", 48, 64), struct.pack(">HH", 65500, 65500), 1),
        "too-many-pixels",
    ),
}


def described(*chunks: bytes) -> bytes:
    """A PNG of two colours with these chunks before its pixels."""
    return png(3, 2, *chunks, idat(8))


def packed_text(text: bytes) -> bytes:
    return png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(text))


ODDLY_DESCRIBED = {
    "colour profile of 64 MiB": described(png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(1 << 26)))),
    "honest colour profile of 2 MB": described(
        png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(random.Random(1).randbytes(2_000_000)))
    ),
    "colour profile cut short": described(png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(500))[:-6])),
    "colour profile packed in another way": described(png_chunk(b"iCCP", b"icc\0\7" + bytes(30))),
    "empty colour profile": described(png_chunk(b"iCCP")),
    "comment of 64 MiB": described(packed_text(b"a" * (1 << 26))),
    "hundred comments of 1 MB": described(*[packed_text(b"a" * 1_000_000)] * 100),
    "honest comment of 2 MB": described(packed_text(random.Random(2).randbytes(2_000_000))),
    "international text of 64 MiB": described(
        png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"a" * (1 << 26)))
    ),
    "comment packed in another way": described(png_chunk(b"zTXt", b"Comment\0\7" + bytes(30))),
    "comment with a wrong checksum": described(png_chunk(b"tEXt", b"a\0b")[:-1] + b"?"),
    "orientation with a wrong checksum": described(png_chunk(b"eXIf", b"MM\0*" + bytes(20))[:-1] + b"?"),
    "short gamma": described(png_chunk(b"gAMA", b"1")),
    "short primaries": described(png_chunk(b"cHRM", bytes(3))),
    "short resolution": described(png_chunk(b"pHYs", bytes(3))),
    "no rendering intent": described(png_chunk(b"sRGB")),
}


@pytest.mark.parametrize("name", ODDLY_DESCRIBED)
def test_what_a_png_says_besides_its_picture_costs_nobody_the_upload(name: str, tmp_path: Path):
    path = tmp_path / "picture"
    path.write_bytes(ODDLY_DESCRIBED[name])
    found = inspect_and_make_thumbnail(Source(path, "image/png", "", "image-1", "subject-1", 1), LIMITS)
    assert not isinstance(found, Rejection)
    assert found[0] == Inspected("png", "image/png", 3, 2, 1)
    assert make_thumbnail(Source(path, "image/png", "", "image-1", "subject-1", 2)) == found[1]


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused(name: str, tmp_path: Path):
    content_type, data, code = BOMBS[name]
    verdict = inspect_bytes(tmp_path, data, content_type)
    assert code_of(verdict) == code


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is Linux's")
def test_no_bomb_takes_memory(tmp_path: Path):
    async def main() -> int:
        pool = ImagePool(1, 60)
        try:
            before = (await pool.run(resource.getrusage, resource.RUSAGE_SELF)).ru_maxrss
            files = [(content_type, data) for content_type, data, _ in BOMBS.values()]
            files += [("image/png", data) for data in ODDLY_DESCRIBED.values()]
            for number, (content_type, data) in enumerate(files):
                path = tmp_path / str(number)
                path.write_bytes(data)
                verdict = await pool.run(inspect, path, content_type=content_type, filename="", limits=LIMITS)
                assert isinstance(verdict, Rejection) == (number < len(BOMBS))
            return int((await pool.run(resource.getrusage, resource.RUSAGE_SELF)).ru_maxrss) - before
        finally:
            pool.close()

    assert asyncio.run(main()) < 20_000  # kilobytes


# 16,000 by 12,000 pixels of one colour, encoded by Pillow, with an `ispe` that says 10 by 10; packed by zlib.
LYING_AVIF = (
    "eNpjYGBQSCupLEgsy0xjAAIQnZuZZpibmZjm62joBBR6nZtaksgAAYoZKTlFUDZDQWZyCQMa4CvILMkFsxiBWC4zJz8ZxHEB8Rkh"
    "oozCDAzcsUC2RmZmXhpcrRSQk8oE5SWWGRg65+fkg+3KyiwoKgDS3pkFyflAWiSzuCAVah8XFAsUZFZkggSYOTg4gBRPYpmhc6M8"
    "D0hIODk/pygvOacCaDIvA1sDUEg8syAX5iegw1gYmZpZgK5KzU1JLBFi4OKW/15Xv7t2EZMUL4fRaTEBpeTDh40aWQT8FYCaw8+f"
    "C1yreTeraKb4x/Lp7yqDFkUpMOlEl799Gj77FyeL+1Ifjgs73zDNTqkyOtN0SiRykv9GFuvJldMPKEUEfEu7K6X37N+krNeP+CrE"
    "BKL6bE+kOE6UKby8ym7Chsjz5yLKmT5vve38RGo/W8zjfzkirVXKqU9kErfO2Xv84cYcITWfDpHb4SeqxB6/m9H7Lnfxt5xFPAtb"
    "PPoSn/yoeDhrVhbLs9DlqsKbtqxqr69+1mPqeODu3TPcDn4CC2hodARZRi9tFOrc8tro9Vd2teo5onnsCV4vHZS3JO47vWenzZNX"
    "6ou0nAIeDM3wGA3q0aAeDerRoB4N6tGgHg3qoR3UwdR39D2NoWMo1cP1KQsAH0sRUA=="
)


HUNGRY: dict[str, tuple[str, Callable[[], bytes]]] = {
    "avif larger than it says": ("image/avif", lambda: zlib.decompress(base64.b64decode(LYING_AVIF))),
    "png of one endless line": ("image/png", lambda: png(50_000_000, 1, idat(200_000_001), colour=6)),
    "png of endless lines": ("image/png", lambda: png(1, 50_000_000, idat(100_000_000))),
    "jpeg of countless segments": (
        "image/jpeg",
        lambda: jpeg().replace(b"\xff\xdb", b"\xff\xfe\0\2" * 4_000_000 + b"\xff\xdb", 1),
    ),
}


@pytest.mark.skipif(sys.platform != "linux", reason="no other system can bound a process's memory")
@pytest.mark.parametrize("name", HUNGRY)
def test_what_a_header_does_not_show_takes_no_memory_either(name: str, tmp_path: Path):
    content_type, make = HUNGRY[name]
    path = tmp_path / "hungry"
    path.write_bytes(make())

    async def main() -> tuple[object, object, int]:
        pool = ImagePool(1, 60)
        try:
            verdict = await pool.run(inspect, path, content_type=content_type, filename="", limits=LIMITS)
            path.write_bytes(jpeg())
            next_one = await pool.run(inspect, path, content_type="image/jpeg", filename="", limits=LIMITS)
            return verdict, next_one, (await pool.run(resource.getrusage, resource.RUSAGE_SELF)).ru_maxrss
        finally:
            pool.close()

    verdict, next_one, kilobytes = asyncio.run(main())
    assert code_of(verdict) in {"too-costly", "damaged"}
    assert isinstance(next_one, Inspected)
    assert kilobytes * 1024 < LIMITS.decoder_memory_bytes


def limits_and_what_fits() -> tuple[tuple[int, int], tuple[int, int], list[int]]:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    fitted = []
    with limited_memory(50_000_000, expected_bytes=50_000_000):
        for size in (20_000_000, 80_000_000):
            with suppress(MemoryError):
                fitted.append(len(bytes(size)))
    return before, resource.getrlimit(resource.RLIMIT_DATA), fitted


@pytest.mark.skipif(sys.platform != "linux", reason="no other system can bound a process's memory")
@pytest.mark.parametrize("own", [None, 1 << 40])
def test_a_decoder_gets_what_it_may_have_and_its_process_keeps_its_own_limit(own: int | None):
    async def main() -> tuple[tuple[int, int], tuple[int, int], list[int]]:
        pool = ImagePool(1, 60, memory_bytes=own)
        try:
            return await pool.run(limits_and_what_fits)
        finally:
            pool.close()

    before, after, fitted = asyncio.run(main())
    assert after == before
    assert fitted == [20_000_000]


def what_is_asked_for_anew(path: Path, content_type: str) -> tuple[list[int], object]:
    """Pages that the system gave for each of some looks at the same picture, and what the last one said."""
    pages = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        found = inspect(path, content_type=content_type, filename=path.name, limits=LIMITS)
        pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return pages, found


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no other C library can be told to keep memory")
def test_a_decoder_uses_its_memory_again(tmp_path: Path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (2000, 1500), (1, 2, 3)).save(path)

    async def main() -> tuple[list[int], object]:
        pool = ImagePool(1, 60)
        try:
            return await pool.run(what_is_asked_for_anew, path, "image/png")
        finally:
            pool.close()

    pages, found = asyncio.run(main())
    assert found == Inspected("png", "image/png", 2000, 1500, 1)
    assert pages[0] > 2000 * 1500 * 4 / resource.getpagesize() / 2
    assert max(pages[1:]) < pages[0] / 10


PINS: list[bytes] = []


def leave_free(kept: int) -> None:
    """Leaves that much free in the heap, but for an end that pins it."""
    blocks = [bytes(1_000_000) for _ in range(kept // 1_000_000)]
    PINS.append(bytes(100_000))
    del blocks


def what_fits_beside_what_is_free(further: int, size: int) -> bool:
    try:
        with limited_memory(further, expected_bytes=size):
            return len(bytes(size)) > 0
    except MemoryError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="no other system can bound a process's memory")
@pytest.mark.parametrize("kept", [0, 40_000_000, 120_000_000])
def test_what_a_picture_is_expected_to_take_it_gets_whatever_was_before(kept: int):
    async def main() -> list[bool]:
        pool = ImagePool(1, 60)
        try:
            fitted = []
            for size in (30_000_000, 58_000_000, 80_000_000):
                await pool.run(leave_free, kept)
                fitted.append(await pool.run(what_fits_beside_what_is_free, 70_000_000, size))
            return fitted
        finally:
            pool.close()

    assert asyncio.run(main()) == [True, True, False]


def translucent_avif(side: int, subsampling: str) -> bytes:
    """An animation that takes more memory than its header shows."""
    first, second = (Image.new("RGBA", (side, side), (shade, 2, 3, 100)) for shade in (0, 1))
    return encoded(
        first, "AVIF", save_all=True, append_images=[second], speed=10, max_threads=1, subsampling=subsampling
    )


def lossless_webp(side: int) -> bytes:
    return encoded(Image.linear_gradient("L").resize((side, side)).convert("RGB"), "WEBP", lossless=True, method=0)


@pytest.mark.skipif(sys.platform != "linux", reason="no other system can bound a process's memory")
def test_what_is_said_of_a_picture_does_not_depend_on_those_before_it(tmp_path: Path):
    large = translucent_avif(1700, "4:4:4"), translucent_avif(1750, "4:2:0"), translucent_avif(1750, "4:4:4")
    files = [("image/avif", data) for data in large]
    files += [("image/webp", lossless_webp(1600)), ("image/png", encoded(Image.new("RGB", (1500, 1500)), "PNG"))]
    limits = replace(LIMITS, decoder_memory_bytes=110_000_000)
    order = [*range(len(files))] * 2 + random.Random(1).choices(range(len(files)), k=20)

    async def main() -> tuple[dict[int, set[str | None]], int]:
        pool = ImagePool(1, 60)
        said: dict[int, set[str | None]] = {}
        most = 0
        try:
            for number in order:
                content_type, data = files[number]
                path = tmp_path / str(number)
                path.write_bytes(data)
                found = await pool.run(inspect, path, content_type=content_type, filename="", limits=limits)
                said.setdefault(number, set()).add(code_of(found))
                most = max(most, (await pool.run(resource.getrusage, resource.RUSAGE_SELF)).ru_maxrss)
        finally:
            pool.close()
        return said, most

    said, kilobytes = asyncio.run(main())
    assert [len(codes) for codes in said.values()] == [1] * len(files)
    assert kilobytes * 1024 < limits.decoder_memory_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is Linux's")
def test_fifty_megapixels_fit_into_300_megabytes_with_their_thumbnail(tmp_path: Path):
    path = tmp_path / "large.png"
    rows = zlib.compressobj(1)
    packed = b"".join(rows.compress(bytes(1 + 4 * 8660)) for _ in range(5773)) + rows.flush()
    path.write_bytes(png(8660, 5773, png_chunk(b"IDAT", packed), colour=6))

    async def main() -> tuple[object, int]:
        pool = ImagePool(1, 60)
        try:
            source = Source(path, "image/png", "", "image-1", "subject-1", 1)
            found = await pool.run(inspect_and_make_thumbnail, source, LIMITS)
            return found, (await pool.run(resource.getrusage, resource.RUSAGE_SELF)).ru_maxrss
        finally:
            pool.close()

    found, kilobytes = asyncio.run(main())
    assert isinstance(found, tuple)
    assert found[0] == Inspected("png", "image/png", 8660, 5773, 1)
    assert kilobytes * 1024 < LIMITS.decoder_memory_bytes


ODD_SEGMENTS = {
    "a short JFIF header": (0xE0, b"JFIF\0"),
    "a short piece of a colour profile": (0xE2, b"ICC_PROFILE\0\1"),
    "a short header of Adobe's": (0xEE, b"Adobe"),
    "a resource of Photoshop's that goes on in the next segment": (0xED, b"Photoshop 3.0\x008BIM\x07\xdb"),
}


def jpeg_with(marker: int, body: bytes, data: bytes | None = None) -> bytes:
    """A JPEG that begins with this segment."""
    data = data or jpeg()
    return data[:2] + struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body + data[2:]


SOUND: dict[str, tuple[str, Callable[[], bytes], tuple[int, int, int]]] = {
    "jpeg with fill bytes": ("image/jpeg", lambda: jpeg().replace(b"\xff\xdb", b"\xff" * 7 + b"\xdb", 1), (64, 48, 1)),
    "jpeg with trailing bytes": ("image/jpeg", lambda: jpeg() + b"\0" * 5000, (64, 48, 1)),
    "jpeg with bytes between its segments": (
        "image/jpeg",
        lambda: jpeg().replace(b"\xff\xc4", b"\0more\xff\xc4", 1),
        (64, 48, 1),
    ),
    **{
        f"jpeg with {name}": ("image/jpeg", lambda segment=segment: jpeg_with(*segment), (64, 48, 1))
        for name, segment in ODD_SEGMENTS.items()
    },
    "jpeg in restart intervals": ("image/jpeg", restarted, (160, 160, 1)),
    "jpeg in separate scans": ("image/jpeg", lambda: encoded(noise(64, 48), "JPEG", progressive=True), (64, 48, 1)),
    "jpeg of one pixel": ("image/jpeg", lambda: encoded(noise(1, 1), "JPEG"), (1, 1, 1)),
    "jpeg of one line": ("image/jpeg", lambda: encoded(noise(3000, 1), "JPEG"), (3000, 1, 1)),
    "mpo of two sizes": (
        "image/jpeg",
        lambda: encoded(noise(640, 480), "MPO", save_all=True, append_images=[noise(80, 60)]),
        (640, 480, 2),
    ),
    "mpo whose second picture was cut off": ("image/jpeg", lambda: mpo(cut=True), (64, 48, 1)),
    "mpo with a short header of Adobe's": ("image/jpeg", lambda: jpeg_with(0xEE, b"Adobe", mpo()), (64, 48, 1)),
    "mpo whose second picture was moved": ("image/jpeg", lambda: mpo(between=b"more"), (64, 48, 1)),
    "png interlaced": ("image/png", lambda: png(3, 3, idat(2 + 2 + 3 + 4 + 4), interlace=1), (3, 3, 1)),
    "png of 16 bits": ("image/png", lambda: png(3, 3, idat(3 * 7), depth=16), (3, 3, 1)),
    "png of one bit": ("image/png", lambda: png(9, 3, idat(3 * 3), depth=1), (9, 3, 1)),
    "png of two colours": ("image/png", lambda: png(4, 4, png_chunk(b"PLTE", bytes(6)), idat(20), colour=3), (4, 4, 1)),
    "png of 256 colours": (
        "image/png",
        lambda: png(4, 4, png_chunk(b"PLTE", bytes(768)), idat(20), colour=3),
        (4, 4, 1),
    ),
    "png with an unknown chunk that it does not need": (
        "image/png",
        lambda: png(4, 4, png_chunk(b"abCd"), idat(20)),
        (4, 4, 1),
    ),
    "png with trailing bytes": ("image/png", lambda: png(3, 3, idat(12)) + b"more", (3, 3, 1)),
    "png in many chunks": (
        "image/png",
        lambda: png(3, 3, *(png_chunk(b"IDAT", bytes([byte])) for byte in zlib.compress(bytes(12)))),
        (3, 3, 1),
    ),
    "apng": (
        "image/png",
        lambda: png(4, 4, actl(2), fctl(0, 4, 4), idat(20), fctl(1, 2, 2, 1, 1), fdat(2, 6)),
        (4, 4, 2),
    ),
    "apng interlaced": (
        "image/png",
        lambda: png(3, 3, actl(2), fctl(0, 3, 3), idat(15), fctl(1, 3, 3), fdat(2, 15), interlace=1),
        (3, 3, 2),
    ),
    "apng with a picture besides": (
        "image/png",
        lambda: png(4, 4, actl(1), idat(20), fctl(0, 4, 4), fdat(1, 20)),
        (4, 4, 2),
    ),
    "apng with broken exif": (
        "image/png",
        lambda: png(4, 4, png_chunk(b"eXIf", b"MM\0*" + b"\xff" * 40), actl(1), fctl(0, 4, 4), idat(20)),
        (4, 4, 1),
    ),
    "gif of one large frame": ("image/gif", lambda: gif(6000, 6000, 1), (6000, 6000, 1)),
    "gif with trailing bytes": ("image/gif", lambda: gif(2, 2, 3) + b"more", (2, 2, 3)),
    "gif with its blocks ended twice": ("image/gif", lambda: gif(2, 2, 1, end=b"\0\0;"), (2, 2, 1)),
    "avif with alpha": ("image/avif", lambda: encoded(noise(20, 10).convert("RGBA"), "AVIF"), (20, 10, 1)),
    "avif sequence": (
        "image/avif",
        lambda: encoded(noise(20, 10), "AVIF", save_all=True, append_images=[noise(20, 10, 2), noise(20, 10, 3)]),
        (20, 10, 3),
    ),
    "avif turned": ("image/avif", lambda: encoded(noise(20, 10), "AVIF", exif=turned()), (10, 20, 1)),
    "webp turned": ("image/webp", lambda: encoded(noise(20, 10), "WEBP", exif=turned()), (10, 20, 1)),
    "png turned": ("image/png", lambda: encoded(noise(20, 10), "PNG", exif=turned()), (10, 20, 1)),
}


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_picture_is_taken(name: str, tmp_path: Path):
    content_type, make, expected = SOUND[name]
    verdict = inspect_bytes(tmp_path, make(), content_type)
    assert isinstance(verdict, Inspected)
    assert (verdict.width, verdict.height, verdict.frames) == expected


BROKEN: dict[str, tuple[str, bytes]] = {
    "png with fewer rows than it says": ("image/png", png(4, 4, idat(15))),
    "png interlaced with a pixel too few": ("image/png", png(3, 3, idat(14), interlace=1)),
    "apng interlaced with a pixel too few": (
        "image/png",
        png(3, 3, actl(2), fctl(0, 3, 3), idat(15), fctl(1, 3, 3), fdat(2, 14), interlace=1),
    ),
    "png with damaged pixels": ("image/png", png(4, 4, png_chunk(b"IDAT", b"\x78\x9c" + b"\xff" * 20))),
    "png with a wrong filter": ("image/png", png(4, 1, png_chunk(b"IDAT", zlib.compress(b"\x09abcd")))),
    "png by a palette that it lacks": ("image/png", png(4, 4, idat(20), colour=3)),
    "png with no pixels": ("image/png", png(4, 4)),
    "png with no width": ("image/png", png(0, 4, idat(4))),
    "png whose palette comes late": (
        "image/png",
        png(4, 4, idat(20), png_chunk(b"PLTE", bytes(768)), colour=3),
    ),
    "png of two headers": (
        "image/png",
        png(4, 4, png_chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 0, 0, 0, 0)), idat(20)),
    ),
    "png interlaced in an unknown way": ("image/png", png(4, 4, idat(20), interlace=2)),
    "png compressed in an unknown way": ("image/png", png(4, 4, idat(20), compression=1)),
    "png filtered in an unknown way": ("image/png", png(4, 4, idat(20), filtering=1)),
    "png with an unknown chunk that it needs": ("image/png", png(4, 4, png_chunk(b"ABCD"), idat(20))),
    "png with such a chunk at its end": ("image/png", png(4, 4, idat(20), png_chunk(b"ABCD"))),
    "png of two palettes": ("image/png", png(4, 4, *[png_chunk(b"PLTE", bytes(3))] * 2, idat(20), colour=3)),
    **{
        f"png with a palette of {size} bytes": (
            "image/png",
            png(4, 4, png_chunk(b"PLTE", bytes(size)), idat(20), colour=3),
        )
        for size in (0, 4, 771)
    },
    "png of a phone's own kind": ("image/png", png(4, 4, idat(20)).replace(b"IHDR", b"CgBI", 1)),
    "apng whose first frame is a pixel of its canvas": (
        "image/png",
        png(5000, 5000, actl(1), fctl(0, 1, 1), idat(2)),
    ),
    "apng whose first frame is narrower, and holds more": (
        "image/png",
        png(4, 4, actl(1), fctl(0, 3, 4, 1), idat(20)),
    ),
    "apng whose first frame comes before its picture": (
        "image/png",
        png(5000, 5000, actl(1), fctl(0, 1, 1), fdat(1, 2), idat(2)),
    ),
    "apng whose second frame is another picture": (
        "image/png",
        png(4, 4, actl(2), fctl(0, 4, 4), idat(20), fctl(1, 4, 4), idat(20)),
    ),
    "apng with a frame of no pixels": (
        "image/png",
        png(4, 4, actl(2), fctl(0, 4, 4), fctl(1, 4, 4), idat(20)),
    ),
    "apng with an empty frame": (
        "image/png",
        png(4, 4, actl(2), fctl(0, 4, 4), idat(20), fctl(1, 0, 4), fdat(2, 4)),
    ),
    "png without its end": ("image/png", png(4, 4, idat(20))[:-12]),
    "png header cut": ("image/png", b"\x89PNG\r\n\x1a\n\0\0\0\x04IHDR\0\0\0\0"),
    "apng with a frame cut": ("image/png", png(4, 4, actl(2), fctl(0, 4, 4), idat(20), fctl(1, 4, 4), fdat(2, 19))),
    "apng with a frame missing": ("image/png", png(4, 4, actl(2), fctl(0, 4, 4), idat(20))),
    "gif without its end": ("image/gif", gif(2, 2, 2, end=b"")),
    "gif with no frame": ("image/gif", gif(2, 2, 0)),
    "webp that is only a header": ("image/webp", webp_header(20, 20, 1)),
    "avif that is only a header": ("image/avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf"),
    "jpeg that lacks a restart interval": ("image/jpeg", restarted(cut=b"interval")),
    "jpeg that lacks a restart marker": ("image/jpeg", restarted(cut=b"marker")),
    "jpeg with another restart marker": ("image/jpeg", restarted(cut=b"marker", put=b"\xff\xd6")),
    "jpeg with a restart that it has not announced": (
        "image/jpeg",
        restarted().replace(b"\xff\xdd\0\4", b"\xff\xfe\0\4", 1),
    ),
    "mpo with its second picture cut": (
        "image/jpeg",
        encoded(noise(64, 48), "MPO", save_all=True, append_images=[noise(64, 48, 2)])[:-500],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_picture_is_refused(name: str, tmp_path: Path):
    content_type, data = BROKEN[name]
    assert code_of(inspect_bytes(tmp_path, data, content_type)) == "damaged"


def small(name: str) -> bytes:
    frames = [noise(24, 16, seed) for seed in range(3)]
    if name in {"GIF", "WEBP", "PNG"}:
        return encoded(frames[0], name, save_all=True, append_images=frames[1:])
    return encoded(frames[0], name)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
def test_no_beginning_of_a_file_passes_for_the_file(name: str, tmp_path: Path):
    data = small(name)
    content_type = f"image/{name.lower()}"
    assert isinstance(inspect_bytes(tmp_path, data, content_type), Inspected)
    chosen = random.Random(7)
    for length in [len(data) - 1, len(data) - 2, len(data) - 3, *(chosen.randrange(len(data)) for _ in range(40))]:
        verdict = inspect_bytes(tmp_path, data[:length], content_type)
        assert isinstance(verdict, Rejection), (name, length)
        head = inspect_head(data[:length], content_type=content_type, filename="", limits=LIMITS)
        assert code_of(head) in {None, "not-an-image", "empty", "damaged"}


def test_a_jpeg_without_its_end_is_always_refused(tmp_path: Path):
    chosen = random.Random(3)
    for seed in range(60):  # Pillow takes one in thirty of these
        data = encoded(noise(chosen.randrange(1, 200), chosen.randrange(1, 200), seed), "JPEG")
        assert code_of(inspect_bytes(tmp_path, data[:-2], "image/jpeg")) == "damaged"


SCANS: dict[str, dict[str, object]] = {
    "one scan": {},
    "one scan without subsampling": {"subsampling": 0, "quality": 95},
    "restarts": {"restart_marker_blocks": 5},
    "several scans": {"progressive": True},
}


@pytest.mark.parametrize("name", SCANS)
def test_a_jpeg_that_was_cut_and_ended_again_is_refused(name: str, tmp_path: Path):
    """Decoders paint what is missing grey, and say nothing."""
    chosen = random.Random(5)
    for seed in range(20):
        one = noise(chosen.randrange(40, 200), chosen.randrange(40, 200), seed)
        data = encoded(one if seed % 4 else one.convert("L"), "JPEG", **SCANS[name])
        assert isinstance(inspect_bytes(tmp_path, data, "image/jpeg"), Inspected)
        last = data.rindex(b"\xff\xda")
        end = last if name == "several scans" else len(data) - 200  # the last of several only sharpens
        cut = data[: chosen.randrange(data.index(b"\xff\xda") + 14, end)]
        assert code_of(inspect_bytes(tmp_path, cut + b"\xff\xd9", "image/jpeg")) == "damaged"
        assert code_of(inspect_bytes(tmp_path, cut + b"\xff\xd9" + data, "image/jpeg")) == "damaged"


def test_a_jpeg_that_is_taller_than_its_scan_is_refused(tmp_path: Path):
    data = jpeg().replace(struct.pack(">HH", 48, 64), struct.pack(">HH", 96, 64), 1)
    assert code_of(inspect_bytes(tmp_path, data, "image/jpeg")) == "damaged"


@pytest.mark.parametrize("kind", [b"\xff\xfe", b"\xff\xe5"])
def test_what_stands_between_a_jpegs_scan_and_its_end_is_nobodys_business(kind: bytes, tmp_path: Path):
    data = jpeg()[:-2] + kind + b"\0\6more" + b"\xff\xd9"
    assert isinstance(inspect_bytes(tmp_path, data, "image/jpeg"), Inspected)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
        (b"\xff\x0a" + bytes(30), "a JPEG XL image"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        (b"8BPS\0\1" + bytes(30), "a Photoshop document"),
        (b"II+\0" + bytes(30), "a TIFF image"),
    ],
)
def test_a_picture_of_a_kind_that_we_do_not_take_is_named(data: bytes, what: str):
    refused = inspect_head(data, content_type="image/jpeg", filename="x.jpg", limits=LIMITS)
    assert refused == Rejection("content-mismatch", f"The file is {what} but was sent as image/jpeg.")


@pytest.mark.parametrize("name", ["JPEG", "MPO", "PNG", "WEBP", "GIF", "AVIF"])
def test_damage_never_raises(name: str, tmp_path: Path):
    data = small(name)
    chosen = random.Random(11)
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(chosen.choice([1, 1, 2, 8])):
            damaged[chosen.choice([chosen.randrange(len(data)), chosen.randrange(min(100, len(data)))])] ^= (
                1 << chosen.randrange(8)
            )
        content_type = "image/jpeg" if name == "MPO" else f"image/{name.lower()}"
        verdict = inspect_bytes(tmp_path, bytes(damaged), content_type)
        assert isinstance(verdict, Inspected | Rejection)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOENT, errno.ESTALE, errno.EACCES])
def test_a_disk_that_cannot_be_read_says_nothing_about_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    def unreadable(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(inspection, "open_image", unreadable)
    with pytest.raises(OSError, match=os.strerror(number)):
        inspect_bytes(tmp_path, jpeg(), "image/jpeg")


def test_pillow_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    assert isinstance(inspect_bytes(tmp_path, encoded(noise(200, 100), "JPEG"), "image/jpeg"), Inspected)
    inspect_bytes(tmp_path, jpeg()[:200], "image/jpeg")
    assert Image.MAX_IMAGE_PIXELS == 10_000


def test_pillow_itself_refuses_what_is_over_the_limit():
    data = io.BytesIO(encoded(noise(12, 12), "PNG"))
    with strict_pillow(100), pytest.raises(Image.DecompressionBombWarning):
        Image.open(data)
