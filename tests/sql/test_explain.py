"""Why a subject's quota is what it is, and what became of a reservation or an image: as data, and in words."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from earmark import Cause, Forbidden, InvalidRequest, Ledger, UnknownPlan, UnknownSubject
from earmark.errors import from_database
from earmark.in_words import configured, explained, told
from earmark.model import Counted, PlanQuota
from sql.conftest import Books

FILES = json.dumps([{"filename": "holiday.jpg", "content_type": "image/jpeg", "size": 7}])


def upload(connection: psycopg.Connection, subject: str) -> tuple[UUID, UUID]:
    """A reservation of one image, and the image."""
    row = connection.execute(
        "SELECT reservation, images FROM earmark.images_reserve(%s, %s, 60, 60)", (subject, FILES)
    ).fetchone()
    assert row is not None
    return row[0], UUID(row[1][0]["image"])


def words(lines: list[str]) -> str:
    return "\n".join(lines)


def test_what_is_open_adds_up_to_what_is_held(books: Books, scratch: psycopg.Connection) -> None:
    books.reserve("alice", {"images": 2}, key="k", actor="api")
    reservation, image = upload(scratch, "alice")
    paid = books.reserve("alice", {"images": 3})
    books.commit(paid.id)
    explanation = books.explain("alice")
    assert [(one.amounts, one.key, one.by, one.filename) for one in explanation.open] == [
        ({"images": 2}, "k", "api", None),
        ({"images": 1, "storage_bytes": 7}, None, "alice", "holiday.jpg"),
    ]
    found = explanation.open[1]
    assert (found.reservation, found.image, found.image_state, found.owner) == (reservation, image, "reserved", "alice")
    assert (found.overdue, found.earlier_period, explanation.open_total) == (False, False, 2)
    assert sum(one.amounts["images"] for one in explanation.open) == explanation.levels[0].resources["images"].held
    assert explanation.levels == books.usage_levels("alice")
    assert [one.seq for one in explanation.changes] == [entry.seq for entry in books.history("alice", limit=20)]
    assert {one.filename for one in explanation.changes if one.reservation == reservation} == {"holiday.jpg"}
    assert "alice reserved 7 storage_bytes, 1 image for holiday.jpg" in words(explained(explanation))
    assert "holiday.jpg, which is reserved, holds 1 image, 7 storage_bytes since" in words(explained(explanation))
    assert "alice, on plan pro: 6 of 500 images used until" in words(explained(explanation))


def test_a_newcomer_and_somebody_unknown(books: Books, scratch: psycopg.Connection) -> None:
    explanation = books.explain("newcomer")
    assert (explanation.open, explanation.changes, explanation.open_total) == ((), (), 0)
    *_, held, name = explained(explanation)
    assert held == "Nothing holds quota now."
    assert "check the name" in name
    scratch.execute("DELETE FROM earmark._private_setting WHERE name = 'default_plan'")
    with pytest.raises(UnknownSubject):
        books.explain("newcomer")


def test_no_more_is_told_than_was_asked_for(books: Books) -> None:
    for _ in range(3):
        books.reserve("alice", {"images": 1})
    explanation = books.explain("alice", max_items=2, max_changes=1)
    assert (len(explanation.open), explanation.open_total, len(explanation.changes)) == (2, 3, 1)
    assert explanation.open[0].since <= explanation.open[1].since
    assert "1 more item holds quota." in explained(explanation)


def test_a_team_sees_who_holds_its_quota_and_a_member_sees_only_himself(books: Books) -> None:
    books.configure_subject("acme", plan="pro")
    for member in ("alice", "bob"):
        books.configure_subject(member, plan="pro", parent="acme")
        books.reserve(member, {"images": 1})
    team = books.explain("acme")
    assert [(one.owner, one.by) for one in team.open] == [("alice", "alice"), ("bob", "bob")]
    assert "of bob holds 1 image since" in words(explained(team))
    member = books.explain("alice")
    assert [one.owner for one in member.open] == ["alice"]
    assert [level.subject for level in member.levels] == ["alice", "acme"]
    assert "bob" not in words(explained(member))
    assert "refused" not in words(explained(member))


def test_a_member_whose_team_has_nothing_left_is_told_that_it_is_the_team(books: Books) -> None:
    books.configure_subject("acme", plan="pro", quotas={"images": 1})
    books.configure_subject("alice", plan="pro", parent="acme")
    books.configure_subject("bob", plan="pro", parent="acme")
    books.reserve("bob", {"images": 1})
    said = explained(books.explain("alice"))
    assert "Nothing is left of images with acme, so alice is refused more, whatever he has left himself." in said
    assert "Nothing of alice holds quota now." in said
    assert said[-1] == "Nothing of alice has moved yet."


def test_who_is_over_his_limit_is_told_what_follows(books: Books) -> None:
    books.commit(books.reserve("alice", {"images": 3}).id)
    books.configure_subject("alice", quotas={"images": 2})
    said = explained(books.explain("alice"))
    assert said[0].endswith("0 left, 1 over. Nothing is lost; more is refused until it fits again.")


def test_what_is_overdue_or_of_an_earlier_period_is_said_to_be(ledger: Ledger, clock) -> None:
    clock.set("2026-01-31T23:00:00Z")
    ledger.reserve("alice", {"images": 1}, ttl=timedelta(hours=9)).detach()
    ledger.reserve("alice", {"images": 1}, ttl=timedelta(minutes=1)).detach()
    clock.set("2026-02-01T01:00:00Z")
    explanation = ledger.explain("alice")
    assert {(one.overdue, one.earlier_period) for one in explanation.open} == {(False, True), (True, True)}
    assert explanation.levels[0].resources["images"].held == 0
    told_so = words(explained(explanation))
    assert "was due back 2026-01-31 23:01:00 UTC" in told_so
    assert "It counts in a period that is over." in told_so


def test_the_story_of_a_reservation_from_reserve_to_settlement(books: Books) -> None:
    taken = books.reserve("alice", {"images": 5, "storage_bytes": 9}, key="k", actor="api")
    books.commit(taken.id, amounts={"images": 2}, actor="worker")
    books.refund(taken.id, reason="deleted", actor="alice")
    story = books.story(taken.id)
    assert (story.subject, story.key, story.outcome, story.images) == ("alice", "k", "granted", ())
    assert [entry.kind for entry in story.entries] == ["reserve"] * 2 + ["commit"] * 2 + ["refund"]
    assert story.entries == books.history("alice")[::-1]
    assert story.items == books.reservation(taken.id).items
    said = words(told(story))
    for part in (
        "api reserved 5 images, 9 storage_bytes for item 1",
        "worker committed 2 images, 9 storage_bytes and gave back 3 images for item 1",
        "alice refunded 9 storage_bytes for item 1 (deleted)",
    ):
        assert part in said


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_words(books: Books, cause: Cause) -> None:
    taken = books.reserve("alice", {"images": 1})
    books.rollback(taken.id, cause=cause, actor="support", reason="asked for")
    said = told(books.story(taken.id))
    assert said[-2].endswith("(asked for).")
    assert "because" in said[-1]
    assert "gave back 1 image," in said[-1]


def test_a_denial_has_a_story_too(books: Books, scratch: psycopg.Connection) -> None:
    denied = books.reserve("alice", {"images": 501}, key="k")
    assert not denied
    row = scratch.execute("SELECT reservation FROM earmark._private_reservation WHERE key = 'k'").fetchone()
    assert row is not None
    story = books.story(row[0])
    assert (story.outcome, story.entries, story.items) == ("denied", (), {})
    assert told(story)[1] == "alice had 500 images left of 500, and 501 were asked for."


def test_the_story_of_an_image_is_that_of_its_item(books: Books, scratch: psycopg.Connection) -> None:
    reservation, image = upload(scratch, "alice")
    scratch.execute(
        "SELECT earmark.image_roll_back(%s, 'upload_failed', subject => 'alice', actor => 'alice', reason => 'gone')",
        (image,),
    )
    story = books.story(image)
    assert (story.reservation, [one.image for one in story.images]) == (reservation, [image])
    assert (story.images[0].state, story.images[0].cause) == ("failed", Cause.UPLOAD_FAILED)
    assert [entry.kind for entry in story.entries] == ["reserve"] * 2 + ["rollback"] * 2
    assert f"Image {image} (holiday.jpg) is failed" in told(story)[-1]
    assert books.story(reservation) == story


def test_an_image_whose_reservation_was_pruned_still_has_its_story(ledger: Ledger, connection, clock) -> None:
    _, image = upload(connection, "alice")
    connection.execute("SELECT earmark.image_roll_back(%s, 'cancelled')", (image,))
    clock.advance(1e9)
    assert ledger.prune_settled().reservations == 1
    story = ledger.story(image)
    assert story is not None
    assert (story.subject, story.items, story.images[0].state) == ("alice", {}, "cancelled")
    assert [entry.kind for entry in story.entries] == ["reserve"] * 2 + ["rollback"] * 2
    assert told(story)


def test_nobody_reads_what_is_not_his(books: Books, scratch: psycopg.Connection) -> None:
    taken = books.reserve("alice", {"images": 1})
    _, image = upload(scratch, "alice")
    for about in (taken.id, image, uuid4()):
        assert books.story(about, subject="bob") is None
    assert books.story(image, subject="alice") is not None
    scratch.execute("SELECT set_config('request.jwt.claims', '{\"sub\": \"bob\"}', true)")
    for call, parameters in (("explain('alice')", ()), ("story(%s)", (image,)), ("story(%s, 'alice')", (image,))):
        with pytest.raises(psycopg.Error) as caught, scratch.transaction():
            scratch.execute(f"SELECT earmark.{call}", parameters)
        assert isinstance(from_database(caught.value), Forbidden)


def configured_of(books: Books, subject: str) -> list[tuple[object, ...]]:
    return [(one.by, one.subject, one.plan, one.what, one.was, one.became) for one in books.explain(subject).configured]


def test_it_tells_what_was_configured_of_him_of_all_above_him_and_of_their_plans(books: Books) -> None:
    books.configure_subject("acme", plan="enterprise", actor="sales")
    books.configure_subject("alice", plan="free", actor="billing")
    assert configured_of(books, "alice") == []
    books.configure_subject("alice", plan="pro", quotas={"images": 50}, actor="billing")
    books.configure_subject("alice", parent="acme", actor="support")
    books.configure_subject("acme", quotas={"images": -1}, actor="sales")
    books.configure_subject("bob", plan="free", quotas={"images": 1}, actor="billing")
    books.configure_plan("pro", quotas={"images": PlanQuota(400, "P1M", refundable=False)}, actor="product")
    books.configure_subject("alice", quotas={"images": None}, anchor=datetime(2026, 1, 31, tzinfo=UTC), actor="support")
    newest_first = [
        ("support", "alice", None, "quotas.images", 50, None),
        ("support", "alice", None, "anchor", "1970-01-01T00:00:00.000000Z", "2026-01-31T00:00:00.000000Z"),
        ("product", None, "pro", "quotas.images", 500, 400),
        ("sales", "acme", None, "quotas.images", None, -1),
        ("support", "alice", None, "parent", None, "acme"),
        ("billing", "alice", None, "quotas.images", None, 50),
        ("billing", "alice", None, "plan", "free", "pro"),
    ]
    assert configured_of(books, "alice") == newest_first
    assert [one.what for one in books.explain("alice", max_changes=2).configured] == ["quotas.images", "anchor"]
    said = [line.split(" UTC: ")[-1] for line in explained(books.explain("alice"))]
    start = said.index("What was configured of late, newest first:") + 1
    assert said[start : start + 7] == [
        "support changed the quota of images of alice from 50 to the plan's.",
        "support changed the anchor of alice from 1970-01-01 00:00:00 UTC to 2026-01-31 00:00:00 UTC.",
        "product changed the quota of images of plan pro from 500 to 400.",
        "sales changed the quota of images of acme from the plan's to unlimited.",
        "support changed the parent of alice from none to acme.",
        "billing changed the quota of images of alice from the plan's to 50.",
        "billing changed the plan of alice from free to pro.",
    ]


def test_a_plan_tells_all_that_was_changed_in_it(books: Books) -> None:
    books.configure_plan("custom", features={"max_bulk_upload": 5, "label": {"en": "Custom"}})
    books.configure_subject("alice", plan="custom")
    quota = PlanQuota(7, "P1D", refundable=True)
    books.configure_plan("custom", features={"max_bulk_upload": 5}, quotas={"credits": quota}, actor="product")
    books.configure_plan("custom", quotas={"credits": replace(quota, refundable=False)}, actor="product")
    assert [one[3:] for one in configured_of(books, "alice")] == [
        ("refundable.credits", True, False),
        ("refundable.credits", None, True),
        ("quotas.credits", None, 7),
        ("periods.credits", None, "P1D"),
        ("features.label", {"en": "Custom"}, None),
    ]
    said = "\n".join(map(configured, books.explain("alice").configured))
    for sentence in (
        "product changed the refund of credits of plan custom from yes to no.",
        "product changed the quota of credits of plan custom from none to 7.",
        "product changed the period of credits of plan custom from none to P1D.",
        'product changed the feature label of plan custom from {"en": "Custom"} to none.',
    ):
        assert sentence in said


def test_what_is_set_to_what_it_was_is_not_told(books: Books) -> None:
    books.configure_subject("acme", plan="pro")
    given: dict[str, Any] = {
        "plan": "pro",
        "quotas": {"images": 5},
        "anchor": datetime(2026, 1, 1, tzinfo=UTC),
        "parent": "acme",
    }
    books.configure_subject("alice", **given)
    plan = PlanQuota(500, "P1M", refundable=False)
    books.configure_plan("pro", quotas={"images": plan})
    before = books.explain("alice").configured
    assert [one.what for one in before] == ["quotas.images", "parent", "anchor"]
    books.configure_subject("alice", **given)
    books.configure_subject("alice")
    books.configure_plan("pro", features={"max_bulk_upload": 20}, quotas={"images": plan})
    assert books.explain("alice").configured == before


def test_who_names_no_actor_is_known_by_his_claims_or_his_role(books: Books, scratch: psycopg.Connection) -> None:
    books.configure_subject("alice", plan="pro")
    books.configure_subject("alice", plan="free")
    scratch.execute(
        "SELECT set_config('request.jwt.claims', %s, false)", ('{"sub": "billing", "role": "service_role"}',)
    )
    books.configure_subject("alice", plan="pro")
    scratch.execute("RESET request.jwt.claims")
    role = scratch.execute("SELECT session_user").fetchone()
    assert role is not None
    assert [one.by for one in books.explain("alice").configured] == ["billing", role[0]]


def test_what_is_refused_or_rolled_back_is_not_told(books: Books, scratch: psycopg.Connection) -> None:
    books.configure_subject("alice", plan="pro")
    with pytest.raises(UnknownPlan):
        books.configure_subject("alice", plan="gold")
    with pytest.raises(InvalidRequest, match="actor must be a text of at most 255 characters"):
        books.configure_subject("alice", plan="free", actor="x" * 256)
    with scratch.transaction(force_rollback=True):
        books.configure_subject("alice", plan="free")
    assert books.explain("alice").configured == ()


def test_an_import_tells_who_made_it(books: Books) -> None:
    books.configure_subject("alice", plan="free")
    books.adopt(
        [Counted("alice", "images", 3, plan="pro", quota_limit=9)],
        key="k",
        reason="From the old table.",
        actor="import",
    )
    assert {(one.by, one.what) for one in books.explain("alice").configured} == {
        ("import", "plan"),
        ("import", "quotas.images"),
    }
