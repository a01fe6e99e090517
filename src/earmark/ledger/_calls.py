"""The ledger's calls, without I/O: the SQL, its parameters, and the decoding of its rows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, LiteralString, TypeVar
from uuid import UUID

from earmark.errors import InvalidRequest, KeyConflict
from earmark.ledger._parameters import check_parameters, count_of, document, id_of, mapping_of, value_of, word_of
from earmark.model import (
    AdjustedLevel,
    Adjustment,
    AdjustmentBound,
    Amounts,
    Cause,
    Entry,
    Grant,
    Item,
    Late,
    Plan,
    PlanQuota,
    ReservationStory,
    ResourceUsage,
    Returned,
    Settlement,
    Shortage,
    Subject,
    Usage,
    UsageLevel,
)

T = TypeVar("T")
Row = tuple[Any, ...]
Json = dict[str, Any]
_QUOTAS = "{'images': 500}"

DEFAULT_TTL = timedelta(minutes=15)

BATCH_SQL: Mapping[str, LiteralString] = {
    "reserve": "SELECT outcome, reservation, expires_at, replayed, detail FROM earmark.reserve(%s::jsonb)"
    " ORDER BY ordinal",
    "commit": "SELECT outcome, subject, detail FROM earmark.commit(%s::jsonb) ORDER BY ordinal",
    "rollback": "SELECT outcome, subject, detail FROM earmark.rollback(%s::jsonb) ORDER BY ordinal",
    "refund": "SELECT outcome, subject, detail FROM earmark.refund(%s::jsonb) ORDER BY ordinal",
    "extend": "SELECT outcome, subject, detail FROM earmark.extend(%s::jsonb) ORDER BY ordinal",
    "adjust": "SELECT outcome, replayed, detail FROM earmark.adjust(%s::jsonb) ORDER BY ordinal",
}
"""The functions that take many requests at once and answer one row each, in order."""


@dataclass(frozen=True, slots=True)
class Batched(Generic[T]):
    """A request to one of the functions of BATCH_SQL; may be sent together with others of the same verb.

    The request is JSON text already: what cannot be written as such fails its own caller, not the whole batch.
    `lost` tells which reservation nobody could name, should the answer reach nobody.
    """

    verb: str
    request: str
    decode: Callable[[Row], T]
    lost: Callable[[T], UUID | None] | None = None


@dataclass(frozen=True, slots=True)
class Query(Generic[T]):
    """A call of its own."""

    sql: LiteralString
    parameters: tuple[object, ...]
    decode: Callable[[list[Row]], T]

    def __post_init__(self) -> None:
        check_parameters(self.parameters)


def batch_parameters(requests: Sequence[str]) -> tuple[str]:
    """The parameter of a batch function."""
    return (f"[{','.join(requests)}]",)


def reserve(
    subject: str, items: Mapping[str, Amounts], *, key: str | None, ttl: timedelta, actor: str | None
) -> Batched[Grant]:
    """A request to reserve; every item with its amounts."""
    request: Json = {
        "subject": _text("subject", subject),
        "items": _amounts_of_items(items),
        "ttl_seconds": _seconds(ttl),
    }
    return _batched(
        "reserve",
        with_given(request, key=_text("key", key), actor=_text("actor", actor)),
        _grant,
        _reservation_of if key is None else None,
    )


def commit(
    reservation: UUID,
    *,
    subject: str | None,
    items: Sequence[str] | Mapping[str, Amounts] | None,
    amounts: Amounts | None,
    late: Late,
    grow: bool,
    actor: str | None,
    reason: str | None,
) -> Batched[Settlement]:
    """A request to commit."""
    if isinstance(items, Mapping):
        items = _amounts_of_items(items)
    return _batched(
        "commit",
        _settle(
            reservation,
            subject,
            items,
            actor,
            reason,
            late=word_of("late", Late, late),
            amounts=amounts and _amounts(amounts),
            grow=grow or None,
        ),
        _settlement,
    )


def rollback(
    reservation: UUID,
    *,
    cause: Cause,
    subject: str | None,
    items: Sequence[str] | None,
    actor: str | None,
    reason: str | None,
) -> Batched[Settlement]:
    """A request to roll back."""
    request = _settle(reservation, subject, items, actor, reason, cause=word_of("cause", Cause, cause))
    return _batched("rollback", request, _settlement)


def refund(
    reservation: UUID, *, subject: str | None, items: Sequence[str] | None, actor: str | None, reason: str | None
) -> Batched[Settlement]:
    """A request to give back committed use."""
    return _batched("refund", _settle(reservation, subject, items, actor, reason), _settlement)


def extend(
    reservation: UUID,
    *,
    ttl: timedelta,
    subject: str | None,
    items: Sequence[str] | None,
    actor: str | None,
    reason: str | None,
) -> Batched[Settlement]:
    """A request to move the deadline."""
    return _batched(
        "extend", _settle(reservation, subject, items, actor, reason, ttl_seconds=_seconds(ttl)), _settlement
    )


def adjust(
    subject: str, resource: str, amount: int, *, reason: str, actor: str, key: str | None
) -> Batched[Adjustment]:
    """A request to correct committed use."""
    texts = {"subject": subject, "resource": resource, "reason": reason, "actor": actor, "key": key}
    request = with_given({"amount": amount}, **{field: _text(field, value) for field, value in texts.items()})
    return _batched("adjust", request, _adjustment)


def rollback_newest(
    subject: str, resource: str, max_amount: int, *, cause: Cause, actor: str | None, reason: str | None
) -> Query[tuple[Returned, ...]]:
    """The count form of rollback."""
    return Query(
        "SELECT reservation, item, returned FROM earmark.rollback_newest(%s, %s, %s, %s, %s, %s)",
        (
            _text("subject", subject),
            _text("resource", resource),
            value_of("max_amount", int, max_amount),
            word_of("cause", Cause, cause),
            _text("actor", actor),
            _text("reason", reason),
        ),
        lambda rows: tuple(Returned(*row) for row in rows),
    )


def usage(subject: str) -> Query[Usage]:
    """What a subject may use and uses."""

    def decode(rows: list[Row]) -> Usage:
        return Usage(str(subject), rows[0][0], rows[0][1], {row[2]: ResourceUsage(*row[3:]) for row in rows if row[2]})

    return Query(
        "SELECT plan, features, resource, quota_limit, committed, held, used, remaining, over_by, period, "
        "period_start, period_end FROM earmark.usage(%s)",
        (_text("subject", subject),),
        decode,
    )


def usages(subjects: Sequence[str]) -> Query[dict[str, Usage]]:
    """What many subjects may use and use."""

    def decode(rows: list[Row]) -> dict[str, Usage]:
        found: dict[str, tuple[str, Json, dict[str, ResourceUsage]]] = {}
        for holder, plan, features, resource, *figures in rows:
            _, _, resources = found.setdefault(holder, (plan, features, {}))
            if resource:
                resources[resource] = ResourceUsage(*figures)
        return {holder: Usage(holder, *known) for holder, known in found.items()}

    _refuse_one_text("subjects", subjects)
    return Query(
        "SELECT subject, plan, features, resource, quota_limit, committed, held, used, remaining, over_by, period, "
        "period_start, period_end FROM earmark.usages(%s)",
        ([_text("subjects", subject) for subject in subjects],),
        decode,
    )


def usage_levels(subject: str) -> Query[tuple[UsageLevel, ...]]:
    """What a subject and those above him may use and use."""
    return Query(
        "SELECT holder, plan, resource, quota_limit, committed, held, used, remaining, over_by, period, "
        "period_start, period_end FROM earmark.usage_levels(%s)",
        (_text("subject", subject),),
        levels_of,
    )


def subject(subject: str) -> Query[Subject]:
    """What is set for a subject."""

    def decode(rows: list[Row]) -> Subject:
        plan, parent, ancestors, *rest = rows[0]
        return Subject(str(subject), plan, parent, tuple(ancestors), *rest)

    return Query(
        "SELECT plan, parent, ancestors, anchor, quotas, registered_at FROM earmark.subject(%s)",
        (_text("subject", subject),),
        decode,
    )


def history(subject: str, *, before: int | None, limit: int) -> Query[tuple[Entry, ...]]:
    """A page of the journal, newest first."""
    return Query(
        "SELECT seq, at, kind, resource, period_start, reservation, item, committed, held, cause, actor, reason "
        "FROM earmark.history(%s, %s, %s)",
        (_text("subject", subject), value_of("before", int, before), count_of("limit", limit)),
        lambda rows: tuple(entry_of(row) for row in rows),
    )


def reservation(reservation: UUID, *, subject: str | None) -> Query[ReservationStory | None]:
    """A reservation as it stands."""

    def decode(rows: list[Row]) -> ReservationStory | None:
        if not rows:
            return None
        owner, key, created_at = rows[0][:3]
        return ReservationStory(reservation, owner, key, created_at, items_of(row[3:] for row in rows))

    return Query(
        "SELECT subject, key, created_at, item, resource, amount, committed, state, cause, settled_at, settled_by, "
        "expires_at FROM earmark.reservation(%s, %s)",
        (id_of("reservation", reservation), _text("subject", subject)),
        decode,
    )


def plans() -> Query[tuple[Plan, ...]]:
    """All plans."""

    def decode(rows: list[Row]) -> tuple[Plan, ...]:
        found: dict[str, Plan] = {}
        for name, features, resource, *quota in rows:
            plan = found.get(name, Plan(name, features, {}))
            quotas = {**plan.quotas, resource: PlanQuota(*quota)} if resource else plan.quotas
            found[name] = Plan(name, features, quotas)
        return tuple(found.values())

    return Query("SELECT plan, features, resource, quota_limit, period, refundable FROM earmark.plans()", (), decode)


def configure_plan(
    plan: str, *, features: Mapping[str, object] | None, quotas: Mapping[str, PlanQuota | int], actor: str | None
) -> Query[None]:
    """Create or change a plan."""
    counted = {resource: _counted(quota) for resource, quota in mapping_of("quotas", quotas, _QUOTAS).items()}
    return Query(
        "SELECT earmark.configure_plan(%s, %s::jsonb, %s::jsonb, %s)",
        (
            _text("plan", plan),
            None if features is None else document(mapping_of("features", features, "{'max_bulk_upload': 20}")),
            document(counted),
            _text("actor", actor),
        ),
        lambda _: None,
    )


def configure_subject(
    subject: str,
    *,
    plan: str | None,
    quotas: Mapping[str, int | None],
    anchor: datetime | None,
    parent: str | None,
    actor: str | None,
) -> Query[None]:
    """Register or change a subject."""
    return Query(
        "SELECT earmark.configure_subject(%s, %s, %s::jsonb, %s, %s, %s)",
        (
            _text("subject", subject),
            _text("plan", plan),
            document(mapping_of("quotas", quotas, _QUOTAS)),
            _moment("anchor", anchor),
            _text("parent", parent),
            _text("actor", actor),
        ),
        lambda _: None,
    )


def _settle(
    reservation: UUID,
    subject: str | None,
    items: Sequence[str] | Mapping[str, Amounts] | None,
    actor: str | None,
    reason: str | None,
    **more: object,
) -> Json:
    _refuse_one_text("items", items)
    named = None if items is None else dict(items) if isinstance(items, Mapping) else list(items)
    texts = {"subject": subject, "actor": actor, "reason": reason}
    return with_given(
        {"reservation": str(reservation)},
        items=named,
        **{name: _text(name, text) for name, text in texts.items()},
        **more,
    )


def _amounts_of_items(items: Mapping[str, Amounts]) -> dict[str, dict[str, int]]:
    named = mapping_of("items", items, "{'1': {'images': 1}}")
    return {item: _amounts(amounts) for item, amounts in named.items()}


def _amounts(amounts: Amounts) -> dict[str, int]:
    return mapping_of("amounts", amounts, "{'images': 1}")


def _counted(quota: PlanQuota | int) -> Json:
    if not isinstance(quota, PlanQuota):
        quota = PlanQuota(quota)
    return {"quota": quota.quota_limit, "period": quota.period, "refundable": quota.refundable}


def _batched(
    verb: str, request: Json, decode: Callable[[Row], T], lost: Callable[[T], UUID | None] | None = None
) -> Batched[T]:
    return Batched(verb, document(request), decode, lost)


def with_given(request: Json, **optional: object) -> Json:
    """A request with those of these that are given."""
    return request | {name: value for name, value in optional.items() if value is not None}


def _refuse_one_text(field: str, names: object) -> None:
    if isinstance(names, str):
        raise InvalidRequest(f"{field} must be a sequence of names, not one text.", {"field": field})


def _text(field: str, value: str | None) -> str | None:
    return value_of(field, str, value)


def _moment(field: str, value: datetime | None) -> datetime | None:
    return value_of(field, datetime, value)


def _seconds(ttl: timedelta) -> float | None:
    duration = value_of("ttl", timedelta, ttl)
    return None if duration is None else duration.total_seconds()


def levels_of(rows: Iterable[Row]) -> tuple[UsageLevel, ...]:
    """Holders and their figures, from rows of `usage_levels`."""
    found: dict[str, UsageLevel] = {}
    for holder, plan, resource, *figures in rows:
        known = found.get(holder, UsageLevel(holder, plan, {}))
        resources = {**known.resources, resource: ResourceUsage(*figures)} if resource else known.resources
        found[holder] = UsageLevel(holder, plan, resources)
    return tuple(found.values())


def items_of(rows: Iterable[Row]) -> dict[str, Item]:
    """Items by name, from rows of item, resource, amount, committed, state, cause, when and by whom, and deadline."""
    items: dict[str, Item] = {}
    for name, resource, amount, committed, state, cause, at, by, expires_at in rows:
        known = items.get(name)
        amounts = {**(known.amounts if known else {}), resource: amount}
        settled = {**(known.committed if known else {}), resource: committed}
        items[name] = Item(state, _cause(cause), at, by, expires_at, amounts, settled)
    return items


def entry_of(row: Row) -> Entry:
    """An entry of the journal."""
    return Entry(*[*row[:9], _cause(row[9]), *row[10:]])


def _cause(value: str | None) -> Cause | None:
    return None if value is None else Cause(value)


def shortages_of(detail: Json | None) -> tuple[Shortage, ...]:
    """What was missing, from the detail of a denial."""
    return tuple(Shortage(**shortage) for shortage in (detail or {}).get("short", ()))


def _grant(row: Row) -> Grant:
    outcome, reservation, expires_at, replayed, detail = row
    _refuse_conflict(outcome, detail)
    return Grant(outcome, reservation, expires_at, replayed, shortages_of(detail))


def _reservation_of(grant: Grant) -> UUID | None:
    return grant.reservation


def _adjustment(row: Row) -> Adjustment:
    outcome, replayed, detail = row
    _refuse_conflict(outcome, detail)
    levels = tuple(AdjustedLevel(**level) for level in detail["levels"])
    return Adjustment(outcome, replayed, levels, tuple(AdjustmentBound(**bound) for bound in detail.get("short", ())))


def _refuse_conflict(outcome: str, detail: Json) -> None:
    if outcome == "conflict":
        raise KeyConflict(
            f"This key was used before for a different request; it differs in {', '.join(detail['differs'])}.", detail
        )


def _settlement(row: Row) -> Settlement:
    outcome, subject, detail = row
    done = tuple(detail["done"])
    stories = [detail["items"][name] for name in done]
    returned = _sum(story["returned"] for story in stories)
    committed = _sum(story["committed"] for story in stories if story["state"] == "committed")
    items = {name: _item(story) for name, story in detail["items"].items()}
    return Settlement(outcome, subject, returned, committed, items, done, shortages_of(detail))


def _sum(many: Iterable[Amounts]) -> Amounts:
    total: dict[str, int] = {}
    for amounts in many:
        for resource, amount in amounts.items():
            total[resource] = total.get(resource, 0) + amount
    return total


def _item(story: Json) -> Item:
    return Item(
        story["state"],
        _cause(story["cause"]),
        story["at"] and datetime.fromisoformat(story["at"]),
        story["by"],
        datetime.fromisoformat(story["expires_at"]),
        story["amounts"],
        story["committed"],
    )
