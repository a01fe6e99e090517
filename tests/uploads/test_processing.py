import base64
import dataclasses
import errno
import io
import json
import pickle
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageCms
from pillow_heif import register_heif_opener

from earmark.config import Settings
from earmark.errors import InvalidRequest
from earmark.uploads import processing
from earmark.uploads.inspection import Inspected, Limits, inspect
from earmark.uploads.processing import (
    PermanentFailure,
    Processed,
    Source,
    TransientFailure,
    dominant_colors,
    inspect_and_make_thumbnail,
    load_processor,
    make_thumbnail,
)

register_heif_opener(thumbnails=False)

CASES = Path(__file__).parents[2].parent / "shared/cases/files"
MANIFEST: list[dict[str, Any]] = json.loads((CASES / "manifest.json").read_text())["files"] if CASES.is_dir() else []
LIMITS = Limits.from_settings(Settings(allowed_types=(*Settings().allowed_types, "image/heic", "image/tiff")))


def source(path: Path) -> Source:
    return Source(path, "image/any", "name", "image-1", "subject-1", 1)


def thumbnail_of(processed: Processed) -> Image.Image:
    (output,) = processed.outputs
    assert (output.name, output.content_type) == ("thumbnail", "image/webp")
    with Image.open(io.BytesIO(output.data), formats=["WEBP"]) as thumbnail:
        thumbnail.load()
        assert not {"exif", "xmp", "icc_profile"} & set(thumbnail.info)
        return thumbnail.convert("RGBA")


def process(folder: Path, image: Image.Image, name: str, **options: object) -> tuple[Processed, Image.Image]:
    path = folder / "picture"
    image.save(path, name, **options)
    processed = make_thumbnail(source(path))
    return processed, thumbnail_of(processed)


def near(pixel: object, expected: tuple[int, ...], tolerance: int = 12) -> bool:
    assert isinstance(pixel, tuple)
    return all(abs(a - b) <= tolerance for a, b in zip(pixel, expected, strict=False))


def test_a_file_that_cannot_be_read_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def unreadable(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    path = tmp_path / "picture"
    Image.new("RGB", (9, 9)).save(path, "PNG")
    monkeypatch.setattr(processing, "open_image", unreadable)
    with pytest.raises(TransientFailure, match="could not be read"):
        make_thumbnail(source(path))


@pytest.mark.skipif(not MANIFEST, reason="the shared case files are not beside the project")
@pytest.mark.parametrize("case", MANIFEST, ids=lambda case: str(case["upload_name"]))
def test_every_picture_that_is_taken_can_be_processed(case: dict[str, Any]):
    path = CASES / case["file"]
    found = inspect(path, content_type=case["declared_type"], filename=case["upload_name"], limits=LIMITS)
    if not isinstance(found, Inspected):
        assert case["verdict"] != "accept"
        return
    processed = make_thumbnail(source(path))
    assert (processed.width, processed.height, processed.frames) == (found.width, found.height, found.frames)
    assert processed.format == found.format
    assert thumbnail_of(processed).size == (found.width, found.height)  # all of them are smaller than a thumbnail
    assert 1 <= len(processed.colors) <= 5
    assert 4 < len(base64.b64decode(processed.thumbhash)) < 40
    assert processed.actual == {}
    assert pickle.loads(pickle.dumps(processed)) == processed  # noqa: S301 - our own, as the pool does


@pytest.mark.skipif(not MANIFEST, reason="the shared case files are not beside the project")
@pytest.mark.parametrize("case", MANIFEST, ids=lambda case: str(case["upload_name"]))
def test_inspecting_and_processing_in_one_go_says_the_same(case: dict[str, Any]):
    path = CASES / case["file"]
    found = inspect(path, content_type=case["declared_type"], filename=case["upload_name"], limits=LIMITS)
    sent = Source(path, case["declared_type"], case["upload_name"], "image-1", "subject-1", 1)
    both = inspect_and_make_thumbnail(sent, LIMITS)
    assert both == ((found, make_thumbnail(sent)) if isinstance(found, Inspected) else found)


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize("size", [(3000, 2000), (1100, 4000), (1500, 1500), (600, 9), (3, 5000)])
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "AVIF", "GIF"])
def test_one_go_makes_the_same_of_pictures_of_any_size(
    name: str, size: tuple[int, int], orientation: int, tmp_path: Path
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"picture.{name.lower()}"
    Image.linear_gradient("L").resize(size).convert("RGB").save(path, name, exif=exif)
    sent = Source(path, f"image/{name.lower()}", path.name, "image-1", "subject-1", 1)
    inspected = inspect(path, content_type=sent.content_type, filename=sent.filename, limits=LIMITS)
    assert inspect_and_make_thumbnail(sent, LIMITS) == (inspected, make_thumbnail(sent))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "MPO", "PNG", "WEBP", "AVIF", "HEIF"])
def test_it_is_upright(name: str, orientation: int, tmp_path: Path):
    upright = Image.new("RGB", (60, 40), "white")
    upright.paste("red", (0, 0, 30, 20))
    upright.paste("blue", (30, 20, 60, 40))
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x8825] = {1: "N", 2: (48.0, 8.0, 0.0)}
    picture = upright if stored is None else upright.transpose(stored)
    processed, thumbnail = process(tmp_path, picture, name, exif=exif.tobytes(), quality=95)
    assert (processed.width, processed.height) == thumbnail.size == (60, 40)
    assert near(thumbnail.getpixel((10, 8)), (255, 0, 0), 60)
    assert near(thumbnail.getpixel((50, 32)), (0, 0, 255), 60)
    assert near(thumbnail.getpixel((50, 8)), (255, 255, 255), 60)
    assert inspect_and_make_thumbnail(sent_as(tmp_path / "picture", name), LIMITS) == (
        Inspected(processed.format, f"image/{processed.format}", 60, 40, 1),
        processed,
    )


def sent_as(path: Path, name: str) -> Source:
    content_type = {"MPO": "image/jpeg", "HEIF": "image/heic"}.get(name, f"image/{name.lower()}")
    return Source(path, content_type, "", "image-1", "subject-1", 1)


@pytest.mark.parametrize("name", ["JPEG", "MPO", "WEBP", "AVIF", "HEIF"])
def test_what_only_its_xmp_says_does_not_turn_a_picture(name: str, tmp_path: Path):
    path = tmp_path / "picture"
    Image.new("RGB", (60, 40)).save(path, name, xmp=b'<rdf:Description tiff:Orientation="1"/>')
    # Only now: pillow-heif turns by it what it writes.
    path.write_bytes(path.read_bytes().replace(b'Orientation="1"', b'Orientation="6"'))
    found = inspect_and_make_thumbnail(sent_as(path, name), LIMITS)
    assert isinstance(found, tuple)
    inspected, processed = found
    assert (inspected.width, inspected.height) == thumbnail_of(processed).size == (60, 40)
    assert processed == make_thumbnail(source(path))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 1), (1, 1)),
        ((512, 512), (512, 512)),
        ((513, 2), (512, 2)),
        ((2000, 1000), (512, 256)),
        ((1000, 3001), (171, 512)),
        ((9000, 1), (512, 1)),
        ((1, 9000), (1, 512)),
        ((2600, 2600), (512, 512)),
    ],
)
@pytest.mark.parametrize(("mode", "name"), [("RGB", "JPEG"), ("RGBA", "PNG")])
def test_it_is_at_most_512_pixels_wide_and_high(
    size: tuple[int, int], expected: tuple[int, int], mode: str, name: str, tmp_path: Path
):
    processed, thumbnail = process(tmp_path, Image.new(mode, size, "#336699"), name)
    assert thumbnail.size == expected
    assert (processed.width, processed.height) == size
    assert near(thumbnail.getpixel((expected[0] - 1, expected[1] - 1)), (0x33, 0x66, 0x99))


@pytest.mark.parametrize(
    ("image", "name", "expected"),
    [
        (Image.new("CMYK", (900, 700), (0, 255, 255, 0)), "JPEG", (255, 0, 0, 255)),
        (Image.new("L", (900, 700), 100), "JPEG", (100, 100, 100, 255)),
        (Image.new("1", (900, 700), 1), "PNG", (255, 255, 255, 255)),
        (Image.new("I;16", (900, 700), 0x8000), "PNG", (128, 128, 128, 255)),
        (Image.new("LA", (900, 700), (50, 0)), "PNG", (0, 0, 0, 0)),
        (Image.new("RGBA", (900, 700), (200, 100, 0, 128)), "PNG", (200, 100, 0, 128)),
        (Image.new("P", (900, 700), 0), "GIF", (0, 0, 0, 255)),
        (Image.new("RGBA", (900, 700), (0, 200, 0, 0)), "GIF", (0, 0, 0, 0)),
        (Image.new("RGBA", (900, 700), (0, 200, 0, 90)), "AVIF", (0, 200, 0, 90)),
        (Image.new("RGBA", (900, 700), (0, 200, 0, 90)), "WEBP", (0, 200, 0, 90)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else None,
)
def test_colours_of_every_mode_survive(
    image: Image.Image, name: str, expected: tuple[int, int, int, int], tmp_path: Path
):
    _, thumbnail = process(tmp_path, image, name)
    pixel = thumbnail.getpixel((200, 200))
    assert isinstance(pixel, tuple)
    assert near(pixel[3:], expected[3:])
    assert expected[3] == 0 or near(pixel[:3], expected[:3])


@pytest.mark.parametrize(("mode", "name"), [("RGB", "PNG"), ("RGBA", "PNG"), ("RGB", "JPEG")])
def test_a_large_picture_is_shrunk_without_seams(mode: str, name: str, tmp_path: Path):
    coarse = Image.frombytes("RGB", (13, 17), random.Random(5).randbytes(13 * 17 * 3))
    picture = coarse.resize((2601, 3107), Image.Resampling.BICUBIC).convert(mode)
    _, thumbnail = process(tmp_path, picture, name)
    plain = picture.convert("RGB").resize(thumbnail.size, Image.Resampling.LANCZOS)
    assert max(high for _, high in ImageChops.difference(plain, thumbnail.convert("RGB")).getextrema()) < 40


def test_transparency_by_palette_survives(tmp_path: Path):
    palette = Image.new("P", (900, 700), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.paste(0, (0, 0, 450, 700))
    _, thumbnail = process(tmp_path, palette, "PNG", transparency=0)
    left, right = thumbnail.getpixel((100, 100)), thumbnail.getpixel((400, 100))
    assert isinstance(left, tuple)
    assert left[3] == 0
    assert near(right, (0, 0, 255, 255))


def test_a_colour_profile_is_applied_and_dropped(tmp_path: Path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    _, with_a_foreign_one = process(tmp_path, Image.new("RGB", (9, 9), "#336699"), "PNG", icc_profile=profile)
    assert near(with_a_foreign_one.getpixel((4, 4)), (0x33, 0x66, 0x99))
    _, with_a_broken_one = process(tmp_path, Image.new("RGB", (9, 9), "#336699"), "JPEG", icc_profile=b"nonsense")
    assert near(with_a_broken_one.getpixel((4, 4)), (0x33, 0x66, 0x99))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"held", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"held", b"gXYZ", 1)
    _, with_red_as_green = process(tmp_path, Image.new("RGB", (9, 9), "#ff0000"), "PNG", icc_profile=swapped)
    assert near(with_red_as_green.getpixel((4, 4)), (0, 255, 0), 30)
    _, with_its_own = process(tmp_path, Image.new("RGBA", (9, 9), (0x33, 0x66, 0x99, 120)), "PNG", icc_profile=srgb)
    assert near(with_its_own.getpixel((4, 4)), (0x33, 0x66, 0x99, 120))


def test_the_first_frame_of_an_animation_is_shown(tmp_path: Path):
    frames = [Image.new("RGB", (30, 30), colour) for colour in ("red", "green", "blue")]
    for name in ("GIF", "WEBP", "PNG", "AVIF"):
        processed, thumbnail = process(tmp_path, frames[0], name, save_all=True, append_images=frames[1:])
        assert processed.frames == 3
        assert near(thumbnail.getpixel((15, 15)), (255, 0, 0), 20)


def test_dominant_colours_are_the_most_frequent_first():
    picture = Image.new("RGBA", (60, 60), "#ff0000")
    picture.paste("#0000ff", (0, 0, 60, 20))
    picture.paste((0, 255, 0, 0), (0, 20, 60, 25))
    assert dominant_colors(picture)[:2] == ("#ff0000", "#0000ff")
    assert dominant_colors(Image.new("RGBA", (5, 5), (9, 9, 9, 0))) == ()
    assert dominant_colors(Image.new("RGB", (1, 1), "#010203")) == ("#010203",)


@pytest.mark.parametrize("content", [b"", b"no picture", b"%PDF-1.7", b"\xff\xd8\xff\xd9", b"\x89PNG\r\n\x1a\n"])
def test_what_cannot_be_decoded_is_a_permanent_failure(content: bytes, tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(PermanentFailure):
        make_thumbnail(source(path))


def test_a_cut_picture_is_a_permanent_failure(tmp_path: Path):
    path = tmp_path / "file"
    Image.frombytes("RGB", (99, 99), random.Random(1).randbytes(99 * 99 * 3)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(PermanentFailure, match=r"^The picture could not be decoded\.$"):
        make_thumbnail(source(path))


def test_the_default_processor_is_ours():
    assert load_processor(Settings().processor) is make_thumbnail


def test_a_processor_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "watermarks.py").write_text("class Kept:\n    def run(source): return source\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "watermarks", raising=False)
    processor = load_processor("watermarks:Kept.run")
    given = source(tmp_path)
    assert processor(given) is given


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("earmark.uploads.processing", "module:callable"),
        (":make_thumbnail", "module:callable"),
        ("earmark.uploads.processing:", "module:callable"),
        ("earmark.uploads.processing:nothing", "no callable 'nothing'"),
        ("earmark.uploads.processing:COLORS", "no callable 'COLORS'"),
        ("earmark.nowhere:run", "earmark.nowhere"),
    ],
)
def test_a_wrong_processor_setting_is_explained(spec: str, text: str):
    with pytest.raises(InvalidRequest, match=text):
        load_processor(spec)


def test_what_is_passed_around_cannot_be_changed(tmp_path: Path):
    with pytest.raises(dataclasses.FrozenInstanceError):
        source(tmp_path).attempt = 2  # type: ignore[misc]
