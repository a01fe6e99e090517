"""The public keys of an outside issuer of tokens, from its JWKS URL: fetched when needed, remembered, rotated."""

import asyncio
import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import JWKRegistry, Key

from earmark.errors import EarmarkError

REFRESH_SECONDS = 600.0
"""After this a set is fetched again, beside the requests that still use it: withdrawn keys are refused from then on."""
REFETCH_SECONDS = 30.0
"""Between two fetches at least, whatever was asked for and however the last one ended."""
FETCH_SECONDS = 5.0
SET_BYTES_MAX = 1_048_576

_KINDS = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_logger = logging.getLogger("earmark.sign_in")


class KeysUnavailable(EarmarkError):  # noqa: N818 - named for what is wrong
    """The issuer's keys have not been had yet, so no token can be checked."""

    status = 503
    slug = "sign-in-unavailable"
    remedy = "Try again after `Retry-After`; the operator checks EARMARK_JWKS_URL."


class _Set(msgspec.Struct):
    keys: list[dict[str, Any]]


class KeySet:
    """The keys at one address. For one event loop; `close` it.

    A token whose key is unknown makes the set be fetched anew, at most once per REFETCH_SECONDS. While the issuer does
    not answer, the keys that are known stay good.

    Attributes:
        version: Grows whenever the keys have changed.

    Args:
        url: Of the set (RFC 7517, section 5).
        now: Seconds on a clock that only goes forward.
    """

    def __init__(self, url: str, *, now: Callable[[], float] = time.monotonic) -> None:
        self.version = 0
        self._url = url
        self._now = now
        self._client = httpx.AsyncClient(timeout=FETCH_SECONDS, follow_redirects=False)
        self._keys: tuple[Key, ...] = ()
        self._tried_at: float | None = None
        self._had_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Ends a fetch that is under way, and the connections."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])
        await self._client.aclose()

    async def look_for(self, algorithm: str, kid: str | None) -> None:
        """Returns when this key has been looked for: without a fetch, where there was one lately."""
        missing = self.find(algorithm, kid) is None
        old = self._had_at is None or self._now() - self._had_at >= REFRESH_SECONDS
        if (missing or old) and self._may_fetch():
            self._tried_at = self._now()
            self._fetching = asyncio.create_task(self._fetch())
        if missing and self._fetching is not None:
            await asyncio.wait([self._fetching])

    def find(self, algorithm: str, kid: str | None) -> Key | None:
        """The key of this id that may sign with this algorithm; without an id: the only one that may."""
        kind = _KINDS.get(algorithm[:2])
        fitting = [
            key
            for key in self._keys
            if key.key_type == kind and key.get("use") in {None, "sig"} and key.get("alg") in {None, algorithm}
        ]
        if kid is None:
            return fitting[0] if len(fitting) == 1 else None
        return next((key for key in fitting if key.kid == kid), None)

    async def ready(self) -> None:
        """Returns when there are keys.

        Raises:
            KeysUnavailable: There are none yet.
        """
        if not self._keys:
            await self.look_for("", None)
        self.must_have_any()

    def must_have_any(self) -> None:
        """Returns where the set has ever been had.

        Raises:
            KeysUnavailable: It has not.
        """
        if not self._keys:
            raise KeysUnavailable("The issuer's keys cannot be had right now; try again.")

    def _may_fetch(self) -> bool:
        rested = self._tried_at is None or self._now() - self._tried_at >= REFETCH_SECONDS
        return rested and (self._fetching is None or self._fetching.done())

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):  # the client's own is for each piece of the answer
                body = await self._body()
            keys = _imported(body)
        except (httpx.HTTPError, httpx.InvalidURL, msgspec.MsgspecError, JoseError, ValueError, TimeoutError) as error:
            told = {"url": self._url, "error": f"{type(error).__name__}: {error}"}
            _logger.error("keys_not_fetched", extra=told)  # noqa: TRY400 - the issuer's trouble has no trace of ours
            return
        self._had_at = self._now()
        if [key.as_dict(private=False) for key in keys] != [key.as_dict(private=False) for key in self._keys]:
            self._keys = keys
            self.version += 1

    async def _body(self) -> bytes:
        body = bytearray()
        async with self._client.stream("GET", self._url, headers={"Accept": "application/json"}) as response:
            response.raise_for_status()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > SET_BYTES_MAX:
                    raise ValueError("the key set is too large")
        return bytes(body)


def _imported(body: bytes) -> tuple[Key, ...]:
    """The keys of a set that can sign; shared secrets, weak keys and kinds that nobody knows are passed over."""
    keys = []
    for one in msgspec.json.decode(body, type=_Set).keys:
        if one.get("kty") in set(_KINDS.values()):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", SecurityWarning)
                    keys.append(JWKRegistry.import_key(one))
            except (JoseError, SecurityWarning, ValueError, KeyError, TypeError) as error:
                _logger.warning("key_passed_over", extra={"kid": str(one.get("kid")), "error": str(error)})
    if not keys:
        raise ValueError("the set holds no key that can be used")
    return tuple(keys)
