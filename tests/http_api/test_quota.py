from uuid import uuid4

import httpx
import pytest

from http_api.harness import JPEG, Api, described

pytestmark = pytest.mark.anyio


async def test_usage_of_a_newcomer(alice: httpx.AsyncClient):
    usage = (await alice.get("/api/usage")).json()
    assert list(usage) == [
        "subject", "tier", "used", "quota_limit", "remaining", "period_start", "period_end", "features", "resources",
    ]  # fmt: skip
    assert (usage["subject"], usage["tier"], usage["used"], usage["quota_limit"]) == ("alice", "pro", 0, 500)
    assert usage["features"] == {"max_bulk_upload": 20}
    images, storage = usage["resources"]["images"], usage["resources"]["storage_bytes"]
    assert (images["period"], images["period_start"], images["period_end"]) == (
        "P1M",
        usage["period_start"],
        usage["period_end"],
    )
    assert (storage["period"], storage["period_start"], storage["period_end"]) == ("lifetime", None, None)
    assert set(images) == {
        "quota_limit", "committed", "held", "used", "remaining", "over_by", "period", "period_start", "period_end",
    }  # fmt: skip


async def test_unlimited_is_minus_one(alice: httpx.AsyncClient, service: httpx.AsyncClient):
    await service.put("/api/admin/subjects/alice", json={"plan": "enterprise"})
    usage = (await alice.get("/api/usage")).json()
    assert (usage["tier"], usage["quota_limit"], usage["remaining"]) == ("enterprise", -1, -1)


async def test_a_reservation_is_given_back_whole(api: Api, alice: httpx.AsyncClient):
    reservation = (await alice.post("/api/images/preupload", json={"files": [described()] * 3})).json()
    body = {"reservationId": reservation["reservationId"]}
    first = await alice.post("/api/quota/rollback", json=body)
    assert first.json()["rolledBack"] == {"images": 3, "storage_bytes": 3 * len(JPEG)}
    assert first.json()["usage"]["remaining"] == 500
    again = await alice.post("/api/quota/rollback", json=body)
    assert (again.status_code, again.json()["rolledBack"]) == (200, {})
    shown = (await alice.get(f"/api/images/{reservation['images'][0]['imageId']}")).json()
    assert (shown["state"], shown["cause"]) == ("cancelled", "cancelled")
    assert await api.used(alice) == {"images": (0, 0), "storage_bytes": (0, 0)}


async def test_items_of_a_reservation_are_given_back(api: Api, alice: httpx.AsyncClient):
    reservation = (await alice.post("/api/images/preupload", json={"files": [described()] * 3})).json()
    body = {"reservationId": reservation["reservationId"], "items": ["1", "3"], "cause": "upload_failed"}
    response = await alice.post("/api/quota/rollback", json=body)
    assert response.json()["rolledBack"]["images"] == 2
    states = [(await alice.get(f"/api/images/{one['imageId']}")).json()["state"] for one in reservation["images"]]
    assert states == ["failed", "reserved", "failed"]
    missing = await alice.post("/api/quota/rollback", json={**body, "items": ["2", "9"]})
    assert (missing.status_code, missing.json()["field"]) == (422, "items")
    assert '"9"' in missing.json()["detail"]


async def test_giving_back_what_is_left_of_a_reservation_may_be_repeated(
    alice: httpx.AsyncClient, service: httpx.AsyncClient
):
    items = {"used": {"images": 1}, "left": {"images": 1}}
    reservation = (await alice.post("/api/reservations", json={"items": items})).json()["reservationId"]
    calls = f"/api/reservations/{reservation}"
    assert (await service.post(f"{calls}/commit", json={"items": ["used"]})).json()["outcome"] == "committed"
    for returned in ({"images": 1}, {}):
        answered = await alice.post("/api/quota/rollback", json={"reservationId": reservation})
        assert (answered.status_code, answered.json()["rolledBack"]) == (200, returned)
    again = await alice.post(f"{calls}/rollback", json={})
    assert (again.status_code, again.json()["outcome"], again.json()["done"]) == (200, "already_committed", [])
    only_used = await alice.post("/api/quota/rollback", json={"reservationId": reservation, "items": ["used"]})
    assert (only_used.status_code, only_used.json()["item"]) == (409, "used")


async def test_images_are_given_back_in_one_request(api: Api, alice: httpx.AsyncClient):
    images = [one["imageId"] for one in await api.reserved(alice, *[described()] * 3)]
    done = await api.completed(alice)
    response = await alice.post("/api/quota/rollback", json={"imageIds": [images[2], done, images[0], images[0]]})
    assert response.status_code == 200
    assert response.json()["rolledBack"] == {"images": 2, "storage_bytes": 2 * len(JPEG)}
    assert await api.used(alice) == {"images": (1, 1), "storage_bytes": (len(JPEG), len(JPEG))}


async def test_one_unknown_image_and_none_is_given_back(api: Api, alice: httpx.AsyncClient):
    (upload,) = await api.reserved(alice)
    for unknown in (str(uuid4()), "no-id"):
        response = await alice.post("/api/quota/rollback", json={"imageIds": [upload["imageId"], unknown]})
        assert response.status_code == 404
    assert (await api.used(alice))["images"] == (0, 1)


async def test_count_returns_open_ones_only_and_newest_first(api: Api, alice: httpx.AsyncClient):
    await api.completed(alice)
    older, newer = [(await api.reserved(alice))[0]["imageId"] for _ in range(2)]
    one = await alice.post("/api/quota/rollback", content='{"count": 1}')
    assert one.json()["rolledBack"] == {"images": 1, "storage_bytes": len(JPEG)}
    assert (await alice.get(f"/api/images/{newer}")).json()["state"] == "cancelled"
    assert (await alice.get(f"/api/images/{older}")).json()["state"] == "reserved"
    rest = await alice.post("/api/quota/rollback", json={"count": 1000})
    assert rest.json()["rolledBack"]["images"] == 1
    assert rest.json()["usage"]["used"] == 1
    none = await alice.post("/api/quota/rollback", json={"count": 1000})
    assert (none.status_code, none.json()["rolledBack"]) == (200, {})
    assert await api.used(alice) == {"images": (1, 0), "storage_bytes": (len(JPEG), 0)}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"count": 0},
        {"count": -1},
        {"count": True},
        {"count": 1.5},
        {"count": "1"},
        {"count": 2**63},
        {"count": 1, "imageIds": ["x"]},
        {"count": 1, "items": ["1"]},
        {"imageIds": []},
        {"imageIds": "x"},
        {"imageIds": ["x"] * 1001},
        {"reservationId": "x", "items": []},
        {"reservationId": 7},
        {"count": 1, "cause": "because"},
        {"count": 1, "cause": ""},
        {"count": 1, "reason": "x" * 501},
        {"count": 1, "reason": "a\0b"},
        [],
        7,
    ],
    ids=str,
)
async def test_rollbacks_that_make_no_sense(api: Api, alice: httpx.AsyncClient, body: object):
    await api.reserved(alice)
    response = await alice.post("/api/quota/rollback", json=body)
    assert (response.status_code, response.json()["type"]) == (422, "/problems/invalid-request")
    assert (await api.used(alice))["images"] == (0, 1)


@pytest.mark.parametrize("cause", ["processing_failed", "validation_failed", "expired", "admin"])
async def test_a_user_states_only_his_own_causes(api: Api, alice: httpx.AsyncClient, cause: str):
    (upload,) = await api.reserved(alice)
    reservation = (await alice.get(f"/api/images/{upload['imageId']}")).json()["reservationId"]
    calls = [
        ("/api/quota/rollback", {"count": 1}),
        ("/api/quota/rollback", {"imageIds": [upload["imageId"]]}),
        ("/api/quota/rollback", {"reservationId": reservation}),
        (f"/api/reservations/{reservation}/rollback", {}),
    ]
    for path, body in calls:
        response = await alice.post(path, json={**body, "cause": cause})
        assert (response.status_code, response.json()["cause"]) == (403, cause)
    assert (await api.used(alice))["images"] == (0, 1)


async def test_a_service_states_any_cause_for_anybody(api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient):
    (first,), (second,), _ = [await api.reserved(alice) for _ in range(3)]
    reservation = (await alice.get(f"/api/images/{second['imageId']}")).json()["reservationId"]
    bodies = [
        {"imageIds": [first["imageId"]], "cause": "validation_failed", "reason": "moderation"},
        {"reservationId": reservation, "cause": "processing_failed", "reason": "moderation"},
        {"count": 5, "subject": "alice", "cause": "admin", "reason": "moderation"},
    ]
    for body in bodies:
        response = await service.post("/api/quota/rollback", json=body)
        assert response.status_code == 200, response.text
        assert response.json()["rolledBack"]["images"] == 1
        assert response.json()["usage"]["subject"] == "alice"
    entries = [entry for entry in await api.history(alice) if entry["kind"] == "rollback"]
    assert {(entry["actor"], entry["reason"]) for entry in entries} == {("backend", "moderation")}
    assert {entry["cause"] for entry in entries} == {"validation_failed", "processing_failed", "admin"}


async def test_pages_of_history(api: Api, alice: httpx.AsyncClient):
    for _ in range(3):
        await api.reserved(alice)
    everything = await api.history(alice)
    assert [entry["seq"] for entry in everything] == sorted((entry["seq"] for entry in everything), reverse=True)
    assert list(everything[0]) == [
        "seq", "at", "kind", "resource", "periodStart", "item", "reservationId", "committed", "held", "cause", "actor",
        "reason",
    ]  # fmt: skip
    paged: list[dict[str, object]] = []
    cursor = None
    for _ in range(2):
        page = (
            await alice.get("/api/quota/history", params={"limit": 4, **({"cursor": cursor} if cursor else {})})
        ).json()
        paged += page["entries"]
        cursor = page["nextCursor"]
    assert paged == everything
    assert cursor is None


async def test_administration(alice: httpx.AsyncClient, service: httpx.AsyncClient):
    path = "/api/admin/subjects/alice"
    body = {"plan": "free", "quotas": {"images": 50}, "anchor": "2026-01-15T00:00:00Z"}
    changed = await service.put(path, json=body)
    assert changed.status_code == 200
    assert (changed.json()["plan"], changed.json()["usage"]["quota_limit"]) == ("free", 50)
    usage = (await alice.get("/api/usage")).json()
    assert usage["period_start"].split("T")[0].endswith("-15")
    await service.put(path, json={"quotas": {"storage_bytes": -1}})
    looked = (await service.get(path)).json()
    assert looked["usage"]["resources"]["storage_bytes"]["quota_limit"] == -1
    assert looked["usage"]["quota_limit"] == 50
    assert (await service.put(path, json={"quotas": {"images": None}})).json()["usage"]["quota_limit"] == 10
    assert (await service.put("/api/admin/subjects/team/7%2F8", json={"plan": "pro"})).json()["subject"] == "team/7/8"


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        ({"parent": "acme"}, "invalid-request"),
        ({"plan": "gold"}, "unknown-plan"),
        ({"plan": "pro", "quotas": {"steaks": 1}}, "unknown-resource"),
        ({"plan": "pro", "quotas": {"images": -2}}, "invalid-request"),
        ({"plan": "pro", "quotas": {"images": True}}, "invalid-request"),
        ({"plan": "pro", "anchor": "2026-01-15T00:00:00"}, "invalid-request"),
        ({"plan": "pro", "anchor": "soon"}, "invalid-request"),
        ({"plan": "a\0"}, "invalid-request"),
    ],
    ids=str,
)
async def test_settings_that_make_no_sense(service: httpx.AsyncClient, body: object, slug: str):
    response = await service.put("/api/admin/subjects/alice", json=body)
    assert (response.status_code, response.json()["type"]) == (422, f"/problems/{slug}")


async def test_administration_is_for_services(alice: httpx.AsyncClient):
    for method in ("GET", "PUT"):
        response = await alice.request(method, "/api/admin/subjects/alice", json={"plan": "enterprise"})
        assert response.status_code == 403
    assert (await alice.get("/api/usage")).json()["tier"] == "pro"


async def test_explained_with_what_is_held_and_for_which_file(api: Api, alice: httpx.AsyncClient):
    (upload,) = await api.reserved(alice, described(filename="holiday.jpg"))
    explained = (await alice.get("/api/quota/explain")).json()
    assert (explained["subject"], explained["openTotal"]) == ("alice", 1)
    (one,) = explained["open"]
    assert (one["imageId"], one["filename"], one["imageState"]) == (upload["imageId"], "holiday.jpg", "reserved")
    assert one["amounts"] == {"images": 1, "storage_bytes": len(JPEG)}
    assert one["since"] < one["expiresAt"]
    assert explained["levels"][0]["resources"]["images"]["held"] == 1
    assert [entry["kind"] for entry in explained["changes"]] == ["reserve"] * 2
    assert any(sentence.startswith("holiday.jpg, which is reserved,") for sentence in explained["sentences"])


async def test_the_story_of_an_image_and_of_its_reservation(
    api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient
):
    (upload,) = await api.reserved(alice)
    await alice.post(f"/api/images/{upload['imageId']}/cancel")
    story = (await alice.get("/api/quota/explain", params={"id": upload["imageId"]})).json()
    assert [entry["kind"] for entry in story["entries"]] == ["reserve"] * 2 + ["rollback"] * 2
    assert (story["images"][0]["state"], story["items"]["1"]["cause"]) == ("cancelled", "cancelled")
    assert story["sentences"]
    reservation = {"id": story["reservationId"]}
    for client in (alice, service):
        assert (await client.get("/api/quota/explain", params=reservation)).json() == story
    bob = api.client("bob")
    for about in (upload["imageId"], story["reservationId"], str(uuid4()), "nonsense"):
        assert (await bob.get("/api/quota/explain", params={"id": about})).status_code == 404
    assert (await bob.get("/api/quota/explain", params={"subject": "alice"})).status_code == 403
    assert (await service.get("/api/quota/explain", params={"subject": "alice"})).json()["subject"] == "alice"
