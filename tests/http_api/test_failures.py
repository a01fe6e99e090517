"""The four failures of the requirement, over HTTP: each once, each again, in usage and in the journal."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest

from earmark.uploads import failed_rollbacks
from earmark.uploads.status import read_status
from earmark.uploads.storage import LocalStorage, StoredObject
from fixtures.breakable import UNREACHABLE
from http_api.harness import ADDRESS, JPEG, SECRET, Api, described

pytestmark = pytest.mark.anyio

NOTHING = {"images": (0, 0), "storage_bytes": (0, 0)}
Deliver = Callable[[], Awaitable[httpx.Response]]


async def given_back_once(api: Api, client: httpx.AsyncClient, cause: str) -> None:
    """All of it came back, in one entry per resource, with its cause."""
    assert await api.used(client) == NOTHING
    entries = await api.history(client)
    kinds = [(entry["kind"], entry["resource"], entry["cause"]) for entry in entries]
    assert sorted(kinds, key=str) == sorted(
        [
            ("reserve", "images", None),
            ("reserve", "storage_bytes", None),
            ("rollback", "images", cause),
            ("rollback", "storage_bytes", cause),
        ],
        key=str,
    )
    for resource in ("images", "storage_bytes"):
        assert sum(entry["held"] for entry in entries if entry["resource"] == resource) == 0
    assert all(entry["actor"] and entry["at"] and entry["reservationId"] and entry["item"] for entry in entries)


async def state(client: httpx.AsyncClient, image: str) -> tuple[str, str | None]:
    shown = (await client.get(f"/api/images/{image}")).json()
    return shown["state"], shown["cause"]


async def test_the_client_says_that_its_upload_failed(api: Api, alice: httpx.AsyncClient):
    (upload,) = await api.reserved(alice)
    for _ in range(2):
        response = await alice.post(f"/api/images/{upload['imageId']}/failed", json={"error": "S3 said\0 503\n"})
        assert response.status_code == 200
        assert response.json()["image"]["reason"] == "The upload failed: S3 said 503"
        assert response.json()["usage"]["used"] == 0
    await given_back_once(api, alice, "upload_failed")
    assert await state(alice, upload["imageId"]) == ("failed", "upload_failed")


async def test_the_bytes_are_not_there(api: Api, alice: httpx.AsyncClient):
    (upload,) = await api.reserved(alice)
    first = await alice.post("/api/images/complete", json={"imageId": upload["imageId"]})
    assert (first.status_code, first.json()["type"]) == (422, "/problems/upload-failed")
    again = await alice.post("/api/images/complete", json={"imageId": upload["imageId"]})
    assert (again.status_code, again.json()["type"]) == (409, "/problems/already-settled")
    assert (again.json()["state"], again.json()["cause"]) == ("failed", "upload_failed")
    assert again.json()["at"]
    await given_back_once(api, alice, "upload_failed")


async def test_a_text_named_jpg(api: Api, alice: httpx.AsyncClient):
    image = await api.uploaded(alice, b"this is not a picture " * 10)
    first = await alice.post("/api/images/complete", json={"imageId": image})
    assert (first.status_code, first.json()["type"]) == (422, "/problems/validation-failed")
    assert first.json()["reason"]
    again = await alice.post("/api/images/complete", json={"imageId": image})
    assert (again.status_code, again.json()["cause"]) == (409, "validation_failed")
    await given_back_once(api, alice, "validation_failed")
    shown = (await alice.get(f"/api/images/{image}")).json()
    assert (shown["state"], shown["reason"]) == ("rejected", first.json()["reason"])


@pytest.mark.parametrize("stage", ["reserved", "uploading", "uploaded", "processing"])
async def test_cancelled(api: Api, alice: httpx.AsyncClient, stage: str):
    if stage == "reserved":
        image = (await api.reserved(alice))[0]["imageId"]
    elif stage == "uploading":
        image = await api.uploaded(alice)
    else:
        image = await api.queued(alice)
        if stage == "processing":
            await api.started(image)
    assert (await state(alice, image))[0] == stage
    for _ in range(2):
        response = await alice.post(f"/api/images/{image}/cancel")
        assert response.status_code == 200
        assert response.json()["image"]["state"] == "cancelled"
    await given_back_once(api, alice, "cancelled")


async def test_processing_failed(api: Api, alice: httpx.AsyncClient):
    image = await api.queued(alice)
    await api.started(image)
    async with api.services.uploads.pool.connection() as connection:
        for _ in range(2):
            await connection.execute(
                "SELECT earmark.image_roll_back(%s, 'processing_failed', attempt => 1, reason => 'Broken.', "
                "actor => 'worker')",
                (UUID(image),),
            )
    await given_back_once(api, alice, "processing_failed")
    assert await state(alice, image) == ("failed", "processing_failed")
    assert (await alice.post(f"/api/images/{image}/cancel")).status_code == 200
    late = await alice.post("/api/images/complete", json={"imageId": image})
    assert (late.status_code, late.json()["cause"]) == (409, "processing_failed")
    await given_back_once(api, alice, "processing_failed")
    newest = next(entry for entry in await api.history(alice) if entry["kind"] == "rollback")
    assert (newest["actor"], newest["reason"]) == ("worker", "Broken.")


@pytest.mark.parametrize("second", ["cancel", "failed", "rollback", "delete"])
@pytest.mark.parametrize("first", ["cancel", "failed", "rollback"])
async def test_two_different_words_on_one_image(api: Api, alice: httpx.AsyncClient, first: str, second: str):
    (upload,) = await api.reserved(alice)
    image = upload["imageId"]
    calls: dict[str, Deliver] = {
        "cancel": lambda: alice.post(f"/api/images/{image}/cancel"),
        "failed": lambda: alice.post(f"/api/images/{image}/failed"),
        "rollback": lambda: alice.post("/api/quota/rollback", json={"imageIds": [image]}),
        "delete": lambda: alice.delete(f"/api/images/{image}"),
    }
    assert (await calls[first]()).status_code == 200
    assert (await calls[second]()).status_code == 200
    await given_back_once(api, alice, "upload_failed" if first == "failed" else "cancelled")


async def test_what_is_completed_is_out_of_reach(api: Api, alice: httpx.AsyncClient):
    image = await api.completed(alice)
    before = await api.used(alice)
    words: list[tuple[str, dict[str, Any]]] = [
        (f"/api/images/{image}/cancel", {}),
        (f"/api/images/{image}/failed", {}),
        ("/api/quota/rollback", {"imageIds": [image]}),
    ]
    for path, body in words:
        response = await alice.post(path, json=body)
        assert (response.status_code, response.json()["type"]) == (409, "/problems/already-settled")
        assert response.json()["at"]
        assert response.json()["by"] == "worker"
    assert await api.used(alice) == before == {"images": (1, 0), "storage_bytes": (len(JPEG), 0)}


async def test_a_service_ends_a_users_image_under_its_own_name(
    api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient
):
    (upload,) = await api.reserved(alice)
    response = await service.post(f"/api/images/{upload['imageId']}/cancel")
    assert response.status_code == 200
    assert response.json()["usage"]["subject"] == "alice"
    await given_back_once(api, alice, "cancelled")
    assert {entry["actor"] for entry in await api.history(alice) if entry["kind"] == "rollback"} == {"backend"}


class Meddled(LocalStorage):
    """The store, with something that happens just before an object is looked at."""

    meddle: Deliver

    async def peek(self, key: str, length: int) -> tuple[StoredObject, bytes] | None:
        await self.meddle()
        return await super().peek(key, length)


async def test_cancelled_while_the_object_is_looked_at(api: Api, alice: httpx.AsyncClient):
    (upload,) = await api.reserved(alice)
    store = Meddled(api.services.settings.home / "objects", secret=SECRET, public_url=ADDRESS)
    store.meddle = lambda: api.client("alice").post(f"/api/images/{upload['imageId']}/cancel")
    api.services.uploads.storage = store
    response = await alice.post("/api/images/complete", json={"imageId": upload["imageId"]})
    assert (response.status_code, response.json()["cause"]) == (409, "cancelled")
    await given_back_once(api, alice, "cancelled")


@pytest.mark.parametrize("form", ["imageIds", "reservationId", "cancel"])
async def test_the_database_drops_its_connections_at_the_wrong_moment(
    api: Api, alice: httpx.AsyncClient, connection: psycopg.Connection, form: str
):
    reservation = (await alice.post("/api/images/preupload", json=described())).json()
    image = reservation["images"][0]["imageId"]
    bodies = {"imageIds": [image], "reservationId": reservation["reservationId"]}
    found = await alice.get(f"/api/images/{image}")
    assert found.status_code == 200
    connection.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    if form == "cancel":
        moved = await api.services.uploads.cancel(UUID(image), subject="alice")
        assert moved.outcome == "rolled_back"
    else:
        response = await alice.post("/api/quota/rollback", json={form: bodies[form]})
        assert (response.status_code, response.json()["rolledBack"]["images"]) == (200, 1)
    await given_back_once(api, alice, "cancelled")


@pytest.mark.parametrize("keyed", [False, True])
async def test_a_reservation_whose_rollback_fails_is_rolled_back_later(
    api: Api, alice: httpx.AsyncClient, breakable, monkeypatch: pytest.MonkeyPatch, connection, keyed: bool
):
    """By either address; its client is told at once, and operators see it."""
    monkeypatch.setattr(failed_rollbacks, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(failed_rollbacks, "_LONGEST_PAUSE_SECONDS", 0.02)
    kept = api.services.uploads.failed_rollbacks
    ids = []
    for _ in range(2):
        made = await alice.post("/api/reservations", json={"items": {"a": {"images": 1}, "b": {"images": 2}}})
        ids.append(made.json()["reservationId"])
    breakable(UNREACHABLE)
    calls = [(f"/api/reservations/{ids[0]}/rollback", {"items": [name]}) for name in ("a", "b")]
    calls.append(("/api/quota/rollback", {"reservationId": ids[1]}))
    for number, (path, body) in enumerate(calls):
        headers = {"Idempotency-Key": f"k{number}"} if keyed else {}
        assert (await alice.post(path, json=body, headers=headers)).status_code == 503
    assert len(kept) == 3
    breakable(None)
    for _ in range(400):
        if not len(kept):
            break
        await asyncio.sleep(0.025)
    assert (await api.used(alice))["images"] == (0, 0)
    await kept.aclose()
    shown = read_status(connection).failed_rollbacks
    assert (shown.count, shown.open) == (2, 0)
