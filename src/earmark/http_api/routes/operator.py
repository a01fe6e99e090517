"""For whoever answers for the service: who there is, what became of their quota, and how the background is doing."""

from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from earmark.errors import InvalidRequest
from earmark.http_api.caller import SUBJECT_LENGTH_MAX
from earmark.http_api.overviews import (
    RollbacksAnswer,
    StatusAnswer,
    SubjectsAnswer,
    UseAnswer,
    UsePointAnswer,
    status_answer,
)
from earmark.http_api.requests import limit_of, named_in_query, number_of
from earmark.http_api.routing import LIMIT, SUBJECT, Access, Parameter, operation, resource
from earmark.http_api.services import Services
from earmark.http_api.wire import answer
from earmark.uploads.status import status_of

POINTS = 120
"""Moments of a series."""
DAYS_MAX = 365
HOURLY_UP_TO_DAYS = 2
_DAYS = Parameter(
    "days",
    {"type": "integer", "minimum": 1, "maximum": DAYS_MAX, "default": 30},
    "How far back to look.",
)
_PART = Parameter(
    "like",
    {"type": "string", "maxLength": SUBJECT_LENGTH_MAX, "pattern": r"^[^\x00]*$"},
    "What their name contains.",
    required=True,
)


def routes(services: Services) -> list[Route]:
    """The calls of this noun."""
    calls = Operator(services)
    return [
        resource("/api/admin/subjects", GET=calls.subjects),
        resource("/api/admin/use", GET=calls.use),
        resource("/api/admin/rollbacks", GET=calls.rollbacks),
        resource("/api/admin/status", GET=calls.status),
    ]


class Operator:
    """Each method answers one call, of a service."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._ledger = services.ledger

    @operation(answers={200: SubjectsAnswer}, access=Access.SERVICE, problems=(InvalidRequest,), query=(_PART, LIMIT))
    async def subjects(self, request: Request) -> Response:
        """Registered subjects whose name contains a text, in whatever case."""
        self._services.caller(request).must_be_service()
        part = request.query_params.get("like")
        if part is None or len(part) > SUBJECT_LENGTH_MAX or "\0" in part:
            message = f"like must be a text of up to {SUBJECT_LENGTH_MAX} characters, without NUL."
            raise InvalidRequest(message, {"field": "like"})
        return answer(SubjectsAnswer(await self._ledger.subjects_like(part, limit=limit_of(request))))

    @operation(answers={200: UseAnswer}, access=Access.SERVICE, problems=(InvalidRequest,), query=(SUBJECT, _DAYS))
    async def use(self, request: Request) -> Response:
        """What a subject used over time; of what was pruned from his journal, nothing."""
        caller = self._services.caller(request)
        caller.must_be_service()
        subject = caller.acting_for(named_in_query(request))
        since = _since(_days(request))
        found = await self._ledger.use_over_time(subject, since=since, points=POINTS)
        series = {
            resource: [UsePointAnswer(one.at, one.committed, one.held) for one in points]
            for resource, points in groupby(found, key=lambda one: one.resource)
        }
        return answer(UseAnswer(subject, since, series))

    @operation(answers={200: RollbacksAnswer}, access=Access.SERVICE, problems=(InvalidRequest,), query=(_DAYS,))
    async def rollbacks(self, request: Request) -> Response:
        """What came back over time and why: by the hour, or, of more than two days, by the day."""
        self._services.caller(request).must_be_service()
        days = _days(request)
        step: Literal["hour", "day"] = "hour" if days <= HOURLY_UP_TO_DAYS else "day"
        return answer(RollbacksAnswer(step, await self._ledger.rollbacks_over_time(since=_since(days), step=step)))

    @operation(answers={200: StatusAnswer}, access=Access.SERVICE)
    async def status(self, request: Request) -> Response:
        """What is overdue, what failed, how long the queue is, who works on it, and when each duty last ran."""
        self._services.caller(request).must_be_service()
        async with self._services.uploads.pool.connection() as connection:
            status = await status_of(connection)
        return answer(status_answer(status, sweep_interval_seconds=self._services.settings.sweep_interval_seconds))


def _days(request: Request) -> int:
    return number_of(request, "days", default=30, most=DAYS_MAX)


def _since(days: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)
