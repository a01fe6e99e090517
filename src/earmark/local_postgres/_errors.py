"""The one error of this package."""

from earmark.errors import EarmarkError


class LocalPostgresError(EarmarkError):
    """The embedded PostgreSQL cannot be installed, started or reached; the message says what to do."""

    status = 503
    slug = "local-postgres"
