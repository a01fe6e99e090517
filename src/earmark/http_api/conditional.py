"""Answers that a client need not read again: their ETag, and If-None-Match (RFC 9110, section 13)."""

import hashlib

import msgspec
from starlette.requests import Request
from starlette.responses import Response


def is_current(request: Request, tag: str) -> bool:
    """Whether the client has this version already; weak comparison."""
    known = {one.strip().removeprefix("W/") for one in ",".join(request.headers.getlist("if-none-match")).split(",")}
    return tag.removeprefix("W/") in known or "*" in known


def versioned(request: Request, value: object, version: object) -> Response:
    """A JSON answer with a weak ETag made of `version`: 304 where the client has it.

    Args:
        request: The request.
        value: What is answered.
        version: What decides whether it is the same: the value without what differs each time, such as signatures.
    """
    tag = f'W/"{hashlib.sha256(msgspec.json.encode(version)).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}
    if is_current(request, tag):
        return Response(None, 304, headers)
    return Response(msgspec.json.encode(value), 200, headers, "application/json")
