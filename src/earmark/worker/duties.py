"""Runs the background duties, each at its interval; a failing one is reported and tried again, and stops no other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

_logger = logging.getLogger("earmark.duties")


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to be done again and again.

    Attributes:
        run_once: Does it once; returns what there is to log, empty when there was nothing to do.
    """

    name: str
    interval_seconds: float
    run_once: Callable[[], Awaitable[Mapping[str, object]]]


async def run_duties(duties: list[Duty]) -> None:
    """Runs them until cancelled."""
    async with asyncio.TaskGroup() as group:
        for duty in duties:
            group.create_task(_repeat(duty), name=duty.name)


async def _repeat(duty: Duty) -> None:
    while True:
        try:
            report = await duty.run_once()
            if report:
                _logger.info(duty.name, extra=dict(report))
        except Exception as error:  # noqa: BLE001 - a duty that fails now is due again later
            _logger.error(  # noqa: TRY400 - a database that is away for an hour must not fill the log with traces
                "duty_failed", extra={"duty": duty.name, "error": f"{type(error).__name__}: {error}"}
            )
        await asyncio.sleep(duty.interval_seconds)
