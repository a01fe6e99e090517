"""The API's own description: the document, a page of it, and a page for every problem."""

import hashlib
from collections.abc import Iterable

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from earmark.config import Settings
from earmark.http_api.conditional import is_current
from earmark.http_api.openapi import document
from earmark.http_api.problems import catalogue
from earmark.http_api.reference import api_page, problem_page, problems_page
from earmark.http_api.routing import Access, Media, operation, resource

POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def routes(others: Iterable[Route], settings: Settings) -> list[Route]:
    """The calls of this noun, and its pages; they describe these routes and themselves."""
    calls = Reference()
    table = [
        resource("/openapi.json", GET=calls.openapi),
        resource("/docs", GET=calls.api),
        resource("/problems", GET=calls.problems),
        resource("/problems/{slug}", GET=calls.problem),
    ]
    described = document([*others, *table], settings)
    calls.json = msgspec.json.encode(described)
    calls.page = api_page(described)
    return list(table)


class Reference:
    """Each method answers one call."""

    json: bytes
    page: str

    @operation(answers={200: Media("application/json")}, access=Access.OPEN)
    async def openapi(self, request: Request) -> Response:
        """This document."""
        return _shown(request, self.json, "application/json")

    async def api(self, request: Request) -> Response:
        """The document as a page."""
        return _html(request, self.page)

    async def problems(self, request: Request) -> Response:
        """The list of problems."""
        return _html(request, problems_page())

    async def problem(self, request: Request) -> Response:
        """One problem."""
        slug = request.path_params["slug"]
        error = catalogue().get(slug)
        if error is None:
            raise HTTPException(404)
        return _html(request, problem_page(slug, error))


def _shown(request: Request, content: bytes, media: str) -> Response:
    headers = {
        "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        "Cache-Control": "no-cache",
        "Content-Security-Policy": POLICY,
    }
    if is_current(request, headers["ETag"]):
        return Response(None, 304, headers)
    return Response(content, 200, headers, media)


def _html(request: Request, page: str) -> Response:
    return _shown(request, page.encode(), "text/html; charset=utf-8")
