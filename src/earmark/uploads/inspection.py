"""Says whether an upload is a picture that we take: by its declaration, by its first bytes, by decoding all of it.

Every answer is a value: a `Rejection` holds a sentence for the user, and no file makes these functions raise; only a
disk that cannot be read does.
`inspect` decodes and belongs into a process of its own (`process_pool`); the others are cheap and never touch Pillow.
"""

import errno
import math
import mimetypes
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from io import BufferedReader
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Self

from PIL import AvifImagePlugin, ExifTags, Image, UnidentifiedImageError

from earmark.errors import InvalidFile, InvalidRequest
from earmark.uploads import jpeg_scans, png_stream
from earmark.uploads.decoder_memory import limited_memory, resident_at_start
from earmark.uploads.excerpt import Excerpt
from earmark.uploads.image_headers import NAMES, Header, read_header
from earmark.uploads.png_stream import DamagedPngError, check_png

if TYPE_CHECKING:  # pydantic would cost every decoding process memory
    from earmark.config import Settings
    from earmark.uploads.model import File

HEAD_BYTES = 64 * 1024
"""How much of a file `inspect_head` wants to see."""
MAX_FRAMES = 10_000
"""Frames of one picture; a file of a million one-pixel frames is an attack on our time."""
MAX_NAME_BYTES = 1024
SHOWN_NAME_CHARACTERS = 200

_OF_THE_DISK = frozenset({errno.EACCES, errno.EIO, errno.ENOENT, errno.ESTALE})
_PROCESS_BYTES = 50_000_000
"""Resident memory of a pool process before it opens a picture, and what comes to it besides."""
_CODE_BYTES = 6_000_000
"""More than decoders have of their own code resident."""
_FRACTION_BYTES = 32_000_000
"""More than a JPEG takes that is decoded at a fraction of its size."""
_CONTENT_TYPE = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}", re.ASCII)
_SHOWN_RANGES = {"jpeg": jpeg_scans.shown_ranges, "png": png_stream.shown_ranges}
_TURNED_ORIENTATIONS = frozenset({5, 6, 7, 8})


@dataclass(frozen=True, slots=True)
class _Format:
    """One format that can be allowed: what it is called at the borders, and by Pillow."""

    content_types: tuple[str, ...]  # the first is the one we record
    extensions: tuple[str, ...]
    pillow: str


FORMATS: dict[str, _Format] = {
    "jpeg": _Format(("image/jpeg", "image/jpg", "image/pjpeg"), ("jpg", "jpeg", "jpe", "jfif", "mpo"), "JPEG"),
    "png": _Format(("image/png", "image/apng", "image/x-png"), ("png", "apng"), "PNG"),
    "webp": _Format(("image/webp",), ("webp",), "WEBP"),
    "gif": _Format(("image/gif",), ("gif",), "GIF"),
    "avif": _Format(("image/avif",), ("avif", "avifs"), "AVIF"),
    "heic": _Format(("image/heic", "image/heif"), ("heic", "heics", "heif", "heifs", "hif"), "HEIF"),
    "tiff": _Format(("image/tiff",), ("tif", "tiff"), "TIFF"),
    "bmp": _Format(("image/bmp", "image/x-ms-bmp"), ("bmp", "dib"), "BMP"),
    "ico": _Format(("image/vnd.microsoft.icon", "image/x-icon"), ("ico",), "ICO"),
}
_FORMAT_OF_TYPE = {content_type: name for name, known in FORMATS.items() for content_type in known.content_types}
_FORMAT_OF_EXTENSION = {extension: name for name, known in FORMATS.items() for extension in known.extensions}
# Python's own table, not the machine's: the same answer everywhere.
_OTHER_EXTENSIONS = frozenset(extension.removeprefix(".") for extension in mimetypes.MimeTypes().types_map[True]).union(
    *map(str.split, (
        # pictures and drawings
        "jxl jp2 j2k jpf jpx jpm mj2 jxr wdp hdp psd psb xcf kra svgz cdr emf wmf tga dds exr hdr pcx qoi icns djvu",
        # what cameras store
        "raw dng 3fr arw cr2 cr3 crw dcr erf fff gpr iiq kdc mef mos mrw nef nrw orf pef raf rw2 rwl sr2 srw x3f srf",
        # videos and sounds
        "mov mp4 m4v mkv mts m2ts flv wmv asf vob ogv rmvb divx mxf mp3 m4a m4b flac ogg oga wma amr mid midi aiff",
        # archives and disks
        "zip 7z rar gz tgz bz2 tbz xz txz zst lz lzma lzh arj cab tar iso dmg img vhd vmdk",
        # office
        "docx docm dotx dotm xlsx xlsm xlsb xltx pptx pptm ppsx potx odt ods odp odg rtf pages numbers key xps epub",
        # web pages, and what servers and shells run
        "xhtml xht shtml hta mhtml chm php php3 php4 php5 php7 phtml pht phps phar asp aspx ashx asmx asa jsp jspx",
        "cfm cgi pl py rb lua sh bash zsh cmd bat ps1 psm1 vbs vbe jse wsf wsh htc htaccess url desktop",
        # programs
        "exe scr pif cpl msi msp msix appx lnk reg jar war ear class apk aab ipa deb rpm pkg xpi crx elf dylib sys ocx",
    ))
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """What an upload may be.

    Attributes:
        max_file_bytes: Size of a file.
        max_frame_pixels: Width times height of any frame.
        max_total_pixels: The same, over all frames.
        allowed_types: Content types that may be uploaded.
        decoder_memory_bytes: Peak resident memory of a process that decodes. Formats whose decoders hold several
            copies (WebP, AVIF, animated GIF, progressive JPEG without subsampling) reach it below `max_frame_pixels`,
            and are refused there: 14, 17, 14 and 37 megapixels with the default. 900 MB lets 50 megapixels of any pass.
    """

    max_file_bytes: int
    max_frame_pixels: int
    max_total_pixels: int
    allowed_types: tuple[str, ...]
    decoder_memory_bytes: int = 300_000_000

    @classmethod
    def from_settings(cls, settings: "Settings") -> Self:
        """The limits that are configured."""
        return cls(
            max_file_bytes=settings.max_file_bytes,
            max_frame_pixels=settings.max_frame_pixels,
            max_total_pixels=settings.max_total_pixels,
            allowed_types=settings.allowed_types,
        )


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a file is not taken.

    Attributes:
        code: Short and stable: `empty`, `too-large`, `bad-name`, `type-not-allowed`, `content-mismatch`,
            `not-an-image`, `too-many-pixels`, `too-many-frames`, `too-costly`, `damaged`.
        reason: One sentence for the user.
    """

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a sound picture is.

    Attributes:
        format: A key of `FORMATS`; a camera's MPO is a `jpeg`.
        content_type: What to serve it as, whatever it was sent as.
        width: Pixels, as a viewer shows it: after EXIF orientation.
        height: Likewise.
        frames: 1 for a still.
    """

    format: str
    content_type: str
    width: int
    height: int
    frames: int

    @property
    def metadata(self) -> dict[str, object]:
        """What is told of the image where nobody has found out more."""
        return {"width": self.width, "height": self.height, "format": self.format, "frames": self.frames}


def check_declared(filename: str, content_type: str, size: int, limits: Limits) -> Rejection | None:
    """What is wrong with an upload that is only announced yet; None when it may come. `size` is in bytes."""
    return (
        _check_name(filename)
        or _check_type(content_type, limits)
        or _check_extension(filename, content_type)
        or _check_file_size(size, limits)
    )


def first_invalid(files: "Sequence[File]", limits: Limits) -> InvalidFile | None:
    """The error of the first of these files that would never be accepted; None where all may come."""
    for index, file in enumerate(files):
        rejection = check_declared(file.filename, file.content_type, file.size, limits)
        if rejection is not None:
            shown = display_name(file.filename)
            detail = {"index": index, "filename": shown, "reason": rejection.reason, "code": rejection.code}
            return InvalidFile(f"{shown}: {rejection.reason}", detail)
    return None


def display_name(filename: str) -> str:
    """A file's name as it is stored and shown: its last path part in NFC, no controls, never empty, 200 characters."""
    last = filename.replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = unicodedata.normalize("NFC", "".join(map(_shown, last))).strip()
    if not name.strip(". "):
        return "unnamed"
    if len(name) > SHOWN_NAME_CHARACTERS:
        stem, dot, extension = name.rpartition(".")
        ending = dot + extension if stem and len(extension) <= 10 else ""  # noqa: PLR2004 - an extension, not a sentence
        name = name[: SHOWN_NAME_CHARACTERS - len(ending) - 1] + "…" + ending
    return name


@dataclass(frozen=True, slots=True)
class Picture:
    """A sound still as it was decoded: at least as large as it was asked for, as it is stored (`orientation`: EXIF)."""

    image: Image.Image
    orientation: int


def inspect_head(head: bytes, *, content_type: str, filename: str, limits: Limits) -> Rejection | None:
    """What the first 64 KiB of a file (or more of it) already show to be wrong; None when nothing is.

    Never decodes a pixel, so it is safe in the service's own process.
    """
    if not head:
        return _EMPTY
    return _check_header(read_header(head), content_type, filename, limits)


def inspect(path: Path, *, content_type: str, filename: str, limits: Limits) -> Inspected | Rejection:
    """Decodes every frame of a file and says what it is.

    Peak resident memory stays under `limits.decoder_memory_bytes`, on Linux whatever the file is. Runs in a pool
    process: it can take seconds, and a decoder that crashes takes its process along.
    """
    found = inspect_picture(path, content_type=content_type, filename=filename, limits=limits, side=1)
    return found if isinstance(found, Rejection) else found[0]


def inspect_picture(
    path: Path, *, content_type: str, filename: str, limits: Limits, side: int
) -> tuple[Inspected, Picture | None] | Rejection:
    """What `inspect` says, and the picture itself where it is a still, so that nobody need decode it again.

    Its longest side has at least `side` pixels, where the file has as many.
    """
    if refused := _check_file_size(path.stat().st_size, limits):
        return refused
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        header = read_header(data)
        if refused := _check_header(header, content_type, filename, limits):
            return refused
        if header is None or not header.ends:
            return _DAMAGED
        try:
            # Pillow's frames of a PNG are not asked for: composing them would cost five canvases.
            pictures = check_png(data) if header.format == "png" else None
        except DamagedPngError:
            return _DAMAGED
    return _decode(path, header, pictures, limits, side)


@contextmanager
def strict_pillow(max_pixels: int) -> Iterator[None]:
    """Block in which Pillow refuses pictures over `max_pixels`, and keeps its other warnings to itself.

    It turns a switch of the whole process and turns it back: for a pool process, which runs one task at a time.
    """
    before = Image.MAX_IMAGE_PIXELS, AvifImagePlugin.DEFAULT_MAX_THREADS
    Image.MAX_IMAGE_PIXELS, AvifImagePlugin.DEFAULT_MAX_THREADS = max_pixels, 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS, AvifImagePlugin.DEFAULT_MAX_THREADS = before


@contextmanager
def open_image(path: Path, name: str) -> Iterator[Image.Image]:
    """A file opened as the one format it is known to be; no other decoder gets to see it.

    Of a JPEG or PNG, only what shows its first picture is there.

    Raises:
        DamagedJpegError, DamagedPngError: That is not all there.
    """
    if name == "heic":
        from pillow_heif import register_heif_opener  # noqa: PLC0415 - an extra, and only here

        register_heif_opener(thumbnails=False)
    with ExitStack() as opened:
        source: Path | BufferedReader[Excerpt] = path
        if find := _SHOWN_RANGES.get(name):
            with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
                shown = Excerpt(path, *find(data))
            source = opened.enter_context(BufferedReader(shown))
        yield opened.enter_context(Image.open(source, formats=[FORMATS[name].pillow]))


def draft(image: Image.Image, side: int) -> None:
    """Lets a JPEG be decoded at a fraction of its size, where its longest side keeps at least `side` pixels."""
    longest = max(*image.size, side)
    image.draft(None, (math.ceil(image.width * side / longest), math.ceil(image.height * side / longest)))


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation of a loaded picture, 1 to 8; 1 where it has none or the metadata is broken."""
    with suppress(Exception):  # a broken tag must not cost the user the upload, whatever it makes the reader raise
        if image.format == "TIFF":  # it is EXIF
            exif = image.getexif()
        else:  # `getexif` would ask XMP as well, by which no viewer turns a picture
            exif = Image.Exif()
            exif.load(image.info.get("exif", b""))
        found = exif.get(ExifTags.Base.Orientation, 1)
        if found in range(1, 9):
            return int(found)
    return 1


def frames_of(path: Path, image: Image.Image, name: str) -> int:
    """How many frames an opened picture has.

    The index of a camera's MPO may speak of pictures that were cut off or moved since, by a program that knows only
    JPEG and shows the first: they do not count. One that is there but damaged does.
    """
    frames = int(getattr(image, "n_frames", 1))
    for index in range(1, frames) if name == "jpeg" else ():
        try:
            with _at_frame(path, image, name, index):
                pass
        except (ValueError, SyntaxError, UnidentifiedImageError):  # no JPEG begins there, that can be read as one
            return index
    return frames


def _decode(
    path: Path, header: Header, pictures: int | None, limits: Limits, side: int
) -> tuple[Inspected, Picture | None] | Rejection:
    memory_bytes = limits.decoder_memory_bytes - max(resident_at_start() + _CODE_BYTES, _PROCESS_BYTES)
    try:
        # The header may lie, and pixels are not all that a decoder keeps.
        with (
            strict_pillow(limits.max_frame_pixels),
            limited_memory(memory_bytes, expected_bytes=header.decoder_bytes + _FRACTION_BYTES),
            open_image(path, header.format) as image,
        ):
            return _load_frames(path, image, header, pictures, limits, side)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return _too_many_pixels(limits)
    except MemoryError:
        return Rejection("too-costly", "The picture takes too much memory to decode.")
    except Exception as error:
        if is_of_the_disk(error):
            raise
        return _DAMAGED  # decoders raise whatever they like: struct.error, SyntaxError, KeyError…


def is_of_the_disk(error: Exception) -> bool:
    """Whether the file could not be read, which says nothing about the picture in it."""
    return isinstance(error, OSError) and error.errno in _OF_THE_DISK


def _load_frames(
    path: Path, image: Image.Image, header: Header, pictures: int | None, limits: Limits, side: int
) -> tuple[Inspected, Picture | None] | Rejection:
    width, height = image.size
    frames = pictures or frames_of(path, image, header.format)
    if refused := _check_size(replace(header, width=width, height=height, frames=frames), limits):
        return refused
    pixels = 0
    orientation = 1
    for index in range(1 if pictures else frames):
        with _at_frame(path, image, header.format, index) as frame:
            pixels += frame.width * frame.height
            if pixels > limits.max_total_pixels or frame.width * frame.height > limits.max_frame_pixels:
                return _too_many_pixels(limits)
            if header.format == "jpeg":
                # All of the file is read, but down to an eighth of each side is made: 50 megapixels in few megabytes.
                draft(frame, side)
            frame.load()
            orientation = orientation if index else orientation_of(frame)
    if orientation in _TURNED_ORIENTATIONS:
        width, height = height, width
    inspected = Inspected(header.format, FORMATS[header.format].content_types[0], width, height, frames)
    return inspected, Picture(image, orientation) if frames == 1 else None


@contextmanager
def _at_frame(path: Path, image: Image.Image, name: str, index: int) -> Iterator[Image.Image]:
    if name == "jpeg" and index:  # of another size than the first, and Pillow keeps what `draft` set for that
        with Image.open(path, formats=[FORMATS[name].pillow]) as further:
            further.seek(index)
            yield further
    else:
        image.seek(index)
        yield image


_DAMAGED = Rejection("damaged", "The picture is incomplete or damaged.")
_EMPTY = Rejection("empty", "The file is empty.")


def _check_name(filename: str) -> Rejection | None:
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in filename):
        return Rejection("bad-name", "The file's name contains characters that are not text.")
    if len(filename.encode()) > MAX_NAME_BYTES:
        return Rejection("bad-name", f"The file's name is longer than {MAX_NAME_BYTES} bytes.")
    return None


def _check_file_size(size: int, limits: Limits) -> Rejection | None:
    if size < 1:
        return _EMPTY
    if size > limits.max_file_bytes:
        return Rejection("too-large", f"The file is larger than {_megabytes(limits.max_file_bytes)}.")
    return None


def check_allowed_types(allowed_types: Iterable[str]) -> None:
    """Finds out before the first upload what no upload could be.

    Raises:
        InvalidRequest: Nothing here reads one of these content types, or the extra that does is not installed.
    """
    for allowed_type in allowed_types:
        name = _FORMAT_OF_TYPE.get(allowed_type.strip().lower())
        if name is None:
            known = ", ".join(_FORMAT_OF_TYPE)
            raise InvalidRequest(f"EARMARK_ALLOWED_TYPES: {allowed_type!r} is no type of image; there are {known}")
        if name == "heic" and not _reads_heic():
            raise InvalidRequest(f"EARMARK_ALLOWED_TYPES: {allowed_type} needs pip install 'earmark[heic]'")


def _reads_heic() -> bool:
    return find_spec("pillow_heif") is not None


def _check_type(content_type: str, limits: Limits) -> Rejection | None:
    name = _FORMAT_OF_TYPE.get(content_type.lower())
    allowed = {_FORMAT_OF_TYPE.get(allowed_type.strip().lower()) for allowed_type in limits.allowed_types}
    if name is None or name not in allowed:
        kinds = ", ".join(NAMES[known].split()[1] for known in FORMATS if known in allowed)
        sent_as = f"of type {content_type}" if _CONTENT_TYPE.fullmatch(content_type) else "of an unknown type"
        return Rejection("type-not-allowed", f"Files {sent_as} are not accepted, only {kinds}.")
    if name == "heic" and not _reads_heic():
        return Rejection("type-not-allowed", "HEIC images cannot be read by this service.")
    return None


def _check_extension(filename: str, content_type: str) -> Rejection | None:
    plain = "".join(character for character in display_name(filename) if unicodedata.category(character) != "Cf")
    extension = plain.rstrip(". ").rpartition(".")[2].lower() if "." in plain.rstrip(". ") else ""
    named = _FORMAT_OF_EXTENSION.get(extension)
    if named == _FORMAT_OF_TYPE.get(content_type.lower()) or (named is None and extension not in _OTHER_EXTENSIONS):
        return None
    return Rejection("content-mismatch", f"The file's name ends in .{extension} but it was sent as {content_type}.")


def _check_header(header: Header | None, content_type: str, filename: str, limits: Limits) -> Rejection | None:
    return (
        _check_type(content_type, limits)
        or _check_extension(filename, content_type)
        or _check_content(header, content_type)
        or (_check_size(header, limits) if header is not None else None)
    )


def _check_content(header: Header | None, content_type: str) -> Rejection | None:
    sent_as = _FORMAT_OF_TYPE[content_type.lower()]
    if header is None:
        return Rejection("not-an-image", f"The file is not {NAMES[sent_as]}.")
    if header.format != sent_as:
        return Rejection("content-mismatch", f"The file is {NAMES[header.format]} but was sent as {content_type}.")
    return None


def _check_size(header: Header, limits: Limits) -> Rejection | None:
    if header.width is None or header.height is None:
        return None
    pixels = header.width * header.height
    if pixels == 0:
        return _DAMAGED
    if header.frames > MAX_FRAMES:
        return Rejection("too-many-frames", f"The animation has more than {MAX_FRAMES:,} frames.")
    if pixels > limits.max_frame_pixels or pixels * header.frames > limits.max_total_pixels:
        return _too_many_pixels(limits)
    if header.decoder_bytes > limits.decoder_memory_bytes - _PROCESS_BYTES:
        return _too_costly(header, limits)
    return None


def _too_many_pixels(limits: Limits) -> Rejection:
    frame, total = limits.max_frame_pixels / 1e6, limits.max_total_pixels / 1e6
    return Rejection(
        "too-many-pixels",
        f"The picture is larger than {frame:g} megapixels, or {total:g} megapixels over all its frames.",
    )


def _too_costly(header: Header, limits: Limits) -> Rejection:
    megapixels = int((limits.decoder_memory_bytes - _PROCESS_BYTES) / header.bytes_per_pixel / 1e6)
    kind = f"{NAMES[header.format]} of this kind"
    return Rejection("too-many-pixels", f"The picture is too large: {kind} may have at most {megapixels} megapixels.")


def _shown(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cs":
        return "\N{REPLACEMENT CHARACTER}"
    if category in {"Cc", "Zl", "Zp"} or unicodedata.bidirectional(character) in _BIDI_CONTROLS:
        return ""
    return character


# Embeddings, overrides and isolates reorder what stands around them; single marks and joiners are part of writing.
_BIDI_CONTROLS = frozenset({"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"})


def _megabytes(size: int) -> str:
    return f"{size / 1e6:g} MB" if size >= 100_000 else f"{size:,} bytes"  # noqa: PLR2004 - where MB reads badly
