"""Large files over HTTP: reserved, sent in parts, completed, cancelled."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from earmark.http_api.app import create_app
from fixtures.pictures import large_picture
from http_api.harness import ADDRESS, JPEG, Api, described, opened

pytestmark = pytest.mark.anyio
PART = 5 * 2**20
PNG = large_picture()
LARGE = described(PNG, "large.png", "image/png")


@pytest.fixture
async def api(database: str, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Api]:
    async with opened(database, tmp_path, parts_over_bytes=PART, part_bytes=PART) as services:
        api = Api(services, create_app(services))
        yield api
        for client in api.clients:
            await client.aclose()


def bytes_of(part: dict[str, Any]) -> bytes:
    return PNG[part["offset"] : part["offset"] + part["size"]]


async def put(client: httpx.AsyncClient, part: dict[str, Any], content: object = None) -> httpx.Response:
    content = bytes_of(part) if content is None else content
    return await client.request(part["method"], part["uploadUrl"], content=content, headers=part["headers"])


async def test_a_large_file_is_sent_in_parts_beside_a_small_one(api: Api, alice: httpx.AsyncClient):
    large, small = await api.reserved(alice, LARGE, described())
    assert (large["uploadUrl"], "parts" in small) == (None, False)
    assert [(part["number"], part["offset"], part["size"]) for part in large["parts"]] == [
        (1, 0, PART),
        (2, PART, len(PNG) - PART),
    ]
    assert all(part["uploadUrl"].startswith(f"{ADDRESS}/storage/{large['s3Key']}?") for part in large["parts"])
    stranger = api.client(None)
    first, second = [await put(stranger, part) for part in large["parts"]]
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json() == {"imageId": large["imageId"], "size": len(PNG) - PART}
    assert (await alice.get(f"/api/images/{large['imageId']}")).json()["state"] == "uploading"
    done = await alice.post("/api/images/complete", json={"imageId": large["imageId"]})
    assert (done.status_code, done.json()["status"]) == (202, "uploaded")
    assert [path.read_bytes() for path in api.objects] == [PNG]
    assert (await put(stranger, large["parts"][0])).status_code == 412


async def test_bytes_of_another_length_are_refused(api: Api, alice: httpx.AsyncClient):
    (large,) = await api.reserved(alice, LARGE)
    part = large["parts"][1]
    assert (await put(alice, part, bytes_of(part)[:-1])).status_code == 400
    assert (await put(alice, part, bytes_of(part) + b"x")).status_code == 413
    assert (await put(alice, part | {"uploadUrl": part["uploadUrl"].replace("part=2", "part=1")})).status_code == 403
    assert api.objects == []


@pytest.mark.parametrize("end", ["cancel", "failed", "delete"])
async def test_no_part_is_taken_for_what_is_over(api: Api, alice: httpx.AsyncClient, end: str):
    (large,) = await api.reserved(alice, LARGE)
    await put(alice, large["parts"][0])
    image = f"/api/images/{large['imageId']}"
    await (alice.delete(image) if end == "delete" else alice.post(f"{image}/{end}"))
    assert (await put(alice, large["parts"][1])).status_code == 410
    assert len(api.objects) == 1, "the first part, until the next sweep"
    assert await api.used(alice) == {"images": (0, 0), "storage_bytes": (0, 0)}


async def test_cancelled_in_the_middle_of_a_part_nothing_is_kept(api: Api, alice: httpx.AsyncClient):
    (large,) = await api.reserved(alice, LARGE)
    await put(alice, large["parts"][1])

    async def body() -> AsyncIterator[bytes]:
        yield PNG[: len(JPEG)]
        cancelled = await api.client("alice").post(f"/api/images/{large['imageId']}/cancel")
        assert cancelled.status_code == 200
        yield PNG[len(JPEG) : PART]

    part = large["parts"][0]
    part["headers"] = {"Content-Length": str(PART)}
    assert (await put(alice, part, body())).status_code == 410
    assert api.objects == []


async def test_a_missing_part_gives_everything_back(api: Api, alice: httpx.AsyncClient):
    (large,) = await api.reserved(alice, LARGE)
    await put(alice, large["parts"][0])
    refused = await alice.post("/api/images/complete", json={"imageId": large["imageId"]})
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/upload-failed")
    assert "Not all parts" in refused.json()["detail"]
    assert await api.used(alice) == {"images": (0, 0), "storage_bytes": (0, 0)}
