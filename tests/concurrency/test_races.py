"""Many connections at once: what is granted is exact, what is given back is given back once, and nobody deadlocks."""

import asyncio
import json
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from earmark import AsyncLedger, Cause, Late, Ledger
from earmark.migrate import migrate
from earmark.model import PlanQuota
from fixtures.races import CONNECTIONS, all_at_once

USER = UUID(int=9)


def test_200_reserves_on_a_quota_of_50_grant_50(ledger: Ledger, connections: list[psycopg.Connection]) -> None:
    ledger.configure_subject("a", quotas={"images": 50})

    def ten(connection: psycopg.Connection) -> list[bool]:
        return [ledger.reserve("a", {"images": 1}, connection=connection).granted for _ in range(10)]

    answers = all_at_once([lambda connection=connection: ten(connection) for connection in connections])
    assert Counter(granted for part in answers for granted in part) == {True: 50, False: 150}
    assert ledger.usage("a").resources["images"].held == 50


def test_200_reserves_from_several_coalescing_ledgers_grant_50(ledger: Ledger, database: str) -> None:
    ledger.configure_subject("a", quotas={"images": 50})

    async def race() -> list[bool]:
        ledgers = [AsyncLedger(database, max_connections=2) for _ in range(5)]
        for one in ledgers:
            await one.open()
        try:
            calls = [ledgers[number % 5].reserve("a", {"images": 1}) for number in range(200)]
            return [reservation.granted for reservation in await asyncio.gather(*calls)]
        finally:
            for one in ledgers:
                await one.close()

    assert Counter(asyncio.run(race())) == {True: 50, False: 150}
    assert ledger.usage("a").resources["images"].held == 50


def test_what_many_configure_at_once_is_told_as_one_after_the_other(
    ledger: Ledger, connections: list[psycopg.Connection]
) -> None:
    ledger.configure_subject("a", plan="pro")

    def configure(number: int, connection: psycopg.Connection) -> None:
        ledger.configure_subject("a", quotas={"images": number}, connection=connection)
        ledger.configure_plan(
            "pro", quotas={"images": PlanQuota(number, "P1M", refundable=False)}, connection=connection
        )

    all_at_once([partial(configure, 1000 + number, one) for number, one in enumerate(connections)])
    told = ledger.explain("a", max_changes=1000).configured[::-1]
    for plan, first in ((None, None), ("pro", 500)):
        steps = [(one.was, one.became) for one in told if one.plan == plan]
        assert len(steps) == len(connections)
        assert [was for was, _ in steps] == [first, *(became for _, became in steps[:-1])]


def test_200_slots_by_rpc_on_a_quota_of_50_grant_50(ledger: Ledger, connections: list[psycopg.Connection]) -> None:
    ledger.configure_subject(str(USER), quotas={"images": 50})

    def ten(connection: psycopg.Connection) -> list[bool]:
        return [
            connection.execute("SELECT success FROM earmark.check_and_reserve_slots(%s)", (USER,)).fetchone()[0]  # type: ignore[index]
            for _ in range(10)
        ]

    answers = all_at_once([lambda connection=connection: ten(connection) for connection in connections])
    assert Counter(granted for part in answers for granted in part) == {True: 50, False: 150}
    row = connections[0].execute("SELECT * FROM earmark.get_user_quota(%s)", (USER,)).fetchone()
    assert row == (50, 50, 0)


def test_one_key_sent_many_times_at_once_reserves_once(ledger: Ledger, connections: list[psycopg.Connection]) -> None:
    grants = all_at_once(
        [
            lambda connection=connection: ledger.reserve("a", {"images": 2}, key="k", connection=connection).grant
            for connection in connections
        ]
    )
    assert len({grant.reservation for grant in grants}) == 1
    assert Counter(grant.replayed for grant in grants) == {False: 1, True: CONNECTIONS - 1}
    assert ledger.usage("a").resources["images"].held == 2


@pytest.mark.parametrize("verb", ["rollback", "refund"])
def test_one_call_sent_20_times_at_once_returns_quota_once(
    ledger: Ledger, connections: list[psycopg.Connection], verb: str
) -> None:
    kept, reservation = ledger.reserve("a", {"storage_bytes": 2}).id, ledger.reserve("a", {"storage_bytes": 3}).id
    call = partial(ledger.rollback, reservation, cause=Cause.CANCELLED)
    if verb == "refund":
        ledger.commit(reservation)
        call = partial(ledger.refund, reservation)
    settlements = all_at_once([partial(call, connection=connection) for connection in connections])
    outcomes = Counter(settlement.outcome for settlement in settlements)
    done = {"rollback": "rolled_back", "refund": "refunded"}[verb]
    assert outcomes == {done: 1, f"already_{done}": CONNECTIONS - 1}
    assert sum(settlement.returned.get("storage_bytes", 0) for settlement in settlements) == 3
    assert ledger.usage("a").resources["storage_bytes"].used == 2
    assert ledger.reservation(kept)


def test_the_count_form_returns_only_what_is_open(ledger: Ledger, connections: list[psycopg.Connection]) -> None:
    """40 are committed and 3 open: of 1000 asked for, by 20 callers at once, 3 come back."""
    for _ in range(4):
        ledger.commit(ledger.reserve(str(USER), {"images": 10}).id)
    for _ in range(3):
        ledger.reserve(str(USER), {"images": 1})
    answers = all_at_once(
        [
            lambda connection=connection: connection.execute(
                "SELECT rolled_back, used FROM earmark.decrement_user_image_count(%s, p_count => 1000)", (USER,)
            ).fetchone()
            for connection in connections
        ]
    )
    assert Counter(answers) == {(3, 40): 1, (0, 40): CONNECTIONS - 1}


def test_expiry_cancel_and_commit_race_for_the_same_hold(ledger: Ledger, connections: list[psycopg.Connection]) -> None:
    """500 holds, whose deadline passes while they are settled: exactly one of the three wins each."""
    reservations = [ledger.reserve(f"s{number % 7}", {"images": 1}).id for number in range(500)]
    sweeper, canceller, committer = connections[:3]
    barrier = Barrier(3)
    chance = random.Random(3)

    def expire(reservation: UUID) -> bool:
        sweeper.execute(
            "UPDATE earmark._private_hold SET expires_at = clock_timestamp() + %s * interval '1 microsecond' "
            "WHERE reservation = %s",
            (chance.randrange(2000), reservation),
        )
        barrier.wait(timeout=60)
        return bool(ledger.sweep(max_holds=1, max_batches=1, connection=sweeper))

    def cancel(reservation: UUID) -> bool:
        barrier.wait(timeout=60)
        return ledger.rollback(reservation, cause=Cause.CANCELLED, connection=canceller).outcome == "rolled_back"

    def commit(reservation: UUID) -> bool:
        barrier.wait(timeout=60)
        return ledger.commit(reservation, late=Late.REFUSE, connection=committer).outcome == "committed"

    with ThreadPoolExecutor(3) as threads:
        racing = [
            threads.submit(lambda act=act: [act(one) for one in reservations]) for act in (expire, cancel, commit)
        ]
        swept, cancelled, committed = [future.result() for future in racing]
    for number, reservation in enumerate(reservations):
        story = ledger.reservation(reservation)
        assert story is not None
        item = story.items["1"]
        assert (item.state == "committed", item.cause is Cause.CANCELLED) == (committed[number], cancelled[number])
        assert committed[number] + cancelled[number] + (item.cause is Cause.EXPIRED) == 1
        assert item.cause is Cause.EXPIRED or not swept[number]
    closings = sweeper.execute(
        "SELECT count(*), count(DISTINCT reservation) FROM earmark._private_journal WHERE kind <> 'reserve'"
    ).fetchone()
    assert closings == (500, 500)


def test_overlapping_batches_in_opposite_order_never_deadlock(
    ledger: Ledger, connections: list[psycopg.Connection]
) -> None:
    """100 rounds on 16 connections over 50 subjects, some of them seen for the first time."""
    seed = random.Random(4)
    opened = [str(ledger.reserve(f"s{number}", {"images": 1}).id) for number in range(0, 50, 2)]

    def rounds(connection: psycopg.Connection, chance: random.Random) -> Counter[str]:
        answers: Counter[str] = Counter()
        for _ in range(100):
            subjects = chance.sample(range(50), chance.randint(2, 12))
            request = [{"subject": f"s{subject}", "items": {"1": {"images": 1}}} for subject in subjects]
            rows = connection.execute("SELECT outcome FROM earmark.reserve(%s::jsonb)", (json.dumps(request),))
            answers.update(row[0] for row in rows.fetchall())
            settle = [{"reservation": one, "cause": "cancelled"} for one in chance.sample(opened, 6)]
            connection.execute("SELECT * FROM earmark.rollback(%s::jsonb)", (json.dumps(settle),))
        return answers

    contenders = [(connection, random.Random(seed.random())) for connection in connections[:16]]
    answers = all_at_once([lambda pair=pair: rounds(*pair) for pair in contenders])
    assert sum(answers, Counter()).keys() <= {"granted", "denied"}


def test_20_migrators_at_once_make_one_schema(server: str, template: str) -> None:
    name = sql.Identifier("migrators")
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(name))
        url = make_conninfo(server, dbname="migrators")

        def run() -> int:
            with psycopg.connect(url, autocommit=True) as connection:
                return len(migrate(connection, default_plan="pro"))

        applied = all_at_once([run] * 20)
        assert sorted(applied)[:-1] == [0] * 19
        assert max(applied) > 0
        with psycopg.connect(url) as many, psycopg.connect(make_conninfo(server, dbname=template)) as once:
            assert schema(many) == schema(once)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def schema(connection: psycopg.Connection) -> dict[str, list[Any]]:
    queries = {
        "columns": "SELECT table_name, column_name, data_type, column_default, is_nullable "
        "FROM information_schema.columns WHERE table_schema = 'earmark'",
        "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'earmark'::regnamespace",
        "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'earmark'",
        "functions": "SELECT proname, pg_get_functiondef(oid), proacl::text FROM pg_proc "
        "WHERE pronamespace = 'earmark'::regnamespace AND prokind = 'f'",
        "files": "SELECT file, sha256 FROM earmark._private_migration",
        "plans": "SELECT plan, resource, quota_limit FROM earmark.plans()",
        "settings": "SELECT name, value FROM earmark._private_setting",
    }
    return {what: sorted(connection.execute(query).fetchall(), key=repr) for what, query in queries.items()}  # type: ignore[arg-type]
