"""Bearer tokens for local use and for trying things out."""

from datetime import timedelta
from pathlib import Path

from earmark.config import Settings
from earmark.errors import InvalidRequest
from earmark.http_api.sign_in import SECRET_BYTES_MIN, SignIn, load_or_create_secret

TTL = timedelta(hours=12)


def secret_of(settings: Settings) -> bytes:
    """The secret that tokens are signed with: the configured one, or the home folder's own.

    Raises:
        InvalidRequest: It is too short.
    """
    if settings.jwt_secret is None:
        return load_or_create_secret(settings.home)
    secret = settings.jwt_secret.get_secret_value().encode()
    if len(secret) < SECRET_BYTES_MIN:
        raise InvalidRequest(f"EARMARK_JWT_SECRET has {len(secret)} bytes; it needs at least {SECRET_BYTES_MIN}")
    return secret


def local_token(home: Path, subject: str, *, role: str = "authenticated", ttl: timedelta = TTL) -> str:
    """A token of this subject, signed with the secret of the configuration or of this home folder."""
    return SignIn(secret_of(Settings(home=home))).issue(subject, role=role, ttl=ttl)
