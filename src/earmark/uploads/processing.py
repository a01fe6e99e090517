"""What is made of a sound picture: a thumbnail, its dominant colours and a placeholder hash.

A processor is any callable from `Source` to `Processed`; the setting `processor` names it. It runs in a pool process.
What it makes is checked as it is made, so that a mistake in it is told where it was made.
"""

import base64
import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from earmark.errors import InvalidRequest
from earmark.extras import needs

with needs("server"):
    from PIL import Image, ImageCms
    from thumbhash import rgba_to_thumb_hash  # type: ignore[import-untyped]

from earmark.uploads.image_headers import read_header
from earmark.uploads.inspection import (
    FORMATS,
    HEAD_BYTES,
    Inspected,
    Limits,
    Rejection,
    draft,
    frames_of,
    inspect_picture,
    is_of_the_disk,
    open_image,
    orientation_of,
    strict_pillow,
)
from earmark.uploads.process_pool import ImagePool, PoolCrashed, PoolTimeout

if TYPE_CHECKING:  # a decoding process has no use for the rest of the flow
    from earmark.uploads.model import Image as UploadedImage

THUMBNAIL_SIDE = 512
"""Longest side of a thumbnail, in pixels."""
COLORS = 5
"""How many dominant colours are named at most."""

_DECODED_SIDE = 2 * THUMBNAIL_SIDE
_HASH_SIDE = 32
_COLOR_SIDE = 64
_BAND_PIXELS = 1_000_000
_OUTPUT_NAME = re.compile("[a-z0-9][a-z0-9_.-]{0,99}")
_RESOURCE_NAME = re.compile("[a-z][a-z0-9_]{0,62}")
_OPAQUE_ENOUGH = 128
_MAX_PIXELS = 250_000_000  # whatever the limits of inspection were set to, no more than this is ever unpacked
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to turn a picture upright, by EXIF orientation."""


@dataclass(frozen=True, slots=True)
class Source:
    """One picture to process.

    Attributes:
        path: Its bytes, in a file that the processor may read and must not change.
        content_type: What it was found to be.
        filename: The name it was uploaded under; no path.
        image_id: Its id.
        subject: Whose it is.
        attempt: Fencing number of this attempt.
    """

    path: Path
    content_type: str
    filename: str
    image_id: str
    subject: str
    attempt: int


def source_of(image: "UploadedImage", path: Path) -> Source:
    """An image whose bytes lie in that file, at its latest attempt."""
    return Source(
        path=path,
        content_type=image.content_type,
        filename=image.filename,
        image_id=str(image.image),
        subject=image.subject,
        attempt=image.attempt,
    )


@dataclass(frozen=True, slots=True)
class Output:
    """One file made from a picture. `name` is unique among a picture's outputs, lower case, no path: `thumbnail`.

    Raises:
        TypeError: A field is of another type.
        ValueError: It cannot be named so.
    """

    name: str
    content_type: str
    data: bytes

    def __post_init__(self) -> None:
        """Refuses what could not be stored."""
        fields: tuple[tuple[object, type], ...] = ((self.name, str), (self.content_type, str), (self.data, bytes))
        for value, kind in fields:
            if not isinstance(value, kind):
                raise TypeError(f"{value!r} should be of type {kind.__name__}.")
        if not _OUTPUT_NAME.fullmatch(self.name):
            raise ValueError(
                f"{self.name!r} is no name of an output: letters in lower case, digits, . _ -, at most 100."
            )


@dataclass(frozen=True, slots=True)
class Processed:
    """What processing found and made.

    Attributes:
        width: Pixels, after orientation.
        height: Likewise.
        format: `jpeg`, `png`…
        frames: 1 for a still.
        colors: Dominant colours, the most frequent first, as `#rrggbb`; empty where all is transparent.
        thumbhash: Placeholder of a few dozen bytes, in base64 (https://evanw.github.io/thumbhash/).
        outputs: Files to keep beside the original.
        actual: Amount really used of each resource whose amount differs from the held one.

    Raises:
        TypeError: A field is of another type.
        ValueError: Two outputs have one name, a text holds NUL, or an amount or its resource cannot be.
    """

    width: int
    height: int
    format: str
    frames: int
    colors: tuple[str, ...]
    thumbhash: str
    outputs: tuple[Output, ...]
    actual: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses what could not be booked."""
        texts = (self.format, self.thumbhash, *self.colors)
        for kind, values in ((int, (self.width, self.height, self.frames, *self.actual.values())), (str, texts)):
            if wrong := [value for value in values if not isinstance(value, kind)]:
                raise TypeError(f"{wrong[0]!r} should be of type {kind.__name__}.")
        if any("\0" in text for text in texts):
            raise ValueError("No text may hold NUL.")
        if len({output.name for output in self.outputs}) < len(self.outputs):
            raise ValueError("Two outputs have the same name.")
        for resource, amount in self.actual.items():
            if amount < 0 or not _RESOURCE_NAME.fullmatch(resource):
                raise ValueError(f"{amount} {resource!r} cannot have been used.")


class PermanentFailure(Exception):  # noqa: N818 - the name users read
    """Retrying cannot help. The message is shown to the user: one sentence, no internals."""


class TransientFailure(Exception):  # noqa: N818 - the name users read
    """Retrying may help. The message is for operators."""


Processor = Callable[[Source], Processed]


async def processed(pool: ImagePool, processor: Processor, source: Source) -> Processed:
    """What the processor makes of a picture.

    Raises:
        PermanentFailure: It says so.
        TransientFailure: It says so, raises anything else, or returns something else: an error of a database or a
            store that it speaks of is not to be taken for one of ours.
        PoolTimeout, PoolCrashed: It took too long, or its process died.
    """
    try:
        made: object = await pool.run(processor, source)
    except (PermanentFailure, TransientFailure, PoolTimeout, PoolCrashed):
        raise
    except Exception as error:
        raise TransientFailure(f"The processor raised {type(error).__name__}: {error}") from error
    if not isinstance(made, Processed):
        raise TransientFailure(f"The processor returned {type(made).__name__}, not Processed.")
    return made


def load_processor(spec: str) -> Processor:
    """The processor that `module:callable` names.

    Raises:
        InvalidRequest: The setting is not of that form, or names nothing that can be imported and called.
    """
    module_name, colon, name = spec.partition(":")
    if not (module_name and colon and name):
        raise InvalidRequest(f"A processor is named as module:callable, not {spec!r}.", {"field": "processor"})
    try:
        found: object = import_module(module_name)
    except ImportError as error:
        message = f"The module {module_name!r} of the processor cannot be imported: {error}."
        raise InvalidRequest(message, {"field": "processor"}) from error
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        message = f"The module {module_name!r} has no callable {name!r} to process images with."
        raise InvalidRequest(message, {"field": "processor"})
    return cast("Processor", found)


def make_thumbnail(source: Source) -> Processed:
    """The default processor: an upright WebP of at most 512 by 512 pixels, dominant colours, and a thumbhash.

    The thumbnail is encoded anew in sRGB and carries no metadata. Peak memory is that of decoding the first frame.

    Raises:
        PermanentFailure: The picture cannot be decoded.
    """
    with source.path.open("rb") as file:
        header = read_header(file.read(HEAD_BYTES))
    if header is None or header.format not in FORMATS:
        raise PermanentFailure("The file is not a picture that can be read.")
    with _failures(), strict_pillow(_MAX_PIXELS), open_image(source.path, header.format) as image:
        size = image.size
        frames = frames_of(source.path, image, header.format)
        image.seek(0)
        target = _fitting(*size)
        draft(image, _DECODED_SIDE)
        image.load()
        orientation = orientation_of(image)
        if orientation >= 5:  # noqa: PLR2004 - EXIF 2.32, 4.6.4: from 5 on, rows are columns
            size = size[1], size[0]
        return _processed(_thumbnail(image, target, orientation), size, header.format, frames)


def inspect_and_make_thumbnail(source: Source, limits: Limits) -> Rejection | tuple[Inspected, Processed]:
    """What `inspect` and then `make_thumbnail` say, for one decoding of a still instead of two.

    Args:
        source: The picture; `content_type` is what it was declared to be.
        limits: What it may be.

    Raises:
        PermanentFailure, TransientFailure: As `make_thumbnail`.
    """
    found = inspect_picture(
        source.path, content_type=source.content_type, filename=source.filename, limits=limits, side=_DECODED_SIDE
    )
    if isinstance(found, Rejection):
        return found
    inspected, picture = found
    if picture is None:
        return inspected, make_thumbnail(source)
    with _failures():
        size = inspected.width, inspected.height
        stored_size = size if picture.orientation < 5 else (size[1], size[0])  # noqa: PLR2004 - as in make_thumbnail
        thumbnail = _thumbnail(picture.image, _fitting(*stored_size), picture.orientation)
        return inspected, _processed(thumbnail, size, inspected.format, inspected.frames)


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise TransientFailure("Too little memory to decode the picture.") from error
    except Exception as error:
        if is_of_the_disk(error):
            raise TransientFailure("The file could not be read.") from error
        raise PermanentFailure("The picture could not be decoded.") from error


def _thumbnail(image: Image.Image, target: tuple[int, int], orientation: int) -> Image.Image:
    """An upright copy of a loaded picture, in RGB or RGBA; `target` is its size before it is turned."""
    thumbnail = _in_srgb(_shrink(image, target), image.info.get("icc_profile"))
    return thumbnail.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else thumbnail


def _processed(thumbnail: Image.Image, size: tuple[int, int], name: str, frames: int) -> Processed:
    encoded = io.BytesIO()
    thumbnail.save(encoded, "WEBP", quality=80, method=4)
    return Processed(
        width=size[0],
        height=size[1],
        format=name,
        frames=frames,
        colors=dominant_colors(thumbnail),
        thumbhash=placeholder_hash(thumbnail),
        outputs=(Output("thumbnail", "image/webp", encoded.getvalue()),),
    )


def dominant_colors(picture: Image.Image) -> tuple[str, ...]:
    """Up to five colours of an RGB or RGBA picture as `#rrggbb`, most frequent first, without its transparent parts."""
    small = picture.convert("RGBA")
    small.thumbnail((_COLOR_SIDE, _COLOR_SIDE))
    pixels = small.tobytes()
    opaque = b"".join(pixels[at : at + 3] for at in range(0, len(pixels), 4) if pixels[at + 3] >= _OPAQUE_ENOUGH)
    if not opaque:
        return ()
    reduced = Image.frombytes("RGB", (len(opaque) // 3, 1), opaque).quantize(COLORS, Image.Quantize.MEDIANCUT)
    counted = cast("list[tuple[int, tuple[int, int, int]]]", reduced.convert("RGB").getcolors())
    ranked = sorted(counted, key=lambda entry: (-entry[0], entry[1]))
    return tuple("#{:02x}{:02x}{:02x}".format(*color) for _, color in ranked)


def placeholder_hash(picture: Image.Image) -> str:
    """ThumbHash of an RGB or RGBA picture, in base64."""
    small = picture.convert("RGBA")
    small.thumbnail((_HASH_SIDE, _HASH_SIDE))
    # On white, because thumbhash 0.1.2 fails on anything transparent.
    small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small)
    return base64.b64encode(bytes(rgba_to_thumb_hash(*small.size, list(small.tobytes())))).decode()


def _fitting(width: int, height: int) -> tuple[int, int]:
    ratio = min(1.0, THUMBNAIL_SIDE / max(width, height))
    return max(1, round(width * ratio)), max(1, round(height * ratio))


def _shrink(image: Image.Image, target: tuple[int, int]) -> Image.Image:
    """A picture's copy of that size in a mode that can be resized, without metadata.

    Works in bands: converting or reducing a whole RGBA picture would take a second copy of it.
    """
    width, height = image.size
    factor = max(1, width // (2 * target[0])), max(1, height // (2 * target[1]))
    mode = _resizable_mode(image)
    reduced = Image.new(mode, (-(-width // factor[0]), -(-height // factor[1])))
    rows = max(1, _BAND_PIXELS // width // factor[1]) * factor[1]
    for top in range(0, height, rows):
        band = _converted(image.crop((0, top, width, min(top + rows, height))), mode)
        reduced.paste(band.reduce(factor), (0, top // factor[1]))
    return reduced.resize(target, Image.Resampling.LANCZOS)


def _resizable_mode(image: Image.Image) -> str:
    if image.mode in {"1", "L", "CMYK"} and not image.has_transparency_data:
        return {"1": "L"}.get(image.mode, image.mode)
    if image.mode.startswith("I") or image.mode == "F":
        return "L"
    return "RGBA" if image.has_transparency_data else "RGB"


def _converted(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        # 16 bits a sample, whatever the picture uses of them; Pillow's own conversion clips at 255.
        image.info.pop("transparency", None)
        image = image.convert("I").point(lambda value: value * (1 / 256))
    return image.convert(mode)


def _in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """A small picture in RGB or RGBA, its colours taken through its profile where that can be used."""
    alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
    colors = picture.convert("RGB") if picture.mode == "RGBA" else picture
    srgb: Image.Image | None = None
    if profile:
        with suppress(Exception):  # a broken or foreign profile is ignored, as viewers do
            target = ImageCms.createProfile("sRGB")
            srgb = ImageCms.profileToProfile(colors, io.BytesIO(profile), target, outputMode="RGB")
    srgb = srgb or picture.convert("RGB")
    if alpha is not None:
        srgb.putalpha(alpha)
    return srgb
