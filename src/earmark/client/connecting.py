"""Where the service is, how its connections are made, and the token that goes with every call and nowhere else."""

import re
import ssl
from collections.abc import Callable
from typing import Any

import httpx

from earmark.errors import InvalidRequest

CONNECT_TIMEOUT_SECONDS = 5.0
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750, section 2.1."""


def service_url(url: str) -> str:
    """The service's address, without a slash at its end.

    Raises:
        InvalidRequest: It is no address of a service.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in {"http", "https"} or not parsed.host or parsed.query or parsed.fragment or parsed.userinfo:
        raise InvalidRequest("url must be http:// or https://, a host, and a path at most.", {"field": "url"})
    return url.rstrip("/")


def bearer(token: str | Callable[[], str]) -> str:
    """The header that signs a call in.

    Raises:
        InvalidRequest: The token could not be one. It is not shown: HTTP libraries do when they cannot send it.
    """
    given = token if isinstance(token, str) else token()
    if not _TOKEN.fullmatch(given):
        raise InvalidRequest("The token is empty, or has characters that no token has.", {"field": "token"})
    return f"Bearer {given}"


def http_options(timeout_seconds: float) -> dict[str, Any]:
    """How an HTTP client of our own is made."""
    return {
        "timeout": httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, CONNECT_TIMEOUT_SECONDS)),
        # A proxy meant for the outside must not be asked for a service on this machine.
        "mounts": dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://[::1]")),
        "verify": ssl.create_default_context(),
    }
