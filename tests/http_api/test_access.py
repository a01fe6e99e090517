"""Every route, asked by nobody, by somebody else, and by a service."""

import json
from typing import Any
from uuid import uuid4

import httpx
import pytest
from starlette.routing import Route

from earmark.http_api.caller import Role
from earmark.http_api.routing import SUBJECT, Access, Resource
from earmark.http_api.sign_in import SignIn
from http_api.harness import SECRET, Api, described

pytestmark = pytest.mark.anyio

BODIES: dict[str, Any] = {
    "/api/images/preupload": described(),
    "/api/images/complete": {"imageId": "{id}"},
    "/api/quota/rollback": {"imageIds": ["{id}"]},
    "/api/reservations": {"amounts": {"images": 1}},
    "/api/reservations/{id}/extend": {"ttlSeconds": 60},
}
OPEN = {"/healthz", "/metrics", "/readyz", "/storage/{key:path}"}


def calls(api: Api) -> list[tuple[str, str]]:
    """Method and path of everything that asks for a token."""
    return [
        (method, route.path)
        for route in api.app.routes
        if isinstance(route, Route) and route.path.startswith("/api/")
        for method in sorted(route.methods or ())
    ]


async def test_every_route_is_either_open_or_asks_for_a_token(api: Api):
    paths = {route.path for route in api.app.routes if isinstance(route, Route)}
    pages = {path for path in paths if path == "/" or "." in path} | {"/docs", "/problems", "/problems/{slug}"}
    assert paths - OPEN - pages == {path for _, path in calls(api)}
    assert len(calls(api)) > 20


async def test_nobody_gets_anything(api: Api):
    nobody = api.client(None)
    wrong = [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer  "},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": f"Bearer {SignIn(b'x' * 32).issue('alice', Role.SERVICE)}"},
        {"Authorization": SignIn(SECRET).issue("alice")},
        {
            "Authorization": f"Bearer {SignIn(SECRET, now=lambda: 1_000_000_000).issue('alice', Role.SERVICE)}"
        },  # expired
    ]
    for method, path in calls(api):
        for headers in wrong:
            address = path.replace("{id}", str(uuid4())).replace("{subject:path}", "alice")
            response = await nobody.request(method, address, headers=headers, content=b"not even json")
            assert response.status_code == 401, (method, path)
            assert response.headers["www-authenticate"].startswith("Bearer")
            if method != "HEAD":
                assert response.json()["type"] == "/problems/not-signed-in"
    given = await nobody.get("/api/usage", headers=wrong[4])
    assert 'error="invalid_token"' in given.headers["www-authenticate"]
    assert (await nobody.get("/api/usage")).headers["www-authenticate"] == "Bearer"


async def test_somebody_elses_id_is_like_a_missing_one(api: Api, alice: httpx.AsyncClient):
    image = await api.completed(alice)
    (upload,) = await api.reserved(alice)
    reservation = (await alice.get(f"/api/images/{image}")).json()["reservationId"]
    before = await api.used(alice), await api.history(alice)
    bob = api.client("bob")
    walked = 0
    for method, path in calls(api):
        whose = [reservation] if "/reservations" in path else [image, upload["imageId"]]
        body = BODIES.get(path, {})
        if method == "HEAD" or "admin" in path or ("{id}" not in path and "{id}" not in str(body)):
            continue
        for real in whose:
            answers = []
            for id_ in (real, str(uuid4()), "no-id"):
                filled = {
                    name: [id_] if value == ["{id}"] else id_ if value == "{id}" else value
                    for name, value in body.items()
                }
                response = await bob.request(method, path.replace("{id}", id_), json=filled)
                problem = {
                    name: value for name, value in response.json().items() if name not in {"instance", "imageId"}
                }
                answers.append((response.status_code, problem))
            if path.endswith(("/commit", "/refund")):
                assert {status for status, _ in answers} == {403}
                continue
            assert answers[0] == answers[1] == answers[2], (method, path)
            assert answers[0][0] == 404, (method, path)
            walked += 1
    assert walked >= 12
    assert (await api.used(alice), await api.history(alice)) == before
    body = {"reservationId": reservation}
    assert (await bob.post("/api/quota/rollback", json=body)).status_code == 404
    assert (await bob.post("/api/quota/rollback", json={"count": 1000})).json()["rolledBack"] == {}
    assert (await api.used(alice), await api.history(alice)) == before


async def test_whatever_takes_a_subject_refuses_a_user_who_names_another(api: Api):
    bob, some = api.client("bob"), str(uuid4())
    walked = set()
    for route in api.app.routes:
        for method, (_, one) in route.described().items() if isinstance(route, Resource) else ():
            if one.access is not Access.SERVICE and SUBJECT not in one.query:
                continue
            address = route.path.replace("{id}", some).replace("{subject:path}", "bob") + "?subject=alice"
            body = json.dumps(BODIES.get(route.path, {})).replace("{id}", some)
            response = await bob.request(method, address, content=body)
            assert (response.status_code, response.json()["type"]) == (403, "/problems/forbidden"), (method, address)
            walked.add((method, route.path))
    assert len(walked) >= 20


async def test_a_user_cannot_name_somebody_else(api: Api, alice: httpx.AsyncClient):
    await api.reserved(api.client("bob"))
    for path in ("/api/usage", "/api/images", "/api/quota/history", f"/api/images/{uuid4()}"):
        response = await alice.get(f"{path}?subject=bob")
        assert (response.status_code, response.json()["type"]) == (403, "/problems/forbidden"), path
    for path, body in (
        ("/api/images/preupload", {"files": [described()], "subject": "bob"}),
        ("/api/reservations", {"amounts": {"images": 1}, "subject": "bob"}),
        ("/api/quota/rollback", {"count": 1, "subject": "bob"}),
    ):
        assert (await alice.post(path, json=body)).status_code == 403, path
    assert (await alice.get("/api/usage?subject=alice")).status_code == 200


async def test_a_service_names_anybody(api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient):
    body = {"files": [described()], "subject": "alice"}
    image = (await service.post("/api/images/preupload", json=body)).json()["images"][0]["imageId"]
    assert (await service.get("/api/usage?subject=alice")).json()["used"] == 1
    assert (await service.get("/api/usage")).json()["subject"] == "backend"
    assert (await service.get("/api/images?subject=alice")).json()["images"][0]["imageId"] == image
    assert (await service.get("/api/images")).json()["images"] == []
    assert (await service.get("/api/quota/history?subject=alice")).json()["entries"][0]["actor"] == "backend"
    assert (await service.get(f"/api/images/{image}")).status_code == 200
    assert (await service.get(f"/api/images/{image}?subject=bob")).status_code == 404
    for name in ("", "x" * 256):
        assert (await service.get("/api/usage", params={"subject": name})).status_code == 422
    assert (await service.get("/api/usage?subject=a%00b")).status_code == 422
