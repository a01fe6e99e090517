"""Quota: what is used, giving back, the journal, and what an administrator sets."""

from collections import Counter
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from earmark.errors import (
    AlreadySettled,
    InvalidRequest,
    KeyConflict,
    NotFound,
    UnknownPlan,
    UnknownResource,
    UnknownSubject,
)
from earmark.http_api.answers import Connection, RequestInFlight
from earmark.http_api.bodies import ROLLBACK_BODY, AdjustBody, RollbackBody, SubjectBody
from earmark.http_api.caller import Caller
from earmark.http_api.explanations import ExplanationAnswer, StoryAnswer, explanation_answer, story_answer
from earmark.http_api.problems import AdjustmentDenied
from earmark.http_api.requests import (
    cursor_for,
    history_cursor,
    key_of,
    limit_of,
    named_in_query,
    read,
    subject_of,
    uuid_of,
)
from earmark.http_api.routing import CURSOR, LIMIT, SUBJECT, Access, Parameter, operation, resource
from earmark.http_api.services import Services
from earmark.http_api.settlements import rolled_back
from earmark.http_api.usage_reader import UsageReader
from earmark.http_api.wire import (
    AdjustAnswer,
    HistoryAnswer,
    LevelAnswer,
    LevelsAnswer,
    ReturnedAnswer,
    RolledBackAnswer,
    SubjectAnswer,
    UsageAnswer,
    answer,
    entry_answer,
    subject_answer,
    usage_answer,
)
from earmark.model import Amounts

_SUBJECT = {"subject": SUBJECT.schema}
_ABOUT = Parameter("id", {"type": "string", "format": "uuid"}, "A reservation or image whose story is asked for.")


def routes(services: Services) -> list[Route]:
    """The calls of this noun."""
    calls = Quota(services)
    return [
        resource("/api/usage", GET=calls.usage),
        resource("/api/usage/levels", GET=calls.levels),
        resource("/api/quota/rollback", POST=calls.rollback),
        resource("/api/quota/history", GET=calls.history),
        resource("/api/quota/explain", GET=calls.explain),
        resource("/api/admin/subjects/{subject:path}", GET=calls.subject, PUT=calls.configure),
        resource("/api/admin/adjust", POST=calls.adjust),
    ]


class Quota:
    """Each method answers one call."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._usage = UsageReader(services.ledger)
        self._ledger = services.ledger

    @operation(answers={200: UsageAnswer}, problems=(UnknownSubject,), query=(SUBJECT,), quota=True)
    async def usage(self, request: Request) -> Response:
        """What a subject may use and uses."""
        caller = self._services.caller(request)
        subject = caller.acting_for(named_in_query(request))
        usage = usage_answer(await self._usage.usage(subject))
        return answer(usage, usage=usage)

    @operation(answers={200: LevelsAnswer}, problems=(UnknownSubject,), query=(SUBJECT,))
    async def levels(self, request: Request) -> Response:
        """What a subject, his parent and so on up to the root may use and use: a grant needs room with each."""
        caller = self._services.caller(request)
        subject = caller.acting_for(named_in_query(request))
        levels = await self._ledger.usage_levels(subject)
        answers = [LevelAnswer(level.subject, level.plan, level.resources) for level in levels]
        return answer(LevelsAnswer(subject, answers))

    @operation(answers={200: HistoryAnswer}, problems=(InvalidRequest,), query=(SUBJECT, LIMIT, CURSOR))
    async def history(self, request: Request) -> Response:
        """A page of a subject's journal, newest first."""
        caller = self._services.caller(request)
        subject = caller.acting_for(named_in_query(request))
        limit = limit_of(request)
        found = await self._ledger.history(subject, before=history_cursor(request), limit=limit + 1)
        more = cursor_for("history", found[limit - 1].seq) if len(found) > limit else None
        return answer(HistoryAnswer([entry_answer(entry) for entry in found[:limit]], more))

    @operation(
        answers={200: (ExplanationAnswer, StoryAnswer)},
        problems=(UnknownSubject, NotFound, InvalidRequest),
        query=(SUBJECT, _ABOUT),
    )
    async def explain(self, request: Request) -> Response:
        """Why a subject's quota is what it is or, with `id`, what became of a reservation or image of his."""
        caller = self._services.caller(request)
        about = request.query_params.get("id")
        if about is None:
            subject = caller.acting_for(named_in_query(request))
            return answer(explanation_answer(await self._ledger.explain(subject)))
        named = uuid_of(about, "reservation or image")
        story = await self._ledger.story(named, subject=caller.sees(named_in_query(request)))
        if story is None:
            raise NotFound(f"There is no reservation or image {named}.", {"id": str(named)})
        return answer(story_answer(story))

    @operation(
        body=ROLLBACK_BODY,
        example=RollbackBody(count=2),
        answers={200: RolledBackAnswer},
        problems=(NotFound, AlreadySettled, UnknownSubject, RequestInFlight),
        query=(SUBJECT,),
        keyed=True,
        quota=True,
    )
    async def rollback(self, request: Request) -> Response:
        """Gives back what a reservation, some images or the newest `count` images hold: once, and never what is used.

        With `count`, the subject's open items are ended whole, newest first, such that they held at most that many
        images or, with `resource`, that much of another resource.
        """
        caller = self._services.caller(request)
        body = await read(request, RollbackBody)
        caller.states(body.cause)
        named = body.subject or named_in_query(request)
        _one_form(body)

        async def owner() -> str:
            if body.reservation_id is not None:
                return await self._services.owner_of_reservation(body.reservation_id, caller.sees(named))
            if body.image_ids is not None:
                return await self._services.owner_of_image(body.image_ids[0], caller.sees(named))
            return caller.acting_for(named)

        async def effect(connection: Connection | None) -> Response:
            if body.count is not None:
                return await self._newest_given_back(caller, caller.acting_for(named), body, body.count, connection)
            subject, returned = await self._given_back(caller, named, body, connection)
            usage = usage_answer(await self._usage.usage(subject, connection))
            return answer(RolledBackAnswer(returned, usage), usage=usage)

        return await self._services.answers.once(request, owner, body, effect)

    async def _given_back(
        self, caller: Caller, named: str | None, body: RollbackBody, connection: Connection | None
    ) -> tuple[str, Amounts]:
        """Whose quota came back, and how much."""
        stated: dict[str, Any] = {"cause": body.cause, "actor": caller.subject, "reason": body.reason}
        if body.reservation_id is not None:
            settlement = await self._services.uploads.failed_rollbacks.reservation(
                self._ledger,
                uuid_of(body.reservation_id, "reservation"),
                items=body.items,
                subject=caller.sees(named),
                connection=connection,
                **stated,
            )
            return rolled_back(settlement)
        images = [uuid_of(image_id, "image") for image_id in body.image_ids or ()]
        subject = await self._services.owner_of_image(str(images[0]), caller.sees(named), connection)
        uploads = self._services.uploads_on(connection)
        return subject, await uploads.roll_back_many(images, subject=subject, **stated)

    async def _newest_given_back(
        self, caller: Caller, subject: str, body: RollbackBody, count: int, connection: Connection | None
    ) -> Response:
        newest = await self._ledger.rollback_newest(
            subject,
            body.resource or "images",
            count,
            cause=body.cause,
            actor=caller.subject,
            reason=body.reason,
            connection=connection,
        )
        returned: Counter[str] = Counter()
        for one in newest:
            returned.update(one.amounts)
        usage = usage_answer(await self._usage.usage(subject, connection))
        items = [ReturnedAnswer(one.reservation, one.item, one.amounts) for one in newest]
        return answer(RolledBackAnswer(returned, usage, items), usage=usage)

    @operation(answers={200: SubjectAnswer}, access=Access.SERVICE, problems=(UnknownSubject,), path=_SUBJECT)
    async def subject(self, request: Request) -> Response:
        """What is set for a subject, and what it may use and uses."""
        self._services.caller(request).must_be_service()
        return await self._subject(subject_of(request))

    @operation(
        body=SubjectBody,
        example=SubjectBody(plan="pro", quotas={"images": 50}),
        answers={200: SubjectAnswer},
        access=Access.SERVICE,
        problems=(UnknownSubject, UnknownPlan, UnknownResource),
        path=_SUBJECT,
    )
    async def configure(self, request: Request) -> Response:
        """Registers a subject, or changes what the body names of it."""
        caller = self._services.caller(request)
        caller.must_be_service()
        subject = subject_of(request)
        body = await read(request, SubjectBody)
        await self._ledger.configure_subject(
            subject,
            plan=body.plan,
            quotas=body.quotas,
            anchor=body.anchor,
            parent=body.parent,
            actor=caller.subject,
        )
        return await self._subject(subject)

    @operation(
        body=AdjustBody,
        example=AdjustBody("user-42", "images", -2, "Two pictures were counted twice."),
        answers={200: AdjustAnswer},
        access=Access.SERVICE,
        problems=(UnknownSubject, UnknownResource, KeyConflict, AdjustmentDenied),
        keyed=True,
    )
    async def adjust(self, request: Request) -> Response:
        """Corrects committed use, at the subject and all above him; its reason stands in their journals."""
        caller = self._services.caller(request)
        caller.must_be_service()
        key = key_of(request)
        body = await read(request, AdjustBody)
        made = await self._ledger.adjust(
            body.subject, body.resource, body.amount, reason=body.reason, actor=caller.subject, key=key
        )
        if not made.adjusted:
            named = {"subject": body.subject, "resource": body.resource, "amount": body.amount}
            short = [bound.subject for bound in made.short]
            raise AdjustmentDenied(
                f"{body.resource} of {', '.join(short)} cannot be adjusted that far.",
                {**named, "short": made.short, "levels": made.levels, **({"replayed": True} if made.replayed else {})},
            )
        told = AdjustAnswer(body.subject, body.resource, body.amount, made.replayed, made.levels)
        return answer(told, replayed=made.replayed)

    async def _subject(self, name: str) -> Response:
        return answer(subject_answer(await self._ledger.subject(name), await self._usage.usage(name)))


def _one_form(body: RollbackBody) -> None:
    forms = (body.reservation_id, body.image_ids, body.count)
    if (
        sum(form is not None for form in forms) != 1
        or (body.items is not None and body.reservation_id is None)
        or (body.resource is not None and body.count is None)
    ):
        raise InvalidRequest(
            "Name one of reservationId (with items, if you like), imageIds or count (with resource, if you like)."
        )
