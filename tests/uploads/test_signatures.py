"""Signatures of messages about jobs: what the field's own libraries sign is good, and nothing else is."""

import base64
import hashlib
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from qstash import Receiver
from standardwebhooks.webhooks import Webhook

from earmark.errors import InvalidRequest
from earmark.uploads.signatures import LEEWAY_SECONDS, MessageNotSigned, QStashSignatures, WebhookSignatures

CURRENT, NEXT = "sig_current_key_of_some_length_0123456789", "sig_next_key_of_some_length_9876543210abc"
URL = "https://quota.example/api/jobs/process-image"
BODY = b'{"imageId": "a", "attempt": 1}'
SECRETS = [f"whsec_{base64.b64encode(letter * 24).decode()}" for letter in (b"a", b"b")]


def token(key: str = CURRENT, body: bytes = BODY, algorithm: str = "HS256", **changed: Any) -> str:
    """A signature as QStash makes one; a claim that is changed to None is left out."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode()
    now = int(time.time())
    claims = {"iss": "Upstash", "sub": URL, "exp": now + 300, "nbf": now - 5, "iat": now, "jti": "j", "body": digest}
    claims = {name: value for name, value in {**claims, **changed}.items() if value is not None}
    return jwt.encode(claims, key, algorithm=algorithm)


def verify(signature: str, body: bytes = BODY) -> None:
    QStashSignatures([CURRENT, NEXT], URL).verify({"upstash-signature": signature}, body)


@pytest.mark.parametrize("key", [CURRENT, NEXT])
def test_what_qstashs_own_receiver_takes_we_take(key: str) -> None:
    signature = token(key)
    Receiver(CURRENT, NEXT).verify(signature=signature, body=BODY.decode(), url=URL)
    verify(signature)
    verify(token(key, body=BODY).rstrip("="))


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "nonsense",
        "a.b.c",
        token("another key, which nobody has told us of"),
        token(algorithm="none", key=""),
        token(sub="https://quota.example/api/jobs/result"),
        token(iss="Somebody"),
        token(exp=int(time.time()) - LEEWAY_SECONDS - 3600),
        token(nbf=int(time.time()) + LEEWAY_SECONDS + 3600),
        token(exp="soon"),
        token(body=b"another body"),
        *[token(**{claim: None}) for claim in ("iss", "sub", "exp", "nbf")],
    ],
)
def test_anything_else_is_refused(signature: str) -> None:
    with pytest.raises(MessageNotSigned):
        verify(signature)


def test_a_clock_may_be_a_little_off() -> None:
    verify(token(exp=int(time.time()) - LEEWAY_SECONDS // 2))
    verify(token(nbf=int(time.time()) + LEEWAY_SECONDS // 2))


def test_a_body_that_was_changed_is_refused() -> None:
    with pytest.raises(MessageNotSigned, match="another body"):
        verify(token(), BODY + b" ")


def headers(secret: str = SECRETS[0], body: bytes = BODY, moment: datetime | None = None) -> dict[str, str]:
    moment = moment or datetime.now(UTC)
    signature = Webhook(secret).sign("msg_1", moment, body.decode())
    return {"webhook-id": "msg_1", "webhook-timestamp": str(int(moment.timestamp())), "webhook-signature": signature}


@pytest.mark.parametrize("secret", SECRETS)
def test_any_of_the_secrets_is_good_and_each_signs(secret: str) -> None:
    signatures = WebhookSignatures(SECRETS)
    assert signatures.verify(headers(secret), BODY) == "msg_1"
    assert Webhook(secret).verify(BODY, signatures.signed("out", BODY)) == {"imageId": "a", "attempt": 1}


@pytest.mark.parametrize(
    "changed",
    [
        *[{name: None} for name in ("webhook-id", "webhook-timestamp", "webhook-signature")],
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": "yesterday"},
        {"webhook-timestamp": "1e400"},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,?"},
        {"webhook-signature": "v1,ü v1a,x"},
        {"webhook-signature": "v2," + headers()["webhook-signature"].partition(",")[2]},
    ],
)
def test_a_forged_webhook_is_refused_whatever_is_wrong_with_it(changed: dict[str, str | None]) -> None:
    sent = {name: value for name, value in {**headers(), **changed}.items() if value is not None}
    with pytest.raises(MessageNotSigned):
        WebhookSignatures(SECRETS).verify(sent, BODY)


@pytest.mark.parametrize("minutes", [-6, 6])
def test_an_old_or_future_webhook_is_refused(minutes: int) -> None:
    moment = datetime.now(UTC) + timedelta(minutes=minutes)
    with pytest.raises(MessageNotSigned):
        WebhookSignatures(SECRETS).verify(headers(moment=moment), BODY)


def test_a_secret_of_ours_and_the_same_body() -> None:
    stranger = f"whsec_{base64.b64encode(b'c' * 24).decode()}"
    for sent, body in ((headers(stranger), BODY), (headers(), BODY + b" "), (headers(), b"\xff")):
        with pytest.raises(MessageNotSigned):
            WebhookSignatures(SECRETS).verify(sent, body)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!", "a" * 40, f"whsec_{base64.b64encode(b'short').decode()}"])
def test_a_secret_that_is_none_is_refused(secret: str) -> None:
    with pytest.raises(InvalidRequest, match="whsec_"):
        WebhookSignatures([secret])
