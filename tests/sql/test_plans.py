"""No hot statement reads a large table from end to end, or more because of what else is there, whatever is believed.

The server tells the plan of every statement that runs inside the functions (auto_explain); 50,000 settled holds of
5,000 other subjects are in the tables, with fresh statistics and with those of when there was next to nothing.
"""

# ruff: noqa: S608 - the names in these queries are the test's own

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

LARGE = {f"_private_{name}" for name in ("hold", "reservation", "journal", "balance", "subject", "image", "delivery")}
ROUNDS = 7
"""A statement is planned anew five times before PostgreSQL considers one plan for all."""
CROWD = """
INSERT INTO earmark._private_subject (root, subject, ancestors, plan, entries)
SELECT 'o' || n, 'o' || n, ARRAY['o' || n], 'pro', 20 FROM generate_series(1, 5000) n;
INSERT INTO earmark._private_balance (root, subject, resource, period_start, period_end, committed)
SELECT 'o' || n, 'o' || n, 'images', '-infinity', 'infinity', 10 FROM generate_series(1, 5000) n;
INSERT INTO earmark._private_reservation (root, reservation, subject, key, request, outcome, expires_at, created_at)
SELECT 'o' || (n - 1) / 10 + 1, lpad(to_hex(n), 32, '0')::uuid, 'o' || (n - 1) / 10 + 1, 'k' || n, '{}', 'granted',
    clock_timestamp(), clock_timestamp() FROM generate_series(1, 50000) n;
INSERT INTO earmark._private_hold (root, reservation, item, resource, subject, period_start, amount, committed, state,
    expires_at, settled_at, settled_by)
SELECT r.root, r.reservation, '1', 'images', r.subject, '-infinity', 1, 1, 'committed', r.expires_at, r.created_at, 'o'
FROM earmark._private_reservation r WHERE r.root LIKE 'o%';
INSERT INTO earmark._private_journal (root, subject, seq, at, kind, resource, period_start, reservation, item,
    committed, held, actor, hash)
SELECT 'o' || (n - 1) / 20 + 1, 'o' || (n - 1) / 20 + 1, (n - 1) % 20 + 1, clock_timestamp(),
    CASE n % 2 WHEN 1 THEN 'reserve' ELSE 'commit' END, 'images', '-infinity', lpad(to_hex((n + 1) / 2), 32, '0')::uuid,
    '1', 1 - n % 2, CASE n % 2 WHEN 1 THEN 1 ELSE -1 END, 'o', '' FROM generate_series(1, 100000) n;
INSERT INTO earmark._private_image (root, image, subject, reservation, item, filename, content_type, size, key, state,
    created_at, updated_at, upload_expires_at)
SELECT h.root, h.reservation, h.subject, h.reservation, '1', 'a.png', 'image/png', 9, 'k', 'completed', h.settled_at,
    h.settled_at, h.settled_at FROM earmark._private_hold h WHERE h.state = 'committed' AND h.subject LIKE 'o%';
"""
OLD = """
INSERT INTO earmark._private_subject (root, subject, ancestors, plan, entries, changes)
VALUES ('old', 'old', '{old}', 'pro', 3000, 3000);
INSERT INTO earmark._private_reservation (root, reservation, subject, request, outcome, expires_at, created_at)
SELECT 'old', lpad(to_hex(n + 1000000), 32, '0')::uuid, 'old', '{}', 'granted', clock_timestamp(), clock_timestamp()
FROM generate_series(1, 3000) n;
INSERT INTO earmark._private_journal (root, subject, seq, at, kind, resource, period_start, reservation, item,
    committed, held, actor, hash)
SELECT 'old', 'old', n, clock_timestamp(), 'adjust', 'images', '-infinity', NULL, NULL, 1, 0, 'o', ''
FROM generate_series(1, 3000) n;
INSERT INTO earmark._private_image (root, image, subject, reservation, item, filename, content_type, size, key, state,
    created_at, updated_at, upload_expires_at, change)
SELECT 'old', r.reservation, 'old', r.reservation, '1', 'a.png', 'image/png', 9, 'k', 'completed', r.created_at,
    r.created_at, r.created_at, row_number() OVER (ORDER BY r.reservation)
FROM earmark._private_reservation r WHERE r.root = 'old';
"""
BUSY = """
INSERT INTO earmark._private_subject (root, subject, ancestors, plan, entries)
VALUES ('team', 'team', '{team}', 'pro', 0);
INSERT INTO earmark._private_subject (root, subject, ancestors, plan, entries)
SELECT 'team', name, ARRAY[name, 'team'], 'pro', 0
FROM (SELECT 'busy' UNION ALL SELECT 'm' || generate_series(1, 999)) m (name);
INSERT INTO earmark._private_balance (root, subject, resource, period_start, period_end, held)
SELECT root, subject, 'images', '-infinity', 'infinity', CASE WHEN subject IN ('team', 'busy') THEN 3000 ELSE 0 END
FROM earmark._private_subject WHERE root = 'team';
INSERT INTO earmark._private_balance (root, subject, resource, period_start, period_end, committed)
SELECT 'team', 'busy', 'images', day, day + interval '1 d', 1
FROM generate_series('2020-01-01', '2022-12-31', interval '1 d') day;
INSERT INTO earmark._private_reservation (root, reservation, subject, key, request, outcome, expires_at, created_at)
SELECT 'team', lpad(to_hex(n + 2000000), 32, '0')::uuid, 'busy', 'b' || n, '{}', 'granted', clock_timestamp() + '1 h',
    clock_timestamp() FROM generate_series(1, 3000) n;
INSERT INTO earmark._private_hold (root, reservation, item, resource, subject, level, period_start, amount, expires_at)
SELECT 'team', r.reservation, '1', 'images', s.subject, s.level, '-infinity', 1, r.expires_at
FROM earmark._private_reservation r, (VALUES ('busy', 0), ('team', 1)) s (subject, level) WHERE r.root = 'team';
"""
PAGES = (
    "SELECT seq FROM earmark.history('old')",
    "SELECT seq FROM earmark.history('old', 1500)",
    "SELECT earmark.images('old')",
    "SELECT earmark.images('old', '00000000-0000-0000-0000-0000000f4700')",
    "SELECT change FROM earmark.images_changed('old', 0, 50)",
    "SELECT change FROM earmark.images_changed('old', 1500, 50)",
    "SELECT earmark.images_completed(NULL, 50)",
)
COLD = {
    "adopt", "configure_plan", "configure_retention", "health", "journal_export", "moment", "plans", "prune_deliveries",
    "prune_journal", "prune_settled", "record_check", "record_duty", "record_failed_rollback", "repair",
    "rollbacks_over_time", "schema_files", "set_aside", "status", "subjects_like", "verify",
}  # fmt: skip
"""Called by an operator, or once in a while; or on tables that stay small."""
FILES = json.dumps([{"filename": "a.png", "content_type": "image/png", "size": 7}] * 2)
_subjects = count()


@dataclass(slots=True)
class Onlooker:
    """A connection whose server tells the plan of each statement it runs, nested ones too."""

    connection: psycopg.Connection
    plans: list[dict[str, Any]] = field(default_factory=list)
    called: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.connection.execute("LOAD 'auto_explain'")
        for setting, value in {
            "auto_explain.log_min_duration": "0",
            "auto_explain.log_nested_statements": "on",
            "auto_explain.log_analyze": "on",
            "auto_explain.log_timing": "off",
            "auto_explain.log_format": "json",
            "auto_explain.log_level": "notice",
            "client_min_messages": "notice",
        }.items():
            self.connection.execute("SELECT set_config(%s, %s, false)", (setting, value))
        self.connection.add_notice_handler(self._note)

    def _note(self, notice: psycopg.errors.Diagnostic) -> None:
        _, found, plan = (notice.message_primary or "").partition("plan:\n")
        if found:
            self.plans.append(json.loads(plan))

    @contextmanager
    def blind(self) -> Iterator[None]:
        """For a while, no plan is told: those of a large call take minutes to be written."""
        self.connection.execute("SET auto_explain.log_min_duration = -1")
        yield
        self.connection.execute("SET auto_explain.log_min_duration = 0")

    def call(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        self.called.update(re.findall(r"earmark\.(\w+)\(", statement))
        return self.connection.execute(statement, parameters).fetchall()  # type: ignore[arg-type]

    def scans(self) -> set[str]:
        """What was read from end to end since the last look: `Seq Scan on t`, or a whole index, each with its query."""
        found: set[str] = set()
        for plan in self.plans:
            for node in nodes(plan["Plan"]):
                relation, kind = node.get("Relation Name"), node["Node Type"]
                whole = kind == "Seq Scan" or (kind.startswith("Index") and "Index Cond" not in node)
                if relation in LARGE and whole:
                    found.add(f"{kind} on {node.get('Index Name', relation)}: {' '.join(plan['Query Text'].split())}")
        self.plans.clear()
        return found

    def rows_read(self) -> int:
        """How many rows of large tables were looked at since the last look."""
        read = 0
        for plan in self.plans:
            for node in nodes(plan["Plan"]):
                if node.get("Relation Name") in LARGE:
                    each = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
                    read += round(each * node["Actual Loops"])
        self.plans.clear()
        return read


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes of a plan, but for what stands under a condition that was false before anything was read."""
    yield plan
    for part in plan.get("Plans", []):
        if "One-Time Filter" not in plan or part["Actual Loops"] > 0:
            yield from nodes(part)


@pytest.fixture(scope="module", params=["fresh", "stale"])
def onlooker(server: str, template: str, request: pytest.FixtureRequest) -> Iterator[Onlooker]:
    """On a database with a crowd in it, whose statistics are fresh, or those of a single subject's."""
    name = f"crowded_{request.param}"
    with psycopg.connect(server, autocommit=True) as admin:
        identifier = sql.Identifier(name)
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(identifier, sql.Identifier(template)))
        with psycopg.connect(make_conninfo(server, dbname=name), autocommit=True) as connection:
            for table in LARGE:
                connection.execute(
                    sql.SQL("ALTER TABLE earmark.{} SET (autovacuum_enabled = off)").format(sql.Identifier(table))
                )
            if request.param == "stale":
                first = Onlooker(connection)
                with first.blind():
                    everything(first)
                connection.execute("ANALYZE")
            if request.param == "fresh":  # the crowd's images have one number: their smallest index is by it
                connection.execute("SET session_replication_role = replica")
            connection.execute("SET enable_seqscan = off")  # else what is looked up for each row takes minutes
            connection.execute(CROWD)
            connection.execute(OLD)
            connection.execute(BUSY)
            if request.param == "fresh":
                connection.execute("ANALYZE")
        with psycopg.connect(make_conninfo(server, dbname=name), autocommit=True) as connection:
            yield Onlooker(connection)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))


def someone() -> str:
    return str(UUID(int=next(_subjects)))


def reserved(look: Onlooker, subject: str, key: str | None = None, **more: object) -> UUID:
    request = {"subject": subject, "key": key, "items": {"1": {"images": 1, "storage_bytes": 5}}, **more}
    return look.call("SELECT reservation FROM earmark.reserve(%s)", json.dumps([request]))[0][0]


def settle(
    look: Onlooker, verb: str, subject: str | None = None, *reservations: UUID, **more: object
) -> list[tuple[Any, ...]]:
    requests = [{"reservation": str(one), "cause": "cancelled", "ttl_seconds": 99, **more} for one in reservations]
    if subject is not None:
        requests = [{**request, "subject": subject} for request in requests]
    return look.call(f"SELECT outcome FROM earmark.{verb}(%s)", json.dumps(requests))


def opened(look: Onlooker, subject: str) -> list[UUID]:
    found = look.call("SELECT images FROM earmark.images_reserve(%s, %s, 60, 60)", subject, FILES)
    return [UUID(image["image"]) for image in found[0][0]]


def reserve(look: Onlooker) -> None:
    subject = someone()
    for key in ("k", "k", None):
        reserved(look, subject, key)
    batch = [{"subject": someone(), "items": {"1": {"images": 1}}} for _ in range(100)]
    look.call("SELECT * FROM earmark.reserve(%s)", json.dumps(batch))


def reserve_when_short(look: Onlooker) -> None:
    """His own overdue holds come back first, and then he is refused."""
    subject = someone()
    look.call("SELECT earmark.configure_subject(%s, 'pro', '{\"images\": 1}')", subject)
    late(look, reserved(look, subject))
    reserved(look, subject)
    assert reserved(look, subject) is None


def late(look: Onlooker, *reservations: UUID) -> None:
    look.connection.execute(
        "UPDATE earmark._private_hold SET expires_at = clock_timestamp() - interval '1 s' "
        "WHERE root = ANY (SELECT root FROM earmark._private_reservation WHERE reservation = ANY (%s)) "
        "AND reservation = ANY (%s)",
        (list(reservations), list(reservations)),
    )
    look.plans.clear()


def commit(look: Onlooker) -> None:
    subject = someone()
    settle(look, "commit", None, *[reserved(look, subject) for _ in range(3)])
    overdue = reserved(look, subject)
    late(look, overdue)
    look.call("SELECT * FROM earmark.expire(10)")
    assert settle(look, "commit", subject, overdue) == [("committed",)]


def rollback(look: Onlooker) -> None:
    one, other = someone(), someone()
    settle(look, "rollback", None, reserved(look, one), reserved(look, other))
    settle(look, "rollback", one, reserved(look, one), reserved(look, one))


def extend(look: Onlooker) -> None:
    subject = someone()
    assert settle(look, "extend", subject, reserved(look, subject)) == [("extended",)]
    image, _ = opened(look, subject)
    reservation = look.call("SELECT earmark.image(%s, %s)->>'reservation'", image, subject)[0][0]
    request = {"reservation": reservation, "ttl_seconds": 99, "actor": "operator", "reason": "his train was late"}
    assert look.call("SELECT outcome FROM earmark.extend(%s)", json.dumps([request])) == [("extended",)]


def refund(look: Onlooker) -> None:
    paid = reserved(look, someone())
    settle(look, "commit", None, paid)
    assert settle(look, "refund", None, paid) == [("refunded",)]


def expire(look: Onlooker) -> None:
    overdue = [reserved(look, someone()) for _ in range(20)]
    late(look, *overdue)
    # Also what other tests left, where these take longer than it was held for.
    expired = look.call("SELECT reservation FROM earmark.expire(1000)")
    assert sum(reservation in overdue for (reservation,) in expired) == 40
    assert look.call("SELECT * FROM earmark.expire(1000)") == []


def rollback_newest(look: Onlooker) -> None:
    subject = someone()
    for _ in range(3):
        reserved(look, subject)
    assert len(look.call("SELECT * FROM earmark.rollback_newest(%s, 'images', 2)", subject)) == 2


def read(look: Onlooker) -> None:
    """As a stranger, as somebody with little, and as one of the crowd."""
    subject = someone()
    reservation = reserved(look, subject)
    for who in (someone(), subject, "o77"):
        look.call("SELECT * FROM earmark.usage(%s)", who)
        look.call("SELECT * FROM earmark.usage_levels(%s)", who)
        look.call("SELECT * FROM earmark.usages(%s)", [who, "o78", "o79"])
        look.call("SELECT * FROM earmark.history(%s)", who)
        look.call("SELECT * FROM earmark.history(%s, 15, 5)", who)
        look.call("SELECT * FROM earmark.images(%s)", who)
        look.call("SELECT * FROM earmark.images(%s, %s, 5)", who, reservation)
        look.call("SELECT * FROM earmark.positions(%s)", [who, "o1", "nobody"])
        look.call("SELECT * FROM earmark.images_changed(%s, 0, 5)", who)
        look.call("SELECT * FROM earmark.reservation(%s, %s)", reservation, who)
        look.call("SELECT * FROM earmark.subject(%s)", who)
        look.call("SELECT earmark.explain(%s)", who)
        look.call("SELECT * FROM earmark.use_over_time(%s, now() - interval '7 days')", who)
        look.call("SELECT earmark.story(%s, %s)", reservation, who)
    look.call("SELECT * FROM earmark.reservation(%s)", reservation)


def follow(look: Onlooker) -> None:
    subject = someone()
    reserved(look, subject)
    cursor = look.call("SELECT next_cursor FROM earmark.journal_since(NULL, 10)")[-1][0]
    look.call("SELECT * FROM earmark.journal_since(%s, 10)", cursor)
    look.call("SELECT earmark.journal_position()")
    look.call("SELECT earmark.tally(10)")


def adjust(look: Onlooker) -> None:
    request = {"subject": someone(), "resource": "images", "amount": 1, "reason": "r", "actor": "a", "key": "k"}
    for _ in range(2):
        look.call("SELECT * FROM earmark.adjust(%s)", json.dumps([request]))


def answers_under_keys(look: Onlooker) -> None:
    subject = someone()
    reserved(look, subject)
    for key in ("one", "two"):
        look.call("SELECT * FROM earmark.answer_of(%s, %s, '{}')", subject, key)
        look.call("SELECT earmark.keep_answer(%s, %s, '{}', '{}')", subject, key)
        look.call("SELECT * FROM earmark.answer_of(%s, %s, '{}')", subject, key)
    look.call("SELECT earmark.prune_answers('1 hour', 1)")


def views(look: Onlooker) -> None:
    """A user's views; and those of a service who asks about somebody."""
    subject = someone()
    look.call("SELECT * FROM earmark.images_reserve(%s, %s, 60, 60)", subject, FILES)
    look.call("SELECT set_config('request.jwt.claims', %s, false)", json.dumps({"sub": subject}))
    assert look.call("SELECT * FROM earmark.caller()") == [(subject, False)]
    for view in ("my_usage", "my_history", "my_images"):
        assert len(look.call(f"SELECT * FROM earmark.{view}")) >= 2
        look.call(f"SELECT * FROM earmark.{view} LIMIT 1")
    look.call("SELECT * FROM earmark.my_history ORDER BY seq DESC LIMIT 1")
    look.call("SELECT set_config('request.jwt.claims', '', false)")
    for view in ("my_usage", "my_history", "my_images"):
        assert len(look.call(f"SELECT * FROM earmark.{view} WHERE subject = %s", subject)) >= 2


def compatibility(look: Onlooker) -> None:
    subject = someone()
    slots = look.call("SELECT reservation_id FROM earmark.check_and_reserve_slots(%s, 3, 'k')", subject)[0][0]
    look.call("SELECT * FROM earmark.decrement_user_image_count(%s, 1)", subject)
    look.call("SELECT * FROM earmark.decrement_user_image_count(%s, p_reservation_id => %s)", subject, slots)
    look.call("SELECT * FROM earmark.get_user_quota(%s)", subject)


def configure_subject(look: Onlooker) -> None:
    subject = someone()
    for _ in range(2):
        look.call("SELECT earmark.configure_subject(%s, 'free', '{\"images\": 5}')", subject)


def image_to_the_end(look: Onlooker, subject: str | None = None) -> None:
    """Both of the files arrive; one is completed and deleted, the other waits, is tried again and given up."""
    subject = subject or someone()
    good, bad = opened(look, subject)
    for image in (good, bad):
        look.call("SELECT * FROM earmark.image_in_parts(%s, 'u', 5)", image)
        look.call("SELECT * FROM earmark.image_uploading(%s)", image)
        look.call("SELECT * FROM earmark.image_uploaded(%s, %s, 60, 60)", image, subject)
        look.call("SELECT * FROM earmark.image_start(%s, 60, 60)", image)
        look.call("SELECT * FROM earmark.image_heartbeat(%s, 1, 60, 60)", image)
        look.call("SELECT earmark.image(%s, %s)", image, subject)
    look.call("SELECT * FROM earmark.image_complete(%s, 1, 'image/png', '{}', '{}', '{\"storage_bytes\": 3}')", good)
    look.call("SELECT * FROM earmark.image_wait(%s, 1, 'once more', 60, 60)", bad)
    look.call("SELECT * FROM earmark.image_start(%s, 60, 60)", bad)
    look.call("SELECT * FROM earmark.image_roll_back(%s, 'processing_failed', attempt => 2)", bad)
    assert look.call("SELECT outcome FROM earmark.image_delete(%s, %s)", good, subject) == [("deleted",)]


def image_outside(look: Onlooker) -> None:
    """A processor outside takes the job, and its report is remembered."""
    subject = someone()
    (image, _) = opened(look, subject)
    look.call("SELECT * FROM earmark.image_uploaded(%s, %s, 60, 60)", image, subject)
    assert look.call("SELECT outcome FROM earmark.image_hand_over(%s, 1, 60, 60)", image) == [("handed_over",)]
    for expected in (None, {}):
        assert look.call("SELECT answer FROM earmark.delivery(%s, 'm')", image) == [(expected,)]
        look.call("SELECT earmark.delivery_answered(%s, 'm', '{}')", image)


def image_duties(look: Onlooker) -> None:
    """What the worker looks for, and finds."""
    image, other = opened(look, someone())
    look.connection.execute("UPDATE earmark._private_image SET due_at = now() WHERE image = %s", (image,))
    look.plans.clear()
    assert str(image) in [document["image"] for (document,) in look.call("SELECT * FROM earmark.images_due()")]
    look.call("SELECT * FROM earmark.images_due(100, now(), %s)", image)
    look.call("SELECT * FROM earmark.image_roll_back(%s, 'upload_failed', only_overdue => true)", image)
    look.call("SELECT * FROM earmark.image_roll_back(%s, 'cancelled')", other)
    removable = [document["image"] for (document,) in look.call("SELECT * FROM earmark.images_to_remove()")]
    assert str(image) in removable
    look.call("SELECT earmark.images_removed(%s::uuid[])", removable)
    look.call("SELECT * FROM earmark.images_named(%s::uuid[])", [image, other])
    for after in (None, image):
        look.call("SELECT * FROM earmark.images_completed(%s, 3)", after)


def image_lost(look: Onlooker) -> None:
    subject = someone()
    image, _ = opened(look, subject)
    look.call("SELECT * FROM earmark.image_uploaded(%s, %s, 60, 60)", image, subject)
    look.call("SELECT * FROM earmark.image_start(%s, 60, 60)", image)
    look.call("SELECT * FROM earmark.image_complete(%s, 1, 'image/png', '{}', '{\"thumbnail\": {}}')", image)
    look.call("SELECT * FROM earmark.image_outputs_lost(%s, '{thumbnail}')", image)
    assert look.call("SELECT outcome FROM earmark.image_lost(%s, 'gone', 'operator')", image) == [("lost",)]


HOT: dict[str, Callable[[Onlooker], None]] = {
    call.__name__: call
    for call in (
        reserve, reserve_when_short, commit, rollback, extend, refund, expire, rollback_newest, adjust, read, views,
        answers_under_keys, follow, compatibility, configure_subject, image_to_the_end,
        image_outside, image_duties, image_lost,
    )
}  # fmt: skip


def everything(look: Onlooker) -> None:
    for call in HOT.values():
        call(look)


@pytest.mark.parametrize("name", HOT)
def test_nothing_large_is_read_from_end_to_end(onlooker: Onlooker, name: str) -> None:
    onlooker.plans.clear()
    seen = 0
    for _ in range(ROUNDS):
        HOT[name](onlooker)
        seen += len(onlooker.plans)
        assert onlooker.scans() == set()
    assert seen >= ROUNDS


@pytest.mark.parametrize("query", PAGES)
def test_a_page_is_read_and_not_all_that_he_ever_did(onlooker: Onlooker, query: str) -> None:
    for _ in range(ROUNDS):
        onlooker.rows_read()
        assert len(onlooker.call(query)) == 50
        assert 50 <= onlooker.rows_read() <= 250


BUSY_CALLS: dict[str, Callable[[Onlooker, UUID], object]] = {
    "reserve": lambda look, _: reserved(look, "busy"),
    "commit": lambda look, held: settle(look, "commit", "busy", held),
    "rollback": lambda look, held: settle(look, "rollback", None, held),
    "extend": lambda look, held: settle(look, "extend", "busy", held),
    "expire": lambda look, held: (late(look, held), look.call("SELECT * FROM earmark.expire(10)")),
    "usage": lambda look, _: look.call("SELECT * FROM earmark.usage('busy')"),
    "usages": lambda look, _: look.call("SELECT * FROM earmark.usages('{busy,m1,m2}')"),
    "usage_levels": lambda look, _: look.call("SELECT * FROM earmark.usage_levels('busy')"),
    "reservation": lambda look, held: look.call("SELECT * FROM earmark.reservation(%s)", held),
    "images": lambda look, _: image_to_the_end(look, "busy"),
    "adjust": lambda look, _: look.call(
        "SELECT * FROM earmark.adjust(%s)",
        json.dumps([{"subject": "busy", "resource": "images", "amount": 1, "reason": "r", "actor": "o"}]),
    ),
}


@pytest.mark.parametrize("name", BUSY_CALLS)
def test_what_else_somebody_holds_is_not_read(onlooker: Onlooker, name: str) -> None:
    numbers = count(2_000_001 + 50 * list(BUSY_CALLS).index(name))
    with onlooker.blind():
        onlooker.call("SELECT * FROM earmark.expire(1000)")  # what other tests left
    for _ in range(ROUNDS):
        onlooker.rows_read()
        BUSY_CALLS[name](onlooker, UUID(int=next(numbers)))
        assert 1 <= onlooker.rows_read() <= 500


@pytest.mark.parametrize("name", ["usage", "usages", "usage_levels", "reserve_when_short"])
def test_what_is_overdue_of_others_is_not_read(onlooker: Onlooker, name: str) -> None:
    with onlooker.connection.transaction(force_rollback=True):
        onlooker.connection.execute(
            "UPDATE earmark._private_hold SET state = 'held', committed = 0, settled_at = NULL, settled_by = NULL, "
            "expires_at = clock_timestamp() - interval '1 h' WHERE subject LIKE 'o%' AND state = 'committed'"
        )
        for _ in range(ROUNDS):
            onlooker.rows_read()
            HOT[name](onlooker) if name in HOT else BUSY_CALLS[name](onlooker, UUID(int=0))
            assert 1 <= onlooker.rows_read() <= 500


@pytest.mark.parametrize("verb", ["commit", "rollback", "extend", "refund", "expire"])
def test_of_a_large_reservation_the_items_named_are_read(onlooker: Onlooker, verb: str) -> None:
    with onlooker.blind():
        large = reserved(onlooker, someone(), items={f"{n:03}": {"images": 1} for n in range(500)})
        if verb == "refund":
            settle(onlooker, "commit", None, large)
        elif verb == "expire":
            onlooker.call("SELECT * FROM earmark.expire(1000)")  # what other tests left
            late(onlooker, large)
    for n in range(ROUNDS):
        named: Any = {f"{n:03}": {"images": 1}} if verb == "commit" and n % 2 else [f"{n:03}"]
        onlooker.rows_read()
        if verb == "expire":
            assert len(onlooker.call("SELECT * FROM earmark.expire(1)")) == 1
        else:
            assert len(settle(onlooker, verb, None, large, items=named)) == 1
        assert 1 <= onlooker.rows_read() <= 60


def test_the_onlooker_sees_what_functions_read(onlooker: Onlooker) -> None:
    """Nested statements, of both languages, are in its sight; else the tests above would pass blindly."""
    onlooker.connection.execute(
        "CREATE OR REPLACE FUNCTION pg_temp.outer_one() RETURNS bigint LANGUAGE plpgsql "
        "AS 'BEGIN RETURN (SELECT pg_temp.inner_one()); END'"
    )
    onlooker.connection.execute(
        "CREATE OR REPLACE FUNCTION pg_temp.inner_one() RETURNS bigint LANGUAGE sql SECURITY DEFINER "
        "AS 'SELECT count(amount) FROM earmark._private_hold'"
    )
    onlooker.plans.clear()
    onlooker.call("SELECT pg_temp.outer_one()")
    assert any(scan.startswith("Seq Scan on _private_hold") for scan in onlooker.scans())


def test_every_public_function_is_looked_at_or_known_not_to_be_hot(onlooker: Onlooker) -> None:
    everything(onlooker)
    public = onlooker.call(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'earmark'::regnamespace "
        "AND proname NOT LIKE '\\_private\\_%%'"
    )
    assert {name for (name,) in public} - onlooker.called == COLD & {name for (name,) in public}
