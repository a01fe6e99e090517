"""Sign-in by bearer token: JWTs of our own secret or of an issuer's keys, verified and remembered until they expire."""

import hashlib
import math
import os
import secrets
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import Key, OctKey
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from earmark.errors import InvalidRequest, NotSignedIn
from earmark.http_api.caller import SUBJECT_LENGTH_MAX, Caller, Role
from earmark.http_api.key_set import KeySet

ALGORITHM = "HS256"
SECRET_BYTES_MIN = 32
"""RFC 7518, section 3.2: a key of the hash's size or larger."""
TOKEN_LENGTH_MAX = 8192
REMEMBERED_MAX = 4096


class SignIn:
    """Verifies and issues bearer tokens. For one event loop.

    `sub` is the subject; `role` is `authenticated`, also when absent, or `service_role`; `exp` and `nbf` are kept to
    the second. Other claims are ignored, `iss` and `aud` too where none is asked for. Which key a token is checked with
    follows from its algorithm, which must be one that is allowed for that key: HS256 is for the secret alone.

    Args:
        secret: At least 32 bytes; None: no token of our own is good.
        keys: Of an issuer; None: there is no other issuer.
        algorithms: What the issuer may sign with.
        issuer: What `iss` must be.
        audience: What `aud` must be, or hold.
        require_expiry: Refuse tokens without `exp`.
        now: Seconds since 1970.

    Raises:
        InvalidRequest: The secret is too short.
    """

    def __init__(
        self,
        secret: bytes | None,
        *,
        keys: KeySet | None = None,
        algorithms: Sequence[str] = (),
        issuer: str | None = None,
        audience: str | None = None,
        require_expiry: bool = True,
        now: Callable[[], float] = time.time,
    ) -> None:
        if secret is not None and len(secret) < SECRET_BYTES_MIN:
            raise InvalidRequest(
                f"the sign-in secret has {len(secret)} bytes; HS256 needs at least {SECRET_BYTES_MIN}",
                {"field": "jwt_secret"},
            )
        self._key = None if secret is None else OctKey.import_key(secret)
        self._keys = keys
        self._algorithms = frozenset(algorithms) - {ALGORITHM}
        self._issuer = issuer
        self._audience = audience
        self._require_expiry = require_expiry
        self._now = now
        self._remembered: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._remembered_with = 0

    @property
    def issues(self) -> bool:
        """Whether it can issue tokens, and not only verify those of somebody else."""
        return self._key is not None

    @property
    def fetches(self) -> bool:
        """Whether `prepare` has anything to do."""
        return self._keys is not None

    async def ready(self) -> None:
        """Returns when tokens can be verified.

        Raises:
            KeysUnavailable: The issuer's keys have not been had yet.
        """
        if self._keys is not None:
            await self._keys.ready()

    async def prepare(self, token: str) -> None:
        """Returns when what `verify` needs for this token is there, where it can be had."""
        if self._keys is None or len(token) > TOKEN_LENGTH_MAX or self._known(_digest(token)) is not None:
            return
        algorithm, kid = _head(token)
        if algorithm in self._algorithms:
            await self._keys.look_for(algorithm, kid)

    def verify(self, token: str) -> Caller:
        """The bearer of this token.

        Raises:
            NotSignedIn: It was not signed for us, is over, not valid yet, or lacks a claim.
            KeysUnavailable: The issuer's keys have not been had yet.
        """
        if len(token) > TOKEN_LENGTH_MAX:
            raise NotSignedIn("The token is too long.")
        digest = _digest(token)
        known = self._known(digest)
        if known is not None:
            return known
        caller, expires_at = self._checked(token)
        self._remembered[digest] = caller, expires_at
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
        return caller

    def issue(self, subject: str, role: str = Role.AUTHENTICATED, ttl: timedelta = timedelta(hours=12)) -> str:
        """A token for this subject, good for `ttl` from now.

        Raises:
            InvalidRequest: The subject could not be one, there is no such role, or tokens are another issuer's to make.
        """
        if self._key is None:
            raise InvalidRequest("tokens come from the issuer of EARMARK_JWKS_URL; set EARMARK_JWT_SECRET for our own")
        if not 1 <= len(subject) <= SUBJECT_LENGTH_MAX or "\0" in subject:
            raise InvalidRequest(
                f"subject must be a text of 1 to {SUBJECT_LENGTH_MAX} characters.", {"field": "subject"}
            )
        if role not in set(Role):
            raise InvalidRequest(f"role must be one of {', '.join(Role)}.", {"field": "role"})
        now = int(self._now())
        claims = {"sub": subject, "role": str(role), "iat": now, "exp": now + math.ceil(ttl.total_seconds())}
        claims |= {} if self._issuer is None else {"iss": self._issuer}
        claims |= {} if self._audience is None else {"aud": self._audience}
        return jwt.encode({"alg": ALGORITHM}, claims, self._key, algorithms=[ALGORITHM])

    def _known(self, digest: bytes) -> Caller | None:
        version = self._keys.version if self._keys is not None else 0
        if version != self._remembered_with:  # a key may have been withdrawn
            self._remembered.clear()
            self._remembered_with = version
        known = self._remembered.get(digest)
        if known is None:
            return None
        if self._now() < known[1]:
            self._remembered.move_to_end(digest)
            return known[0]
        del self._remembered[digest]
        return None

    def _key_of(self, algorithm: str, kid: str | None) -> Key:
        if algorithm == ALGORITHM and self._key is not None:
            return self._key
        if self._keys is not None and algorithm in self._algorithms:
            key = self._keys.find(algorithm, kid)
            if key is not None:
                return key
            self._keys.must_have_any()
        raise NotSignedIn("The token was not signed for this service.")

    def _checked(self, token: str) -> tuple[Caller, float]:
        algorithm, kid = _head(token)
        key = self._key_of(algorithm, kid)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SecurityWarning)  # EdDSA has a new name, and many use the old one
                claims = jwt.decode(token, key, algorithms=[algorithm]).claims
        except (JoseError, ValueError) as error:
            raise NotSignedIn("The token was not signed for this service.") from error
        self._check_parties(claims)
        now = self._now()
        if now < _moment(claims, "nbf", -math.inf):
            raise NotSignedIn("The token is not valid yet.")
        expires_at = _moment(claims, "exp", math.nan if self._require_expiry else math.inf)
        if math.isnan(expires_at):
            raise NotSignedIn("The token has no expiry (exp).")
        if now >= expires_at:
            raise NotSignedIn("The token has expired.")
        return Caller(_subject(claims), _role(claims)), expires_at

    def _check_parties(self, claims: Mapping[str, Any]) -> None:
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise NotSignedIn("The token is of another issuer (iss).")
        audience = claims.get("aud")
        if self._audience is not None and self._audience not in (
            audience if isinstance(audience, list) else [audience]
        ):
            raise NotSignedIn("The token is for another audience (aud).")


def has_secret(home: Path) -> bool:
    """Whether `load_or_create_secret` has been here."""
    return _secret_file(home).exists()


def load_or_create_secret(home: Path) -> bytes:
    """The secret kept in `home/secret`, made when there is none; everyone who asks at once gets the same.

    Raises:
        InvalidRequest: The file holds less than 32 bytes.
        OSError: It can be neither read nor made.
    """
    path = _secret_file(home)
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


def _secret_file(home: Path) -> Path:
    return home / "secret"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def _head(token: str) -> tuple[str, str | None]:
    """Algorithm and key id, as the token itself says: not to be believed yet."""
    try:
        head = jws.extract_compact(token.encode()).headers()
    except (JoseError, ValueError) as error:
        raise NotSignedIn("The token is not a signed JWT.") from error
    algorithm, kid = head.get("alg"), head.get("kid")
    return (algorithm if isinstance(algorithm, str) else ""), (kid if isinstance(kid, str) else None)


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


def bearer_token(authorization: str) -> str | None:
    """The token of an Authorization header, or None."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


class KeysAtHand:
    """ASGI middleware: has the issuer's keys looked up, where a request's token needs that, before it is verified."""

    def __init__(self, app: ASGIApp, sign_in: SignIn) -> None:
        self.app = app
        self.sign_in = sign_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything on."""
        if scope["type"] == "http":
            token = bearer_token(Headers(scope=scope).get("authorization", ""))
            if token is not None:
                with suppress(NotSignedIn):  # whoever asks for a token will say so
                    await self.sign_in.prepare(token)
        await self.app(scope, receive, send)
