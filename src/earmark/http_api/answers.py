"""Doing once what is asked for twice under the same Idempotency-Key (draft-ietf-httpapi-idempotency-key-header).

The answer is stored in the transaction that does what was asked, a refusal too, so there is never the one without the
other. Calls whose key the ledger itself remembers (reserving, adjusting) need none of this.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool
from starlette.requests import Request
from starlette.responses import Response

from earmark.errors import EarmarkError, KeyConflict, translated
from earmark.http_api.problems import REPLAYED, Problem, Told, problem_of
from earmark.http_api.requests import key_of
from earmark.ledger.retrying import insist

Connection = AsyncConnection[Any]
Effect = Callable[[Connection | None], Awaitable[Response]]
_SERVER_ERROR = 500
_OF_THE_MOMENT = ("content-", "ratelimit")
"""Headers that a stored answer goes without: what they say would not be so any more."""


class RequestInFlight(EarmarkError):  # noqa: N818 - named for what is wrong
    """The same key is being worked on right now, for a request that came before this one."""

    status = 409
    slug = "request-in-flight"
    remedy = "Send the same again in a moment; it will get the first one's answer."


class _Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """An answer as it is stored: a body, to the byte, or a problem."""

    status: int
    headers: dict[str, str]
    body: str | None = None
    problem: Problem | None = None


class Answers:
    """Answers of calls, by subject and key."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def once(
        self, request: Request, owner: Callable[[], Awaitable[str]], body: msgspec.Struct | None, effect: Effect
    ) -> Response:
        """Has the effect, or, where it was had under the request's key before, gives the answer of that time.

        Args:
            request: Without a key, the effect is just had.
            owner: Tells whose key it is: his whose quota it is about.
            body: What is asked for, besides the address.
            effect: Does it, on the given connection and in its transaction, or, where there is none, as it likes.

        Raises:
            KeyConflict: The key was used for another request.
            RequestInFlight: The same key is being worked on.
            EarmarkError: As the effect, whose error is remembered like an answer.
        """
        key = key_of(request)
        if key is None:
            return await effect(None)
        asked = {"call": f"{request.method} {request.url.path}", **(msgspec.to_builtins(body) if body else {})}
        subject = await owner()
        return await insist(lambda: self._once(subject, key, asked, effect))

    async def _once(self, subject: str, key: str, asked: dict[str, Any], effect: Effect) -> Response:
        async with self._pool.connection() as connection, connection.transaction():
            earlier = await _earlier(connection, subject, key, asked)
            if earlier is not None:
                return earlier
            outcome = await _outcome(effect, connection)
            kept = _kept(outcome)
            with translated():
                await connection.execute(
                    "SELECT earmark.keep_answer(%s, %s, %s, %s)",
                    (subject, key, Jsonb(asked), Jsonb(msgspec.to_builtins(kept))),
                )
        if isinstance(outcome, EarmarkError):
            raise outcome
        return outcome

    async def prune(self, older_than: timedelta) -> int:
        """Forgets the answers that are older than this, batch by batch; how many."""
        removed = 0
        while True:
            async with self._pool.connection() as connection:
                row = await (await connection.execute("SELECT earmark.prune_answers(%s)", (older_than,))).fetchone()
            removed += row[0] if row else 0
            if not row or not row[0]:
                return removed


async def _earlier(connection: Connection, subject: str, key: str, asked: dict[str, Any]) -> Response | None:
    with translated():
        async with connection.cursor(row_factory=tuple_row) as cursor:
            query = "SELECT outcome, answer FROM earmark.answer_of(%s, %s, %s)"
            await cursor.execute(query, (subject, key, Jsonb(asked)))
            row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - the function always answers one row
    outcome, answer = row
    if outcome == "in_flight":
        raise RequestInFlight("The same request is being worked on; send it again in a moment.")
    if outcome == "conflict":
        message = f"This key was used before for a different request; it differs in {', '.join(answer['differs'])}."
        raise KeyConflict(message, answer)
    if outcome == "new":
        return None
    kept = msgspec.convert(answer, _Kept)
    if kept.problem is not None:
        raise Told(kept.problem, REPLAYED)
    return Response(kept.body, kept.status, {**kept.headers, **REPLAYED}, "application/json")


async def _outcome(effect: Effect, connection: Connection) -> Response | EarmarkError:
    try:
        async with connection.transaction():  # what it did so far goes with its error; the answer does not
            return await effect(connection)
    except EarmarkError as error:
        if problem_of(error).status >= _SERVER_ERROR:
            raise
        return error


def _kept(outcome: Response | EarmarkError) -> _Kept:
    if isinstance(outcome, EarmarkError):
        problem = replace(problem_of(outcome), headers={})  # they tell what is left of the quota
        return _Kept(problem.status, {}, problem=problem)
    headers = {name: value for name, value in outcome.headers.items() if not name.startswith(_OF_THE_MOMENT)}
    return _Kept(outcome.status_code, headers, body=bytes(outcome.body).decode())
