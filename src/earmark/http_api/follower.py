"""One loop per process that notices whose books have moved, for all the streams of events that are open.

It asks the database where each followed subject is, by index, at an interval; nothing is notified by those who write,
and nobody is asked for while nobody follows.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from earmark.ledger.retrying import UNREACHABLE
from earmark.uploads.changes import Position

POLL_SECONDS = 0.3
POLL_SECONDS_WHEN_UNREACHABLE = 3.0
SUBJECTS_PER_CALL = 1000

_logger = logging.getLogger("earmark.events")


class Watch:
    """One stream's view of its subject: a flag that something has moved. What, the stream reads itself."""

    def __init__(self) -> None:
        self.is_over = False
        self._moved = asyncio.Event()

    async def moved(self, timeout_seconds: float) -> bool:
        """Waits until something may have moved since the last call; False when the time is up first."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):  # `wait_for` may forget a cancellation: see CancellablePool
                await self._moved.wait()
        moved = self._moved.is_set()
        self._moved.clear()
        return moved

    def wake(self, *, for_good: bool = False) -> None:
        """Something has moved; `for_good`, the service ends."""
        self.is_over = self.is_over or for_good
        self._moved.set()


class Follower:
    """Wakes the watches of a subject when his position is another one than at the last look. For one event loop.

    Args:
        read: Where these subjects are.
        stopping: Set when the service ends: all watches are over then.
    """

    def __init__(
        self, read: Callable[[Sequence[str]], Awaitable[Mapping[str, Position]]], stopping: asyncio.Event
    ) -> None:
        self._read = read
        self._stopping = stopping
        self._watches: defaultdict[str, set[Watch]] = defaultdict(set)
        self._seen: dict[str, Position] = {}
        self._following: asyncio.Task[None] | None = None

    def watching(self, subject: str) -> int:
        """How many watches of this subject there are."""
        return len(self._watches.get(subject, ()))

    @contextmanager
    def watch(self, subject: str) -> Iterator[Watch]:
        """Follows the subject inside the block: whatever is committed from now on wakes the watch."""
        watch = Watch()
        self._watches[subject].add(watch)
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow())
        try:
            yield watch
        finally:
            self._watches[subject].discard(watch)
            if not self._watches[subject]:
                del self._watches[subject]
                self._seen.pop(subject, None)

    async def _follow(self) -> None:
        while self._watches:
            pause = POLL_SECONDS
            try:
                await self._look()
            except UNREACHABLE as error:
                pause = POLL_SECONDS_WHEN_UNREACHABLE
                _logger.warning("events_delayed", extra={"error": f"{type(error).__name__}: {error}".strip()})
            except Exception:  # the loop outlives whatever it meets
                pause = POLL_SECONDS_WHEN_UNREACHABLE
                _logger.exception("events_delayed")
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
                break
        for watches in self._watches.values():
            for watch in watches:
                watch.wake(for_good=True)

    async def _look(self) -> None:
        subjects = list(self._watches)
        for first in range(0, len(subjects), SUBJECTS_PER_CALL):
            for subject, position in (await self._read(subjects[first : first + SUBJECTS_PER_CALL])).items():
                if subject in self._watches and self._seen.get(subject) != position:
                    self._seen[subject] = position
                    for watch in self._watches[subject]:
                        watch.wake()
