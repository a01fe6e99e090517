"""The client's words are the ledger's: which there are, and what those for services answer."""

import inspect
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import httpx
import pytest

from earmark import AsyncLedger, Cause, Ledger
from earmark.client import AsyncClient, retrying
from earmark.errors import (
    AlreadySettled,
    EarmarkError,
    Forbidden,
    InvalidRequest,
    KeyConflict,
    NotFound,
    NotRefundable,
    UnknownPlan,
    UnknownResource,
)
from earmark.http_api.caller import Role
from earmark.http_api.sign_in import SignIn
from http_api.harness import ADDRESS, SECRET, Api

pytestmark = pytest.mark.anyio

_DONE_BY_THE_SERVICE = "a duty that the service does itself; by hand it is a command, which has the database"
_PLANS = "plans are set where the service is run, with `earmark plan`"
_OPERATOR = "a figure for the operator's view, which has routes of its own"
NOT_OVER_HTTP = {
    "open": "the first call connects",
    "usages": "many calls of `usage` at once are read as one by the service",
    "adopt": "an import is done once, with `earmark adopt`",
    "configure_plan": _PLANS,
    "plans": _PLANS,
    "configure_retention": "settings of the service say how long things are kept",
    "prune_journal": _DONE_BY_THE_SERVICE,
    "prune_settled": _DONE_BY_THE_SERVICE,
    "record_check": _DONE_BY_THE_SERVICE,
    "repair": _DONE_BY_THE_SERVICE,
    "set_aside": _DONE_BY_THE_SERVICE,
    "sweep": _DONE_BY_THE_SERVICE,
    "tally": _DONE_BY_THE_SERVICE,
    "verify": _DONE_BY_THE_SERVICE,
    "follow": "everybody's journal at once is for whoever has the database; `history` is one subject's",
    "journal_export": "evidence is taken from the database itself",
    "journal_position": "only `follow` needs it",
    "health": _OPERATOR,
    "rollbacks_over_time": _OPERATOR,
    "subjects_like": _OPERATOR,
    "use_over_time": _OPERATOR,
}
NOT_SAID_OVER_HTTP = {
    "actor": "the token says who asks",
    "connection": "there is none",
    "before": "a page is asked for by its cursor",
    "max_items": "the service explains as much as the ledger does when not asked for more",
    "max_changes": "as for `max_items`",
}


def public(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(method)
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_every_word_of_the_ledger_is_the_clients_too_or_has_a_reason() -> None:
    ledger, client = public(AsyncLedger), public(AsyncClient)
    assert ledger.keys() - client.keys() == NOT_OVER_HTTP.keys()
    assert client.keys() <= ledger.keys()
    missing = {
        name: absent
        for name, signature in client.items()
        if (absent := ledger[name].parameters.keys() - signature.parameters.keys() - NOT_SAID_OVER_HTTP.keys())
    }
    assert missing == {}
    for name, signature in client.items():
        for parameter in signature.parameters.values() if name != "history" else ():
            assert parameter.kind == ledger[name].parameters[parameter.name].kind, (name, parameter)


class LosesAnswers(httpx.AsyncBaseTransport):
    """The way to the application, on which so many of the next answers are lost."""

    def __init__(self, api: Api) -> None:
        self._application = httpx.ASGITransport(api.app)
        self.lost = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._application.handle_async_request(request)
        if self.lost:
            self.lost -= 1
            raise httpx.ReadTimeout("lost", request=request)
        return response


@pytest.fixture
def line(api: Api, monkeypatch: pytest.MonkeyPatch) -> LosesAnswers:
    monkeypatch.setattr(retrying, "BASE_SECONDS", 0.001)
    return LosesAnswers(api)


@pytest.fixture
async def http(line: LosesAnswers) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=line) as http:
        yield http


@pytest.fixture
def client(http: httpx.AsyncClient) -> AsyncClient:
    return AsyncClient(ADDRESS, SignIn(SECRET).issue("backend", Role.SERVICE), http=http)


@pytest.fixture
def as_user(http: httpx.AsyncClient) -> AsyncClient:
    return AsyncClient(ADDRESS, SignIn(SECRET).issue("alice", Role.AUTHENTICATED), http=http)


async def used(client: AsyncClient, resource: str) -> tuple[int, int]:
    one = (await client.usage("alice")).resources[resource]
    return one.committed, one.held


async def test_what_was_used_is_refunded_once_as_the_plan_says(client: AsyncClient, ledger: Ledger) -> None:
    both = {"images": 1, "storage_bytes": 700}
    held = await client.reserve("alice", items={"a": both, "b": both})
    with pytest.raises(NotRefundable, match="not committed yet") as early:
        await client.refund(held.id)
    assert early.value.detail["outcome"] == "not_committed"
    await client.commit(held.id)
    first = await client.refund(held.id, items=["a"], reason="deleted")
    assert (first.outcome, first.returned, first.done) == ("refunded", {"storage_bytes": 700}, ("a",))
    again = await client.refund(held.id, items=["a"])
    assert (again.outcome, again.returned, again.done) == ("already_refunded", {}, ())
    assert await used(client, "storage_bytes") == (700, 0)
    assert await used(client, "images") == (2, 0)
    newest = ledger.history("alice", limit=1)[0]
    assert (newest.kind, newest.actor, newest.reason) == ("refund", "backend", "deleted")


async def test_refunds_that_are_refused(client: AsyncClient, as_user: AsyncClient) -> None:
    kept = await client.reserve("alice", {"images": 1})
    await client.commit(kept.id)
    gone = await client.reserve("alice", {"storage_bytes": 5})
    await client.rollback(gone.id, cause=Cause.ADMIN)
    for kind, call in (
        (NotRefundable, lambda: client.refund(kept.id)),
        (AlreadySettled, lambda: client.refund(gone.id)),
        (NotFound, lambda: client.refund(uuid4())),
        (InvalidRequest, lambda: client.refund(kept.id, items=["2"])),
        (NotFound, lambda: client.refund(kept.id, subject="bob")),
        (InvalidRequest, lambda: client.refund(kept.id, items=[])),
        (Forbidden, lambda: as_user.refund(kept.id)),
    ):
        with pytest.raises(EarmarkError) as refused:
            await call()
        assert type(refused.value) is kind
    assert await used(client, "images") == (1, 0)


async def test_a_lost_answer_refunds_nothing_twice(client: AsyncClient, line: LosesAnswers) -> None:
    held = await client.reserve("alice", {"storage_bytes": 5})
    await client.commit(held.id)
    line.lost = 1
    assert (await client.refund(held.id)).outcome == "already_refunded"
    assert await used(client, "storage_bytes") == (0, 0)


async def test_the_newest_come_back_by_count(client: AsyncClient, as_user: AsyncClient, line: LosesAnswers) -> None:
    first = await client.reserve("alice", {"storage_bytes": 10})
    second = await client.reserve("alice", {"storage_bytes": 30})
    line.lost = 1
    (returned,) = await client.rollback_newest("alice", "storage_bytes", 35, cause=Cause.ADMIN, reason="he asked")
    assert (returned.reservation, returned.item, returned.amounts) == (second.id, "1", {"storage_bytes": 30})
    assert (await client.history("alice", limit=1)).entries[0].reason == "he asked"
    (returned,) = await as_user.rollback_newest(None, "storage_bytes", 10)
    assert returned.reservation == first.id
    assert await as_user.rollback_newest("alice", "images", 7) == ()
    for kind, call in (
        (Forbidden, lambda: as_user.rollback_newest("bob", "images", 1)),
        (Forbidden, lambda: as_user.rollback_newest(None, "images", 1, cause=Cause.EXPIRED)),
        (InvalidRequest, lambda: client.rollback_newest("alice", "images", 0)),
        (InvalidRequest, lambda: client.rollback_newest("alice", "No name", 1)),
    ):
        with pytest.raises(kind):
            await call()
    assert await used(client, "storage_bytes") == (0, 0)


async def test_use_is_corrected(client: AsyncClient, as_user: AsyncClient, line: LosesAnswers, ledger: Ledger) -> None:
    made = await client.adjust("alice", "images", 5, reason="counted elsewhere", key="import-1")
    again = await client.adjust("alice", "images", 5, reason="counted elsewhere", key="import-1")
    assert (made.adjusted, made.replayed, again.replayed, made.levels) == (True, False, True, again.levels)
    line.lost = 1
    assert (await client.adjust("alice", "images", -2, reason="counted twice")).levels[0].committed == 3
    denied = await client.adjust("alice", "images", -4, reason="too much")
    known = ledger.adjust("alice", "images", -4, reason="too much", actor="backend")
    assert denied == known
    assert not denied.adjusted
    for kind, call in (
        (InvalidRequest, lambda: client.adjust("alice", "images", 0, reason="nothing")),
        (KeyConflict, lambda: client.adjust("alice", "images", 6, reason="counted elsewhere", key="import-1")),
        (UnknownResource, lambda: client.adjust("alice", "steaks", 1, reason="dinner")),
        (Forbidden, lambda: as_user.adjust("alice", "images", -3, reason="please")),
    ):
        with pytest.raises(kind):
            await call()
    assert await used(client, "images") == (3, 0)


async def test_subjects_are_set_and_looked_at(client: AsyncClient, as_user: AsyncClient, ledger: Ledger) -> None:
    anchor = datetime(2026, 1, 15, tzinfo=UTC)
    await client.configure_subject("team / north", plan="enterprise")
    await client.configure_subject("alice", plan="free", quotas={"images": 50}, anchor=anchor, parent="team / north")
    assert await client.subject("alice") == ledger.subject("alice")
    assert (await client.subject("alice")).ancestors == ("team / north",)
    await client.configure_subject("alice", quotas={"images": None})
    told = await client.subject("alice")
    assert (told.plan, told.quotas, told.anchor) == ("free", {}, anchor)
    assert (await client.subject("nobody")).registered_at is None
    for kind, call in (
        (UnknownPlan, lambda: client.configure_subject("alice", plan="gold")),
        (UnknownResource, lambda: client.configure_subject("alice", quotas={"steaks": 1})),
        (InvalidRequest, lambda: client.configure_subject("alice", parent="nobody")),
        (Forbidden, lambda: as_user.configure_subject("alice", plan="enterprise")),
        (Forbidden, lambda: as_user.subject("alice")),
    ):
        with pytest.raises(kind):
            await call()
    assert await client.subject("alice") == told
