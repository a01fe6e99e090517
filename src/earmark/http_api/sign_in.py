"""Sign-in by bearer token: HS256 JWTs, verified, remembered until they expire, and issued for the command line."""

import hashlib
import math
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from earmark.errors import EarmarkError, InvalidRequest
from earmark.http_api.caller import SUBJECT_LENGTH_MAX, Caller, Role

ALGORITHM = "HS256"
SECRET_BYTES_MIN = 32
"""RFC 7518, section 3.2: a key of the hash's size or larger."""
TOKEN_LENGTH_MAX = 8192
REMEMBERED_MAX = 4096


class NotSignedIn(EarmarkError):  # noqa: N818 - named for what is wrong
    """A request without a token, or with one that does not hold.

    Attributes:
        token_given: Which of both.
    """

    status = 401
    slug = "not-signed-in"
    remedy = "Send `Authorization: Bearer <token>` with a token that is still good."

    def __init__(self, message: str, *, token_given: bool = True) -> None:
        super().__init__(message)
        self.token_given = token_given


class SignIn:
    """Verifies and issues bearer tokens. For one event loop.

    `sub` is the subject; `role` is `authenticated`, also when absent, or `service_role`; `exp` and `nbf` are kept to
    the second; the algorithm is HS256 whatever the token says. Other claims are ignored.

    Args:
        secret: At least 32 bytes.
        require_expiry: Refuse tokens without `exp`.
        now: Seconds since 1970.

    Raises:
        InvalidRequest: The secret is too short.
    """

    def __init__(self, secret: bytes, *, require_expiry: bool = True, now: Callable[[], float] = time.time) -> None:
        if len(secret) < SECRET_BYTES_MIN:
            raise InvalidRequest(
                f"the sign-in secret has {len(secret)} bytes; HS256 needs at least {SECRET_BYTES_MIN}",
                {"field": "jwt_secret"},
            )
        self._key = OctKey.import_key(secret)
        self._require_expiry = require_expiry
        self._now = now
        self._remembered: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()

    def verify(self, token: str) -> Caller:
        """The bearer of this token.

        Raises:
            NotSignedIn: It was not signed with our secret, is over, not valid yet, or lacks a claim.
        """
        if len(token) > TOKEN_LENGTH_MAX:
            raise NotSignedIn("The token is too long.")
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        known = self._remembered.get(digest)
        if known is not None and self._now() < known[1]:
            self._remembered.move_to_end(digest)
            return known[0]
        self._remembered.pop(digest, None)
        caller, expires_at = self._checked(token)
        self._remembered[digest] = caller, expires_at
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
        return caller

    def issue(self, subject: str, role: str = Role.AUTHENTICATED, ttl: timedelta = timedelta(hours=12)) -> str:
        """A token for this subject, good for `ttl` from now.

        Raises:
            InvalidRequest: The subject could not be one, or there is no such role.
        """
        if not 1 <= len(subject) <= SUBJECT_LENGTH_MAX or "\0" in subject:
            raise InvalidRequest(
                f"subject must be a text of 1 to {SUBJECT_LENGTH_MAX} characters.", {"field": "subject"}
            )
        if role not in set(Role):
            raise InvalidRequest(f"role must be one of {', '.join(Role)}.", {"field": "role"})
        now = int(self._now())
        claims = {"sub": subject, "role": str(role), "iat": now, "exp": now + math.ceil(ttl.total_seconds())}
        return jwt.encode({"alg": ALGORITHM}, claims, self._key, algorithms=[ALGORITHM])

    def _checked(self, token: str) -> tuple[Caller, float]:
        try:
            claims = jwt.decode(token, self._key, algorithms=[ALGORITHM]).claims
        except (JoseError, ValueError) as error:
            raise NotSignedIn("The token was not signed for this service.") from error
        now = self._now()
        if now < _moment(claims, "nbf", -math.inf):
            raise NotSignedIn("The token is not valid yet.")
        expires_at = _moment(claims, "exp", math.nan if self._require_expiry else math.inf)
        if math.isnan(expires_at):
            raise NotSignedIn("The token has no expiry (exp).")
        if now >= expires_at:
            raise NotSignedIn("The token has expired.")
        return Caller(_subject(claims), _role(claims)), expires_at


def load_or_create_secret(home: Path) -> bytes:
    """The secret kept in `home/secret`, made when there is none; everyone who asks at once gets the same.

    Raises:
        InvalidRequest: The file holds less than 32 bytes.
        OSError: It can be neither read nor made.
    """
    path = home / "secret"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        draft = home / f".secret-{secrets.token_hex(8)}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_hex(SECRET_BYTES_MIN).encode())
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):  # somebody else was first: his it is
                os.link(draft, path)
        finally:
            draft.unlink()
    secret = path.read_bytes().strip()
    if len(secret) < SECRET_BYTES_MIN:
        raise InvalidRequest(f"{path} holds {len(secret)} bytes; remove it, or write at least {SECRET_BYTES_MIN}")
    return secret


def _moment(claims: Mapping[str, Any], name: str, absent: float) -> float:
    value = claims.get(name, absent)
    if name not in claims:
        return absent
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:  # NaN too  # noqa: PLR2004
        raise NotSignedIn(f"The token's {name} is not a time.")
    return float(value)


def _subject(claims: Mapping[str, Any]) -> str:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= SUBJECT_LENGTH_MAX:
        raise NotSignedIn("The token names no subject (sub).")
    if "\0" in subject or not _is_utf8(subject):
        raise NotSignedIn("The token's subject holds a character that cannot be stored.")
    return subject


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _role(claims: Mapping[str, Any]) -> Role:
    try:
        return Role(claims.get("role", Role.AUTHENTICATED))
    except ValueError as error:
        raise NotSignedIn("The token's role is neither authenticated nor service_role.") from error
