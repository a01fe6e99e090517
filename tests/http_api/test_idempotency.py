"""What is asked for twice under one Idempotency-Key is done once and answered alike."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from earmark import Ledger
from earmark.http_api.app import create_app
from earmark.http_api.caller import Role
from earmark.model import PlanQuota
from http_api.harness import Api, described, opened

pytestmark = pytest.mark.anyio
KEY = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}


def alike(first: httpx.Response, again: httpx.Response) -> None:
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.status_code == first.status_code
    assert again.headers["content-type"] == first.headers["content-type"]
    told = [{name: value for name, value in one.json().items() if name != "instance"} for one in (first, again)]
    assert told[0] == told[1]
    if first.is_success:
        assert again.content == first.content


async def reserved(client: httpx.AsyncClient, **body: Any) -> str:
    made = await client.post("/api/reservations", json=body or {"amounts": {"images": 1}})
    assert made.status_code == 201
    return made.json()["reservationId"]


async def test_a_count_is_rolled_back_once(api: Api, alice: httpx.AsyncClient):
    await api.reserved(alice)
    await api.reserved(alice)
    first, again = [await alice.post("/api/quota/rollback", json={"count": 1}, headers=KEY) for _ in range(2)]
    alike(first, again)
    assert first.json()["rolledBack"]["images"] == 1
    assert (await api.used(alice))["images"] == (0, 1)
    unkeyed = await alice.post("/api/quota/rollback", json={"count": 1})
    assert unkeyed.json()["rolledBack"]["images"] == 1
    alike(first, await alice.post("/api/quota/rollback", json={"cause": "cancelled", "count": 1}, headers=KEY))


async def test_every_call_that_settles_answers_alike(api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient):
    images = [one["imageId"] for _ in range(3) for one in await api.reserved(alice)]
    calls = [
        (alice, "/api/quota/rollback", {"reservationId": await reserved(alice)}),
        (alice, "/api/quota/rollback", {"imageIds": [images[0]]}),
        (alice, f"/api/reservations/{await reserved(alice)}/rollback", {}),
        (alice, f"/api/reservations/{await reserved(alice)}/extend", {"ttlSeconds": 5000}),
        (service, f"/api/reservations/{await reserved(alice)}/commit", {"amounts": {"images": 0}}),
        (alice, f"/api/images/{images[1]}/cancel", {}),
        (alice, f"/api/images/{images[2]}/failed", {"error": "gone"}),
    ]
    for number, (client, path, body) in enumerate(calls):
        key = {"Idempotency-Key": f"key-{number}"}
        first, again = [await client.post(path, json=body, headers=key) for _ in range(2)]
        assert first.status_code == 200, (path, first.text)
        alike(first, again)


async def test_a_call_under_a_key_needs_one_connection(database: str, tmp_path: Path, anyio_backend: str):
    """Were it to wait for a second one while it has the first, as many calls as there are connections would stand."""
    async with opened(database, tmp_path, connections=1) as services:
        api = Api(services, create_app(services))
        alice, service = api.client("alice"), api.client("backend", Role.SERVICE)
        open_images = [one["imageId"] for _ in range(3) for one in await api.reserved(alice)]
        done = await api.completed(alice)
        for number, (client, path, body, status) in enumerate(
            [
                (service, "/api/quota/rollback", {"imageIds": [open_images[0]]}, 200),
                (alice, "/api/quota/rollback", {"imageIds": [open_images[1]]}, 200),
                (service, "/api/quota/rollback", {"imageIds": [done]}, 409),
                (service, "/api/quota/rollback", {"reservationId": await reserved(alice)}, 200),
                (service, "/api/quota/rollback", {"count": 1}, 200),
                (service, f"/api/images/{open_images[2]}/cancel", {}, 200),
                (alice, f"/api/images/{done}/cancel", {}, 409),
                (alice, f"/api/images/{done}/failed", {}, 409),
                (service, f"/api/reservations/{await reserved(alice)}/extend", {"ttlSeconds": 5000}, 200),
                (service, f"/api/reservations/{await reserved(alice)}/commit", {}, 200),
            ]
        ):
            answer = await client.post(path, json=body, headers={"Idempotency-Key": f"key-{number}"})
            assert answer.status_code == status, (path, body, answer.text)
        for client in api.clients:
            await client.aclose()


async def test_what_the_ledger_remembers_is_told_as_a_replay_too(
    api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient
):
    (upload,) = await api.reserved(alice)
    await alice.post(f"/api/images/{upload['imageId']}/cancel")
    much = {"images": 10**9}
    less = {"subject": "alice", "resource": "images", "amount": -(10**9), "reason": "none"}
    more = less | {"amount": 1}
    for number, (client, path, body, status) in enumerate(
        [
            (alice, "/api/reservations", {"amounts": {"images": 1}}, 201),
            (alice, "/api/images/preupload", described(), 201),
            (alice, f"/api/images/{upload['imageId']}/retry", {}, 201),
            (service, "/api/admin/adjust", more, 200),
            (service, "/api/admin/adjust", less, 409),
            (alice, "/api/reservations", {"amounts": much}, 429),
            (alice, "/api/images/preupload", {"files": [described()] * 2}, 429),
        ]
    ):
        if status == 429:
            await service.put("/api/admin/subjects/alice", json={"quotas": {"images": 0}})
        key = {"Idempotency-Key": f"key-{number}"}
        first, again = [await client.post(path, json=body, headers=key) for _ in range(2)]
        assert (first.status_code, again.status_code) == (status, status), (path, first.text)
        assert "idempotency-replayed" not in first.headers, path
        assert again.headers["idempotency-replayed"] == "true", path
        assert "replayed" not in first.json() or not first.json()["replayed"], path
        assert status == 201 or again.json()["replayed"], path


async def test_quota_of_the_past_is_not_told_as_that_of_now(
    api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient
):
    given_back, grown = await reserved(alice), await reserved(alice)
    much = {"amounts": {"images": 10**9}, "grow": True}
    for client, path, body, status in (
        (alice, f"/api/reservations/{given_back}/rollback", {}, 200),
        (service, f"/api/reservations/{grown}/commit", much, 429),
    ):
        first, again = [await client.post(path, json=body, headers={"Idempotency-Key": path}) for _ in range(2)]
        assert (first.status_code, again.status_code) == (status, status), first.text
        assert {"ratelimit", "ratelimit-policy"} <= set(first.headers)
        assert {"ratelimit", "ratelimit-policy"}.isdisjoint(again.headers)


async def test_a_refusal_is_remembered_too(api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient):
    reservation = await reserved(alice)
    path = f"/api/reservations/{reservation}/rollback"
    await service.post(f"/api/reservations/{reservation}/commit", json={})
    first = await alice.post(path, json={}, headers=KEY)
    assert first.status_code == 409
    alike(first, await alice.post(path, json={}, headers=KEY))
    missing = await alice.post(f"/api/reservations/{uuid4()}/rollback", headers={"Idempotency-Key": "other"})
    assert missing.status_code == 404


async def test_what_a_refused_call_did_so_far_is_undone(api: Api, alice: httpx.AsyncClient):
    (upload,) = await api.reserved(alice)
    body = {"imageIds": [upload["imageId"], str(uuid4())]}
    answers = [await alice.post("/api/quota/rollback", json=body, headers=KEY) for _ in range(2)]
    assert [one.status_code for one in answers] == [404, 404]
    assert (await api.used(alice))["images"] == (0, 1)


async def test_another_request_under_the_key_is_refused_and_named(api: Api, alice: httpx.AsyncClient):
    reservation = await reserved(alice)
    await alice.post("/api/quota/rollback", json={"count": 1}, headers=KEY)
    for path, body, differs in (
        ("/api/quota/rollback", {"count": 2}, ["count"]),
        ("/api/quota/rollback", {"count": 1, "reason": "x"}, ["reason"]),
        (f"/api/reservations/{reservation}/extend", {"ttlSeconds": 9}, ["call"]),
    ):
        response = await alice.post(path, json=body, headers=KEY)
        assert (response.status_code, response.json()["type"]) == (422, "/problems/idempotency-key-reused")
        assert set(differs) <= set(response.json()["differs"])


@pytest.mark.parametrize(
    "changed",
    [
        {"max_file_bytes": 1},
        {"allowed_types": ("image/png",)},
        {"upload_ttl_seconds": 60.0},
        {"upload_grace_seconds": 7.0},
        {"evidence_ttl_seconds": 7.0},
        {"image_resources": {"credits": 5}},
    ],
    ids=lambda changed: next(iter(changed)),
)
@pytest.mark.parametrize("room", [2, 0], ids=["granted", "denied"])
async def test_a_preupload_is_answered_the_same_whatever_the_settings_are_by_now(
    database: str, tmp_path: Path, ledger: Ledger, changed: dict[str, object], room: int
):
    """Its images are there, or it was refused: a deploy in between is no reason to tell its client otherwise."""
    ledger.configure_plan("pro", quotas={"credits": PlanQuota(5, "P1M", refundable=False)})
    ledger.configure_subject("alice", quotas={"images": room})
    answers = []
    for settings in ({}, changed):
        async with opened(database, tmp_path, **settings) as services:
            api = Api(services, create_app(services))
            alice = api.client("alice")
            key = {"Idempotency-Key": "key-1"}
            answers.append(await alice.post("/api/images/preupload", json={"files": [described()] * 2}, headers=key))
            other = {"files": [described(filename="other.jpg")] * 2}
            reused = await alice.post("/api/images/preupload", json=other, headers=key)
            assert reused.json()["type"] == "/problems/idempotency-key-reused"
            await alice.aclose()
    first, again = [answer.json() for answer in answers]
    assert [answer.status_code for answer in answers] == [201 if room else 429] * 2
    assert answers[1].headers["idempotency-replayed"] == "true"
    if room:
        assert [one["imageId"] for one in again["images"]] == [one["imageId"] for one in first["images"]]
        assert [one["expiresAt"] for one in again["images"]] == [one["expiresAt"] for one in first["images"]]
    assert ledger.usage("alice").resources["images"].held == room


async def test_a_file_that_is_not_taken_is_refused_under_a_key_too(api: Api, alice: httpx.AsyncClient):
    for _ in range(2):
        answer = await alice.post("/api/images/preupload", json=described(content_type="text/plain"), headers=KEY)
        assert answer.json()["type"] == "/problems/invalid-file"
    assert (await alice.post("/api/images/preupload", json=described(), headers=KEY)).status_code == 201


async def test_keys_of_different_subjects_never_meet(api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient):
    bob = api.client("bob")
    for client in (alice, bob):
        await api.reserved(client)
        answer = await client.post("/api/quota/rollback", json={"count": 1}, headers=KEY)
        assert answer.json()["rolledBack"]["images"] == 1
        assert "idempotency-replayed" not in answer.headers
    for name in ("carol", "dave"):
        await api.reserved(api.client(name))
        body = {"count": 1, "subject": name}
        answer = await service.post("/api/quota/rollback", json=body, headers=KEY)
        assert answer.json()["rolledBack"]["images"] == 1
    replayed = await service.post("/api/quota/rollback?subject=alice", json={"count": 1}, headers=KEY)
    assert replayed.headers["idempotency-replayed"] == "true"


async def test_while_the_first_is_at_it_a_second_is_told_so(
    api: Api, alice: httpx.AsyncClient, connection: psycopg.Connection, database: str
):
    await api.reserved(alice)
    with psycopg.connect(database) as other:  # holds the lock of alice's tree, so that the first call waits
        other.execute("SELECT 1 FROM earmark._private_subject WHERE subject = 'alice' FOR UPDATE")
        first = asyncio.create_task(alice.post("/api/quota/rollback", json={"count": 1}, headers=KEY))
        await _until(lambda: _waits(connection))
        second = await alice.post("/api/quota/rollback", json={"count": 1}, headers=KEY)
        assert (second.status_code, second.json()["type"]) == (409, "/problems/request-in-flight")
        other.rollback()
        done = await first
    assert done.json()["rolledBack"]["images"] == 1
    alike(done, await alice.post("/api/quota/rollback", json={"count": 1}, headers=KEY))


async def test_the_same_many_times_at_once_is_done_once(api: Api, alice: httpx.AsyncClient):
    for _ in range(3):
        await api.reserved(alice)
    ask = [alice.post("/api/quota/rollback", json={"count": 1}, headers=KEY) for _ in range(6)]
    answers = await asyncio.gather(*ask)
    assert {one.status_code for one in answers} <= {200, 409}
    assert len({one.text for one in answers if one.status_code == 200}) == 1
    assert (await api.used(alice))["images"] == (0, 2)


async def test_what_was_not_remembered_was_not_done(api: Api, alice: httpx.AsyncClient, connection: psycopg.Connection):
    await api.reserved(alice)
    keep = connection.execute("SELECT pg_get_functiondef('earmark.keep_answer'::regproc)").fetchone()
    connection.execute(
        "CREATE OR REPLACE FUNCTION earmark.keep_answer(subject text, key text, request jsonb, answer jsonb) "
        "RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'disk full'; END $$"
    )
    assert (await alice.post("/api/quota/rollback", json={"count": 1}, headers=KEY)).status_code == 500
    assert (await api.used(alice))["images"] == (0, 1)
    connection.execute(keep[0])
    done = await alice.post("/api/quota/rollback", json={"count": 1}, headers=KEY)
    assert done.json()["rolledBack"]["images"] == 1


async def test_a_key_is_forgotten_after_its_time(
    api: Api, alice: httpx.AsyncClient, clock_of: Callable[..., Any], connection: psycopg.Connection
):
    clock = clock_of(connection)
    await api.reserved(alice)
    for key in ("old-1", "old-2", "old-3"):
        await alice.post("/api/quota/rollback", json={"count": 1}, headers={"Idempotency-Key": key})
    clock.advance(3600)
    await alice.post("/api/quota/rollback", json={"count": 1}, headers={"Idempotency-Key": "new"})
    (removed,) = connection.execute("SELECT earmark.prune_answers('30 minutes', 1)").fetchone()
    assert removed == 1
    assert connection.execute("SELECT earmark.prune_answers('30 minutes')").fetchone() == (2,)
    kept = connection.execute("SELECT key FROM earmark._private_answer").fetchall()
    assert kept == [("new",)]
    again = await alice.post("/api/quota/rollback", json={"count": 1}, headers={"Idempotency-Key": "old-1"})
    assert "idempotency-replayed" not in again.headers


async def test_a_key_for_a_subject_that_has_nothing_is_fine(alice: httpx.AsyncClient):
    for _ in range(2):
        answer = await alice.post("/api/quota/rollback", json={"count": 1}, headers=KEY)
        assert (answer.status_code, answer.json()["rolledBack"]) == (200, {})


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it never came true")


def _waits(connection: psycopg.Connection) -> bool:
    query = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return connection.execute(query).fetchone()[0]
