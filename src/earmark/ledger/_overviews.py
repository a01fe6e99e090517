"""The calls behind an operator's view of many subjects or much time, and the decoding of their rows."""

from datetime import datetime
from typing import Literal

from earmark.ledger._calls import Query
from earmark.ledger._parameters import count_of, value_of
from earmark.model import Cause, FoundSubject, RollbacksAt, UseAt


def subjects_like(part: str, *, limit: int) -> Query[tuple[FoundSubject, ...]]:
    """Subjects by a part of their name."""
    return Query(
        "SELECT subject, plan, parent FROM earmark.subjects_like(%s, %s)",
        (value_of("part", str, part), count_of("limit", limit)),
        lambda rows: tuple(FoundSubject(*row) for row in rows),
    )


def use_over_time(subject: str, *, since: datetime, points: int) -> Query[tuple[UseAt, ...]]:
    """What a subject used, moment by moment."""
    return Query(
        "SELECT resource, at, committed, held FROM earmark.use_over_time(%s, %s, %s)",
        (value_of("subject", str, subject), value_of("since", datetime, since), count_of("points", points)),
        lambda rows: tuple(UseAt(*row) for row in rows),
    )


def rollbacks_over_time(*, since: datetime, step: Literal["hour", "day"]) -> Query[tuple[RollbacksAt, ...]]:
    """How much was rolled back, hour by hour or day by day."""
    return Query(
        "SELECT at, causes FROM earmark.rollbacks_over_time(%s, %s)",
        (value_of("since", datetime, since), value_of("step", str, step)),
        lambda rows: tuple(
            RollbacksAt(at, {Cause(cause): items for cause, items in causes.items()}) for at, causes in rows
        ),
    )
