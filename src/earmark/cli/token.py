"""Bearer tokens for local use and for trying things out."""

from datetime import timedelta
from pathlib import Path

from earmark.config import Settings
from earmark.http_api.sign_in import SignIn, load_or_create_secret

TTL = timedelta(hours=12)


def secret_of(settings: Settings) -> bytes:
    """The secret that tokens are signed with: the configured one, or the home folder's own."""
    if settings.jwt_secret is not None:
        return settings.jwt_secret.get_secret_value().encode()
    return load_or_create_secret(settings.home)


def local_token(home: Path, subject: str, *, role: str = "authenticated", ttl: timedelta = TTL) -> str:
    """A token of this subject, signed with the secret of the configuration or of this home folder."""
    return SignIn(secret_of(Settings(home=home))).issue(subject, role=role, ttl=ttl)
