from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from earmark.http_api.caller import Role
from http_api.harness import Api

pytestmark = pytest.mark.anyio


async def reserve(client: httpx.AsyncClient, **body: Any) -> str:
    response = await client.post("/api/reservations", json=body or {"amounts": {"images": 3, "storage_bytes": 900}})
    assert response.status_code == 201, response.text
    assert response.headers["location"] == f"/api/reservations/{response.json()['reservationId']}"
    return response.json()["reservationId"]


async def test_reserved_and_looked_at(api: Api, alice: httpx.AsyncClient):
    reservation = await reserve(alice, items={"a": {"images": 1}, "b": {"images": 2}}, ttlSeconds=60)
    story = (await alice.get(f"/api/reservations/{reservation}")).json()
    assert (story["reservationId"], story["subject"]) == (reservation, "alice")
    assert {name: (item["state"], item["amounts"]) for name, item in story["items"].items()} == {
        "a": ("held", {"images": 1}),
        "b": ("held", {"images": 2}),
    }
    expires_at = datetime.fromisoformat(story["items"]["a"]["expiresAt"])
    created_at = datetime.fromisoformat(story["createdAt"])
    assert expires_at - created_at <= timedelta(seconds=61)


async def test_committed_by_a_service(api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient):
    reservation = await reserve(alice)
    path = f"/api/reservations/{reservation}/commit"
    assert (await alice.post(path, json={})).status_code == 403
    assert (await api.used(alice))["images"] == (0, 3)
    first = (await service.post(path, json={"amounts": {"images": 2, "storage_bytes": 900}})).json()
    assert (first["committed"]["images"], first["returned"]["images"]) == (2, 1)
    assert first["usage"]["subject"] == "alice"
    again = await service.post(path)
    assert (again.status_code, again.json()["committed"]) == (200, {})
    assert await api.used(alice) == {"images": (2, 0), "storage_bytes": (900, 0)}


async def test_commits_item_by_item_and_the_rest_comes_back(
    api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient
):
    reservation = await reserve(alice, items={name: {"images": 2} for name in "abc"})
    path = f"/api/reservations/{reservation}"
    await service.post(f"{path}/commit", json={"items": ["a"]})
    await service.post(f"{path}/commit", json={"items": {"b": {"images": 1}}})
    assert (await alice.post(f"{path}/rollback")).json()["rolledBack"] == {"images": 2}
    assert (await api.used(alice))["images"] == (3, 0)


async def test_settled_says_when_and_by_whom_it_was_last(alice: httpx.AsyncClient, service: httpx.AsyncClient):
    committed = await reserve(alice, items={name: {"images": 1} for name in "ab"})
    for name in "ba":
        await service.post(f"/api/reservations/{committed}/commit", json={"items": [name]})
    for path, body in (
        (f"/api/reservations/{committed}/rollback", {}),
        (f"/api/reservations/{committed}/extend", {"ttlSeconds": 60}),
        ("/api/quota/rollback", {"reservationId": committed}),
    ):
        response = await alice.post(path, json=body)
        assert (response.status_code, response.json()["type"]) == (409, "/problems/already-settled")
        told = response.json()
        assert (told["by"], told["state"], told["item"]) == ("backend", "committed", "a")
        assert datetime.fromisoformat(told["at"]).tzinfo
    gone = await reserve(alice)
    for returned in ({"images": 3, "storage_bytes": 900}, {}):
        response = await alice.post(f"/api/reservations/{gone}/rollback")
        assert (response.status_code, response.json()["rolledBack"]) == (200, returned)
    late = await service.post(f"/api/reservations/{gone}/commit")
    assert (late.status_code, late.json()["cause"], late.json()["by"]) == (409, "cancelled", "alice")


async def test_more_than_is_held_cannot_be_committed(api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient):
    reservation = await reserve(alice, amounts={"images": 1})
    response = await service.post(f"/api/reservations/{reservation}/commit", json={"amounts": {"images": 2}})
    assert response.status_code == 422
    assert (await api.used(alice))["images"] == (0, 1)


async def test_extended(alice: httpx.AsyncClient):
    reservation = await reserve(alice, amounts={"images": 1}, ttlSeconds=1)
    response = await alice.post(f"/api/reservations/{reservation}/extend", json={"ttlSeconds": 7200})
    assert response.status_code == 200
    assert datetime.fromisoformat(response.json()["expiresAt"]) > datetime.now(UTC) + timedelta(hours=1)


async def test_denied_and_denied_again_under_the_key(api: Api, alice: httpx.AsyncClient):
    for _ in range(2):
        response = await alice.post(
            "/api/reservations", json={"amounts": {"images": 501}}, headers={"Idempotency-Key": "big"}
        )
        assert response.status_code == 429
        problem = response.json()
        assert (problem["used"], problem["quota_limit"], problem["remaining"]) == (0, 500, 500)
        assert problem["short"][0]["requested"] == 501
    assert (await api.used(alice))["images"] == (0, 0)


async def test_replayed_under_the_key(api: Api, alice: httpx.AsyncClient):
    body, key = {"amounts": {"images": 1}}, {"Idempotency-Key": "once"}
    answers = [(await alice.post("/api/reservations", json=body, headers=key)).json() for _ in range(2)]
    assert answers[0]["reservationId"] == answers[1]["reservationId"]
    assert [one["replayed"] for one in answers] == [False, True]
    assert (await api.used(alice))["images"] == (0, 1)


async def test_a_service_reserves_for_a_user(api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient):
    reservation = await reserve(service, amounts={"images": 1}, subject="alice")
    assert (await api.used(alice))["images"] == (0, 1)
    assert (await api.history(alice))[0]["actor"] == "backend"
    assert (await alice.get(f"/api/reservations/{reservation}")).status_code == 200
    narrowed = await service.get(f"/api/reservations/{reservation}?subject=bob")
    assert narrowed.status_code == 404
    other_service = api.client("other", Role.SERVICE)
    assert (await other_service.get(f"/api/reservations/{reservation}?subject=alice")).status_code == 200


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        ({}, "invalid-request"),
        ({"amounts": {}}, "invalid-request"),
        ({"items": {}}, "invalid-request"),
        ({"items": {"a": {}}}, "invalid-request"),
        ({"items": {"a\0": {"images": 1}}}, "invalid-request"),
        ({"amounts": {"images": 1}, "items": {"a": {"images": 1}}}, "invalid-request"),
        ({"amounts": {"images": 0}}, "invalid-request"),
        ({"amounts": {"images": -1}}, "invalid-request"),
        ({"amounts": {"images": 1.5}}, "invalid-request"),
        ({"amounts": {"images": 2**63}}, "invalid-request"),
        ({"amounts": {"images": "1"}}, "invalid-request"),
        ({"amounts": {"images": True}}, "invalid-request"),
        ({"amounts": {"steaks": 1}}, "unknown-resource"),
        ({"amounts": {"images": 1}, "ttlSeconds": 0}, "invalid-request"),
        ({"amounts": {"images": 1}, "ttlSeconds": 1e300}, "invalid-request"),
        ({"amounts": {"images": 1}, "ttlSeconds": "60"}, "invalid-request"),
        ({"amounts": {"images": 1}, "subject": 7}, "invalid-request"),
    ],
    ids=str,
)
async def test_requests_that_make_no_sense(api: Api, alice: httpx.AsyncClient, body: object, slug: str):
    response = await alice.post("/api/reservations", json=body)
    assert (response.status_code, response.json()["type"]) == (422, f"/problems/{slug}")
    assert (await api.used(alice))["images"] == (0, 0)
