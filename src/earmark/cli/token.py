"""What the bearer tokens of a configuration are verified with, and tokens for local use and for trying things out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from earmark.config import Settings
from earmark.errors import InvalidRequest
from earmark.http_api.key_set import KeySet
from earmark.http_api.sign_in import SECRET_BYTES_MIN, SignIn, has_secret, load_or_create_secret

TTL = timedelta(hours=12)


def secret_of(settings: Settings) -> bytes:
    """The secret that links and our own tokens are signed with: the configured one, or the home folder's own.

    Raises:
        InvalidRequest: It is too short.
    """
    if settings.jwt_secret is None:
        return load_or_create_secret(settings.home)
    secret = settings.jwt_secret.get_secret_value().encode()
    if len(secret) < SECRET_BYTES_MIN:
        raise InvalidRequest(f"EARMARK_JWT_SECRET has {len(secret)} bytes; it needs at least {SECRET_BYTES_MIN}")
    return secret


@asynccontextmanager
async def open_sign_in(settings: Settings) -> AsyncIterator[SignIn]:
    """What verifies the service's tokens: those of the issuer, where there is one, and those of our own secret.

    Raises:
        InvalidRequest: The secret is too short.
    """
    if settings.jwks_url is None:
        yield _sign_in(settings, None)
        return
    keys = KeySet(settings.jwks_url)
    try:
        yield _sign_in(settings, keys)
    finally:
        await keys.close()


def local_token(home: Path, subject: str, *, role: str = "authenticated", ttl: timedelta = TTL) -> str:
    """A token of this subject, signed with the secret of the configuration or of this home folder.

    Raises:
        InvalidRequest: The configuration leaves tokens to another issuer, or nothing was ever served from this folder.
    """
    settings = Settings(home=home)
    if settings.jwt_secret is None and settings.jwks_url is None and not has_secret(home):
        raise InvalidRequest(
            f"there is no secret in {home.absolute()}. Give the --home of the service, set EARMARK_HOME or "
            "EARMARK_JWT_SECRET, or start a new service with `earmark serve`."
        )
    return _sign_in(settings, None).issue(subject, role=role, ttl=ttl)


def _sign_in(settings: Settings, keys: KeySet | None) -> SignIn:
    # A secret that only lies in the home folder is no way in beside an issuer.
    ours = settings.jwks_url is None or settings.jwt_secret is not None
    return SignIn(
        secret_of(settings) if ours else None,
        keys=keys,
        algorithms=settings.jwt_algorithms,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )
