"""Sends calls, again where that may help. A reservation whose caller is cancelled meanwhile is not left lying.

Its call goes on, since only the answer tells what was taken; that is then given back, as nobody else could name it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar
from uuid import UUID

from earmark.client.calls import Call, rollback
from earmark.client.retrying import repeat, repeat_sync
from earmark.errors import EarmarkError
from earmark.ledger.rollback_log import log_failed_rollback
from earmark.model import Cause

T = TypeVar("T")
CLOSING_SECONDS = 5.0
"""What is under way for callers that have gone gets to end when the client is closed."""
_UNHEARD = "whoever reserved it had gone"


class AsyncSender:
    """For asyncio.

    Args:
        attempt: Sends a call once.
        attempts: Most times that a call is sent.
    """

    def __init__(self, attempt: Callable[[Call[Any]], Awaitable[Any]], attempts: int) -> None:
        self._attempt = attempt
        self._attempts = attempts
        self._unheard: set[asyncio.Task[None]] = set()

    async def send(self, call: Call[T]) -> T:
        """Sends a call, and tells its answer."""
        if call.lost is None:
            return await self._repeat(call)
        sending = asyncio.ensure_future(self._repeat(call))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            if not sending.cancelling():  # else the whole loop ends
                giving_back = asyncio.create_task(self._give_back(sending, call.lost))
                self._unheard.add(giving_back)
                giving_back.add_done_callback(self._unheard.discard)
            raise

    async def close(self) -> None:
        """Waits for what is under way for callers that have gone, no longer than CLOSING_SECONDS."""
        if self._unheard:
            await asyncio.wait(self._unheard, timeout=CLOSING_SECONDS)

    async def _repeat(self, call: Call[T]) -> T:
        return await repeat(lambda: self._attempt(call), self._attempts)

    async def _give_back(self, sending: Awaitable[T], lost: Callable[[T], UUID]) -> None:
        with suppress(EarmarkError):  # nothing was taken, or nobody can know
            reservation = lost(await sending)
            try:
                await self._repeat(
                    rollback(reservation, subject=None, cause=Cause.CANCELLED, items=None, reason=_UNHEARD)
                )
            except EarmarkError as error:
                log_failed_rollback(reservation, Cause.CANCELLED, error, subject=None, items=None, actor=None)


class Sender:
    """The same without asyncio, where nobody is cancelled."""

    def __init__(self, attempt: Callable[[Call[Any]], Any], attempts: int) -> None:
        self._attempt = attempt
        self._attempts = attempts

    def send(self, call: Call[T]) -> T:
        """Sends a call, and tells its answer."""
        answer: T = repeat_sync(lambda: self._attempt(call), self._attempts)
        return answer

    def close(self) -> None:
        """Nothing is under way."""
