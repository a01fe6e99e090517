"""Runs the background duties, each at its interval; a failing one is reported and tried again, and stops no other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from earmark.ledger.service_pool import answers_within
from earmark.observing import Operation

_logger = logging.getLogger("earmark.duties")


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to be done again and again.

    Attributes:
        run_once: Does it once; returns what there is to log, empty when there was nothing to do.
        is_noted: Whether operators are shown when it was last done.
        answer_seconds: How long each of its statements may take.
    """

    name: str
    interval_seconds: float
    run_once: Callable[[], Awaitable[Mapping[str, object]]]
    is_noted: bool = True
    answer_seconds: float | None = None


Note = Callable[[str, str | None], Awaitable[None]]
"""Is told a duty's name whenever it was done, and the error when it failed."""


async def run_duties(duties: list[Duty], note: Note | None = None) -> None:
    """Runs them until cancelled."""
    async with asyncio.TaskGroup() as group:
        for duty in duties:
            group.create_task(_repeat(duty, note if duty.is_noted else None), name=duty.name)


async def _repeat(duty: Duty, note: Note | None) -> None:
    while True:
        failure: str | None = None
        try:
            with Operation("duty", duty=duty.name) as operation, answers_within(duty.answer_seconds):
                report = await duty.run_once()
                operation.ended("done")
            if report:
                _logger.info(duty.name, extra=dict(report))
        except Exception as error:  # noqa: BLE001 - a duty that fails now is due again later
            failure = f"{type(error).__name__}: {error}"
            _logger.error(  # noqa: TRY400 - a database that is away for an hour must not fill the log with traces
                "duty_failed", extra={"duty": duty.name, "error": failure}
            )
        if note is not None:
            with suppress(Exception):  # the database is away; the failure is in the log
                await note(duty.name, failure)
        await asyncio.sleep(duty.interval_seconds)
