"""Uploads and downloads by signed links of the local store."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from starlette.routing import Route

from earmark.http_api.app import create_app
from earmark.uploads.recovery import sweep
from http_api.harness import ADDRESS, JPEG, Api

pytestmark = pytest.mark.anyio


async def put(client: httpx.AsyncClient, upload: dict, content: object = JPEG, **headers: str) -> httpx.Response:
    return await client.put(upload["uploadUrl"], content=content, headers=upload["headers"] | headers)


async def test_the_link_is_the_permission(api: Api, alice: httpx.AsyncClient):
    (upload,) = await api.reserved(alice)
    response = await put(api.client(None), upload)
    assert (response.status_code, response.json()) == (201, {"imageId": upload["imageId"], "size": len(JPEG)})
    assert (await alice.get(f"/api/images/{upload['imageId']}")).json()["state"] == "uploading"
    assert [path.read_bytes() for path in api.objects] == [JPEG]


@pytest.mark.parametrize("end", ["cancel", "failed", "delete"])
async def test_no_bytes_are_taken_for_what_is_over(api: Api, alice: httpx.AsyncClient, end: str):
    (upload,) = await api.reserved(alice)
    image = f"/api/images/{upload['imageId']}"
    await (alice.delete(image) if end == "delete" else alice.post(f"{image}/{end}"))

    async def body() -> AsyncIterator[bytes]:
        pytest.fail("it was read")
        yield b""

    response = await put(alice, upload, body(), **{"Content-Length": str(len(JPEG))})
    assert (response.status_code, response.json()["type"]) == (410, "/problems/reservation-over")
    assert api.objects == []


async def test_a_reservation_that_ends_while_the_bytes_arrive(api: Api, alice: httpx.AsyncClient):
    (upload,) = await api.reserved(alice)

    async def body() -> AsyncIterator[bytes]:
        yield JPEG[:100]
        cancelled = await api.client("alice").post(f"/api/images/{upload['imageId']}/cancel")
        assert cancelled.status_code == 200
        yield JPEG[100:]

    response = await put(alice, upload, body(), **{"Content-Length": str(len(JPEG))})
    assert (response.status_code, response.json()["type"]) == (410, "/problems/reservation-over")
    assert api.objects == []
    assert await api.used(alice) == {"images": (0, 0), "storage_bytes": (0, 0)}


async def test_an_upload_that_is_under_way_when_its_link_ends_is_accepted(
    api: Api, alice: httpx.AsyncClient, clock: Any
):
    (upload,) = await api.reserved(alice)
    image = await api.services.uploads.image(UUID(upload["imageId"]))

    async def body() -> AsyncIterator[bytes]:
        yield JPEG[:100]
        clock.advance((image.upload_expires_at - image.created_at).total_seconds() + 1)
        await sweep(api.services.uploads)
        yield JPEG[100:]

    assert (await put(alice, upload, body(), **{"Content-Length": str(len(JPEG))})).status_code == 201
    assert (await alice.post("/api/images/complete", json={"imageId": upload["imageId"]})).status_code == 202


async def test_an_upload_that_never_ends_is_ended_with_its_reservation(api: Api, alice: httpx.AsyncClient):
    (upload,) = await api.reserved(alice)
    image = await api.services.uploads.image(UUID(upload["imageId"]))
    api.services.uploads.settings = api.services.settings.model_copy(update={"upload_grace_seconds": 0})
    soon = datetime.now(UTC) + timedelta(seconds=2)  # a link has whole seconds
    link = api.services.storage.sign_upload(image.key, content_type="image/jpeg", size=len(JPEG), expires_at=soon)

    async def body() -> AsyncIterator[bytes]:
        yield JPEG[:100]
        await asyncio.Event().wait()

    response = await put(alice, {**upload, "uploadUrl": link.url}, body(), **{"Content-Length": str(len(JPEG))})
    assert (response.status_code, response.json()["type"]) == (410, "/problems/reservation-over")
    assert api.objects == []


async def test_q57_a_link_is_good_once(api: Api, alice: httpx.AsyncClient):
    (upload,) = await api.reserved(alice)
    assert (await put(alice, upload)).status_code == 201
    other = JPEG[:-1] + b"x"
    assert (await put(alice, upload, other)).status_code == 412
    await alice.post("/api/images/complete", json={"imageId": upload["imageId"]})
    late = await put(alice, upload, other)
    assert (late.status_code, late.json()["type"]) == (412, "/problems/already-uploaded")
    assert [path.read_bytes() for path in api.objects] == [JPEG]


async def test_two_puts_at_once_store_one(api: Api, alice: httpx.AsyncClient):
    (upload,) = await api.reserved(alice)
    answers = await asyncio.gather(*(put(alice, upload) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 412, 412, 412]
    assert [path.read_bytes() for path in api.objects] == [JPEG]


async def test_q12_a_guessed_address_is_refused(api: Api, alice: httpx.AsyncClient):
    (upload,) = await api.reserved(alice)
    link = httpx.URL(upload["uploadUrl"])
    foreign = f"images/{uuid4()}/original"
    guesses = [
        f"/storage/{upload['s3Key']}",
        f"/storage/{foreign}?{link.query.decode()}",
        upload["uploadUrl"].replace(f"size={len(JPEG)}", "size=99999999"),
        upload["uploadUrl"].replace("signature=", "signature=0"),
        "/storage/images/..%2F..%2Fsecret?expires=99999999999&size=3&type=image%2Fjpeg&signature=00",
        "/storage/%00?expires=x&size=x&type=%FF&signature=%FF",
        "/storage/?signature=",
    ]
    for guess in guesses:
        response = await alice.put(guess, content=JPEG, headers=upload["headers"])
        assert (response.status_code, response.json()["type"]) == (403, "/problems/bad-signature"), guess
        assert (await alice.get(guess)).status_code == 403
    assert api.objects == []


async def test_what_does_not_match_the_declaration(api: Api, alice: httpx.AsyncClient):
    (upload,) = await api.reserved(alice)
    assert (await put(alice, upload, JPEG + b"x")).status_code == 413
    assert (await put(alice, upload, JPEG[:-1])).status_code == 400
    assert (await put(alice, upload, **{"Content-Type": "image/png"})).status_code == 415
    assert api.objects == []
    assert (await put(alice, upload)).status_code == 201


async def test_a_signed_key_that_is_no_image(api: Api, alice: httpx.AsyncClient):
    (upload,) = await api.reserved(alice)
    found = await api.services.uploads.image(UUID(upload["imageId"]))
    for key in ("notes/todo", f"images/{uuid4()}/original"):
        link = api.services.storage.sign_upload(
            key, content_type="image/jpeg", size=len(JPEG), expires_at=found.upload_expires_at
        )
        assert (await alice.put(link.url, content=JPEG, headers=link.headers)).status_code == 404
    assert api.objects == []


async def test_what_is_shown_runs_nothing(api: Api, alice: httpx.AsyncClient):
    image = await api.completed(alice)
    url = (await alice.get(f"/api/images/{image}")).json()["url"]
    response = await api.client(None).get(url, headers={"Range": "bytes=0-3"})
    assert (response.status_code, response.content) == (200, JPEG)
    assert response.headers["content-type"] == "image/jpeg"
    assert "sandbox" in response.headers["content-security-policy"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-disposition"] == 'inline; filename="photo.jpg"'
    head = await api.client(None).head(url)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(JPEG)))
    assert (await api.client(None).put(url, content=JPEG)).status_code == 403


async def test_a_link_outlives_its_object(api: Api, alice: httpx.AsyncClient):
    image = await api.completed(alice)
    url = (await alice.get(f"/api/images/{image}")).json()["url"]
    await api.services.storage.delete([f"images/{image}/original"])
    assert (await alice.get(url)).json()["type"] == "/problems/object-missing"


async def test_another_store_has_no_links_here(api: Api):
    class Elsewhere:
        def sign_download(self, *_: object, **__: object) -> str:
            return "http://127.0.0.1:9000/bucket/probe?X-Amz-Signature=0"

    app = create_app(replace(api.services, storage=Elsewhere()))
    assert not [route for route in app.routes if isinstance(route, Route) and route.path.startswith("/storage")]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ADDRESS) as client:
        policy = (await client.get("/")).headers["content-security-policy"]
    assert "connect-src 'self' https: http://127.0.0.1:9000;" in policy
