"""The API's document says what the service does: every route, every example, every problem."""

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jsonschema_rs
import pytest
from starlette.routing import Route

from earmark.config import Settings
from earmark.errors import EarmarkError
from earmark.http_api.openapi import document as document_of
from earmark.http_api.problems import _TOLD, _kinds, catalogue, problem_of
from earmark.http_api.reference import problems_text
from earmark.http_api.routes import jobs
from earmark.http_api.routing import Resource, resource
from earmark.uploads.outside import PROCESS_PATH, RESULT_PATH
from http_api.harness import Api

pytestmark = pytest.mark.anyio

REPOSITORY = Path(__file__).parents[2]
PAGES = {"/", "/docs", "/problems", "/problems/{slug}"}


@pytest.fixture
async def document(alice: httpx.AsyncClient) -> dict[str, Any]:
    response = await alice.get("/openapi.json")
    assert response.headers["content-type"] == "application/json"
    return response.json()


def described(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}


async def test_every_route_is_in_the_document_and_nothing_else(api: Api, document: dict[str, Any]):
    routes = [route for route in api.app.routes if isinstance(route, Route)]
    files = {route.path for route in routes if "." in route.path} - {"/openapi.json"}
    served = {
        (method, re.sub(r":\w+}", "}", route.path))
        for route in routes
        if route.path not in PAGES | files
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert described(document) == served
    assert len(served) >= 25


async def test_a_problem_of_each_status_is_described_as_generators_of_clients_can_read_it(document: dict[str, Any]):
    """openapi-python-client leaves out an answer whose parts it cannot merge: an integer with a constant, for one."""
    told = [
        (status, answer["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]["status"])
        for methods in document["paths"].values()
        for operation in methods.values()
        for status, answer in operation["responses"].items()
        if status != "default" and "application/problem+json" in answer.get("content", {})
    ]
    assert len(told) >= 100
    assert [status for status, schema in told if schema != {"type": "integer", "enum": [int(status)]}] == []


async def test_moments_are_described_as_such(document: dict[str, Any]):
    described = {
        (kind, name): told.get("anyOf", [told])[0].get("format")
        for kind, schema in document["components"]["schemas"].items()
        for name, told in schema.get("properties", {}).items()
        if re.search(r"(^|_)at$|At$|^(since|oldest|last|anchor|period_start|period_end|periodStart)$", name)
    }
    assert len(described) >= 30
    assert {where for where, said in described.items() if said != "date-time"} == set()


def test_the_calls_of_either_way_of_processing_are_described():
    table = [resource(PROCESS_PATH, POST=jobs.Processing.process), resource(RESULT_PATH, POST=jobs.Results.result)]
    described = document_of(table, Settings())
    assert set(described["paths"]) == {PROCESS_PATH, RESULT_PATH}
    process, result = (described["paths"][path]["post"]["responses"] for path in (PROCESS_PATH, RESULT_PATH))
    assert {"200", "401", "489", "503"} <= set(process)
    assert "Upstash-NonRetryable-Error" in process["489"]["headers"]
    assert "Retry-After" in process["503"]["headers"]
    assert set(result["409"]["content"]) == {"application/json", "application/problem+json"}


async def test_every_header_that_is_heeded_is_described(document: dict[str, Any]):
    def headers(described: dict[str, Any], method: str, path: str) -> set[str]:
        one = described["paths"][path][method]
        return {parameter["name"] for parameter in one["parameters"] if parameter.get("in") == "header"}

    assert headers(document, "get", "/api/events") == {"Last-Event-ID"}
    for path in ("/api/images", "/api/images/{id}"):
        assert headers(document, "get", path) == {"If-None-Match"}
    table = [resource(PROCESS_PATH, POST=jobs.Processing.process), resource(RESULT_PATH, POST=jobs.Results.result)]
    signed = document_of(table, Settings())
    webhook = {"webhook-id", "webhook-timestamp", "webhook-signature"}
    assert headers(signed, "post", PROCESS_PATH) == webhook | {"upstash-signature"}
    assert headers(signed, "post", RESULT_PATH) == webhook


def test_every_slug_is_one_problem():
    told = [one for one in _kinds(EarmarkError) if one.__module__.startswith(_TOLD) and "slug" in vars(one)]
    assert len({one.slug for one in told}) == len(told) == len(catalogue())


async def test_every_reference_leads_somewhere(document: dict[str, Any]):
    for reference in re.findall(r'"\$ref":\s*"#/([^"]+)"', json.dumps(document)):
        place: Any = document
        for part in reference.split("/"):
            place = place[part]
        assert place


async def test_every_operation_has_a_name_of_its_own_and_says_what_it_does(document: dict[str, Any]):
    calls = [one for methods in document["paths"].values() for one in methods.values()]
    assert len({one["operationId"] for one in calls}) == len(calls)
    for one in calls:
        assert one["summary"].endswith("."), one["operationId"]


def examples(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, one in methods.items():
            content = one.get("requestBody", {}).get("content", {}).get("application/json")
            if content is not None:
                yield method, path, content


async def test_every_body_has_an_example_that_fits_its_schema(document: dict[str, Any]):
    for _, path, content in examples(document):
        schema = {**content["schema"], "components": document["components"]}
        jsonschema_rs.validator_for(schema).validate(content["example"])
        assert content["example"], path


async def test_every_example_is_accepted(
    api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient, document: dict[str, Any]
):
    added = {"subject": "user-42", "resource": "images", "amount": 5, "reason": "So that some can be taken away."}
    assert (await service.post("/api/admin/adjust", json=added)).status_code == 200
    tried = 0
    for method, path, content in examples(document):
        body = content["example"]
        if "imageId" in body:
            body = body | {"imageId": await api.uploaded(alice)}
        if "/images/{id}" in path:
            named = (await api.reserved(alice))[0]["imageId"]
        else:
            made = await alice.post("/api/reservations", json={"amounts": {"storage_bytes": 1, "images": 1}})
            named = made.json()["reservationId"]
        if path.endswith("/refund"):
            await service.post(f"/api/reservations/{named}/commit")
        address = path.replace("{id}", named).replace("{subject}", "user-42")
        by = service if "/admin/" in path or path.endswith(("/commit", "/refund")) else alice
        response = await by.request(method, address, json=body)
        assert response.status_code in {200, 201, 202}, (path, response.text)
        tried += 1
    assert tried >= 10


@pytest.mark.parametrize("slug", sorted(catalogue()))
async def test_every_problem_has_a_page_and_says_what_to_do(alice: httpx.AsyncClient, slug: str):
    error = catalogue()[slug]
    assert re.fullmatch("[a-z]+(-[a-z]+)*", slug)
    assert (error.__doc__ or "").strip()
    assert error.remedy.endswith(".")
    assert error.remedy != EarmarkError.remedy or error.status == 500
    page = await alice.get(f"/problems/{slug}")
    assert page.status_code == 200
    assert f"<code>/problems/{slug}</code>" in page.text
    assert f'href="problems/{slug}"' in (await alice.get("/problems")).text


async def test_an_error_of_somebody_elses_is_told_but_has_no_page_here():
    class OwnError(EarmarkError):
        slug = "of-my-own"
        status = 418

    assert problem_of(OwnError("why")).slug == "of-my-own"
    assert "of-my-own" not in catalogue()


async def test_the_documentation_of_problems_is_current():
    spec = importlib.util.spec_from_file_location("problems_reference", REPOSITORY / "tools/problems_reference.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.PAGE.read_text(encoding="utf-8") == problems_text()


async def test_the_pages_keep_to_a_strict_policy(alice: httpx.AsyncClient):
    for path in ("/docs", "/problems", "/problems/not-found"):
        page = await alice.get(path)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'; style-src 'self'" in page.headers["content-security-policy"]
        assert not re.search(r"<script|<style| style=| on\w+=", page.text)
        for link in re.findall(r'(?:href|src)="([^"#]+)', page.text):
            assert not link.startswith(("http", "/")), "a link that leads out, or breaks where the service is mounted"
            assert (await alice.get(f"{path.rpartition('/')[0]}/{link}")).status_code == 200, link
        again = await alice.get(path, headers={"If-None-Match": page.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


async def test_every_operation_is_on_the_page(alice: httpx.AsyncClient, document: dict[str, Any]):
    page = (await alice.get("/docs")).text
    for methods in document["paths"].values():
        for one in methods.values():
            assert f'id="{one["operationId"]}"' in page
    for target in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{target}"' in page


async def test_a_route_that_is_not_described_is_left_out(api: Api):
    async def plain(_: object) -> None: ...

    assert Resource("/x", {"GET": plain}).described() == {}
    assert (await api.client(None).get(f"/problems/{uuid4()}")).status_code == 404
