"""Around every request: its id, what its errors become, the headers of every answer, one log line.

Also how a connection ends whose request was answered before its body was read: told, given a moment to listen, closed.
"""

import asyncio
import logging
import os
import re
import time
from typing import Any

import anyio
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from earmark.http_api.problems import Problem, ServiceStopping, problem_of
from earmark.http_api.services import SUBJECT_IN_SCOPE
from earmark.observing import Operation

REQUEST_ID = "X-Request-Id"
CLIENT_CLOSED_REQUEST = 499
"""Status that is logged, as nginx does, for a client that left before it had an answer."""
UNREAD_BYTES = 65_536
"""A body up to this size that nobody read is passed over, and the connection goes on."""
LINGER_BYTES = 16_777_216
LINGER_SECONDS = 2.0
"""How much and how long is read of a larger one after the answer: a client that is still sending would otherwise see
its connection reset and not the answer (RFC 9112, section 9.6). More than the sockets' own buffers hold, which are full
by the time the answer comes."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_DEFAULT_HEADERS = tuple(
    (name.lower().encode(), value.encode())
    for name, value in {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }.items()
)
_logger = logging.getLogger("earmark.http")


class Frame:
    """ASGI middleware.

    Args:
        app: What answers.
        hsts_seconds: For how long browsers are told to come by HTTPS alone; 0: nothing is said of it.
    """

    def __init__(self, app: ASGIApp, hsts_seconds: int = 0) -> None:
        self.app = app
        hsts = (b"strict-transport-security", f"max-age={hsts_seconds}".encode())
        self._headers = (*_DEFAULT_HEADERS, hsts) if hsts_seconds else _DEFAULT_HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on; every other kind of connection goes by untouched."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._headers)
        with exchange.operation:
            try:
                await self.app(exchange.scope, exchange.receive, exchange.send)
            except ClientDisconnect:
                pass
            except asyncio.CancelledError:  # the server's time to end in order is over
                if exchange.status is not None:
                    raise
                await exchange.answer(problem_of(ServiceStopping("The service is being stopped; try again.")))
            except Exception as error:
                problem = problem_of(error)
                exchange.log_error(problem, error)
                if exchange.status is not None:
                    raise  # half an answer was sent: only a broken connection can still say so
                await exchange.answer(problem)
            finally:
                exchange.log()


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, added: tuple[tuple[bytes, bytes], ...]) -> None:
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        self._added = added
        self.scope = {**scope, "route": None}
        self.request_id = given.decode() if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()
        self.status: int | None = None
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self.operation = Operation("http_request", headers=Headers(scope=scope), method=method)
        self._receive = receive
        self._send = send
        self._started = time.perf_counter()
        self._lingers = False
        self._waits_for_a_word = b"expect" in headers  # it sends nothing that we do not ask for
        length = headers.get(b"content-length", b"0")
        large = b"transfer-encoding" in headers or not length.isdigit() or int(length) > UNREAD_BYTES
        self._unread = large and scope["http_version"].startswith("1")

    async def receive(self) -> Message:
        """Notes when the body has been read."""
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        """Adds the headers of every answer; ends the connection of a request whose body is not going to be read."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
            given = {name for name, _ in headers}
            headers += [header for header in self._added if header[0] not in given]
            headers.append((b"x-request-id", self.request_id.encode()))
            if self._unread:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
            if self._unread:
                self._lingers = not self._waits_for_a_word
        elif self._lingers and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def answer(self, problem: Problem) -> None:
        """Sends it."""
        await problem.response(self.request_id)(self.scope, self.receive, self.send)

    async def _linger(self) -> None:
        passed_over = 0
        with anyio.move_on_after(LINGER_SECONDS):
            while self._unread and passed_over < LINGER_BYTES:
                message = await self.receive()
                passed_over += len(message.get("body", b""))

    def log_error(self, problem: Problem, error: Exception) -> None:
        """Logs what the client is not told."""
        if problem.status < 500:  # noqa: PLR2004 - the client's own mistakes are in the request's line
            return
        unexpected = problem.status == 500  # noqa: PLR2004
        extra = {"request_id": self.request_id, "error": f"{type(error).__name__}: {error}".strip()}
        _logger.error("request_failed", exc_info=error if unexpected else None, extra=extra)

    def log(self) -> None:
        """The request's line: no path, query or header, which may hold names, links and tokens."""
        route: Any = self.scope["route"]
        status = CLIENT_CLOSED_REQUEST if self.status is None else self.status
        about = {
            "route": getattr(route, "path", None),
            "subject": self.scope.get(SUBJECT_IN_SCOPE),
            "request_id": self.request_id,
        }
        self.operation.ended(str(status), **about)
        duration_ms = round((time.perf_counter() - self._started) * 1000, 1)
        extra = {"method": self.scope["method"], "status": status, "duration_ms": duration_ms, **about}
        _logger.info("request", extra=extra)
