"""What callers hand to the ledger: a value of another kind is refused by its name, before anything is done."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from earmark import Cause, InvalidRequest, Ledger
from earmark.model import Counted

WRONG: dict[str, tuple[str, Callable[[Ledger], object]]] = {
    "subject": ("a text", lambda ledger: ledger.usage(42)),
    "subject to reserve": ("subject", lambda ledger: ledger.reserve(42, {"images": 1})),
    "subjects": ("a text", lambda ledger: ledger.usages([42])),
    "subjects, one text": ("a sequence of names", lambda ledger: ledger.usages("abc")),
    "ttl": ("a timedelta", lambda ledger: ledger.reserve("a", {"images": 1}, ttl=900)),
    "ttl to extend": ("a timedelta", lambda ledger: ledger.extend(uuid4(), ttl=900)),
    "max_amount, a float": ("a whole number", lambda ledger: ledger.rollback_newest("a", "images", 1.0)),
    "max_amount, a bool": ("a whole number", lambda ledger: ledger.rollback_newest("a", "images", max_amount=True)),
    "max_amount, a text": ("a whole number", lambda ledger: ledger.rollback_newest("a", "images", "1")),
    "before": ("a whole number", lambda ledger: ledger.history("a", before=1.5)),
    "actor": ("a text", lambda ledger: ledger.configure_subject("a", plan="pro", actor=5)),
    "parent": ("a text", lambda ledger: ledger.configure_subject("a", plan="pro", parent=5)),
    "anchor, a date": ("time zone", lambda ledger: ledger.configure_subject("a", anchor=date(2026, 1, 31))),
    "anchor, a text": ("time zone", lambda ledger: ledger.configure_subject("a", anchor="2026-01-31")),
    "anchor, naive": ("time zone", lambda ledger: ledger.configure_subject("a", anchor=datetime(2026, 1, 31))),  # noqa: DTZ001
    "since": ("time zone", lambda ledger: ledger.use_over_time("a", since="2026-01-31", points=2)),
    "since of all": ("time zone", lambda ledger: ledger.rollbacks_over_time(since=date(2026, 1, 31))),
    "before of prune": ("time zone", lambda ledger: ledger.prune_settled("2026-01-31")),
    "reservations": ("a timedelta", lambda ledger: ledger.configure_retention(reservations=90, journal=None)),
    "resource": ("a text", lambda ledger: ledger.adjust("a", 1, 1, reason="r", actor="b")),
    "key": ("a text", lambda ledger: ledger.adopt([Counted("a", "images", 1)], key=1, reason="r", actor="b")),
    "amounts": ("such as {'images': 1}", lambda ledger: ledger.reserve("a", 5)),
    "amounts of an item": ("such as {'images': 1}", lambda ledger: ledger.reserve("a", items={"1": 5})),
    "amounts of a commit": ("such as {'images': 1}", lambda ledger: ledger.commit(uuid4(), amounts=5)),
    "items": ("a mapping", lambda ledger: ledger.reserve("a", items=["one", "two"])),
    "quotas of a plan": ("such as {'images': 500}", lambda ledger: ledger.configure_plan("pro", quotas=["images"])),
    "quotas": ("such as {'images': 500}", lambda ledger: ledger.configure_subject("a", quotas=7)),
    "features": ("a mapping", lambda ledger: ledger.configure_plan("pro", features=["max_bulk_upload"])),
    "about": ("a UUID", lambda ledger: ledger.story("nothing")),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_value_of_another_kind_is_refused_by_name(ledger: Ledger, name: str) -> None:
    what, call = WRONG[name]
    with pytest.raises(InvalidRequest, match=what) as caught:
        call(ledger)
    assert name.startswith(caught.value.detail.get("field", name))


def test_a_uuid_is_a_name(ledger: Ledger) -> None:
    """Many users' ids are."""
    user: Any = uuid4()
    ledger.configure_subject(user, plan="pro", anchor=datetime(2026, 1, 31, tzinfo=UTC), actor=user)
    held = ledger.reserve(user, {"images": 2}, key=user, ttl=timedelta(hours=1))
    assert held.grant.reservation
    assert ledger.reservation(held.id, subject=user)
    assert ledger.extend(held.id, ttl=timedelta(hours=2), subject=user).outcome == "extended"
    assert ledger.rollback(held.id, cause=Cause.ADMIN, subject=user, actor=user).outcome == "rolled_back"
    assert ledger.adjust(user, "images", 1, reason="r", actor=user).outcome == "adjusted"
    assert ledger.usage(user) == ledger.usages([user])[str(user)]
    assert ledger.subject(user).plan == "pro"
    assert ledger.history(user)[0].actor == str(user)
    assert ledger.explain(user, max_items=1, max_changes=1).levels[0].subject == str(user)
    assert ledger.rollback_newest(user, "images", 1) == ()
    assert ledger.verify(user) == ()
