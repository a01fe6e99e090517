"""The two calls that tell what happened, in JSON documents, and their decoding."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from earmark.ledger._calls import Json, Query, Row, items_of, levels_of, shortages_of
from earmark.ledger._parameters import count_of, id_of, value_of
from earmark.model import Cause, Change, Configured, Entry, Explanation, OpenItem, Story, StoryImage

_LEVEL = (
    "holder", "plan", "resource", "quota_limit", "committed", "held", "used", "remaining", "over_by", "period",
    "period_start", "period_end",
)  # fmt: skip
_HOLD = ("item", "resource", "amount", "committed", "state", "cause", "settled_at", "settled_by", "expires_at")
_TYPES: Mapping[str, Callable[[Any], object]] = {
    **dict.fromkeys(("reservation", "image"), UUID),
    **dict.fromkeys(
        ("at", "since", "created_at", "updated_at", "expires_at", "settled_at", "period_start", "period_end"),
        datetime.fromisoformat,
    ),
    "cause": Cause,
}
"""What stands in the JSON documents of `explain` and `story` as text."""


def explain(subject: str, *, max_items: int, max_changes: int) -> Query[Explanation]:
    """Why a subject's quota is what it is."""

    def decode(rows: list[Row]) -> Explanation:
        told = rows[0][0]
        levels = levels_of([tuple(_typed(level)[name] for name in _LEVEL) for level in told["levels"]])
        changes = tuple(Change(**_typed(change)) for change in told["changes"])
        found = tuple(OpenItem(**_by_somebody(one)) for one in told["open"])
        configured = tuple(Configured(**_by_somebody(one)) for one in told["configured"])
        return Explanation(str(subject), levels, found, told["open_total"], configured, changes)

    counts = count_of("max_items", max_items), count_of("max_changes", max_changes)
    return Query("SELECT earmark.explain(%s, %s, %s)", (value_of("subject", str, subject), *counts), decode)


def story(about: UUID, *, subject: str | None) -> Query[Story | None]:
    """What became of a reservation or an image."""

    def decode(rows: list[Row]) -> Story | None:
        if rows[0][0] is None:
            return None
        told = _typed(rows[0][0])
        return Story(
            told["reservation"],
            told["subject"],
            told["key"],
            told["outcome"],
            shortages_of(told),
            told["created_at"],
            items_of(tuple(_typed(hold)[name] for name in _HOLD) for hold in told["holds"]),
            tuple(StoryImage(**_typed(image)) for image in told["images"]),
            _entries(told["entries"]),
        )

    return Query("SELECT earmark.story(%s, %s)", (id_of("about", about), value_of("subject", str, subject)), decode)


def _typed(told: Json) -> Json:
    """A JSON object with its values as what their names say they are."""
    return {name: value if value is None else _TYPES.get(name, _same)(value) for name, value in told.items()}


def _by_somebody(told: Json) -> Json:
    typed = _typed(told)
    return {"by": typed.pop("actor"), **typed}


def _entries(told: Iterable[Json]) -> tuple[Entry, ...]:
    return tuple(Entry(**_typed(entry)) for entry in told)


def _same(value: object) -> object:
    return value
