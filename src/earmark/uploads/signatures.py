"""Who a message about a job comes from: signatures of QStash and of Standard Webhooks, checked over the bytes received.

Sources: https://upstash.com/docs/qstash/howto/signature,
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from standardwebhooks.webhooks import Webhook

from earmark.errors import EarmarkError, InvalidRequest

LEEWAY_SECONDS = 60
"""How far QStash's clock and ours may be apart; Standard Webhooks fix theirs at five minutes."""
QSTASH_HEADER = "upstash-signature"
WEBHOOK_HEADER = "webhook-signature"


class MessageNotSigned(EarmarkError):  # noqa: N818 - named for what is wrong
    """A message that nobody we know has signed, or not lately, or for another address; nothing was done."""

    status = 401
    slug = "message-not-signed"
    remedy = "Sign the body as it is sent, with a key that is set here, and with a clock that is right."


class QStashSignatures:
    """Verifies messages of Upstash QStash.

    Args:
        keys: The current signing key and the next one: while keys are rotated, either may have signed.
        url: The address that messages are sent to, which QStash signs.
    """

    def __init__(self, keys: Sequence[str], url: str) -> None:
        self._keys = [OctKey.import_key(key) for key in keys]
        self._url = url
        self._claims = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": "Upstash"},
            sub={"essential": True, "value": url},
            exp={"essential": True},
            nbf={"essential": True},
            body={"essential": True},
        )

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Returns for a message that QStash has signed for this address.

        Raises:
            MessageNotSigned: It has not, or the message is too old or too new, or another one.
        """
        signed = next((claims for key in self._keys if (claims := self._decoded(headers[QSTASH_HEADER], key))), None)
        if signed is None:
            raise MessageNotSigned("The message was not signed with QStash's signing keys.")
        try:
            self._claims.validate(signed)
        except (JoseError, TypeError, ValueError) as error:
            raise MessageNotSigned(f"The signature does not hold: {error}. It is checked for {self._url}.") from error
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode().rstrip("=")
        if not hmac.compare_digest(str(signed["body"]).rstrip("=").encode(), digest.encode()):
            raise MessageNotSigned("The signature is for another body.")

    @staticmethod
    def _decoded(token: str, key: OctKey) -> dict[str, object] | None:
        try:
            return jwt.decode(token, key, algorithms=["HS256"]).claims
        except (JoseError, ValueError):
            return None


class WebhookSignatures:
    """Signs and verifies messages as Standard Webhooks describe.

    Args:
        secrets: `whsec_…`; each signs, and messages signed with any of them are good: while they are rotated, the other
            side may have the old one or the new.

    Raises:
        InvalidRequest: One of them is no such secret.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._webhooks = [_webhook(secret) for secret in secrets]

    def signed(self, message_id: str, body: bytes) -> dict[str, str]:
        """The headers that a message is sent with."""
        now = datetime.now(UTC)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            WEBHOOK_HEADER: " ".join(webhook.sign(message_id, now, body.decode()) for webhook in self._webhooks),
        }

    def verify(self, headers: Mapping[str, str], body: bytes) -> str:
        """The id of a message that one of the secrets has signed.

        Raises:
            MessageNotSigned: None has, or it is more than five minutes old or ahead.
        """
        for webhook in self._webhooks:
            try:
                webhook.verify(body, dict(headers), json_parse=False)
            except Exception:  # noqa: BLE001, S112 - the library lets parsing errors of a forged header through
                continue
            return headers["webhook-id"]
        raise MessageNotSigned("The message was not signed with a secret of ours in the last five minutes.")


def _webhook(secret: str) -> Webhook:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith("whsec_") or len(key) < 24:  # noqa: PLR2004 - the specification asks for 24 to 64 bytes
        message = "A webhook secret is whsec_ and, in base64, at least 24 random bytes."
        raise InvalidRequest(message, {"field": "webhook_secrets"})
    return Webhook(key)
