"""Bounds what decoders allocate: a header may promise little and the stream hold a lot."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_DATA_PAGES = 5  # proc(5): data and stack, in /proc/pid/statm


@contextmanager
def limited_memory(further_bytes: int) -> Iterator[None]:
    """Block in which this process gets so much private memory besides what it has, and meets a MemoryError beyond.

    It turns a switch of the whole process and turns it back: for a pool process, which runs one task at a time. A
    tighter limit that is set stays. Without effect where the system is not Linux.
    """
    if sys.platform != "linux":
        yield
        return
    import resource  # noqa: PLC0415 - Windows has no such module

    with suppress(AttributeError):  # not every C library has it; what earlier tasks have left free would not count
        ctypes.CDLL(None).malloc_trim(0)
    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    has = int(Path("/proc/self/statm").read_text().split()[_DATA_PAGES]) * resource.getpagesize()
    set_limits = [limit for limit in (before, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([has + further_bytes, *set_limits]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, hard))
