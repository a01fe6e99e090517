"""Versions of what is read, quota in headers."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pydantic
import pytest

from earmark.config import Settings
from earmark.http_api.app import create_app
from earmark.http_api.rate_limit import INTEGER_MAX, rate_limit_headers
from earmark.http_api.routes import images
from earmark.model import ResourceUsage
from http_api.harness import Api

pytestmark = pytest.mark.anyio


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The clock that decides which links belong to a version."""
    now = [1_800_000_000]
    monkeypatch.setattr(images, "_now", lambda: now[0])
    return now


async def test_an_image_that_has_not_changed_is_not_sent_again(api: Api, alice: httpx.AsyncClient, window: list[int]):
    image = await api.uploaded(alice)
    for path in (f"/api/images/{image}", "/api/images"):
        first = await alice.get(path)
        tag = first.headers["etag"]
        assert tag.startswith('W/"')
        assert first.headers["cache-control"] == "private, no-cache"
        for lines in ([f'"other", {tag}'], ['"other"', tag]):
            again = await alice.get(path, headers=[("If-None-Match", line) for line in lines])
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    await alice.post("/api/images/complete", json={"imageId": image})
    for path in (f"/api/images/{image}", "/api/images"):
        changed = await alice.get(path, headers={"If-None-Match": tag})
        assert changed.status_code == 200
        assert changed.headers["etag"] != tag


async def test_links_that_are_getting_old_make_a_new_version(api: Api, alice: httpx.AsyncClient, window: list[int]):
    done = await api.completed(alice)
    known = {"If-None-Match": (await alice.get(f"/api/images/{done}")).headers["etag"]}
    assert (await alice.get(f"/api/images/{done}", headers=known)).status_code == 304
    window[0] += images.LINKS_SECONDS
    assert (await alice.get(f"/api/images/{done}", headers=known)).status_code == 200


async def test_versions_are_not_shared_between_images(api: Api, alice: httpx.AsyncClient, window: list[int]):
    tags = [(await alice.get(f"/api/images/{await api.uploaded(alice)}")).headers["etag"] for _ in range(2)]
    assert tags[0] != tags[1]


async def test_quota_stands_in_the_headers(api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient):
    await service.put("/api/admin/subjects/alice", json={"quotas": {"images": 3, "storage_bytes": 5000}})
    made = await alice.post("/api/reservations", json={"amounts": {"images": 1, "storage_bytes": 1000}})
    policy = made.headers["ratelimit-policy"]
    assert re.fullmatch(r'"images";q=3;w=\d+;qu="images", "storage_bytes";q=5000;qu="storage_bytes"', policy)
    assert re.fullmatch(r'"images";r=2;t=\d+, "storage_bytes";r=4000', made.headers["ratelimit"])
    assert (await alice.get("/api/usage")).headers["ratelimit-policy"] == policy
    denied = await alice.post("/api/reservations", json={"amounts": {"images": 3}})
    assert denied.status_code == 429
    assert denied.headers["ratelimit-policy"] == '"images";q=3;qu="images"'
    assert denied.headers["ratelimit"] == '"images";r=2'


async def test_what_is_unlimited_has_no_policy():
    def used(limit: int, remaining: int, **period: datetime) -> ResourceUsage:
        times = {"period_start": None, "period_end": None, **period}
        return ResourceUsage(limit, 0, 0, 0, remaining, 0, "lifetime", times["period_start"], times["period_end"])

    assert rate_limit_headers({"images": used(-1, -1)}) == {}
    huge = rate_limit_headers({"images": used(-1, -1), "bytes": used(2**62, 2**62)})
    assert huge == {
        "RateLimit-Policy": f'"bytes";q={INTEGER_MAX};qu="bytes"',
        "RateLimit": f'"bytes";r={INTEGER_MAX}',
    }
    over = datetime.now(UTC) - timedelta(days=1)
    past = rate_limit_headers({"images": used(5, 5, period_start=over - timedelta(days=30), period_end=over)})
    assert past == {"RateLimit-Policy": '"images";q=5;w=2592000;qu="images"', "RateLimit": '"images";r=5;t=0'}


@pytest.fixture
def elsewhere(api: Api) -> httpx.AsyncClient:
    """Alice's client of a service that pages of https://app.example may call."""
    settings = api.services.settings.model_copy(update={"cors_origins": ("https://app.example",)})
    api.app = create_app(replace(api.services, settings=settings))
    return api.client("alice")


async def test_pages_of_a_named_origin_may_call_and_read_everything(elsewhere: httpx.AsyncClient):
    asked = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, idempotency-key, x-request-id",
    }
    preflight = await elsewhere.options("/api/images/preupload", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-credentials" not in preflight.headers
    for path, status in (("/api/usage", 200), ("/api/nothing", 404)):
        answer = await elsewhere.get(path, headers={"Origin": "https://app.example"})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        exposed = answer.headers["access-control-expose-headers"].lower()
        assert {"etag", "ratelimit", "x-request-id", "retry-after"} <= set(exposed.split(", "))


async def test_other_origins_may_not(api: Api, alice: httpx.AsyncClient, elsewhere: httpx.AsyncClient):
    for client, origin in ((elsewhere, "https://evil.example"), (elsewhere, "null"), (alice, "https://app.example")):
        asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
        answers = [await client.options("/api/usage", headers=asked), await client.get("/api/usage", headers=asked)]
        assert answers[0].status_code in {400, 405}
        assert not any("access-control-allow-origin" in answer.headers for answer in answers)


def test_an_origin_that_is_none_is_refused():
    assert Settings(cors_origins="https://a.example, http://localhost:3000").cors_origins[1] == "http://localhost:3000"
    assert Settings(cors_origins="").cors_origins == ()
    for wrong in ("app.example", "https://app.example/", "ftp://a", "https://a.example/x"):
        with pytest.raises(pydantic.ValidationError):
            Settings(cors_origins=wrong)


async def test_browsers_are_told_to_come_by_https_where_that_is_set(api: Api, alice: httpx.AsyncClient):
    assert "strict-transport-security" not in (await alice.get("/")).headers
    settings = api.services.settings.model_copy(update={"hsts_seconds": 3600})
    api.app = create_app(replace(api.services, settings=settings))
    nobody = api.client(None)
    for path in ("/", "/api/usage", "/no/such/page"):
        assert (await nobody.get(path)).headers["strict-transport-security"] == "max-age=3600", path
    with pytest.raises(pydantic.ValidationError):
        Settings(hsts_seconds=-1)
