"""The error that a denial is: for whoever goes on as if it had been granted, and over HTTP."""

from collections.abc import Sequence
from dataclasses import asdict

from earmark.errors import QuotaExceeded
from earmark.model import Shortage


def exceeded(subject: str, short: Sequence[Shortage], *, replayed: bool = False) -> QuotaExceeded:
    """What was missing, and with whom where it was not the subject himself.

    The numbers at the top of its detail are those of the first resource it was short of.
    """
    missing = ", ".join(
        f"{one.requested} {one.resource} with {one.remaining} left"
        + ("" if one.subject == subject else f" with {one.subject}")
        for one in short
    )
    members = [asdict(one) for one in short]
    told = {**members[0], "subject": subject, "short": members, **({"replayed": True} if replayed else {})}
    then = " when this key was first used; another key asks anew" if replayed else ""
    return QuotaExceeded(f"Quota of {subject} exceeded: {missing}{then}.", told)
