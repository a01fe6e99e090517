"""What a settlement's outcome means over HTTP: an answer, or the error to raise."""

from earmark.errors import AlreadySettled, InvalidRequest, NotFound, NotRefundable
from earmark.ledger.denial import exceeded
from earmark.model import Amounts, Settlement


def rolled_back(settlement: Settlement) -> tuple[str, Amounts]:
    """Whose quota came back and how much: nothing, when it had come back before, also where the rest was used.

    Raises:
        NotFound, AlreadySettled: As `checked`.
    """
    fine = {"rolled_back", "already_rolled_back"}
    if any(item.state == "rolled_back" for item in settlement.items.values()):
        fine |= {"already_committed", "already_refunded"}
    return checked(settlement, fine), settlement.returned


def refunded(settlement: Settlement) -> str:
    """Whose use came back, now or before.

    Raises:
        NotFound, AlreadySettled: As `checked`.
        NotRefundable: Nothing of it can come back.
    """
    if settlement.outcome in {"already_committed", "not_committed"}:
        why = {
            "already_committed": "The plan refunds none of the resources that were used.",
            "not_committed": "It is not committed yet: commit it, or roll it back.",
        }[settlement.outcome]
        raise NotRefundable(why, {"outcome": settlement.outcome, "subject": settlement.subject})
    return checked(settlement, {"refunded", "already_refunded"})


def checked(settlement: Settlement, fine: set[str]) -> str:
    """Whose it is, when the outcome is one of these.

    Raises:
        NotFound: There is no such reservation or item, or it is somebody else's.
        AlreadySettled: It ended otherwise before; `at`, `by` and `cause` say how.
        QuotaExceeded: It came late or was to grow, and there was no room left.
        InvalidRequest: More was used than was held.
    """
    if settlement.outcome == "not_found" or settlement.subject is None:
        raise NotFound("There is no such reservation.")
    if settlement.outcome in fine:
        return settlement.subject
    if settlement.outcome == "denied":
        raise exceeded(settlement.subject, settlement.short)
    if settlement.outcome == "exceeds_hold":
        raise InvalidRequest(
            "More cannot be committed than is held: ask for `grow`, or reserve the difference.", {"field": "amounts"}
        )
    raise _already(settlement)


def _already(settlement: Settlement) -> AlreadySettled:
    state = settlement.outcome.removeprefix("already_")
    settled = [(name, item) for name, item in settlement.items.items() if item.state == state]
    told: dict[str, object] = {"outcome": settlement.outcome, "state": state}
    if not settled:
        return AlreadySettled("It was settled before.", told)
    name, item = max(settled, key=lambda named: (named[1].at is not None, named[1].at))
    told |= {"item": name, "at": item.at, "by": item.by, "cause": item.cause}
    when = f" at {item.at.isoformat()}" if item.at else ""
    return AlreadySettled(f"It was {state.replace('_', ' ')} before,{when} by {item.by}.", told)
