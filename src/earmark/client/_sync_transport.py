"""Generated from `_async_transport.py` by `tools/generate_sync.py`; do not edit."""

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from http import HTTPStatus
from itertools import count
from typing import TypeVar

import httpx
import msgspec

from earmark.client.calls import Call
from earmark.client.connecting import bearer, http_options, service_url
from earmark.client.problems import UNREADABLE, not_earmark, refuse, unreachable
from earmark.client.retrying import repeat_sync
from earmark.client.sending import Sender

T = TypeVar("T")
Content = bytes | Callable[[], Generator[bytes, None, None]]
UPLOAD_ATTEMPTS = 3


class Transport:
    """One service, spoken to with one token; the parameters are those of `Client`."""

    def __init__(
        self,
        url: str,
        token: str | Callable[[], str],
        *,
        attempts: int,
        timeout_seconds: float,
        http: httpx.Client | None,
    ) -> None:
        self.url = service_url(url)
        if isinstance(token, str):
            bearer(token)
        self._token = token
        self._sender = Sender(self._attempt, attempts)
        self._owns_http = http is None
        self._timeout_seconds = timeout_seconds
        self._http = http or httpx.Client(**http_options(timeout_seconds))
        self._process = os.getpid()

    def close(self) -> None:
        """Closes the connections, where they are its own."""
        self._sender.close()
        if self._owns_http:
            self._http.close()

    def run(self, call: Call[T]) -> T:
        """Sends a call, again where that may help, and decodes its answer."""
        return self._sender.send(call)

    def deliver(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        size: int,
        content: Content,
    ) -> None:
        """Sends so many bytes to a store, which may be another's: the token stays here."""
        try:
            where = httpx.URL(self.url).join(url)
            told = httpx.Headers(dict(headers))
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise not_earmark(self.url, error) from error
        told["Content-Length"] = str(size)
        numbers = count(1)
        repeat_sync(lambda: self._deliver(next(numbers), method, where, told, content), UPLOAD_ATTEMPTS)

    def _connections(self) -> httpx.Client:
        """Those of this process: a forked one that used its parent's would read the parent's answers."""
        if self._owns_http and self._process != os.getpid():
            self._http, self._process = httpx.Client(**http_options(self._timeout_seconds)), os.getpid()
        return self._http

    def _attempt(self, call: Call[T]) -> T:
        headers = {**call.headers, "Authorization": bearer(self._token)}
        try:
            response = self._connections().request(
                call.method, f"{self.url}{call.path}", params=call.params, content=call.content, headers=headers
            )
        except httpx.TransportError as error:
            raise unreachable(self.url, error) from error
        except httpx.DecodingError as error:
            raise not_earmark(self.url, error) from error
        refuse(response)
        try:
            return call.decode(msgspec.json.decode(response.content))
        except UNREADABLE as error:
            raise not_earmark(self.url, error, response.status_code) from error

    def _deliver(
        self,
        number: int,
        method: str,
        url: httpx.URL,
        headers: httpx.Headers,
        content: Content,
    ) -> None:
        try:
            if isinstance(content, bytes):
                response = self._connections().request(method, url, headers=headers, content=content)
            else:
                with closing(content()) as chunks:
                    response = self._connections().request(method, url, headers=headers, content=chunks)
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise unreachable(f"{url.scheme}://{url.netloc.decode()}", error) from error
        arrived_before = number > 1 and response.status_code == HTTPStatus.PRECONDITION_FAILED
        if not arrived_before:
            refuse(response)
