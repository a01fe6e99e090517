"""Tokens of an outside issuer: which keys and algorithms count, and how often its key set is fetched."""

import asyncio
import hmac
import json
import threading
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pydantic
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from earmark.config import Settings
from earmark.errors import InvalidRequest, NotSignedIn
from earmark.http_api import key_set
from earmark.http_api.app import create_app
from earmark.http_api.caller import Caller, Role
from earmark.http_api.key_set import REFETCH_SECONDS, REFRESH_SECONDS, KeySet, KeysUnavailable
from earmark.http_api.sign_in import SignIn
from http_api.harness import SECRET, Api

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000
ALGORITHMS = ("RS256", "ES256", "EdDSA")
RSA = RSAKey.generate_key(2048, parameters={"kid": "rsa"})
EC = ECKey.generate_key("P-256", parameters={"kid": "ec", "use": "sig", "alg": "ES256"})
OKP = OKPKey.generate_key("Ed25519", parameters={"kid": "okp"})


class Issuer:
    """Somebody else's server with a key set, on a loopback port."""

    def __init__(self) -> None:
        self.asked = 0
        self.status = 200
        self.body: bytes = b""
        self.is_slow = False
        self._over = threading.Event()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                self.send_response(issuer.status)
                self.send_header("Content-Length", str(len(issuer.body)))
                self.end_headers()
                if not issuer.is_slow:
                    self.wfile.write(issuer.body)
                while issuer.is_slow and not issuer._over.wait(0.01):
                    self.wfile.write(b" ")

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.publish(RSA, EC, OKP)

    def publish(self, *keys: Key, **more: Any) -> None:
        self.body = json.dumps({"keys": [key.as_dict(private=False) for key in keys], **more}).encode()

    def close(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()


class Time:
    now = float(NOW)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.close()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def keys(issuer: Issuer, time: Time, anyio_backend: str) -> AsyncIterator[KeySet]:
    keys = KeySet(issuer.url, now=time)
    yield keys
    await keys.close()


@pytest.fixture
def sign_in(keys: KeySet, time: Time) -> SignIn:
    return SignIn(None, keys=keys, algorithms=ALGORITHMS, now=time)


@pytest.fixture
def verified(sign_in: SignIn) -> Callable[..., Any]:
    async def verified(token: str, by: SignIn = sign_in) -> Caller:
        await by.prepare(token)
        return by.verify(token)

    return verified


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
def token(key: Key, algorithm: str, kid: str | None = None, **claims: Any) -> str:
    head = {"alg": algorithm} | ({} if kid is None else {"kid": kid})
    return jwt.encode(head, {"sub": "alice", "exp": NOW + 10_000, **claims}, key, algorithms=[algorithm])


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
async def test_each_kind_of_key(issuer: Issuer, verified: Callable[..., Any]):
    for key, algorithm in ((RSA, "RS256"), (EC, "ES256"), (OKP, "EdDSA")):
        assert await verified(token(key, algorithm, key.kid)) == Caller("alice", Role.AUTHENTICATED)
    assert await verified(token(EC, "ES256", "ec", role="service_role")) == Caller("alice", Role.SERVICE)
    assert issuer.asked == 1


async def test_an_issuer_that_never_comes_to_an_end_is_not_waited_for(
    issuer: Issuer, verified: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(key_set, "FETCH_SECONDS", 0.1)
    issuer.is_slow, issuer.body = True, b"{" * 1_000_000
    async with asyncio.timeout(20):
        with pytest.raises(KeysUnavailable):
            await verified(token(RSA, "RS256"))


async def test_without_a_key_id_the_only_key_that_fits_is_taken(
    issuer: Issuer, verified: Callable[..., Any], time: Time
):
    assert (await verified(token(RSA, "RS256"))).subject == "alice"
    other = RSAKey.generate_key(2048, parameters={"kid": "other"})
    issuer.publish(RSA, other)
    time.now += REFRESH_SECONDS
    with pytest.raises(NotSignedIn):
        await verified(token(RSA, "RS256", "unknown, so that the set is fetched"))
    with pytest.raises(NotSignedIn):
        await verified(token(RSA, "RS256"))


async def test_what_the_keys_do_not_sign(issuer: Issuer, verified: Callable[..., Any], sign_in: SignIn):
    head, body = token(OctKey.import_key(SECRET), "HS256", "rsa").split(".")[:2]
    with_public_key = hmac.digest(RSA.as_pem(private=False), f"{head}.{body}".encode(), "sha256")
    forged = [
        f"{head}.{body}.{urlsafe_b64encode(with_public_key).decode().rstrip('=')}",
        token(OctKey.import_key(SECRET), "HS256"),
        token(RSA, "RS512", "rsa"),
        token(RSA, "RS256", "ec"),
        token(RSAKey.generate_key(2048), "RS256", "rsa"),
        token(RSA, "RS256", "rsa", exp=NOW),
        token(RSA, "RS256", "rsa", sub=""),
    ]
    for one in forged:
        with pytest.raises(NotSignedIn):
            await verified(one)
    assert (await verified(token(RSA, "RS256", "rsa"))).subject == "alice"
    with pytest.raises(InvalidRequest, match="EARMARK_JWKS_URL"):
        sign_in.issue("alice")


async def test_a_shared_secret_in_the_set_a_weak_key_and_one_for_encryption_do_not_count(
    issuer: Issuer, verified: Callable[..., Any]
):
    secret = {**OctKey.import_key(SECRET).as_dict(private=True), "kid": "oct"}
    encrypting = RSAKey.generate_key(2048, parameters={"kid": "enc", "use": "enc"})
    good = RSA.as_dict(private=False)
    issuer.body = json.dumps(
        {"keys": [secret, {"kty": "new"}, {"kty": "RSA", "kid": "broken"}, encrypting.as_dict(private=False), good]}
    ).encode()
    assert (await verified(token(RSA, "RS256", "rsa"))).subject == "alice"
    signing = RSAKey.import_key({**encrypting.as_dict(private=True), "use": "sig"})
    for one in (token(OctKey.import_key(SECRET), "HS256", "oct"), token(signing, "RS256", "enc")):
        with pytest.raises(NotSignedIn):
            await verified(one)


async def test_a_new_key_is_found_and_unknown_ones_ask_once_per_interval(
    issuer: Issuer, verified: Callable[..., Any], time: Time
):
    await verified(token(RSA, "RS256", "rsa"))
    new = ECKey.generate_key("P-256", parameters={"kid": "new"})
    issuer.publish(RSA, new)
    time.now += REFETCH_SECONDS - 1
    for number in range(5):
        with pytest.raises(NotSignedIn):
            await verified(token(new, "ES256", f"nobody's-{number}"))
    assert issuer.asked == 1
    time.now += 1
    assert (await verified(token(new, "ES256", "new"))).subject == "alice"
    for number in range(5):
        with pytest.raises(NotSignedIn):
            await verified(token(new, "ES256", f"nobody's-{number}"))
    assert issuer.asked == 2


async def test_a_key_that_was_withdrawn_is_refused_after_the_refresh_even_for_a_remembered_token(
    issuer: Issuer, verified: Callable[..., Any], time: Time, keys: KeySet
):
    good, other = token(RSA, "RS256", "rsa"), token(EC, "ES256", "ec")
    await verified(good)
    await verified(other)
    issuer.publish(EC)
    time.now += REFRESH_SECONDS - 1
    await verified(good)
    await verified(token(EC, "ES256", "ec", sub="carol"))  # not remembered, so that the age of the set is looked at
    await keys._fetching
    assert issuer.asked == 1
    time.now += 1
    await verified(token(EC, "ES256", "ec", sub="bob"))
    await keys._fetching
    assert issuer.asked == 2
    with pytest.raises(NotSignedIn):
        await verified(good)
    assert (await verified(other)).subject == "alice"


async def test_an_issuer_in_trouble(issuer: Issuer, verified: Callable[..., Any], time: Time, keys: KeySet):
    good = issuer.body
    for status, body in ((500, good), (302, b""), (200, b"nonsense"), (200, b'{"keys": []}'), (200, b" " * 2_000_000)):
        issuer.status, issuer.body = status, body
        with pytest.raises(KeysUnavailable):
            await verified(token(RSA, "RS256", "rsa"))
        time.now += REFETCH_SECONDS
    issuer.status, issuer.body = 200, good
    assert (await verified(token(RSA, "RS256", "rsa"))).subject == "alice"
    issuer.status = 503
    time.now += REFRESH_SECONDS
    assert (await verified(token(RSA, "RS256", "rsa", sub="bob"))).subject == "bob"
    await keys._fetching
    assert (await verified(token(RSA, "RS256", "rsa", sub="carol"))).subject == "carol"


async def test_issuer_and_audience(keys: KeySet, time: Time, verified: Callable[..., Any]):
    strict = SignIn(SECRET, keys=keys, algorithms=ALGORITHMS, issuer="https://id.example", audience="earmark", now=time)
    for audience in ("earmark", ["other", "earmark"]):
        one = token(RSA, "RS256", "rsa", iss="https://id.example", aud=audience)
        assert (await verified(one, strict)).subject == "alice"
    wrong = [
        {},
        {"iss": "https://id.example"},
        {"aud": "earmark"},
        {"iss": "https://id.example/", "aud": "earmark"},
        {"iss": "https://id.example", "aud": "other"},
        {"iss": "https://id.example", "aud": ["other"]},
        {"iss": ["https://id.example"], "aud": "earmark"},
        {"iss": "https://id.example", "aud": {"earmark": True}},
    ]
    for claims in wrong:
        with pytest.raises(NotSignedIn):
            await verified(token(RSA, "RS256", "rsa", **claims), strict)
    assert strict.verify(strict.issue("bob")).subject == "bob"


async def test_signing_in_over_http(api: Api, keys: KeySet, issuer: Issuer, time: Time):
    services = replace(api.services, sign_in=SignIn(None, keys=keys, algorithms=ALGORITHMS, now=time))
    api.app = create_app(services)
    client = api.client(None)
    issuer.status = 500
    headers = {"Authorization": f"Bearer {token(RSA, 'RS256', 'rsa')}"}
    refused = await client.get("/api/usage", headers=headers)
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/sign-in-unavailable")
    assert refused.headers["retry-after"] == "1"
    assert (await client.get("/healthz", headers=headers)).status_code == 200
    unready = await client.get("/readyz")
    assert unready.status_code == 503
    assert "keys" in unready.json()["checks"]["sign_in"]
    issuer.status = 200
    time.now += REFETCH_SECONDS
    assert (await client.get("/api/usage", headers=headers)).json()["subject"] == "alice"
    assert (await client.get("/readyz")).json()["checks"]["sign_in"] == "ok"
    for wrong in ("nonsense", "a.b.c", "x" * 9000):
        answer: httpx.Response = await client.get("/api/usage", headers={"Authorization": f"Bearer {wrong}"})
        assert answer.status_code == 401


def test_settings_that_would_let_anybody_in():
    assert Settings(jwks_url="http://127.0.0.1:9/keys").jwks_url
    assert Settings(jwt_algorithms="RS256, ES256").jwt_algorithms == ("RS256", "ES256")
    for wrong in ({"jwks_url": "http://id.example/keys"}, {"jwt_algorithms": "HS256"}, {"jwt_algorithms": "none"}):
        with pytest.raises(pydantic.ValidationError):
            Settings(**wrong)
