"""Every form of error, what stands around every answer, and what is logged."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from time import time
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.routing import Mount

from earmark.errors import ALL_ERRORS, InvalidRequest
from earmark.http_api import requests
from earmark.http_api.app import create_app
from earmark.http_api.bodies import (
    AdjustBody,
    CommitBody,
    ExtendBody,
    RefundBody,
    ReservationRollbackBody,
    ReserveBody,
    RollbackBody,
    SubjectBody,
)
from earmark.http_api.problems import problem_of
from earmark.http_api.requests import BODY_BYTES_MAX, decoded
from earmark.http_api.routes import operations
from earmark.ledger import AsyncLedger
from earmark.uploads.storage import StorageFull, StorageUnavailable
from http_api.harness import ADDRESS, JPEG, SECRET, Api, described

pytestmark = pytest.mark.anyio

STRICT = [
    AdjustBody, CommitBody, ExtendBody, RefundBody, ReservationRollbackBody, ReserveBody, RollbackBody, SubjectBody,
]  # fmt: skip


def assert_problem(response: httpx.Response, status: int, slug: str) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == f"/problems/{slug}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["instance"] == response.headers["x-request-id"]
    return problem


async def test_no_such_address(alice: httpx.AsyncClient):
    for path in (
        "/api/nothing",
        "/api/usage/",
        "/web/page.js",
        "/../secret",
        "/page.py",
        "/__init__.py",
        "/problems/x",
    ):
        assert_problem(await alice.get(path), 404, "not-found")


async def test_a_method_that_is_not_known_names_those_that_are(alice: httpx.AsyncClient):
    response = await alice.patch(f"/api/images/{uuid4()}")
    assert_problem(response, 405, "method-not-allowed")
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD", "DELETE"}
    assert_problem(await alice.options("/api/usage"), 405, "method-not-allowed")


@pytest.mark.parametrize(
    "body",
    [b"{", b"nonsense", b"\xff\xfe", b'{"count": NaN}', b'{"count": 1}x', b'{"x": ' + b"[" * 100_000, b'"\\ud800"'],
    ids=lambda body: repr(body[:16]),
)
async def test_what_is_not_json(alice: httpx.AsyncClient, body: bytes):
    assert_problem(await alice.post("/api/images/preupload", content=body), 400, "malformed-json")


async def test_no_body_is_an_empty_one(alice: httpx.AsyncClient):
    problem = assert_problem(await alice.post("/api/images/complete"), 422, "invalid-request")
    assert problem["field"] == "imageId"


async def test_a_field_of_the_wrong_kind_is_named(alice: httpx.AsyncClient):
    files = [described(), {**described(), "size": "100"}]
    problem = assert_problem(await alice.post("/api/images/preupload", json={"files": files}), 422, "invalid-request")
    assert problem["field"] == "files[1].size"
    assert problem["detail"] == "Expected `int`, got `str`."


async def test_unknown_fields_are_ignored_where_they_could_change_nothing(alice: httpx.AsyncClient):
    files = [{**described(), "lastModified": 1}]
    response = await alice.post("/api/images/preupload", json={"files": files, "later": {"x": [1]}})
    assert response.status_code == 201


@pytest.mark.parametrize("kind", STRICT, ids=lambda kind: kind.__name__)
def test_a_misspelt_field_of_what_moves_quota_is_named(kind: type):
    with pytest.raises(InvalidRequest) as refused:
        decoded(b'{"item": ["a"]}', kind)
    assert refused.value.detail == {"field": "item"}


async def test_who_misspells_what_he_gives_back_gives_nothing_back(alice: httpx.AsyncClient):
    held = await alice.post("/api/reservations", json={"items": {"a": {"images": 1}, "b": {"images": 1}}})
    path = f"/api/reservations/{held.json()['reservationId']}"
    problem = assert_problem(await alice.post(f"{path}/rollback", json={"item": ["a"]}), 422, "invalid-request")
    assert problem["detail"] == "Object contains unknown field `item`."
    assert {item["state"] for item in (await alice.get(path)).json()["items"].values()} == {"held"}


async def test_a_body_that_is_too_large(alice: httpx.AsyncClient):
    body = b'{"count": 1, "x": "' + b"x" * BODY_BYTES_MAX + b'"}'
    problem = assert_problem(await alice.post("/api/quota/rollback", content=body), 413, "body-too-large")
    assert problem["limit"] == BODY_BYTES_MAX


async def test_a_body_that_never_ends(alice: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(requests, "BODY_SECONDS_MAX", 0.05)

    async def body() -> AsyncIterator[bytes]:
        yield b'{"count": 1'
        await asyncio.Event().wait()

    assert_problem(await alice.post("/api/quota/rollback", content=body()), 408, "body-too-slow")


async def test_the_request_id_is_the_callers_when_it_is_sane(alice: httpx.AsyncClient):
    for given, kept in (("abc-1.2_3", True), ("x" * 129, False), ("a b", False), ("-a", False), ("<script>", False)):
        response = await alice.get("/api/nothing", headers={"X-Request-Id": given})
        assert (response.headers["x-request-id"] == given) is kept
        assert response.json()["instance"] == response.headers["x-request-id"]


async def test_headers_of_every_answer(api: Api, alice: httpx.AsyncClient):
    image = await api.completed(alice)
    url = (await alice.get(f"/api/images/{image}")).json()["url"]
    for path in ("/api/usage", "/api/nothing", "/healthz", "/", "/page.js", url):
        response = await alice.get(path)
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["cross-origin-opener-policy"] == "same-origin"
        embedded = "cross-origin" if path == url else "same-origin"
        assert response.headers["cross-origin-resource-policy"] == embedded
        assert response.headers["content-security-policy"].startswith("default-src 'none'")
        assert response.headers["x-request-id"]
        assert response.headers["cache-control"] == ("no-cache" if path in {"/", "/page.js"} else "no-store")


@pytest.fixture
def broken(api: Api) -> httpx.AsyncClient:
    """A service whose database cannot be reached."""
    conninfo = "host=127.0.0.1 port=1 dbname=none connect_timeout=1"
    pool = AsyncConnectionPool(conninfo, open=False, timeout=0.2)
    api.app = create_app(replace(api.services, ledger=AsyncLedger(pool)))
    return api.client("alice")


async def test_without_a_database(broken: httpx.AsyncClient):
    response = await broken.get("/api/usage")
    problem = assert_problem(response, 503, "database-unavailable")
    assert response.headers["retry-after"] == "1"
    assert "127.0.0.1" not in str(problem)
    ready = await broken.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["checks"]["storage"] == "ok"
    assert "database" in ready.json()["checks"]["database"]
    assert (await broken.get("/healthz")).json() == {"status": "ok"}


async def test_a_database_without_our_schema(api: Api, alice: httpx.AsyncClient, server: str):
    async with AsyncConnectionPool(server, min_size=1, open=False, kwargs={"autocommit": True}) as pool:
        api.app = create_app(replace(api.services, ledger=AsyncLedger(pool)))
        client = api.client()
        assert_problem(await client.get("/api/usage"), 503, "schema-mismatch")
        ready = await client.get("/readyz")
        assert (ready.status_code, "earmark migrate" in ready.json()["checks"]["database"]) == (503, True)


async def test_ready(alice: httpx.AsyncClient):
    response = await alice.get("/readyz")
    assert (response.status_code, response.json()) == (
        200,
        {"status": "ok", "checks": dict.fromkeys(("database", "storage", "sign_in", "clock", "service"), "ok")},
    )


async def test_a_database_that_takes_no_changes_is_not_ready(
    alice: httpx.AsyncClient, api: Api, connection: psycopg.Connection
):
    name = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    for _ in range(50):  # a connection may have been about to be opened
        await api.services.uploads.pool.drain()
        ready = await alice.get("/readyz")
        if ready.status_code != 200:
            break
    assert (ready.status_code, ready.json()["checks"]["database"][:21]) == (503, "it takes no changes: ")


@pytest.mark.parametrize(("ahead", "status"), [(440, 200), (-440, 200), (460, 503), (-460, 503)])
async def test_a_clock_that_is_wrong(
    alice: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, ahead: int, status: int
):
    monkeypatch.setattr(operations, "time", lambda: time() + ahead)
    ready = await alice.get("/readyz")
    told = f"this service's clock is 460 s {'ahead of' if ahead > 0 else 'behind'} the database's"
    assert (ready.status_code, told in ready.json()["checks"]["clock"]) == (status, status == 503)


async def test_without_the_store(api: Api, alice: httpx.AsyncClient):
    root = api.services.settings.home / "objects"
    root.write_text("a file where the folder should be")
    (upload,) = await api.reserved(alice)
    response = await alice.put(upload["uploadUrl"], content=JPEG, headers=upload["headers"])
    assert response.status_code in {500, 503}
    assert str(root) not in response.text
    assert response.headers["retry-after"] == "1"
    assert (await alice.get("/readyz")).status_code == 503


async def test_a_user_without_a_plan(api: Api, alice: httpx.AsyncClient, connection: psycopg.Connection):
    connection.execute("DELETE FROM earmark._private_setting WHERE name = 'default_plan'")
    assert_problem(await alice.get("/api/usage"), 404, "unknown-subject")


async def test_what_nobody_expected_is_logged_and_not_told(
    api: Api, alice: httpx.AsyncClient, connection: psycopg.Connection, caplog: pytest.LogCaptureFixture
):
    connection.execute(
        "CREATE OR REPLACE FUNCTION earmark.images(subject text, before uuid DEFAULT NULL, max_images int DEFAULT 50) "
        "RETURNS SETOF jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the secret recipe'; END $$"
    )
    response = await alice.get("/api/images", headers={"X-Request-Id": "find-me"})
    assert_problem(response, 500, "internal-error")
    assert "recipe" not in response.text
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.request_id == "find-me"
    assert "the secret recipe" in caplog.text


@pytest.mark.parametrize("kind", ALL_ERRORS, ids=lambda kind: kind.__name__)
async def test_every_error_has_a_problem(kind: type):
    problem = problem_of(kind("It says why.", {"field": "x"}))
    assert (problem.status, problem.slug, problem.detail) == (kind.status, kind.slug, "It says why.")


async def test_members_never_replace_the_standard_ones():
    response = problem_of(ALL_ERRORS[0]("why", {"status": 200, "type": "x", "detail": "y"})).response("id")
    assert b'"status":422' in response.body
    assert b'"detail":"why"' in response.body


@pytest.mark.parametrize(
    ("kind", "told"),
    [(psycopg.errors.ReadOnlySqlTransaction, "takes no changes"), (psycopg.errors.QueryCanceled, "gave this up")],
)
async def test_a_database_that_cannot_do_it_now_says_why(kind: type[psycopg.Error], told: str):
    problem = problem_of(kind("what it was is for the log"))
    assert (problem.status, problem.slug) == (503, "database-unavailable")
    assert "Retry-After" in problem.headers
    assert told in problem.detail


async def test_a_store_in_trouble_says_nothing_about_itself():
    for error, status in ((StorageFull("/srv/objects is full"), 507), (StorageUnavailable("bucket acme"), 503)):
        problem = problem_of(error)
        assert problem.status == status
        assert "Retry-After" in problem.headers
        assert not {"/srv", "acme"} & set(problem.detail.split())


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    caplog.set_level(logging.DEBUG)
    yield caplog
    records = [record for record in caplog.get_records("call") if record.name.startswith("earmark")]
    everything = [f"{record.getMessage()} {record.__dict__}" for record in records]
    assert everything
    for text in everything:
        for secret in (SECRET.decode(), "eyJ", "signature", "expires=", "my holiday", "storage/images"):
            assert secret not in text


async def test_one_line_per_request(api: Api, alice: httpx.AsyncClient, logged: pytest.LogCaptureFixture):
    data = described(filename="my holiday.jpg")
    (upload,) = await api.reserved(alice, data)
    await alice.put(upload["uploadUrl"], content=JPEG, headers=upload["headers"])
    await alice.put(upload["uploadUrl"], content=JPEG + b"x", headers=upload["headers"])
    await alice.get(f"/api/images/{upload['imageId']}?x=eyJ")
    await alice.get("/eyJ/my holiday")
    await alice.get("/api/usage", headers={"Authorization": "Bearer eyJforged"})
    await alice.post("/api/images/preupload", json=data | {"size": 0})
    await alice.post("/api/quota/rollback", json={"count": 1})
    http = [record for record in logged.records if record.name == "earmark.http"]
    assert [(line.method, line.route, line.status, line.subject) for line in http] == [
        ("POST", "/api/images/preupload", 201, "alice"),
        ("PUT", "/storage/{key:path}", 201, None),
        ("PUT", "/storage/{key:path}", 413, None),
        ("GET", "/api/images/{id}", 200, "alice"),
        ("GET", None, 404, None),
        ("GET", "/api/usage", 401, None),
        ("POST", "/api/images/preupload", 422, "alice"),
        ("POST", "/api/quota/rollback", 200, "alice"),
    ]
    assert all(line.duration_ms >= 0 and line.request_id for line in http)
    assert len({line.request_id for line in http}) == len(http)


async def test_it_mounts(api: Api, alice: httpx.AsyncClient):
    outer = Starlette(routes=[Mount("/quota", app=api.app)])
    transport = httpx.ASGITransport(outer)
    async with httpx.AsyncClient(transport=transport, base_url=ADDRESS, headers=alice.headers) as client:
        made = await client.post("/quota/api/images/preupload", json=described())
        assert (await client.get(made.headers["location"])).status_code == 200
        assert_problem(await client.get("/quota/api/nothing"), 404, "not-found")
        assert (await client.get("/quota/page.css")).headers["content-type"].startswith("text/css")


async def test_a_method_that_an_address_lacks_is_not_taken_for_an_id(alice: httpx.AsyncClient):
    for path in ("/api/images/preupload", "/api/images/complete"):
        response = await alice.get(path)
        assert_problem(response, 405, "method-not-allowed")
        assert response.headers["allow"] == "POST"


async def test_an_idempotency_key_is_a_structured_string_or_bare(alice: httpx.AsyncClient):
    async def reserve(*keys: str) -> httpx.Response:
        headers = [(b"Idempotency-Key", key.encode()) for key in keys]
        return await alice.post("/api/reservations", json={"amounts": {"images": 1}}, headers=headers)

    same = [await reserve(key) for key in ('"a\\"b 1"', 'a"b 1', 'a"b 1')]
    assert len({one.json()["reservationId"] for one in same}) == 1
    for wrong in (("",), ('"',), ('""',), ('"open',), ('"a\\n"',), ("é",), (" ",), ("a", "b"), ("x" * 256,)):
        problem = assert_problem(await reserve(*wrong), 422, "invalid-request")
        assert problem["field"] == "Idempotency-Key", wrong


async def test_a_subject_that_could_not_be_one_is_refused(service: httpx.AsyncClient):
    for name in ("x" * 256, "a%00b"):
        for method in ("GET", "PUT"):
            problem = assert_problem(
                await service.request(method, f"/api/admin/subjects/{name}"), 422, "invalid-request"
            )
            assert problem["field"] == "subject"
