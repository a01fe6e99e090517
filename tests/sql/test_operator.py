"""What an operator sees and does: who there is, use and rollbacks over time, deadlines moved for a reason."""

from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest

from earmark import Cause, Forbidden, InvalidRequest, Ledger
from earmark.errors import translated
from earmark.in_words import told
from earmark.migrate import scripts
from earmark.model import PlanQuota
from sql.conftest import Books
from sql.test_explain import upload

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def test_subjects_are_found_by_a_part_of_their_name(books: Books) -> None:
    for name in ("max@example.org", "MAX", "team-max", "max", "100%", "anna"):
        books.configure_subject(name, plan="free")
    books.configure_subject("max", parent="team-max")
    found = books.subjects_like("max")
    assert found[0].subject == "max"
    assert {one.subject for one in found[1:3]} == {"MAX", "max@example.org"}
    assert [one.subject for one in found[3:]] == ["team-max"]
    assert (found[0].plan, found[0].parent) == ("free", "team-max")
    assert [one.subject for one in books.subjects_like("%")] == ["100%"]
    assert len(books.subjects_like("", limit=3)) == 3


def use(books: Books, since: datetime, points: int, resource: str = "images") -> list[tuple[int, int]]:
    found = books.use_over_time("alice", since=since, points=points)
    return [(one.committed, one.held) for one in found if one.resource == resource]


def test_use_over_time_is_what_usage_said_then(books: Books, scratch_clock: Any) -> None:
    """Day by day, what was told each day is what is told of it later."""
    start = datetime(2026, 3, 10, 12, tzinfo=UTC)
    said = []
    for step in (
        lambda: None,
        lambda: books.reserve("alice", {"images": 3}, ttl=30 * DAY),
        lambda: books.commit(books.reserve("alice", {"images": 2}).id),
        lambda: books.rollback_newest("alice", "images", 3),
        lambda: books.adjust("alice", "images", 4, reason="r", actor="a"),
    ):
        step()
        used = books.usage("alice").resources["images"]
        said.append((used.committed, used.held))
        scratch_clock.advance(86_400)
    assert said == [(0, 0), (0, 3), (2, 3), (2, 0), (6, 0)]
    assert use(books, start, 5) == [*said, (6, 0)]
    assert use(books, start + 2 * DAY, 3) == [*said[2:], (6, 0)]
    assert books.use_over_time("nobody", since=start) == ()


def test_use_begins_anew_with_a_period(books: Books, scratch_clock: Any) -> None:
    for _ in range(3):  # from 10 March; on plan free a period of images is a month
        books.commit(books.reserve("alice", {"images": 1, "storage_bytes": 10}).id)
        scratch_clock.advance(15 * 86_400)
    since = datetime(2026, 3, 10, 11, tzinfo=UTC)
    images = [(one.at, one.committed) for one in books.use_over_time("alice", since=since) if one.resource == "images"]
    march = [committed for at, committed in images if at < datetime(2026, 4, 1, tzinfo=UTC)]
    april = [committed for at, committed in images if at >= datetime(2026, 4, 1, tzinfo=UTC)]
    assert (march[0], march[-1], april[0], april[-1]) == (0, 2, 0, 1)
    assert len(images) == 121
    assert use(books, since, 1, "storage_bytes") == [(0, 0), (30, 0)]


def test_of_what_was_pruned_nothing_is_told(books: Books, scratch_clock: Any) -> None:
    for _ in range(4):
        books.commit(books.reserve("alice", {"images": 1}).id)
        scratch_clock.advance(86_400)
    since = datetime(2026, 3, 10, 11, tzinfo=UTC)
    books.prune_settled(datetime(2026, 3, 12, tzinfo=UTC))
    books.prune_journal(datetime(2026, 3, 12, tzinfo=UTC))
    found = [one for one in books.use_over_time("alice", since=since, points=97) if one.resource == "images"]
    assert found[0].at >= datetime(2026, 3, 12, 12, tzinfo=UTC)
    assert (found[0].committed + found[0].held, found[-1].committed) in {(2, 4), (3, 4)}


@pytest.mark.parametrize(
    ("since", "points"), [(datetime(2999, 1, 1, tzinfo=UTC), 5), (datetime(2020, 1, 1, tzinfo=UTC), 0)]
)
def test_a_series_that_cannot_be_is_refused(books: Books, since: datetime, points: int) -> None:
    with pytest.raises(InvalidRequest):
        books.use_over_time("alice", since=since, points=points)


def test_after_a_change_of_the_plans_period_each_moment_is_told_once(books: Books, scratch_clock: Any) -> None:
    """Of the period that counted then, though the one before holds the moment, too."""
    scratch_clock.set("2026-03-01T00:00:00Z")
    books.configure_plan("changing", quotas={"images": PlanQuota(10, "lifetime", refundable=False)})
    books.configure_subject("alice", plan="changing")
    open_hold = books.reserve("alice", {"images": 3}, ttl=timedelta(days=9)).id
    books.commit(books.reserve("alice", {"images": 4}).id)
    scratch_clock.set("2026-03-03T00:00:00Z")
    books.configure_plan("changing", quotas={"images": PlanQuota(10, "P1M", refundable=False)})
    books.reserve("alice", {"images": 2}, ttl=timedelta(days=9))
    books.commit(open_hold)
    scratch_clock.set("2026-03-05T00:00:00Z")
    found = books.use_over_time("alice", since=datetime(2026, 2, 28, tzinfo=UTC), points=5)
    assert [(one.at.day, one.committed, one.held) for one in found] == [
        (28, 0, 0), (1, 4, 3), (2, 4, 3), (3, 0, 2), (4, 0, 2), (5, 0, 2),
    ]  # fmt: skip
    books.configure_plan("changing", quotas={"images": PlanQuota(10, "lifetime", refundable=False)})
    found = books.use_over_time("alice", since=datetime(2026, 3, 2, tzinfo=UTC), points=3)
    assert [(one.committed, one.held) for one in found] == [(4, 3), (0, 2), (0, 2), (7, 0)]


@pytest.fixture
def longer(books: Books, scratch_clock: Any) -> None:
    """On 20 March the plan's days have become months; from the first of them 2 are committed, and 4 held."""
    scratch_clock.set("2026-03-01T12:00:00Z")
    books.configure_plan("longer", quotas={"images": PlanQuota(50, "P1D", refundable=False)})
    books.configure_subject("alice", plan="longer")
    books.commit(books.reserve("alice", {"images": 2}).id)
    books.reserve("alice", {"images": 4}, ttl=timedelta(days=90))
    scratch_clock.set("2026-03-20T12:00:00Z")
    books.configure_plan("longer", quotas={"images": PlanQuota(50, "P1M", refundable=False)})


@pytest.mark.parametrize("act", ["nothing", "a grant", "an adjustment"])
def test_a_period_that_became_longer_is_told_to_its_end(
    books: Books, scratch_clock: Any, longer: None, act: str
) -> None:
    if act == "a grant":
        books.rollback(books.reserve("alice", {"images": 1}).id, cause=Cause.ADMIN)
    elif act == "an adjustment":
        for amount in (1, -1):
            books.adjust("alice", "images", amount, reason="r", actor="a")
    images = books.usage("alice").resources["images"]
    assert (images.committed, images.held) == (2, 4)
    since = datetime(2026, 2, 28, tzinfo=UTC)
    told = {one.at.day: (one.committed, one.held) for one in books.use_over_time("alice", since=since, points=41)}
    assert (told[28], told[2], told[10], told[20]) == ((0, 0), (2, 4), (2, 4), (2, 4))
    if act == "nothing":
        return
    # The balance keeps that, also once the plan has other periods again.
    books.configure_plan("longer", quotas={"images": PlanQuota(50, "lifetime", refundable=False)})
    told = {one.at.day: (one.committed, one.held) for one in books.use_over_time("alice", since=since, points=41)}
    assert told[10] == (2, 4)


def test_what_expired_in_a_period_that_became_longer_is_taken_anew_beside_what_grows(
    books: Books, scratch_clock: Any, longer: None
) -> None:
    items = {"a": {"images": 1}, "b": {"images": 1}}
    scratch_clock.set("2026-03-01T13:00:00Z")
    books.configure_plan("longer", quotas={"images": PlanQuota(50, "P1D", refundable=False)})
    late = books.reserve("alice", items=items).id
    books.extend(late, items=["b"], ttl=timedelta(days=90))
    scratch_clock.set("2026-03-20T12:00:00Z")
    books.configure_plan("longer", quotas={"images": PlanQuota(50, "P1M", refundable=False)})
    books.sweep()
    settled = books.commit(late, items={"a": {"images": 1}, "b": {"images": 3}}, grow=True)
    assert (settled.outcome, settled.committed) == ("committed", {"images": 4})
    assert books.usage("alice").resources["images"].used == 10


def test_rollbacks_by_cause_over_time(ledger: Ledger, connection: psycopg.Connection, clock: Any) -> None:
    clock.set("2026-03-10T12:10:00Z")
    expected = []
    for causes in ((Cause.CANCELLED, Cause.CANCELLED, Cause.EXPIRED), (), (Cause.ADMIN,)):
        for cause in causes:
            ledger.rollback(ledger.reserve("alice", items={"1": {"images": 1, "storage_bytes": 9}}).id, cause=cause)
        expected.append({cause: causes.count(cause) for cause in causes})
        clock.advance(3600)
    ledger.tally()
    since = datetime(2026, 3, 10, 12, 5, tzinfo=UTC)
    by_hour = ledger.rollbacks_over_time(since=since, step="hour")
    assert [one.causes for one in by_hour] == [*expected, {}]
    assert by_hour[0].at == datetime(2026, 3, 10, 12, tzinfo=UTC)
    (day,) = ledger.rollbacks_over_time(since=since)
    assert (day.at, day.causes) == (
        datetime(2026, 3, 10, tzinfo=UTC),
        {Cause.CANCELLED: 2, Cause.EXPIRED: 1, Cause.ADMIN: 1},
    )
    with pytest.raises(InvalidRequest):
        ledger.rollbacks_over_time(since=since, step="year")  # type: ignore[arg-type]


def test_an_upgrade_counts_what_had_been_tallied_and_leaves_the_rest_to_tally(
    ledger: Ledger, connection: psycopg.Connection
) -> None:
    def roll_back() -> None:
        ledger.reserve("alice", items={"1": {"images": 1}, "2": {"images": 1, "storage_bytes": 9}}).rollback()

    roll_back()
    ledger.tally()
    roll_back()
    connection.execute("DROP TABLE earmark._private_rollback_hour")
    (upgrade,) = [one.text for one in scripts("migrations") if one.file.endswith("0010_operator.sql")]
    connection.execute(upgrade)
    since = datetime.now(UTC) - HOUR
    for expected in (2, 4):
        assert sum(sum(one.causes.values()) for one in ledger.rollbacks_over_time(since=since)) == expected
        ledger.tally()


def test_a_reason_to_wait_longer_is_in_the_journal_and_moves_the_upload_too(
    books: Books, scratch: psycopg.Connection
) -> None:
    reservation, image = upload(scratch, "alice")
    before = books.usage("alice")
    settled = books.extend(reservation, ttl=2 * HOUR, actor="operator", reason="his train was late")
    until = settled.items["1"].expires_at
    entries = books.history("alice", limit=2)
    assert [(one.kind, one.committed, one.held, one.actor) for one in entries] == [("extend", 0, 0, "operator")] * 2
    assert entries[0].reason == f"until {until:%Y-%m-%d %H:%M:%S} UTC: his train was late"
    assert books.usage("alice") == before
    assert row(scratch, image) == ("reserved", until, until)
    story = books.story(reservation)
    assert any("operator moved the deadline for holiday.jpg (until" in line for line in told(story))
    assert len([line for line in told(story) if "moved the deadline" in line]) == 1
    books.rollback(reservation, cause=Cause.ADMIN, reason="enough")
    assert row(scratch, image)[0] == "cancelled"


def row(connection: psycopg.Connection, image: UUID) -> Any:
    return connection.execute(
        "SELECT state, due_at, upload_expires_at FROM earmark._private_image WHERE image = %s", (image,)
    ).fetchone()


def test_without_a_reason_nothing_is_written(books: Books, scratch: psycopg.Connection) -> None:
    reservation, image = upload(scratch, "alice")
    before, entries = row(scratch, image), books.history("alice")
    books.extend(reservation, ttl=2 * HOUR)
    assert (row(scratch, image), books.history("alice")) == (before, entries)


def test_a_stage_that_others_watch_over_is_not_moved(books: Books, scratch: psycopg.Connection) -> None:
    """A worker that died is noticed when it was to be, however long the hold lasts."""
    reservation, image = upload(scratch, "alice")
    scratch.execute("SELECT * FROM earmark.image_uploaded(%s, 'alice', 60, 60)", (image,))
    before = row(scratch, image)
    assert books.extend(reservation, ttl=DAY, actor="operator", reason="r").outcome == "extended"
    assert row(scratch, image) == before


def test_a_deadline_that_is_later_already_is_not_said_to_have_moved(books: Books, scratch: psycopg.Connection) -> None:
    reservation, image = upload(scratch, "alice")
    books.extend(reservation, ttl=2 * DAY)
    before, entries = row(scratch, image), books.history("alice")
    assert books.extend(reservation, ttl=DAY, reason="r").outcome == "extended"
    assert (row(scratch, image), books.history("alice")) == (before, entries)


def test_all_levels_say_why(books: Books) -> None:
    books.configure_subject("team", plan="pro")
    books.configure_subject("alice", plan="pro", parent="team")
    reservation = books.reserve("alice", {"images": 1}).id
    books.extend(reservation, ttl=DAY, actor="operator", reason="r")
    assert books.history("team", limit=1)[0].kind == "extend"


def test_what_is_over_is_not_extended(books: Books) -> None:
    reservation = books.reserve("alice", {"images": 1}).id
    books.commit(reservation)
    entries = books.history("alice")
    assert books.extend(reservation, ttl=HOUR, actor="operator", reason="r").outcome == "already_committed"
    assert books.history("alice") == entries


@pytest.mark.parametrize("reason", ["", "x" * 501])
def test_a_reason_has_a_length(books: Books, reason: str) -> None:
    reservation = books.reserve("alice", {"images": 1}).id
    with pytest.raises(InvalidRequest):
        books.extend(reservation, ttl=HOUR, reason=reason)


def test_verify_sees_a_hold_that_was_changed_after_it_was_extended(books: Books, scratch: psycopg.Connection) -> None:
    reservation = books.reserve("alice", {"images": 1}).id
    books.extend(reservation, ttl=DAY, reason="r")
    with scratch.transaction(force_rollback=True):
        scratch.execute(
            "UPDATE earmark._private_hold SET state = 'committed', committed = 1, settled_at = now(), settled_by = 'x' "
            "WHERE reservation = %s",
            (reservation,),
        )
        assert books.verify() != ()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM earmark.subjects_like('a')",
        "SELECT * FROM earmark.rollbacks_over_time('2020-01-01')",
        "SELECT * FROM earmark.use_over_time('bob', '2020-01-01')",
    ],
)
def test_nobody_else_asks(scratch: psycopg.Connection, statement: LiteralString) -> None:
    scratch.execute("""SELECT set_config('request.jwt.claims', '{"sub": "alice"}', true)""")
    with pytest.raises(Forbidden), translated(), scratch.transaction():
        scratch.execute(statement)
