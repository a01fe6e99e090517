"""The memory of a process that decodes: bounded, and used again.

A header may promise little and the stream hold a lot. What goes back to the system comes back page by page, which takes
a seventh of the time that a photograph takes. What lies between two blocks in use cannot go back, and may be of no use
to the next picture: then another process has to decode it.
"""

import ctypes
import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

KEPT_BYTES = 64 * 2**20
"""How much of what was freed at the end of the heap a process keeps for its next picture."""
_RESIDENT_PAGES, _DATA_PAGES = 1, 5  # proc(5): /proc/pid/statm; the latter are data and stack
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
_OWN_MAPPING_BYTES = 32 * 2**20  # the most that glibc takes; larger blocks go back at once
_LEFT_BEHIND_BYTES = 16 * 2**20  # less does not make a sound picture look damaged: a damaged one costs no process


class _Mallinfo2(ctypes.Structure):
    """See mallinfo(3)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keep",
        )
    )


@dataclass(slots=True)
class _Process:
    """What this process knows of itself."""

    start: int | None = None  # private memory that is none of the pictures'
    resident_at_start: int = 0
    in_use: int = 0  # private memory without what is free in the heap, between two tasks
    has_decoded: bool = False
    decodes: bool = False
    fell_short: bool = False


_process = _Process()


def keep_freed_memory() -> None:
    """This process keeps some of what it has freed, instead of asking the system anew for every picture.

    Without effect where the C library is not glibc.
    """
    if sys.platform != "linux":
        return
    with suppress(AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _OWN_MAPPING_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


def remember_start() -> None:
    """What this process has now is none of the pictures'; what they leave behind counts against their limit."""
    if sys.platform == "linux":
        _process.start, _process.in_use = _used_bytes(_DATA_PAGES), _in_use()
        _process.resident_at_start = _used_bytes(_RESIDENT_PAGES)


def resident_at_start() -> int:
    """Resident memory of this process before its first task; 0 where it does not know."""
    return _process.resident_at_start


def begin_task() -> None:
    """What has been loaded for a task, such as a processor's libraries, is none of the pictures'."""
    _count_to_start()
    _process.decodes = _process.fell_short = False


def end_task() -> bool:
    """Whether a picture failed in it that might not have failed in a process that just began."""
    if _process.decodes:
        _process.in_use = _in_use()
    else:
        _count_to_start()
    return _process.fell_short


def _count_to_start() -> None:
    before, _process.in_use = _process.in_use, _in_use()
    if _process.start is not None:
        _process.start += max(_process.in_use - before, 0)


@contextmanager
def limited_memory(further_bytes: int, *, expected_bytes: int) -> Iterator[None]:
    """Block in which this process may use so much private memory besides what it had at its start (`remember_start`).

    Beyond, it meets a MemoryError. It turns a switch of the whole process and turns it back: for a pool process, which
    runs one task at a time. In a process that does not remember its start, what it has now counts. A tighter limit that
    is set stays. Without effect where the system is not Linux.

    Args:
        further_bytes: Never more than that.
        expected_bytes: Where less is left, what earlier tasks have freed goes back to the system first.
    """
    if sys.platform != "linux":
        yield
        return
    import resource  # noqa: PLC0415 - Windows has no such module

    has = _used_bytes(_DATA_PAGES)
    start = has if _process.start is None else _process.start
    if has + expected_bytes > start + further_bytes:
        _give_back()
        has = _used_bytes(_DATA_PAGES)
    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    set_limits = [limit for limit in (before, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([start + further_bytes, *set_limits]), hard))
    _process.decodes = True
    try:
        yield
    except MemoryError:
        _process.fell_short = _process.has_decoded
        raise
    except Exception:  # decoders that lack memory may as well say that the picture is damaged
        _process.fell_short = has > start + _LEFT_BEHIND_BYTES
        raise
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, hard))
        _process.has_decoded = True


def _used_bytes(pages: int) -> int:
    return int(Path("/proc/self/statm").read_text().split()[pages]) * mmap.PAGESIZE


def _in_use() -> int:
    if sys.platform != "linux":
        return 0
    free = 0
    with suppress(AttributeError):  # not every C library can tell
        library = ctypes.CDLL(None)
        library.mallinfo2.restype = _Mallinfo2
        free = library.mallinfo2().fordblks
    return _used_bytes(_DATA_PAGES) - free


def _give_back() -> None:
    with suppress(AttributeError):  # nor give back
        ctypes.CDLL(None).malloc_trim(0)
