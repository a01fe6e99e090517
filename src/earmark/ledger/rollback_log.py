"""One structured line per rollback, on the logger `earmark.rollback`: who, what, why, by whom, what triggered it."""

import logging
from collections.abc import Sequence
from uuid import UUID

from earmark.model import Amounts, Cause, Settlement
from earmark.observing import happened

_logger = logging.getLogger("earmark.rollback")


def log_rollback(
    subject: str, reservation: UUID, item: str, amounts: Amounts, cause: Cause, actor: str, trigger: str | None
) -> None:
    """One item was given back."""
    _logger.info(
        "rollback",
        extra={
            "subject": subject,
            "reservation": str(reservation),
            "item": item,
            "amounts": dict(amounts),
            "cause": Cause(cause).value,
            "actor": actor,
            "trigger": trigger,
        },
    )


def log_settlement(
    reservation: UUID,
    settlement: Settlement,
    cause: Cause,
    actor: str | None,
    reason: str | None,
    *,
    was_repeated: bool = False,
) -> None:
    """What a rollback by reservation did: a line per item, or one that says it was without effect.

    One that was repeated, as its answer was lost, finds done what it did itself.
    """
    done = set(settlement.done)
    if was_repeated:
        done |= {name for name, item in settlement.items.items() if (item.state, item.cause) == ("rolled_back", cause)}
    if not done:
        _logger.info(
            "rollback_without_effect",
            extra={
                "reservation": str(reservation),
                "outcome": settlement.outcome,
                "cause": Cause(cause).value,
                "actor": actor,
                "trigger": reason,
            },
        )
        return
    for name in sorted(done):
        item = settlement.items[name]
        log_rollback(settlement.subject or "", reservation, name, item.amounts, cause, item.by or "", reason)


def log_failed_rollback(
    target: UUID | None,
    cause: Cause,
    error: Exception,
    *,
    subject: str | None,
    items: Sequence[str] | None,
    actor: str | None,
) -> None:
    """A rollback could not be carried out; all that is needed to act."""
    happened("rollback_failed", cause=cause)
    _logger.error(
        "rollback_failed",
        extra={
            "subject": subject,
            "target": target and str(target),
            "items": items,
            "cause": Cause(cause).value,
            "actor": actor,
            "error": f"{type(error).__name__}: {error}".strip(),
            "action": "none needed: the quota returns at the deadline; sooner with `earmark rollback`",
        },
    )
