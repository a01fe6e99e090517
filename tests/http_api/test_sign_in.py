import json
import stat
from base64 import urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws, jwt
from joserfc.jwk import OctKey, RSAKey

from earmark.errors import InvalidRequest
from earmark.http_api import sign_in as module
from earmark.http_api.caller import Caller, Role
from earmark.http_api.sign_in import NotSignedIn, SignIn, load_or_create_secret
from http_api.harness import SECRET

NOW = 1_800_000_000


def token(claims: dict[str, Any], *, secret: bytes = SECRET, algorithm: str = "HS256") -> str:
    key = OctKey.import_key(secret)
    return jws.serialize_compact({"alg": algorithm}, json.dumps(claims).encode(), key, algorithms=[algorithm])


class Time:
    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def sign_in(time: Time) -> SignIn:
    return SignIn(SECRET, now=time)


def test_what_is_issued_is_verified(sign_in: SignIn):
    assert sign_in.verify(sign_in.issue("alice")) == Caller("alice", Role.AUTHENTICATED)
    assert sign_in.verify(sign_in.issue("jobs", "service_role")) == Caller("jobs", Role.SERVICE)


@pytest.mark.parametrize(("subject", "role"), [("", "authenticated"), ("x" * 256, "authenticated"), ("a", "admin")])
def test_nonsense_is_not_issued(sign_in: SignIn, subject: str, role: str):
    with pytest.raises(InvalidRequest):
        sign_in.issue(subject, role)


def test_a_token_of_another_issuer_needs_only_sub_and_exp(sign_in: SignIn):
    claims = {"sub": "7f3c", "exp": NOW + 60, "aud": "authenticated", "iss": "https://x.supabase.co/auth/v1"}
    assert sign_in.verify(token(claims)) == Caller("7f3c", Role.AUTHENTICATED)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW + 60},
        {"sub": "", "exp": NOW + 60},
        {"sub": 7, "exp": NOW + 60},
        {"sub": "x" * 256, "exp": NOW + 60},
        {"sub": "a\0b", "exp": NOW + 60},
        {"sub": "a\ud800", "exp": NOW + 60},
        {"sub": "a"},
        {"sub": "a", "exp": None},
        {"sub": "a", "exp": "soon"},
        {"sub": "a", "exp": True},
        {"sub": "a", "exp": float("nan")},
        {"sub": "a", "exp": float("inf")},
        {"sub": "a", "exp": NOW},
        {"sub": "a", "exp": NOW - 1},
        {"sub": "a", "exp": NOW + 60, "nbf": NOW + 1},
        {"sub": "a", "exp": NOW + 60, "role": "admin"},
        {"sub": "a", "exp": NOW + 60, "role": ["service_role"]},
        {"sub": "a", "exp": NOW + 60, "role": None},
    ],
    ids=str,
)
def test_claims_that_do_not_hold(sign_in: SignIn, claims: dict[str, Any]):
    with pytest.raises(NotSignedIn):
        sign_in.verify(token(claims))


def test_forged_tokens(sign_in: SignIn):
    claims = {"sub": "alice", "role": "service_role", "exp": NOW + 60}
    good = token(claims)
    body = good.split(".")[1]
    none = urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).decode().rstrip("=")
    rsa = jwt.encode({"alg": "RS256"}, claims, RSAKey.generate_key(2048, auto_kid=False))
    other = urlsafe_b64encode(json.dumps({**claims, "sub": "bob"}).encode()).decode().rstrip("=")
    forged = [
        token(claims, secret=b"another secret of at least 32 bytes"),
        token(claims, algorithm="HS512"),
        f"{none}.{body}.",
        f"{none}.{body}.{good.split('.')[2]}",
        good.replace(body, other),
        rsa,
        good[:-2],
        good + "x",
        "x" * 9000,
        "a.b.c",
        "",
        "é.é.é",
    ]
    for one in forged:
        with pytest.raises(NotSignedIn):
            sign_in.verify(one)
    assert sign_in.verify(good).subject == "alice"


def test_a_remembered_token_is_not_good_for_longer(sign_in: SignIn, time: Time):
    good = sign_in.issue("alice", ttl=timedelta(seconds=60))
    for elapsed in (0, 30, 59.9):
        time.now = NOW + elapsed
        assert sign_in.verify(good).subject == "alice"
    time.now = NOW + 60
    for _ in range(2):
        with pytest.raises(NotSignedIn, match="expired"):
            sign_in.verify(good)
    assert not sign_in._remembered


def test_what_is_remembered_is_bounded(sign_in: SignIn, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "REMEMBERED_MAX", 3)
    tokens = [sign_in.issue(f"user-{number}") for number in range(5)]
    for one in tokens:
        sign_in.verify(one)
    assert len(sign_in._remembered) == 3
    assert [sign_in.verify(one).subject for one in tokens] == [f"user-{number}" for number in range(5)]


def test_tokens_without_expiry_only_where_configured(time: Time):
    endless = token({"sub": "a"})
    assert SignIn(SECRET, require_expiry=False, now=time).verify(endless).subject == "a"
    with pytest.raises(NotSignedIn, match="exp"):
        SignIn(SECRET, now=time).verify(endless)


def test_a_short_secret_is_refused():
    with pytest.raises(InvalidRequest, match="32"):
        SignIn(b"x" * 31)


def test_the_secret_is_made_once_by_many_at_once(tmp_path: Path):
    home = tmp_path / "a" / "home"
    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(lambda _: load_or_create_secret(home), range(16)))
    assert len(secrets) == 1
    assert len(secrets.pop()) >= 32
    assert [path.name for path in home.iterdir()] == ["secret"]
    assert stat.S_IMODE((home / "secret").stat().st_mode) == 0o600


def test_a_secret_of_ones_own_is_kept_and_a_short_one_refused(tmp_path: Path):
    (tmp_path / "secret").write_bytes(SECRET + b"\n")
    assert load_or_create_secret(tmp_path) == SECRET
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(InvalidRequest):
        load_or_create_secret(tmp_path)
