"""Sending again, a bounded number of times and ever more rarely, what may yet be answered."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from earmark.client.problems import Passing

T = TypeVar("T")
BASE_SECONDS = 0.25
CAP_SECONDS = 4.0
ASKED_CAP_SECONDS = 30.0
"""The longest that a service's Retry-After is heeded."""

_logger = logging.getLogger("earmark.client")
_logger.addHandler(logging.NullHandler())  # without logging set up, a program's own output stays its own


async def repeat(attempt: Callable[[], Awaitable[T]], attempts: int) -> T:
    """Attempts until there is an answer or a refusal that will not pass.

    Raises:
        EarmarkError: That refusal, or what the last attempt failed with.
    """
    for longest in _pauses(attempts):
        try:
            return await attempt()
        except Passing as passing:
            await asyncio.sleep(_pause(longest, passing))
    try:
        return await attempt()
    except Passing as passing:
        raise passing.error from passing.__cause__


def repeat_sync(attempt: Callable[[], T], attempts: int) -> T:
    """The same without asyncio."""
    for longest in _pauses(attempts):
        try:
            return attempt()
        except Passing as passing:
            time.sleep(_pause(longest, passing))
    try:
        return attempt()
    except Passing as passing:
        raise passing.error from passing.__cause__


def _pauses(attempts: int) -> Iterator[float]:
    """The longest pause after each attempt but the last."""
    for number in range(attempts - 1):
        yield min(BASE_SECONDS * 2**number, CAP_SECONDS)


def _pause(longest: float, passing: Passing) -> float:
    """Any time up to the longest, lest all come back at once, on top of what the service asks for."""
    seconds = min(passing.wait_seconds, ASKED_CAP_SECONDS) + random.uniform(0, longest)  # noqa: S311 - no secret
    _logger.warning("service_unavailable", extra={"error": str(passing.error), "retry_seconds": round(seconds, 3)})
    return seconds
