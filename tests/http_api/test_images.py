import asyncio
from datetime import datetime
from typing import Any

import httpx
import psycopg
import pytest

from earmark.uploads.recovery import sweep
from http_api.harness import JPEG, Api, described, picture

pytestmark = pytest.mark.anyio


async def test_preupload_answers_in_the_order_of_the_files(api: Api, alice: httpx.AsyncClient):
    files = [described(picture(width), f"{width}.jpg") for width in (10, 20, 30)]
    response = await alice.post("/api/images/preupload", json={"files": files})
    assert response.status_code == 201
    body = response.json()
    assert response.headers["location"] == f"/api/reservations/{body['reservationId']}"
    assert [upload["method"] for upload in body["images"]] == ["PUT"] * 3
    names = [(await alice.get(f"/api/images/{one['imageId']}")).json()["filename"] for one in body["images"]]
    assert names == ["10.jpg", "20.jpg", "30.jpg"]
    for upload in body["images"]:
        assert upload.keys() == {"imageId", "uploadUrl", "method", "headers", "s3Key", "expiresAt"}
        assert upload["s3Key"] == f"images/{upload['imageId']}/original"
        assert datetime.fromisoformat(upload["expiresAt"]).tzinfo
    size = sum(file["size"] for file in files)
    assert await api.used(alice) == {"images": (0, 3), "storage_bytes": (0, size)}
    assert body["usage"]["used"] == 3


async def test_preupload_of_one_file_at_the_top(alice: httpx.AsyncClient):
    response = await alice.post("/api/images/preupload", json=described())
    assert response.status_code == 201
    assert len(response.json()["images"]) == 1


async def test_from_preupload_to_the_picture(api: Api, alice: httpx.AsyncClient):
    image = await api.queued(alice)
    repeated = await alice.post("/api/images/complete", json={"imageId": image, "s3Key": "x", "fileSize": 1})
    assert (repeated.status_code, repeated.json()) == (202, {"imageId": image, "status": "uploaded"})
    assert repeated.headers["location"] == f"/api/images/{image}"
    assert (await alice.get(f"/api/images/{image}")).json()["url"] is None

    done = await api.completed(alice)
    shown = (await alice.get(f"/api/images/{done}")).json()
    assert {name: shown[name] for name in ("state", "width", "height", "format", "attempt", "thumbhash", "colors")} == {
        "state": "completed",
        "width": 64,
        "height": 48,
        "format": "JPEG",
        "attempt": 1,
        "thumbhash": "abc",
        "colors": ["#1e785a"],
    }
    stranger = api.client(None)
    original = await stranger.get(shown["url"])
    assert (original.status_code, original.content) == (200, JPEG)
    thumbnail = await stranger.get(shown["thumbnailUrl"])
    assert thumbnail.headers["content-type"] == "image/webp"
    assert await api.used(alice) == {"images": (1, 1), "storage_bytes": (len(JPEG), len(JPEG))}


async def test_an_image_has_every_field_of_the_contract(api: Api, alice: httpx.AsyncClient):
    (upload,) = await api.reserved(alice)
    image = (await alice.get(f"/api/images/{upload['imageId']}")).json()
    assert list(image) == [
        "imageId", "reservationId", "item", "filename", "contentType", "size", "state", "cause", "reason", "attempt",
        "width", "height", "format", "thumbhash", "colors", "url", "thumbnailUrl", "createdAt", "updatedAt",
        "expiresAt",
    ]  # fmt: skip
    assert image["state"] == "reserved"


async def test_pages_of_images_newest_first(api: Api, alice: httpx.AsyncClient):
    made = [(await api.reserved(alice))[0]["imageId"] for _ in range(5)]
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await alice.get("/api/images", params=query)).json()
        seen += [image["imageId"] for image in page["images"]]
        cursor = page["nextCursor"]
    assert cursor is None
    assert seen == made[::-1]
    assert (await alice.get("/api/images", params={"limit": 5})).json()["nextCursor"] is None


@pytest.mark.parametrize("path", ["/api/images", "/api/quota/history"])
@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=-1", "limit=ten", "limit=", "limit=1.0", "cursor=", "cursor=%00", "cursor=aGk"],
)
async def test_bad_pages(alice: httpx.AsyncClient, path: str, query: str):
    response = await alice.get(f"{path}?{query}")
    assert response.status_code == 422
    assert response.json()["field"] == query.split("=", maxsplit=1)[0]


async def test_a_cursor_belongs_to_its_own_list(api: Api, alice: httpx.AsyncClient):
    for _ in range(2):
        await api.reserved(alice)
    cursor = (await alice.get("/api/images?limit=1")).json()["nextCursor"]
    assert (await alice.get(f"/api/images?cursor={cursor}")).status_code == 200
    assert (await alice.get(f"/api/quota/history?cursor={cursor}")).status_code == 422


async def test_a_retry_under_the_key_of_another_request_is_refused(api: Api, alice: httpx.AsyncClient):
    """The same file: it would answer with the image of then, which has ended."""
    keyed = {"Idempotency-Key": "k"}
    body = described()
    first = (await alice.post("/api/images/preupload", json=body, headers=keyed)).json()["images"][0]["imageId"]
    await alice.post(f"/api/images/{first}/cancel")
    again = {"Idempotency-Key": "again"}
    second = (await alice.post(f"/api/images/{first}/retry", headers=again)).json()["images"][0]["imageId"]
    await alice.post(f"/api/images/{second}/cancel")
    for image, key in ((first, keyed), (second, again)):
        refused = await alice.post(f"/api/images/{image}/retry", headers=key)
        assert (refused.status_code, refused.json()["type"][-22:]) == (422, "idempotency-key-reused")
    replayed = await alice.post(f"/api/images/{first}/retry", headers=again)
    assert replayed.json()["images"][0]["imageId"] == second
    assert await api.used(alice) == {"images": (0, 0), "storage_bytes": (0, 0)}


async def test_retry_reserves_anew(api: Api, alice: httpx.AsyncClient):
    (upload,) = await api.reserved(alice)
    await alice.post(f"/api/images/{upload['imageId']}/cancel")
    keyed = {"Idempotency-Key": "again"}
    response = await alice.post(f"/api/images/{upload['imageId']}/retry", headers=keyed)
    assert response.status_code == 201
    new = response.json()["images"][0]["imageId"]
    assert new != upload["imageId"]
    assert response.headers["location"] == f"/api/images/{new}"
    repeated = await alice.post(f"/api/images/{upload['imageId']}/retry", headers=keyed)
    assert repeated.json()["images"][0]["imageId"] == new
    assert (await api.used(alice))["images"] == (0, 1)
    states = {one["imageId"]: one["state"] for one in (await alice.get("/api/images")).json()["images"]}
    assert states == {upload["imageId"]: "cancelled", new: "reserved"}


async def test_an_open_or_completed_image_is_not_retried(api: Api, alice: httpx.AsyncClient):
    (upload,) = await api.reserved(alice)
    for image in (upload["imageId"], await api.completed(alice)):
        assert (await alice.post(f"/api/images/{image}/retry")).status_code == 409


async def test_delete_gives_back_the_storage(api: Api, alice: httpx.AsyncClient):
    image = await api.completed(alice)
    response = await alice.delete(f"/api/images/{image}")
    assert response.status_code == 200
    assert response.json()["image"]["state"] == "deleted"
    assert await api.used(alice) == {"images": (1, 0), "storage_bytes": (0, 0)}
    assert (await alice.delete(f"/api/images/{image}")).status_code == 404
    assert (await alice.get(f"/api/images/{image}")).status_code == 404
    assert (await alice.get("/api/images")).json()["images"] == []


async def test_a_refund_of_its_reservation_deletes_the_image(
    api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient
):
    """Else its bytes would be free, and stay readable."""
    image = await api.completed(alice)
    reservation = (await api.history(alice))[0]["reservationId"]
    refunded = await service.post(f"/api/reservations/{reservation}/refund", json={"reason": "a mistake"})
    assert refunded.json()["returned"] == {"storage_bytes": len(JPEG)}
    assert (await alice.get(f"/api/images/{image}")).status_code == 404
    assert await api.used(alice) == {"images": (1, 0), "storage_bytes": (0, 0)}
    await sweep(api.services.uploads)
    assert api.objects == []


async def test_deleting_an_open_image_gives_everything_back_and_says_so(
    api: Api, alice: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "earmark.rollback")
    (upload,) = await api.reserved(alice)
    assert (await alice.delete(f"/api/images/{upload['imageId']}")).status_code == 200
    assert await api.used(alice) == {"images": (0, 0), "storage_bytes": (0, 0)}
    (line,) = [record for record in caplog.records if record.name == "earmark.rollback"]
    assert (line.cause, line.actor, line.amounts) == ("cancelled", "alice", {"images": 1, "storage_bytes": len(JPEG)})


async def test_over_quota(api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient):
    await service.put("/api/admin/subjects/alice", json={"quotas": {"images": 2}})
    await api.reserved(alice)
    response = await alice.post("/api/images/preupload", json={"files": [described()] * 2})
    assert response.status_code == 429
    problem = response.json()
    assert problem["type"] == "/problems/quota-exceeded"
    members = {name: problem[name] for name in ("used", "quota_limit", "remaining", "resource")}
    assert members == {"used": 1, "quota_limit": 2, "remaining": 1, "resource": "images"}
    assert [one["resource"] for one in problem["short"]] == ["images"]
    assert (await api.used(alice))["images"] == (0, 1)


async def test_too_many_at_once(api: Api, alice: httpx.AsyncClient):
    response = await alice.post("/api/images/preupload", json={"files": [described()] * 21})
    assert (response.status_code, response.json()["type"]) == (422, "/problems/bulk-limit-exceeded")
    assert (response.json()["limit"], response.json()["count"]) == (20, 21)
    assert (await api.used(alice))["images"] == (0, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0},
        {"size": -5},
        {"size": 25_000_001},
        {"size": 2**63 - 1},
        {"contentType": "application/pdf"},
        {"contentType": ""},
        {"filename": "a\0.jpg"},
        {"filename": "photo.png"},
    ],
    ids=str,
)
async def test_files_that_would_never_be_accepted(api: Api, alice: httpx.AsyncClient, change: dict[str, Any]):
    response = await alice.post("/api/images/preupload", json={"files": [described(), described() | change]})
    assert (response.status_code, response.json()["type"]) == (422, "/problems/invalid-file")
    assert response.json()["index"] == 1
    assert response.json()["reason"]
    assert (await api.used(alice))["images"] == (0, 0)


@pytest.mark.parametrize(
    "size",
    [
        "9223372036854775808",
        "null",
        "true",
        '"100"',
        "1e3",
        "10.5",
        "1.0",
        "NaN",
        "Infinity",
        "1e309",
        "9" * 400,
        "[1]",
    ],
)
async def test_q55_sizes_that_are_none(api: Api, alice: httpx.AsyncClient, size: str):
    file = f'"filename": "a.jpg", "contentType": "image/jpeg", "size": {size}'
    for body in (f'{{"files": [{{{file}}}]}}', f"{{{file}}}"):
        response = await alice.post("/api/images/preupload", content=body)
        assert response.status_code in {400, 422}
        assert "uploadUrl" not in response.text
    assert await api.used(alice) == {"images": (0, 0), "storage_bytes": (0, 0)}


async def test_a_missing_field_is_named(alice: httpx.AsyncClient):
    for body in (
        {"files": [{"filename": "a.jpg", "contentType": "image/jpeg"}]},
        {"files": "a.jpg"},
        {"files": []},
        {},
    ):
        response = await alice.post("/api/images/preupload", json=body)
        assert response.status_code == 422
        assert response.json()["field"]
    response = await alice.post("/api/images/preupload", json={"files": [{"filename": "a.jpg", "size": 1}]})
    assert response.json()["field"] == "files[0].contentType"


async def test_q24_four_equal_keyed_requests_at_once_reserve_once(api: Api, alice: httpx.AsyncClient):
    async def ask() -> httpx.Response:
        return await alice.post("/api/images/preupload", json=described(), headers={"Idempotency-Key": "K1"})

    answers = await asyncio.gather(*(ask() for _ in range(4)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["reservationId"] for answer in answers}) == 1
    assert len({answer.json()["images"][0]["s3Key"] for answer in answers}) == 1
    assert (await api.used(alice))["images"] == (0, 1)


async def test_q34_the_same_key_for_something_else(api: Api, alice: httpx.AsyncClient):
    key = {"Idempotency-Key": "K"}
    first = await alice.post("/api/images/preupload", json=described(), headers=key)
    other = await alice.post("/api/images/preupload", json={"files": [described()] * 5}, headers=key)
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-key-reused")
    elsewhere = await alice.post("/api/reservations", json={"amounts": {"images": 1}}, headers=key)
    assert elsewhere.status_code == 422
    turned = dict(reversed(described().items()))
    same = await alice.post("/api/images/preupload", json=turned, headers=key)
    assert same.json()["reservationId"] == first.json()["reservationId"]
    assert (await api.used(alice))["images"] == (0, 1)


async def test_q35_keys_are_a_subjects_own(api: Api, alice: httpx.AsyncClient):
    key = {"Idempotency-Key": "2026-03-10-1"}
    clients = (alice, api.client("bob"))
    answers = [(await one.post("/api/images/preupload", json=described(), headers=key)).json() for one in clients]
    assert answers[0]["reservationId"] != answers[1]["reservationId"]
    assert answers[0]["images"][0]["imageId"] not in str(answers[1])


@pytest.mark.parametrize("key", ["", "x" * 256])
@pytest.mark.parametrize("path", ["/api/images/preupload", "/api/reservations"])
async def test_bad_keys(alice: httpx.AsyncClient, path: str, key: str):
    response = await alice.post(path, json=described(), headers={"Idempotency-Key": key})
    assert (response.status_code, response.json()["field"]) == (422, "Idempotency-Key")


async def test_a_job_is_enqueued_once(api: Api, alice: httpx.AsyncClient, connection: psycopg.Connection):
    image = await api.queued(alice)
    await alice.post("/api/images/complete", json={"imageId": image})
    jobs = connection.execute("SELECT args->>'image' FROM procrastinate.procrastinate_jobs").fetchall()
    assert jobs == [(image,)]
