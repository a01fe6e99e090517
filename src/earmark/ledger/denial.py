"""The error that a denied reservation is, for whoever goes on as if it had been granted."""

from earmark.errors import QuotaExceeded
from earmark.model import Grant


def exceeded(subject: str, grant: Grant) -> QuotaExceeded:
    """What was missing, and with whom where it was not the subject himself."""
    short = ", ".join(
        f"{one.requested} {one.resource} with {one.remaining} left"
        + ("" if one.subject == subject else f" with {one.subject}")
        for one in grant.short
    )
    return QuotaExceeded(
        f"Quota of {subject} exceeded: {short}.",
        {
            "subject": subject,
            "short": [
                {"subject": one.subject, "resource": one.resource, "remaining": one.remaining} for one in grant.short
            ],
        },
    )
