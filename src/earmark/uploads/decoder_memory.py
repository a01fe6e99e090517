"""The memory of a process that decodes: bounded, and used again.

A header may promise little and the stream hold a lot. What goes back to the system comes back page by page, which takes
a seventh of the time that a photograph takes.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

KEPT_BYTES = 64 * 2**20
"""How much of what was freed at the end of the heap a process keeps for its next picture."""
_DATA_PAGES = 5  # proc(5): data and stack, in /proc/pid/statm
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
_OWN_MAPPING_BYTES = 32 * 2**20  # the most that glibc takes; larger blocks go back at once


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


@contextmanager
def limited_memory(further_bytes: int, *, expected_bytes: int) -> Iterator[None]:
    """Block in which this process may use so much private memory besides what it uses, and meets a MemoryError beyond.

    It turns a switch of the whole process and turns it back: for a pool process, which runs one task at a time. A
    tighter limit that is set stays. Without effect where the system is not Linux.

    Args:
        further_bytes: Never more than that.
        expected_bytes: So much there is in any case, even where nothing fits into what earlier tasks have left free.
    """
    if sys.platform != "linux":
        yield
        return
    import resource  # noqa: PLC0415 - Windows has no such module

    left_free = _left_free(further_bytes - expected_bytes)
    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    has = int(Path("/proc/self/statm").read_text().split()[_DATA_PAGES]) * resource.getpagesize()
    set_limits = [limit for limit in (before, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([has - left_free + further_bytes, *set_limits]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, hard))


def _left_free(bytes_max: int) -> int:
    """How much of its private memory the process does not use; what is more than `bytes_max` goes back first."""
    library = ctypes.CDLL(None)
    with suppress(AttributeError):  # not every C library can tell
        library.mallinfo2.restype = _Mallinfo2
        left_free: int = library.mallinfo2().fordblks
        if left_free <= bytes_max:
            return left_free
    with suppress(AttributeError):  # nor give back
        library.malloc_trim(0)
    return 0
