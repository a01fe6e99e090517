"""Usage for many requests with few calls: what most answers carry, and what costs most to read one by one."""

import asyncio
from typing import Any

from psycopg import AsyncConnection

from earmark.ledger import AsyncLedger
from earmark.model import Usage

MAX_BATCH = 500
"""Subjects asked about in one call at most."""

Waiting = dict[str, list[asyncio.Future[Usage]]]


class UsageReader:
    """Whoever asks while a call is in flight is answered by the next one, which was not sent before he asked.

    So he sees what he has done himself. For one event loop.
    """

    def __init__(self, ledger: AsyncLedger) -> None:
        self._ledger = ledger
        self._waiting: Waiting = {}
        self._sending: asyncio.Task[None] | None = None

    async def usage(self, subject: str, connection: AsyncConnection[Any] | None = None) -> Usage:
        """What the subject may use and uses now, or, with a connection, as its transaction sees it.

        Raises:
            UnknownSubject: No such subject, and no default plan.
        """
        if connection is not None:
            return await self._ledger.usage(subject, connection=connection)
        answer: asyncio.Future[Usage] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(subject, []).append(answer)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        return await answer

    async def _send(self) -> None:
        try:
            while self._waiting:
                batch = {subject: self._waiting.pop(subject) for subject in list(self._waiting)[:MAX_BATCH]}
                try:
                    found = await self._ledger.usages(list(batch))
                except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
                    await self._one_by_one(batch, error)
                else:
                    for subject, answers in batch.items():
                        _settle(answers, found[subject])
        finally:
            self._sending = None

    async def _one_by_one(self, batch: Waiting, error: Exception) -> None:
        """Somebody in the batch is unknown, or the database is away: each hears of his own."""
        if len(batch) == 1:
            for answers in batch.values():
                _settle(answers, error)
            return
        for subject, answers in batch.items():
            try:
                _settle(answers, await self._ledger.usage(subject))
            except Exception as own:  # noqa: BLE001 - as above
                _settle(answers, own)


def _settle(answers: list[asyncio.Future[Usage]], outcome: Usage | Exception) -> None:
    for answer in answers:
        if not answer.done():  # whoever asked may have gone
            if isinstance(outcome, Exception):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)
