"""Followers: every committed entry once, none missed, each subject's in the order of its seq, whoever commits when."""

import random
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event

import psycopg
import pytest
from psycopg.rows import tuple_row

from earmark import Cause, InvalidRequest, Ledger
from earmark.model import Followed

WRITERS = 8
ROUNDS = 40
SUBJECTS = 5


@pytest.fixture
def connections(database: str) -> Iterator[list[psycopg.Connection]]:
    """Open connections, not in autocommit."""
    with ExitStack() as stack:
        yield [stack.enter_context(psycopg.connect(database, row_factory=tuple_row)) for _ in range(WRITERS + 1)]


def begin(connection: psycopg.Connection) -> int:
    """Starts a transaction that has its number from now on."""
    row = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
    assert row is not None
    return row[0]


def seen(followed: tuple[Followed, ...]) -> list[tuple[str, int]]:
    return [(one.subject, one.entry.seq) for one in followed]


def test_a_late_committing_transaction_is_not_missed(ledger: Ledger, connections: list[psycopg.Connection]) -> None:
    late = connections[0]
    ledger.reserve("late", {"images": 1}, connection=late)
    ledger.reserve("early", {"images": 1})
    first = ledger.follow()
    late.commit()
    cursor = first[-1].cursor if first else None
    assert sorted(seen(first) + seen(ledger.follow(cursor))) == [("early", 1), ("late", 1)]


def test_seq_order_holds_though_the_elder_transaction_writes_last(
    ledger: Ledger, connections: list[psycopg.Connection]
) -> None:
    """And a third one, of an age between, keeps what is settled below it and above it apart."""
    elder, between, younger = connections[:3]
    assert begin(elder) < begin(between) < begin(younger)
    ledger.reserve("a", {"images": 1}, connection=younger)
    younger.commit()
    ledger.reserve("a", {"images": 1}, connection=elder)
    elder.commit()
    first = ledger.follow()
    between.commit()
    rest = ledger.follow(first[-1].cursor if first else None)
    assert seen(first) + seen(rest) == [("a", 1), ("a", 2)]
    assert [len(ledger.follow(cursor)) for cursor in (None, rest[0].cursor, rest[1].cursor)] == [2, 1, 0]


def test_a_tree_is_followed_in_order_at_every_level(
    ledger: Ledger, connections: list[psycopg.Connection], connection: psycopg.Connection
) -> None:
    ledger.configure_subject("team", plan="pro")
    connection.execute(
        "INSERT INTO earmark._private_subject (root, subject, ancestors, plan) "
        "VALUES ('team', 'a', '{a,team}', 'pro'), ('team', 'b', '{b,team}', 'pro')"
    )
    elder, between, younger = connections[:3]
    begin(elder), begin(between), begin(younger)
    ledger.reserve("a", {"images": 1}, connection=younger)
    younger.commit()
    ledger.reserve("b", {"images": 1}, connection=elder)
    elder.commit()
    first = seen(ledger.follow())
    between.commit()
    assert [entry for entry in first + seen(ledger.follow())[len(first) :] if entry[0] == "team"] == [
        ("team", 1),
        ("team", 2),
    ]


def test_what_is_rolled_back_or_not_committed_is_not_seen(
    ledger: Ledger, connections: list[psycopg.Connection]
) -> None:
    own, other = connections[:2]
    ledger.reserve("a", {"images": 1})
    ledger.reserve("a", {"images": 1}, connection=own)
    ledger.reserve("b", {"images": 1}, connection=other)
    assert seen(ledger.follow(connection=own)) == [("a", 1)]
    other.rollback()
    own.commit()
    assert seen(ledger.follow()) == [("a", 1), ("a", 2)]


@pytest.mark.parametrize(
    "cursor", ["", "x", "{}", "[]", "null", '["x","a","a",1]', '["1","a","a"]', '["1",null,"a",2]']
)
def test_only_a_cursor_is_a_cursor(ledger: Ledger, cursor: str) -> None:
    with pytest.raises(InvalidRequest):
        ledger.follow(cursor)


def test_it_reads_by_the_index(ledger: Ledger, connection: psycopg.Connection) -> None:
    """However long the journal: where the cursor is, there it begins."""
    connection.execute("SET enable_seqscan = off")
    plan = connection.execute(
        "EXPLAIN SELECT FROM earmark._private_journal j WHERE j.transaction >= '1000' "
        "AND j.transaction < pg_snapshot_xmin(pg_current_snapshot()) "
        "AND (j.transaction, j.root, j.subject, j.seq) > ('1000', 'a', 'a', 1) "
        "ORDER BY j.transaction, j.root, j.subject, j.seq LIMIT 10"
    ).fetchall()
    assert any("_private_journal_followed" in row[0] for row in plan)


def write(ledger: Ledger, connection: psycopg.Connection, chance: random.Random) -> None:
    """Transactions of all kinds: young and old when they write, of one subject or two, kept or not."""
    for _ in range(ROUNDS):
        connection.isolation_level = chance.choice([None, None, psycopg.IsolationLevel.REPEATABLE_READ])
        try:
            if chance.random() < 0.7:
                begin(connection)
            for subject in sorted(chance.sample(range(SUBJECTS), chance.choice([1, 1, 2]))):
                reservation = ledger.reserve(f"s{subject}", {"images": 1}, connection=connection).id
                if chance.random() < 0.5:
                    ledger.rollback(reservation, cause=Cause.CANCELLED, connection=connection)
        except psycopg.errors.SerializationFailure:
            connection.rollback()
            continue
        if chance.random() < 0.2:
            connection.rollback()
        else:
            connection.commit()


def follow(ledger: Ledger, over: Event, chance: random.Random) -> list[Followed]:
    """Asks again and again, in pages of any size, until the writers are done and nothing is left."""
    taken: list[Followed] = []
    for _ in range(100_000):
        done = over.is_set()
        page = ledger.follow(taken[-1].cursor if taken else None, max_entries=chance.randint(1, 20))
        taken += page
        if done and not page:
            return taken
    raise AssertionError("the follower never came to the end")


@pytest.mark.parametrize("seed", range(3))
def test_many_writers_one_follower(
    ledger: Ledger, connections: list[psycopg.Connection], connection: psycopg.Connection, seed: int
) -> None:
    """While 8 connections write to 5 subjects, and transactions that write nothing keep the numbers apart."""
    dice = random.Random(seed)
    over = Event()
    with ThreadPoolExecutor(WRITERS + 1) as threads:
        following = threads.submit(follow, ledger, over, random.Random(dice.random()))
        writing = [threads.submit(write, ledger, one, random.Random(dice.random())) for one in connections[:WRITERS]]
        try:
            for future in writing:
                future.result()
        finally:
            for one in connections:
                one.rollback()
            over.set()
        followed = following.result()
    by_subject: dict[str, list[int]] = defaultdict(list)
    for one in followed:
        by_subject[one.subject].append(one.entry.seq)
    written = dict(
        connection.execute("SELECT subject, entries FROM earmark._private_subject WHERE entries > 0").fetchall()
    )
    assert by_subject == {subject: list(range(1, entries + 1)) for subject, entries in written.items()}
    assert sum(written.values()) > ROUNDS
