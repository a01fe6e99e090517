"""Repair beside live traffic: nobody is disturbed, nothing is lost, and at the end all agrees."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import psycopg

from earmark import Cause, Ledger

ROUNDS = 60


def live(ledger: Ledger, connection: psycopg.Connection, chance: random.Random) -> int:
    """Reserves and settles; how much it left held."""
    held = 0
    for _ in range(ROUNDS):
        reservation = ledger.reserve(f"s{chance.randrange(4)}", {"images": 2}, connection=connection).id
        fate = chance.randrange(3)
        if fate == 0:
            assert ledger.commit(reservation, amounts={"images": 1}, connection=connection).outcome == "committed"
        elif fate == 1:
            answer = ledger.rollback(reservation, cause=Cause.CANCELLED, connection=connection)
            assert answer.returned == {"images": 2}
        else:
            held += 2
    return held


def spoil(_: Ledger, connection: psycopg.Connection) -> None:
    connection.execute("UPDATE earmark._private_balance SET committed = committed + 3 WHERE subject = 's1'")
    connection.execute("UPDATE earmark._private_balance SET held = held + 2, committed = 0 WHERE subject = 's2'")


def repair(ledger: Ledger, connection: psycopg.Connection) -> None:
    ledger.repair("live", connection=connection)


def prune(_: Ledger, connection: psycopg.Connection) -> None:
    connection.execute("SELECT * FROM earmark.prune_settled(clock_timestamp())")
    connection.execute("SELECT * FROM earmark.prune_journal(clock_timestamp(), 5)")


def test_repair_and_pruning_beside_live_traffic(ledger: Ledger, database: str) -> None:
    """4 connections reserve and settle, one spoils balances, one repairs, one prunes."""
    over = Event()
    for number in range(4):
        ledger.configure_subject(f"s{number}", plan="enterprise")

    def traffic(seed: int) -> int:
        with psycopg.connect(database, autocommit=True) as connection:
            return live(ledger, connection, random.Random(seed))

    def until_over(work: Callable[[Ledger, psycopg.Connection], None]) -> int:
        with psycopg.connect(database, autocommit=True) as connection:
            for rounds in range(10_000):
                work(ledger, connection)
                if over.is_set():
                    return rounds
        raise AssertionError("the traffic never ended")

    with ThreadPoolExecutor(7) as threads:
        users = [threads.submit(traffic, seed) for seed in range(4)]
        others = [threads.submit(until_over, work) for work in (spoil, repair, prune)]
        try:
            held = sum(user.result() for user in users)
        finally:
            over.set()
        assert min(other.result() for other in others) >= 0
    ledger.repair("at the end")
    assert ledger.verify() == ()
    assert sum(ledger.usage(f"s{number}").resources["images"].held for number in range(4)) == held
    assert ledger.repair("nothing left") == ()
