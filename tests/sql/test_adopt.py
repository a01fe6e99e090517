"""Use that was counted elsewhere comes in once, whole batches or nothing, and stands in the journal."""

import psycopg
import pytest

from earmark import InvalidRequest, Ledger, UnknownPlan, UnknownResource, UnknownSubject
from earmark.model import Adopted, Counted, PlanQuota

MANNERS = {"key": "legacy", "reason": "moved from counters", "actor": "operator"}


def adopt(ledger, *counted, **more):
    return [answer.outcome for answer in ledger.adopt(counted, **{**MANNERS, **more})]


def used(ledger, subject, resource="images"):
    return ledger.usage(subject).resources[resource].committed


def test_use_plans_and_limits_come_in_and_are_journaled(ledger: Ledger):
    outcomes = adopt(
        ledger,
        Counted("a", "images", 7),
        Counted("a", "storage_bytes", 900, plan="free", quota_limit=-1),
        Counted("b", "images", 12, plan="free", quota_limit=5),
        Counted("c", "images", 0, plan="enterprise"),
    )
    assert outcomes == ["adopted", "adopted", "adopted", "nothing"]
    a, b, c = (ledger.usage(subject) for subject in "abc")
    assert (a.plan, a.resources["images"].committed, a.resources["storage_bytes"].quota_limit) == ("free", 7, -1)
    assert (b.resources["images"].committed, b.resources["images"].over_by) == (12, 7)
    assert (c.plan, c.resources["images"].used) == ("enterprise", 0)
    (entry,) = ledger.history("b")
    assert (entry.kind, entry.committed, entry.actor, entry.reason) == ("adjust", 12, "operator", "moved from counters")


def test_under_its_key_each_is_adopted_once(ledger: Ledger):
    first = Counted("a", "images", 7)
    assert adopt(ledger, first) == ["adopted"]
    assert adopt(ledger, first, Counted("a", "storage_bytes", 5)) == ["already_adopted", "adopted"]
    assert (used(ledger, "a"), used(ledger, "a", "storage_bytes")) == (7, 5)
    assert adopt(ledger, first, key="another import") == ["adopted"]
    assert used(ledger, "a") == 14


def test_another_amount_under_the_key_stops_the_whole_batch(ledger: Ledger):
    adopt(ledger, Counted("a", "images", 7))
    answers = ledger.adopt([Counted("b", "images", 1, plan="free"), Counted("a", "images", 8)], **MANNERS)
    assert answers == (Adopted("adopted"), Adopted("conflict", ("amount",)))
    assert [answer.refused for answer in answers] == [False, True]
    assert (used(ledger, "a"), used(ledger, "b"), ledger.usage("b").plan) == (7, 0, "pro")


def test_more_than_64_bits_is_denied(ledger: Ledger):
    adopt(ledger, Counted("a", "images", 2**63 - 1))
    assert adopt(ledger, Counted("b", "images", 1), Counted("a", "images", 1), key="k") == ["adopted", "denied"]
    assert used(ledger, "b") == 0


def test_a_dry_run_leaves_no_trace(ledger: Ledger, connection):
    rows = [Counted("a", "images", 7, plan="free", quota_limit=3), Counted("b", "images", 0)]
    assert adopt(ledger, *rows, dry_run=True) == ["adopted", "nothing"]
    assert connection.execute("SELECT count(*) FROM earmark._private_subject").fetchone() == (0,)
    assert adopt(ledger, *rows) == ["adopted", "nothing"]
    assert adopt(ledger, *rows, dry_run=True) == ["already_adopted", "already_adopted"]


def test_a_repeat_leaves_what_was_configured_since(ledger: Ledger):
    """Of those who had used nothing, too."""
    rows = [
        Counted("a", "images", 5, plan="free", quota_limit=20),
        Counted("b", "images", 0, plan="free", quota_limit=20),
    ]
    assert adopt(ledger, *rows) == ["adopted", "nothing"]
    for subject in "ab":
        ledger.configure_subject(subject, plan="pro", quotas={"images": None})
    more = [Counted("a", "storage_bytes", 7, quota_limit=9), Counted("c", "images", 0, plan="free")]
    assert adopt(ledger, *rows, *more) == ["already_adopted", "already_adopted", "adopted", "nothing"]
    for subject in "ab":
        usage = ledger.usage(subject)
        assert (usage.plan, usage.resources["images"].quota_limit) == ("pro", 500)
    assert ledger.usage("a").resources["storage_bytes"].quota_limit == 9
    assert ledger.usage("c").plan == "free"


def test_a_repeat_needs_nothing_of_the_plan_that_came_since(ledger: Ledger):
    rows = [Counted("a", "images", 5), Counted("b", "images", 0)]
    adopt(ledger, *rows)
    ledger.configure_plan("bytes", quotas={"storage_bytes": PlanQuota(9, "lifetime", refundable=True)})
    for subject in "ab":
        ledger.configure_subject(subject, plan="bytes")
    assert adopt(ledger, *rows) == ["already_adopted"] * 2


@pytest.mark.parametrize(("before", "now"), [(0, 3), (3, 0)])
def test_nothing_is_an_amount_like_others(ledger: Ledger, before: int, now: int):
    adopt(ledger, Counted("a", "images", before))
    assert ledger.adopt([Counted("a", "images", now)], **MANNERS) == (Adopted("conflict", ("amount",)),)
    assert used(ledger, "a") == before
    assert ledger.adopt([Counted("a", "images", before)], **{**MANNERS, "reason": "other"}) == (
        Adopted("conflict", ("reason",)),
    )


def test_who_had_used_nothing_can_join_another_tree_and_is_known_there(ledger: Ledger):
    ledger.configure_subject("team", plan="enterprise")
    rows = [Counted("a", "images", 0, plan="free")]
    adopt(ledger, *rows)
    ledger.configure_subject("a", plan="pro", parent="team")
    assert adopt(ledger, *rows) == ["already_adopted"]
    assert ledger.usage("a").plan == "pro"


@pytest.mark.parametrize(
    ("rows", "error", "message", "where"),
    [
        ([Counted("a", "images", -1)], InvalidRequest, "whole number from 0", {"resource": "images"}),
        ([Counted("", "images", 1)], InvalidRequest, "subject must be", {"field": "subject"}),
        ([Counted("a", "images", 1)] * 2, InvalidRequest, "named twice", {"subject": "a", "resource": "images"}),
        ([Counted("a", "gold", 1)], UnknownResource, "does not count gold", {"subject": "a", "resource": "gold"}),
        ([Counted("a", "gold", 0)], UnknownResource, "does not count gold", {"subject": "a", "resource": "gold"}),
        ([Counted("a", "images", 1, plan="gold")], UnknownPlan, "no plan", {"subject": "a", "plan": "gold"}),
        (
            [Counted("a", "images", 1, plan="pro"), Counted("a", "storage_bytes", 1, plan="free")],
            InvalidRequest,
            "two plans",
            {"subject": "a"},
        ),
        ([Counted("a", "images", 1, quota_limit=-2)], InvalidRequest, "whole number from -1", {"resource": "images"}),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_said_clearly(ledger: Ledger, rows, error, message, where):
    with pytest.raises(error, match=message) as caught:
        adopt(ledger, Counted("good", "images", 1), *rows)
    assert caught.value.detail.items() >= where.items()
    assert used(ledger, "good") == 0


@pytest.mark.parametrize("manner", [{"key": ""}, {"key": "k" * 101}, {"reason": " "}, {"actor": ""}])
def test_it_says_under_which_key_why_and_by_whom(ledger: Ledger, manner):
    with pytest.raises(InvalidRequest):
        adopt(ledger, Counted("a", "images", 1), **manner)


def test_without_a_default_plan_a_newcomer_needs_one(ledger: Ledger, connection):
    connection.execute("DELETE FROM earmark._private_setting WHERE name = 'default_plan'")
    with pytest.raises(UnknownSubject):
        adopt(ledger, Counted("a", "images", 1))
    assert adopt(ledger, Counted("a", "images", 1, plan="free"), Counted("a", "storage_bytes", 1)) == ["adopted"] * 2


def test_it_counts_for_those_above_him_too(ledger: Ledger):
    ledger.configure_subject("team", plan="enterprise")
    ledger.configure_subject("a", plan="pro", parent="team")
    adopt(ledger, Counted("a", "images", 7))
    assert (used(ledger, "a"), used(ledger, "team")) == (7, 7)


def test_a_user_cannot_adopt(database):
    with psycopg.connect(database) as connection:
        connection.execute("SELECT set_config('request.jwt.claims', '{\"sub\": \"a\"}', true)")
        with pytest.raises(psycopg.Error, match="name yourself"):
            connection.execute("SELECT * FROM earmark.adopt('[]', 'k', 'r', 'a')")
