"""For whoever runs the service: alive, ready, and its metrics."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import time

from prometheus_client.core import Metric
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from earmark import metrics
from earmark.errors import EarmarkError
from earmark.http_api.problems import problem_of
from earmark.http_api.routing import Access, Media, operation, resource
from earmark.http_api.services import Services
from earmark.http_api.wire import HealthAnswer, ReadyAnswer, answer
from earmark.uploads.queue import queue_health

_logger = logging.getLogger("earmark.http")
CHECK_SECONDS = 3.0
"""How long one check of readiness, or the database's part of a scrape, may take."""


def routes(services: Services) -> list[Route]:
    """The calls of this noun."""
    calls = Operations(services)
    return [
        resource("/healthz", GET=calls.alive),
        resource("/readyz", GET=calls.ready),
        resource("/metrics", GET=calls.metrics),
    ]


class Operations:
    """Each method answers one call; none asks for a token."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @operation(answers={200: HealthAnswer}, access=Access.OPEN)
    async def alive(self, _: Request) -> Response:
        """The process answers."""
        return answer(HealthAnswer("ok"))

    @operation(answers={200: ReadyAnswer, 503: ReadyAnswer}, access=Access.OPEN)
    async def ready(self, _: Request) -> Response:
        """Whether database and store can be used, tokens be verified, and the clock is right; 503 unless all is so."""
        needed: dict[str, Callable[[], Awaitable[object]]] = {
            "database": self._takes_changes,
            "storage": self._services.storage.ready,
            "sign_in": self._services.sign_in.ready,
        }
        checks = {name: await _checked(check) for name, check in needed.items()}
        if checks["database"] == "ok":
            checks["clock"] = await _checked(self._clock_agrees)
        checks["service"] = "stopping" if self._services.stopping.is_set() else "ok"
        fine = all(check == "ok" for check in checks.values())
        return answer(ReadyAnswer("ok" if fine else "unavailable", checks), 200 if fine else 503)

    @operation(answers={200: Media("text/plain")}, access=Access.OPEN)
    async def metrics(self, _: Request) -> Response:
        """Prometheus' text format; while the database is away, without what only the database knows."""
        families = [metrics.database_up(up=False)]
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                families = await self._of_database()
        except Exception as error:  # noqa: BLE001 - whatever it is, the rest is told all the same
            _logger.warning("metrics_without_database", extra={"error": type(error).__name__})
        return Response(metrics.exposition(families), media_type=metrics.CONTENT_TYPE)

    async def _of_database(self) -> list[Metric]:
        health = await self._services.ledger.health()
        async with self._services.uploads.pool.connection() as connection:
            queue = await queue_health(connection)
        return [
            metrics.database_up(up=True),
            metrics.clock_ahead(await self._clock_ahead()),
            *metrics.of_database(health),
            *metrics.of_queue(queue.waiting, queue.working, queue.oldest_waiting_seconds),
        ]

    async def _takes_changes(self) -> None:
        await self._services.ledger.plans()
        async with self._services.uploads.pool.connection() as connection:
            found = await (await connection.execute("SHOW transaction_read_only")).fetchone()
        if found == ("on",):
            raise EarmarkError("it takes no changes: a standby, or set to read-only, as providers do of a full disk")

    async def _clock_agrees(self) -> None:
        """Deadlines are set by the database's clock, and links are signed, and their ends seen, by ours."""
        ahead = await self._clock_ahead()
        if abs(ahead) > self._services.settings.upload_ttl_seconds / 2:
            raise EarmarkError(
                f"this service's clock is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} the database's, "
                "so that upload links end at the wrong time; let NTP set both"
            )

    async def _clock_ahead(self) -> float:
        async with self._services.uploads.pool.connection() as connection:
            cursor = await connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
            found = await cursor.fetchone()
        assert found is not None  # noqa: S101 - it always answers one row
        return time() - float(found[0])


async def _checked(check: Callable[[], Awaitable[object]]) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except TimeoutError:
        return f"no answer within {CHECK_SECONDS:g} seconds"
    except EarmarkError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, we are not ready
        return problem_of(error).detail
    return "ok"
