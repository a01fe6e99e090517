"""The Python client for asyncio against the application itself, over connections that may lose things."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from earmark import Cause, Ledger
from earmark.client import AsyncClient, File, Sending, ServiceError, ServiceUnavailable, retrying
from earmark.client.problems import error_of
from earmark.errors import (
    ALL_ERRORS,
    AlreadySettled,
    EarmarkError,
    Forbidden,
    InvalidFile,
    InvalidRequest,
    KeyConflict,
    NotFound,
    NotSignedIn,
    QuotaExceeded,
    UnknownResource,
)
from earmark.http_api.caller import Role
from earmark.http_api.problems import Problem, catalogue
from earmark.http_api.sign_in import SignIn
from earmark.model import Shortage
from http_api.harness import ADDRESS, JPEG, SECRET, Api, described

pytestmark = pytest.mark.anyio


class Line(httpx.AsyncBaseTransport):
    """The way to the application. `lost` is how many of the next answers are lost, `cut` how many requests are.

    Nothing passes while the `gate` is not set; `arrived` says that something stands before it.
    """

    def __init__(self, api: Api) -> None:
        self._application = httpx.ASGITransport(api.app)
        self.lost = self.cut = 0
        self.busy: list[httpx.Response] = []
        self.seen: list[httpx.Request] = []
        self.arrived, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.before_answer: Callable[[], object] = lambda: None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        self.arrived.set()
        await self.gate.wait()
        if self.cut:
            self.cut -= 1
            raise httpx.ConnectError("refused", request=request)
        if self.busy:
            return self.busy.pop(0)
        response = await self._application.handle_async_request(request)
        if self.lost:
            self.lost -= 1
            raise httpx.ReadTimeout("lost", request=request)
        self.before_answer()
        return response


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "BASE_SECONDS", 0.001)


@pytest.fixture
def line(api: Api) -> Line:
    return Line(api)


@pytest.fixture
async def client_of(line: Line) -> AsyncIterator[Callable[..., AsyncClient]]:
    async with httpx.AsyncClient(transport=line) as http:

        def made(
            subject: str = "backend", role: Role = Role.SERVICE, token: str | None = None, **options: object
        ) -> AsyncClient:
            return AsyncClient(ADDRESS, token or SignIn(SECRET).issue(subject, role), http=http, **options)

        yield made


@pytest.fixture
def client(client_of: Callable[..., AsyncClient]) -> AsyncClient:
    return client_of()


async def used(client: AsyncClient, resource: str = "images") -> tuple[int, int]:
    one = (await client.usage("alice")).resources[resource]
    return one.committed, one.held


async def test_the_ledger_answers_the_same(client: AsyncClient, ledger: Ledger):
    held = await client.reserve("alice", items={"a": {"images": 1}, "b": {"images": 2}}, ttl=timedelta(hours=1))
    assert (held.subject, held.granted, held.grant.replayed) == ("alice", True, False)
    committed = await client.commit(held.id, items={"a": {"images": 0}}, reason="less")
    assert (committed.outcome, committed.subject, committed.done) == ("committed", "alice", ("a",))
    assert (committed.committed, committed.returned) == ({"images": 0}, {"images": 1})
    assert committed.items["a"].by == "backend"
    extended = await client.extend(held.id, ttl=timedelta(hours=2))
    assert (extended.outcome, extended.items["b"].state) == ("extended", "held")
    assert extended.items["b"].expires_at > held.expires_at
    await client.extend(held.id, ttl=timedelta(hours=3), reason="a long film")
    assert (await client.history("alice", limit=1)).entries[0].reason.endswith("a long film")
    returned = await client.rollback(held.id, items=["b"], cause=Cause.ADMIN)
    assert (returned.outcome, returned.returned, returned.items["b"].cause) == ("rolled_back", {"images": 2}, "admin")
    again = await client.rollback(held.id, items=["b"], cause=Cause.ADMIN)
    assert (again.outcome, again.returned, again.done) == ("already_rolled_back", {}, ())

    assert await client.usage("alice") == ledger.usage("alice")
    assert await client.usage_levels("alice") == ledger.usage_levels("alice")
    newest = await client.history("alice", limit=2)
    rest = await client.history("alice", limit=200, cursor=newest.next_cursor)
    assert rest.next_cursor is None
    assert newest.entries + rest.entries == ledger.history("alice")
    for told, known in (
        (await client.reservation(held.id), ledger.reservation(held.id)),
        (await client.story(held.id), ledger.story(held.id)),
    ):
        assert told == type(known)(**{name: getattr(known, name) for name in known.__slots__} | {"key": None})


async def test_what_holds_quota_is_explained(client: AsyncClient, ledger: Ledger, alice: httpx.AsyncClient, api: Api):
    await api.reserved(alice, described(filename="beach.jpg"))
    with ledger.reserve("alice", {"images": 1}, ttl=timedelta(hours=1)) as held:
        held.detach()
    ledger.configure_subject("alice", plan="free", quotas={"images": 7}, actor="billing")
    told, known = await client.explain("alice"), ledger.explain("alice")
    assert [one.filename for one in told.open] == ["beach.jpg", None]
    assert told.configured == known.configured
    assert [(one.by, one.what, one.became) for one in told.configured] == [
        ("billing", "quotas.images", 7),
        ("billing", "plan", "free"),
    ]
    assert (told.levels, told.changes, told.open_total) == (known.levels, known.changes, 2)
    assert [one.reservation for one in told.open] == [one.reservation for one in known.open]
    image = (await client.story(told.open[0].image)).images[0]
    assert (image.filename, image.state) == ("beach.jpg", "reserved")


async def test_what_is_not_there_is_none(client: AsyncClient):
    held = await client.reserve("alice", {"images": 1})
    assert await client.reservation(uuid4()) is None
    assert await client.story(uuid4()) is None
    assert await client.reservation(held.id, subject="bob") is None
    with pytest.raises(NotFound):
        await client.rollback(uuid4(), cause=Cause.ADMIN)


async def test_a_denied_reservation_says_what_was_missing(client: AsyncClient, ledger: Ledger):
    ledger.configure_subject("alice", quotas={"images": 3})
    denied = await client.reserve("alice", {"images": 4})
    assert not denied
    assert denied.subject == "alice"
    assert denied.short == (Shortage("alice", "images", 4, 3, 0, 3),)
    with pytest.raises(QuotaExceeded, match="4 images with 3 left"):
        async with denied:
            pytest.fail("its block must not run")


async def test_a_block_commits_what_is_left_of_it(client: AsyncClient):
    async with await client.reserve(
        "alice", items={"a": {"images": 1}, "b": {"images": 2}, "c": {"images": 3}}
    ) as held:
        await held.commit(items={"a": {"images": 1}})
        await held.rollback(items=["b"])
    assert await used(client) == (4, 0)


async def test_a_block_that_settled_itself_is_left_alone(client: AsyncClient, line: Line):
    async with await client.reserve("alice", {"images": 2}) as held:
        await held.commit(amounts={"images": 1})
        calls = len(line.seen)
    async with await client.reserve("alice", {"images": 2}) as gone:
        await gone.rollback()
    async with await client.reserve("alice", {"images": 3}) as kept:
        kept.detach()
    assert [request.url.path.rsplit("/")[-1] for request in line.seen[calls:]] == [
        "reservations",
        "rollback",
        "reservations",
    ]
    assert await used(client) == (1, 3)


class UnreadableError(Exception):
    cause = Cause.VALIDATION_FAILED


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (UnreadableError(), "validation_failed"),
        (ValueError(), "upload_failed"),
        (asyncio.CancelledError(), "cancelled"),
    ],
    ids=lambda one: type(one).__name__,
)
async def test_a_block_that_fails_rolls_back(client: AsyncClient, error: BaseException, cause: str):
    held = await client.reserve("alice", {"images": 2}, on_error=Cause.UPLOAD_FAILED)
    with pytest.raises(type(error)):
        async with held:
            raise error
    assert await used(client) == (0, 0)
    newest = (await client.history("alice", limit=1)).entries[0]
    assert (newest.cause, newest.reason, newest.actor) == (cause, type(error).__name__, "backend")


async def test_a_task_that_is_cancelled_twice_still_rolls_back(client: AsyncClient, line: Line):
    entered = asyncio.Event()

    async def work() -> None:
        async with await client.reserve("alice", {"images": 2}):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    line.gate.clear()
    line.arrived.clear()
    task.cancel()
    await line.arrived.wait()
    task.cancel()
    line.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await used(client) == (0, 0)


@pytest.mark.parametrize("reserve", ["reserve", "preupload"])
@pytest.mark.parametrize("when", ["on its way", "lost", "answered"])
async def test_a_cancelled_reservation_is_given_back(
    client_of: Callable[..., AsyncClient], line: Line, ledger: Ledger, reserve: str, when: str
):
    """Nobody knows its id: its call goes on, also when its answer is lost, and what it took comes back."""
    client = client_of("alice", Role.AUTHENTICATED)

    async def reserving() -> None:
        if reserve == "reserve":
            await client.reserve(None, {"images": 1})
        else:
            await client.images.preupload([File("a.jpg", "image/jpeg", 5)])
        if when == "answered":
            pytest.fail("it was answered")

    line.gate.clear()
    task = asyncio.create_task(reserving())
    await line.arrived.wait()
    line.lost = int(when == "lost")
    if when == "answered":
        line.before_answer = task.cancel
    else:
        task.cancel()
        await asyncio.wait([task])  # at once, whatever the service does
    line.gate.set()
    await asyncio.wait([task])
    assert task.cancelled()
    await client.close()
    assert [(one.kind, one.cause, one.actor) for one in ledger.history("alice") if one.resource == "images"] == [
        ("rollback", "cancelled", "alice"),
        ("reserve", None, "alice"),
    ]


async def test_a_cancelled_reservation_under_a_key_stays(client: AsyncClient, line: Line):
    task = asyncio.create_task(client.reserve("alice", {"images": 1}, key="upload-7"))
    line.before_answer = task.cancel
    await asyncio.wait([task])
    assert task.cancelled()
    await client.close()
    assert (await client.reserve("alice", {"images": 1}, key="upload-7")).grant.replayed


@pytest.mark.parametrize("items", [["a"], ["a", "b"]])
async def test_work_whose_quota_was_taken_away_is_not_paid_for(client: AsyncClient, ledger: Ledger, items: list[str]):
    with pytest.raises(AlreadySettled, match="not paid for"):
        async with await client.reserve("alice", items={"a": {"images": 1}, "b": {"images": 1}}) as held:
            ledger.rollback(held.id, cause=Cause.ADMIN, items=items)
    assert await used(client) == (2 - len(items), 0)


async def test_the_blocks_own_error_is_heard_when_the_rollback_fails(
    client_of: Callable[..., AsyncClient], line: Line, caplog: pytest.LogCaptureFixture
):
    client = client_of(attempts=2)
    held = await client.reserve("alice", {"images": 1})

    async def work() -> None:
        async with held:
            line.cut = 2
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as caught:
        await work()
    assert "returns at" in caught.value.__notes__[0]
    (failed,) = [record for record in caplog.records if record.message == "rollback_failed"]
    assert (failed.target, failed.cause) == (str(held.id), "processing_failed")


async def test_a_lost_answer_takes_nothing_twice(client: AsyncClient, line: Line):
    line.lost = 2
    held = await client.reserve("alice", {"images": 2})
    assert held.grant.replayed
    assert await used(client) == (0, 2)
    line.lost = 1
    assert (await held.commit(amounts={"images": 1})).outcome == "already_committed"
    assert await used(client) == (1, 0)


async def test_own_items_that_were_given_back_twice_are_not_missed(client: AsyncClient, line: Line):
    async with await client.reserve("alice", items={"a": {"images": 1}, "b": {"images": 1}}) as held:
        line.lost = 1
        await held.rollback(items=["a"])
    assert await used(client) == (1, 0)


async def test_a_key_is_the_callers(client: AsyncClient):
    first = await client.reserve("alice", {"images": 1}, key="upload-7")
    again = await client.reserve("alice", {"images": 1}, key="upload-7")
    assert (again.id, again.grant.replayed) == (first.id, True)
    with pytest.raises(KeyConflict) as conflict:
        await client.reserve("alice", {"images": 2}, key="upload-7")
    assert conflict.value.detail["differs"] == ["items"]


@pytest.mark.parametrize(
    ("status", "slug", "asked"),
    [(503, "database-unavailable", "0"), (409, "request-in-flight", ""), (429, "too-many", "0"), (502, "", "")],
)
async def test_what_may_pass_is_sent_again(client: AsyncClient, line: Line, status: int, slug: str, asked: str):
    line.busy = [told(status, slug, {"Retry-After": asked} if asked else {})] * 2
    held = await client.reserve("alice", {"images": 1})
    assert len({request.headers["idempotency-key"] for request in line.seen}) == 1
    assert len(line.seen) == 3
    assert not held.grant.replayed


async def test_the_service_says_how_long_to_wait(client: AsyncClient, line: Line, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retrying, "ASKED_CAP_SECONDS", 0.01)
    line.busy = [told(503, "database-unavailable", {"Retry-After": "86400"})]
    assert (await client.usage("alice")).subject == "alice"


async def test_it_gives_up(client_of: Callable[..., AsyncClient], line: Line, caplog: pytest.LogCaptureFixture):
    client = client_of(attempts=3)
    line.cut = 9
    with pytest.raises(ServiceUnavailable, match=r"^cannot reach http://service.test: refused$") as gone:
        await client.usage("alice")
    assert len(line.seen) == 3
    assert gone.value.answered is None
    assert isinstance(gone.value.__cause__, httpx.ConnectError)
    assert [record.message for record in caplog.records if record.name == "earmark.client"] == [
        "service_unavailable"
    ] * 2
    line.cut = 0
    line.busy = [told(507, "storage-full")] * 3
    with pytest.raises(ServiceUnavailable) as full:
        await client.usage("alice")
    assert (full.value.problem, full.value.answered) == ("storage-full", 507)


async def test_what_is_decided_is_not_sent_again(
    client: AsyncClient, client_of: Callable[..., AsyncClient], line: Line
):
    alice = client_of("alice", Role.AUTHENTICATED)
    held = await alice.reserve(None, {"images": 1})
    assert held.subject == "alice"
    for kind, call in (
        (Forbidden, lambda: alice.usage("bob")),
        (Forbidden, lambda: alice.commit(held.id)),
        (Forbidden, lambda: alice.rollback(held.id, cause=Cause.PROCESSING_FAILED)),
        (InvalidRequest, lambda: client.reserve("alice", {"images": 0})),
        (InvalidRequest, lambda: client.reserve("alice")),
        (InvalidRequest, lambda: client.commit(held.id, amounts={"images": 2})),
        (InvalidRequest, lambda: client.history("alice", cursor="nonsense")),
        (UnknownResource, lambda: client.reserve("alice", {"unheard": 1})),
    ):
        sent = len(line.seen)
        with pytest.raises(kind) as refused:
            await call()
        assert len(line.seen) == sent + 1
        assert type(refused.value) is kind
        assert refused.value.detail["instance"]
    await held.rollback(Cause.CANCELLED)
    with pytest.raises(AlreadySettled) as settled:
        await client.commit(held.id)
    assert settled.value.detail["outcome"] == "already_rolled_back"
    assert settled.value.detail["by"] == "alice"


def told(status: int, slug: str, headers: dict[str, str] | None = None, **members: object) -> httpx.Response:
    response = Problem(status, slug, "Why.", members, headers or {}).response("request-1")
    request = httpx.Request("GET", f"{ADDRESS}/api/usage?subject=alice")
    return httpx.Response(status, headers=dict(response.headers), content=response.body, request=request)


PASSING = {"body-too-slow", "request-in-flight", "too-early", "too-many-streams"}


def test_every_problem_has_its_error():
    for slug, kind in catalogue().items():
        error = error_of(told(kind.status, slug, item="1"))
        assert (str(error), error.detail) == ("Why.", {"item": "1", "instance": "request-1"})
        if kind in ALL_ERRORS:
            assert type(error) is kind
        else:
            assert isinstance(error, ServiceError)
            assert (error.problem, error.answered) == (slug, kind.status)
            assert isinstance(error, ServiceUnavailable) == (kind.status >= 500 or slug in PASSING)
    assert {kind.slug for kind in ALL_ERRORS} <= catalogue().keys()


@pytest.mark.parametrize(
    "content", [b"<h1>It works!</h1>", b"[]", b"{}", b'{"subject": 1}', b"\xff", b"null", b"[" * 100_000]
)
async def test_what_is_not_earmark_is_said_to_be(client: AsyncClient, line: Line, content: bytes):
    calls = (
        client.usage,
        client.explain,
        client.history,
        client.usage_levels,
        lambda: client.reserve("alice", {"images": 1}),
        lambda: client.commit(uuid4()),
        lambda: client.story(uuid4()),
    )
    for call in calls:
        line.busy = [httpx.Response(200, content=content)]
        with pytest.raises(ServiceError, match="does not answer like Earmark") as nonsense:
            await call()
        assert nonsense.value.answered == 200
    line.busy = [httpx.Response(404, content=content)]
    with pytest.raises(ServiceError, match="answered 404"):
        await client.usage("alice")
    line.busy = [httpx.Response(302, headers={"location": "http://elsewhere.test"})]
    with pytest.raises(ServiceError, match="answered 302"):
        await client.usage("alice")


async def test_the_token_is_told_to_nobody(api: Api, line: Line, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    async with httpx.AsyncClient(transport=line) as http:
        client = AsyncClient(ADDRESS, "not.a-good.token", http=http, attempts=2)
        with pytest.raises(NotSignedIn) as refused:
            await client.usage()
        line.cut = 2
        with pytest.raises(ServiceUnavailable) as gone:
            await client.usage()
        for text in (repr(client), repr(refused.value), repr(refused.value.detail), repr(gone.value), caplog.text):
            assert "good.token" not in text
    for token in ("", "two words", "line\nbreak", "smörgås"):
        with pytest.raises(InvalidRequest) as error:
            AsyncClient(ADDRESS, token)
        assert token == "" or token not in str(error.value)


@pytest.mark.parametrize("key", ['"', "\\", ' "a" ', "~" * 255])
async def test_a_key_arrives_as_it_is(client: AsyncClient, ledger: Ledger, key: str):
    held = await client.reserve("alice", {"images": 1}, key=key)
    assert ledger.reservation(held.id).key == key


@pytest.mark.parametrize("key", ["", "a\nb", "smörgås", "~" * 256])
async def test_a_key_that_cannot_be_sent_is_refused(client: AsyncClient, line: Line, key: str):
    for call in (client.reserve("alice", {"images": 1}, key=key), client.images.preupload([PHOTO], key=key)):
        with pytest.raises(InvalidRequest, match="printable ASCII") as refused:
            await call
        assert refused.value.detail == {"field": "key"}
    assert line.seen == []


@pytest.mark.parametrize(
    "members", [{}, {"short": 1, "subject": "alice"}, {"short": []}, {"short": [{}], "subject": "a"}]
)
async def test_somebody_on_the_way_may_count_something_too(client: AsyncClient, line: Line, members: dict[str, object]):
    """A gateway's problem has a name that is one of ours, and says nothing of what ours does."""
    for status, slug, call in (
        (429, "quota-exceeded", lambda: client.reserve("alice", {"images": 1})),
        (409, "adjustment-denied", lambda: client.adjust("alice", "images", 1, reason="why")),
    ):
        line.busy = [told(status, slug, **members)]
        with pytest.raises(ServiceError, match=r"^Why\.$") as refused:
            await call()
        assert (refused.value.problem, refused.value.answered) == (slug, status)


async def test_an_answer_that_is_damaged_is_no_answer(client: AsyncClient, line: Line):
    line.busy = [httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip"))]
    with pytest.raises(ServiceError, match="does not answer like Earmark"):
        await client.usage("alice")


async def test_a_stores_answer_that_is_damaged_tells_nobody_whether_the_file_arrived(client: AsyncClient, line: Line):
    (upload,) = (await client.images.preupload([PHOTO], subject="alice")).uploads
    (sending,) = upload.sendings

    def damaged() -> httpx.Response:
        return httpx.Response(201, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip"))

    line.busy = [damaged() for _ in range(3)]
    with pytest.raises(ServiceUnavailable):
        await client.images.send(sending, JPEG)
    line.busy = [damaged()]
    await client.images.send(sending, JPEG)
    assert await client.images.complete(upload.image, subject="alice") == "uploaded"


@pytest.mark.parametrize("broken", [{"upload_url": "http://store.test/\x00"}, {"headers": {"x": "\u20ac"}}])
async def test_an_upload_that_cannot_be_sent_is_not_earmarks(client: AsyncClient, line: Line, broken: dict[str, Any]):
    sending = Sending(**{"upload_url": "/storage/a", "method": "PUT", "headers": {}, "offset": 0, "size": 1, **broken})
    with pytest.raises(ServiceError, match="does not answer like Earmark"):
        await client.images.send(sending, b"a")
    assert line.seen == []


async def test_a_token_may_change(api: Api, line: Line):
    tokens = iter(["not.good.yet", SignIn(SECRET).issue("alice")])
    async with httpx.AsyncClient(transport=line) as http:
        client = AsyncClient(ADDRESS, lambda: next(tokens), http=http)
        with pytest.raises(NotSignedIn):
            await client.usage()
        assert (await client.usage()).subject == "alice"


@pytest.mark.parametrize(
    "url", ["", "service.test", "ftp://service.test", "http://", "http://a?b=c", "http://u:p@h", "http://a:b"]
)
def test_an_address_that_is_none(url: str):
    with pytest.raises(InvalidRequest, match="url must be"):
        AsyncClient(url, "token")


async def test_ids_stay_in_their_place(client: AsyncClient, line: Line):
    with pytest.raises(EarmarkError):
        await client.rollback("../usage?", cause=Cause.ADMIN)  # type: ignore[arg-type]
    assert line.seen[-1].url.raw_path == b"/api/reservations/..%2Fusage%3F/rollback"
    assert isinstance((await client.reserve("alice", {"images": 1})).id, UUID)


PHOTO = File("photo.jpg", "image/jpeg", len(JPEG))


async def photo() -> AsyncGenerator[bytes, None]:
    yield JPEG[:100]
    yield JPEG[100:]


async def test_an_image_is_uploaded(client: AsyncClient, line: Line):
    reserved = await client.images.preupload([PHOTO, PHOTO], subject="alice", key="two photos")
    again = await client.images.preupload([PHOTO, PHOTO], subject="alice", key="two photos")
    assert again.reservation == reserved.reservation
    first, second = reserved.uploads
    assert await used(client) == (0, 2)
    (sending,) = first.sendings
    assert (sending.method, sending.offset, sending.size) == ("PUT", 0, len(JPEG))
    line.lost = 1
    await client.images.send(sending, photo)
    sent = [request for request in line.seen if request.method == "PUT"]
    assert len(sent) == 2
    assert all("authorization" not in request.headers for request in sent)
    assert sent[0].headers["content-length"] == str(len(JPEG))
    with pytest.raises(ServiceError) as taken:
        await client.images.send(sending, JPEG)
    assert taken.value.problem == "already-uploaded"
    line.lost = 1
    assert await client.images.complete(first.image) in {"queued", "uploaded"}
    image = await client.images.image(first.image, subject="alice")
    assert (image.image, image.filename, image.url) == (first.image, "photo.jpg", None)
    failed = await client.images.fail(second.image, "the disk went away")
    assert (failed.state, failed.cause) == ("failed", "upload_failed")
    assert failed.reason.endswith("the disk went away")
    assert (await client.images.cancel(first.image)).state == "cancelled"
    assert await used(client) == (0, 0)
    with pytest.raises(NotFound):
        await client.images.image(first.image, subject="bob")


async def test_images_are_given_back_together(client: AsyncClient):
    reserved = await client.images.preupload([PHOTO] * 3, subject="alice")
    images = [upload.image for upload in reserved.uploads]
    returned = await client.images.roll_back(images[:2], subject="alice")
    assert returned == {"images": 2, "storage_bytes": 2 * len(JPEG)}
    assert await client.images.roll_back(images[:2]) == {}
    assert (await client.reservation(reserved.reservation)).items.keys() == {"1", "2", "3"}


async def test_files_that_are_refused(client: AsyncClient, client_of: Callable[..., AsyncClient]):
    with pytest.raises(InvalidFile) as invalid:
        await client.images.preupload([PHOTO, File("empty.jpg", "image/jpeg", 0)], subject="alice")
    assert (invalid.value.detail["index"], invalid.value.detail["filename"]) == (1, "empty.jpg")
    with pytest.raises(NotSignedIn):
        await client_of("alice", Role.AUTHENTICATED, token="a.b.c").images.preupload([PHOTO])


async def test_a_large_file_goes_in_parts(client: AsyncClient, line: Line):
    line.busy = [
        httpx.Response(
            201,
            json={
                "reservationId": str(uuid4()),
                "expiresAt": "2026-01-01T00:00:00Z",
                "images": [
                    {
                        "imageId": str(uuid4()),
                        "uploadUrl": None,
                        "parts": [
                            {"number": 1, "offset": 0, "size": 7, "uploadUrl": "/1", "method": "PUT", "headers": {}},
                            {"number": 2, "offset": 7, "size": 3, "uploadUrl": "/2", "method": "PUT", "headers": {}},
                        ],
                    }
                ],
            },
        )
    ]
    (upload,) = (await client.images.preupload([File("large.jpg", "image/jpeg", 10)])).uploads
    assert [(one.upload_url, one.offset, one.size) for one in upload.sendings] == [("/1", 0, 7), ("/2", 7, 3)]
