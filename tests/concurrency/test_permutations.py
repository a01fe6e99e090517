"""Every ordered pair of operations on the same holds, the second begun while the first is uncommitted.

Whatever the first does in the end, commit or roll back, both answers and what is left equal those of the two
operations done one after the other in one of the two orders, on a subject of their own.
"""

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count, product
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

Answer = list[str]
State = dict[str, Any]
ALIASES = """
CREATE FUNCTION public.alias(id uuid, target uuid) RETURNS text LANGUAGE sql IMMUTABLE
AS $$ SELECT CASE WHEN id = target THEN 'target' WHEN id IS NOT NULL THEN 'new' END $$
"""
OPERATIONS: dict[str, str] = {
    "reserve": """SELECT outcome, replayed, detail FROM earmark.reserve(jsonb_build_array(jsonb_build_object(
        'subject', %(subject)s::text, 'ttl_seconds', 600, 'items', '{"4": {"images": 1}}'::jsonb)))""",
    "reserve_by_key": """SELECT outcome, detail, public.alias(reservation, %(target)s) FROM earmark.reserve(
        jsonb_build_array(jsonb_build_object('subject', %(subject)s::text, 'key', 'k', 'ttl_seconds', 600,
            'items', '{"4": {"storage_bytes": 3}}'::jsonb)))""",
    "commit": """SELECT outcome, detail->'done' FROM earmark.commit(
        jsonb_build_array(jsonb_build_object('reservation', %(target)s::uuid)))""",
    "grow": """SELECT outcome, detail->'done', detail->'short' FROM earmark.commit(jsonb_build_array(jsonb_build_object(
        'reservation', %(target)s::uuid, 'grow', true, 'items', '{"1": {"images": 2, "storage_bytes": 7}}'::jsonb)))""",
    "rollback": """SELECT outcome, detail->'done' FROM earmark.rollback(
        jsonb_build_array(jsonb_build_object('reservation', %(target)s::uuid, 'cause', 'cancelled')))""",
    "extend": """SELECT outcome, detail->'done' FROM earmark.extend(
        jsonb_build_array(jsonb_build_object('reservation', %(target)s::uuid, 'ttl_seconds', 7200)))""",
    "refund": """SELECT outcome, detail->'done' FROM earmark.refund(
        jsonb_build_array(jsonb_build_object('reservation', %(target)s::uuid)))""",
    "expire": "SELECT subject = %(subject)s, item, resource, amount FROM earmark.expire() ORDER BY 1, 2, 3",
    "rollback_newest": """SELECT public.alias(reservation, %(target)s), item, returned
        FROM earmark.rollback_newest(%(subject)s, 'images', 1) ORDER BY 1, 2""",
    "adjust": """SELECT outcome, detail FROM earmark.adjust(
        jsonb_build_array(jsonb_build_object('subject', %(subject)s::text, 'resource', 'images', 'amount', -1,
            'reason', 'double', 'actor', 'support')))""",
    "usage": "SELECT resource, quota_limit, committed, held FROM earmark.usage(%(subject)s) ORDER BY 1",
    "verify": "SELECT figure, balance, holds, journal FROM earmark.verify(%(subject)s)",
    "configure_subject": "SELECT earmark.configure_subject(%(subject)s, quotas => '{\"images\": 4}')",
}
READING = {"usage", "verify"}
SKIPPING = {"expire"}
PAIRS = list(product(OPERATIONS, repeat=2))


@dataclass(frozen=True, slots=True)
class Bench:
    """The connections of the two and of the onlooker."""

    first: psycopg.Connection
    second: psycopg.Connection
    onlooker: psycopg.Connection
    thread: ThreadPoolExecutor
    serial: dict[tuple[str, ...], tuple[list[Answer], State]]


@pytest.fixture(scope="module")
def permuted_database(server: str, template: str) -> Iterator[str]:
    """Connection string of a migrated database for all pairs, whose books agree in the end."""
    name = sql.Identifier("permuted")
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(template)))
        url = make_conninfo(server, dbname="permuted")
        yield url
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT * FROM earmark.verify()").fetchall() == []
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture(scope="module")
def bench(permuted_database: str) -> Iterator[Bench]:
    """Three connections, and what each serial order was found to give."""
    with ExitStack() as stack:
        connections = [stack.enter_context(psycopg.connect(permuted_database, autocommit=True)) for _ in range(3)]
        connections[0].execute(ALIASES)
        yield Bench(*connections, stack.enter_context(ThreadPoolExecutor(1)), {})


_subjects = count()


def fresh(connection: psycopg.Connection) -> dict[str, Any]:
    """A subject whose images are used up: one item held, one committed, one overdue; the last could come back."""
    subject = f"s{next(_subjects)}"
    connection.execute("SELECT earmark.configure_subject(%s, 'pro', '{\"images\": 3}')", (subject,))
    items = {name: {"images": 1, "storage_bytes": 5} for name in "123"}
    request = json.dumps([{"subject": subject, "items": items, "ttl_seconds": 600}])
    granted = connection.execute("SELECT reservation FROM earmark.reserve(%s)", (request,)).fetchone()
    assert granted is not None
    paid = json.dumps([{"reservation": str(granted[0]), "items": ["2"]}])
    connection.execute("SELECT * FROM earmark.commit(%s)", (paid,))
    connection.execute(
        "UPDATE earmark._private_hold SET expires_at = clock_timestamp() - interval '1 second' "
        "WHERE reservation = %s AND item = '3'",
        granted,
    )
    return {"subject": subject, "target": granted[0]}


def run(connection: psycopg.Connection, operation: str, names: dict[str, Any]) -> Answer:
    """What the operation answers, without the name of the subject."""
    rows = connection.execute(OPERATIONS[operation], names).fetchall()  # type: ignore[arg-type]
    return [repr(row).replace(repr(names["subject"]), "'himself'") for row in rows]


def state(connection: psycopg.Connection, names: dict[str, Any]) -> State:
    """All that is kept of the subject, without ids and times; the journal by transactions, in their order."""
    queries = {
        "holds": "SELECT public.alias(reservation, %(target)s), item, resource, amount, committed, state, cause, "
        "replace(settled_by, subject, 'himself'), "
        "CASE WHEN state = 'held' THEN round(extract(epoch FROM expires_at - clock_timestamp()) / 600) END "
        "FROM earmark._private_hold WHERE subject = %(subject)s ORDER BY 1, 2, 3",
        "balances": "SELECT resource, committed, held, ceiling FROM earmark._private_balance "
        "WHERE subject = %(subject)s ORDER BY 1",
        "journal": "SELECT kind, public.alias(reservation, %(target)s), item, resource, committed, held, cause, "
        "replace(actor, subject, 'himself'), reason "
        "FROM (SELECT *, min(seq) OVER (PARTITION BY xmin::text) AS first FROM earmark._private_journal "
        "WHERE subject = %(subject)s) j ORDER BY first, 1, 2, 3, 4",
        "keys": "SELECT key, outcome, detail FROM earmark._private_reservation "
        "WHERE subject = %(subject)s ORDER BY 1, 2",
        "quotas": "SELECT resource, quota FROM earmark._private_subject_quota WHERE subject = %(subject)s",
    }
    return {what: connection.execute(query, names).fetchall() for what, query in queries.items()}


def close(connection: psycopg.Connection, names: dict[str, Any]) -> None:
    """The books agree, and nothing overdue is left for the sweeps of other pairs."""
    assert connection.execute("SELECT * FROM earmark.verify(%(subject)s)", names).fetchall() == []
    run(connection, "rollback", names)


def one_after_the_other(bench: Bench, *operations: str) -> tuple[list[Answer], State]:
    """Answers and end of the operations on a subject of their own; found once."""
    if operations not in bench.serial:
        names = fresh(bench.onlooker)
        answers = [run(bench.onlooker, operation, names) for operation in operations]
        bench.serial[operations] = answers, state(bench.onlooker, names)
        close(bench.onlooker, names)
    return bench.serial[operations]


def waits(bench: Bench, second: Future[Answer]) -> bool:
    """Whether the second operation waits for the first one's transaction, rather than being done."""
    pids = (bench.first.info.backend_pid, bench.second.info.backend_pid)
    for _ in range(100_000):
        if second.done():
            return False
        if bench.onlooker.execute("SELECT %s = ANY (pg_blocking_pids(%s))", pids).fetchone() == (True,):
            return True
    pytest.fail("the second operation neither ended nor waited for the first")


def interleaved(bench: Bench, first: str, second: str, *, undone: bool) -> tuple[list[Answer], State, bool]:
    """Both on one subject, the second begun before the first is committed or undone; and whether it had to wait."""
    names = fresh(bench.onlooker)
    with bench.first.transaction(force_rollback=undone):
        answer = run(bench.first, first, names)
        future = bench.thread.submit(run, bench.second, second, names)
        waited = waits(bench, future)
    answers = [answer, future.result(timeout=60)]
    if second in SKIPPING and first not in READING:
        assert answers[1] == [], "locked by another: passed over, and taken in the next round"
        answers[1] = run(bench.second, second, names)
    found = state(bench.onlooker, names)
    close(bench.onlooker, names)
    return answers, found, waited


@pytest.mark.parametrize("first", OPERATIONS)
def test_committed_it_is_as_if_one_had_come_after_the_other(bench: Bench, first: str) -> None:
    for second in OPERATIONS:
        answers, found, waited = interleaved(bench, first, second, undone=False)
        assert waited == (first not in READING and second not in READING | SKIPPING), second
        in_order = one_after_the_other(bench, first, second)
        if (answers, found) == in_order:
            continue
        assert second in READING or first in READING, (second, answers, found, in_order)
        reverse, end = one_after_the_other(bench, second, first)
        assert (answers, found) == (reverse[::-1], end), second


@pytest.mark.parametrize("first", OPERATIONS)
def test_undone_it_is_as_if_only_the_second_had_come(bench: Bench, first: str) -> None:
    for second in OPERATIONS:
        answers, found, waited = interleaved(bench, first, second, undone=True)
        assert waited == (first not in READING and second not in READING | SKIPPING), second
        assert (answers[1:], found) == one_after_the_other(bench, second), second


def test_the_operations_differ_in_what_they_leave(bench: Bench) -> None:
    """Were all ends alike, the comparisons above would show nothing."""
    ends = [one_after_the_other(bench, operation)[1] for operation in OPERATIONS if operation not in READING]
    assert all(ends.count(end) == 1 for end in ends)
    orders = [(one_after_the_other(bench, a, b)[1], one_after_the_other(bench, b, a)[1]) for a, b in PAIRS]
    assert sum(one != other for one, other in orders) >= len(PAIRS) // 3
