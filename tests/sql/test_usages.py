"""usages answers for many what usage answers for each."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from earmark import Cause, Ledger, UnknownSubject
from earmark.model import PlanQuota


def test_many_at_once_are_what_each_is_alone(ledger: Ledger, connection: psycopg.Connection, clock):
    counted = {"images": PlanQuota(5, "P1D", refundable=False), "credits": PlanQuota(-1, "P3M", refundable=True)}
    ledger.configure_plan("odd", quotas=counted)
    ledger.configure_plan("empty", quotas={})
    ledger.configure_subject("team", plan="pro")
    ledger.configure_subject("member", plan="free", parent="team")
    ledger.configure_subject("anchored", plan="odd", anchor=datetime(2020, 1, 31, 12, tzinfo=UTC))
    ledger.configure_subject("nothing", plan="empty")
    ledger.configure_subject("special", plan="pro", quotas={"images": 0, "storage_bytes": None})
    ledger.configure_subject("boundless", plan="pro", quotas={"images": -1})
    for subject, amounts in (
        ("member", {"images": 2, "storage_bytes": 9}),
        ("anchored", {"images": 3, "credits": 7}),
        ("boundless", {"images": 1000}),
        ("alice", {"images": 4}),
    ):
        kept = ledger.reserve(subject, amounts)
        ledger.reserve(subject, {"images": 1}, ttl=timedelta(seconds=30))
        ledger.commit(ledger.reserve(subject, {"images": 1}).id)
        assert kept
    ledger.rollback(ledger.reserve("alice", {"images": 1}).id, cause=Cause.CANCELLED)
    ledger.adjust("boundless", "images", 5, reason="test", actor="test")
    ledger.configure_subject("alice", quotas={"images": 2})
    clock.advance(60)  # so that some holds are overdue: they are not counted
    alice = ledger.usages(["alice"])["alice"].resources["images"]
    assert (alice.held, alice.committed, alice.over_by) == (4, 1, 3)
    subjects = ["team", "member", "anchored", "nothing", "special", "boundless", "alice", "a stranger"]
    for _ in range(2):
        assert ledger.usages([*subjects, "alice"]) == {name: ledger.usage(name) for name in subjects}
        clock.set(datetime(2027, 3, 31, 23, tzinfo=UTC))  # in periods of which nobody has used anything
    assert ledger.usages([]) == {}


def test_somebody_unknown_where_there_is_no_default_plan(ledger: Ledger, connection: psycopg.Connection):
    ledger.configure_subject("alice", plan="pro")
    connection.execute("DELETE FROM earmark._private_setting WHERE name = 'default_plan'")
    assert ledger.usages(["alice"])["alice"].plan == "pro"
    with pytest.raises(UnknownSubject):
        ledger.usages(["alice", "bob"])
