"""Trees of subjects under load: nobody deadlocks, a shared quota is exact, and a move meets no call in its middle."""

import json
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import psycopg
import pytest

from earmark import InvalidRequest, Ledger
from fixtures.races import CONNECTIONS, all_at_once

TREES = 10
ROUNDS = 60


def plant(ledger: Ledger, root: str) -> list[str]:
    """A tree: an organisation, a team, a subteam and two users; its names in an order unlike that of their levels."""
    org, team, subteam, first, second = (f"{letter}-{root}" for letter in "memaz")
    team, subteam = f"{team}-team", f"{subteam}-sub"
    ledger.configure_subject(org, plan="pro", quotas={"images": 40})
    for name, parent in ((team, org), (subteam, team), (first, subteam), (second, team)):
        ledger.configure_subject(name, plan="pro", parent=parent)
    return [org, team, subteam, first, second]


class Contender:
    """One connection that sends random batches over all trees."""

    def __init__(self, connection: psycopg.Connection, trees: list[list[str]], chance: random.Random) -> None:
        self.connection = connection
        self.trees = trees
        self.chance = chance
        self.open: list[str] = []
        self.outcomes: Counter[str] = Counter()

    def run(self) -> Counter[str]:
        acts = [self.reserve, self.reserve, self.settle, self.adjust, self.configure, self.move, self.expire]
        for _ in range(ROUNDS):
            self.chance.choice(acts)()
        return self.outcomes

    def some(self, most: int) -> list[str]:
        everybody = [name for tree in self.trees for name in tree]
        return self.chance.sample(everybody, self.chance.randint(1, most))

    def call(self, function: str, requests: list[dict[str, Any]]) -> list[Any]:
        column = "reservation::text" if function == "reserve" else "NULL"
        rows = self.connection.execute(
            f"SELECT outcome, {column} FROM earmark.{function}(%s::jsonb)",  # type: ignore[arg-type]  # noqa: S608
            (json.dumps(requests),),
        ).fetchall()
        self.outcomes.update(row[0] for row in rows)
        return rows

    def reserve(self) -> None:
        ttl = self.chance.choice([0.01, 60])
        requests = [{"subject": name, "items": {"1": {"images": 1}}, "ttl_seconds": ttl} for name in self.some(12)]
        self.open += [row[1] for row in self.call("reserve", requests) if row[1] is not None]

    def settle(self) -> None:
        chosen = self.chance.sample(self.open, min(len(self.open), 8))
        requests = [{"reservation": one, "cause": "cancelled"} for one in chosen]
        self.call(self.chance.choice(["rollback", "commit"]), requests)

    def adjust(self) -> None:
        about = {"resource": "images", "amount": self.chance.choice([-2, -1, 1]), "reason": "r", "actor": "a"}
        self.call("adjust", [{"subject": name, **about} for name in self.some(5)])

    def configure(self) -> None:
        (name,) = self.some(1)
        self.connection.execute("SELECT earmark.configure_subject(%s, plan => 'pro')", (name,))

    def move(self) -> None:
        """Within the tree; a user goes from the subteam to the team, or back."""
        _, team, subteam, first, _ = self.chance.choice(self.trees)
        parent = self.chance.choice([team, subteam])
        self.connection.execute("SELECT earmark.configure_subject(%s, parent => %s)", (first, parent))

    def expire(self) -> None:
        self.connection.execute("SELECT count(*) FROM earmark.expire(5)")


def test_random_batches_over_50_subjects_in_10_trees_never_deadlock(
    ledger: Ledger, connections: list[psycopg.Connection]
) -> None:
    seed = random.Random(5)
    trees = [plant(ledger, str(number)) for number in range(TREES)]
    contenders = [Contender(connection, trees, random.Random(seed.random())) for connection in connections]
    outcomes = sum(all_at_once([contender.run for contender in contenders]), Counter())
    assert {"granted", "denied", "adjusted", "committed", "rolled_back"} <= outcomes.keys()


def test_siblings_at_once_never_pass_what_their_team_has(ledger: Ledger, connections: list[psycopg.Connection]) -> None:
    ledger.configure_subject("team", quotas={"images": 50})
    for number in range(CONNECTIONS):
        ledger.configure_subject(f"s{number}", plan="pro", parent="team")

    def five(name: str, connection: psycopg.Connection) -> list[bool]:
        return [ledger.reserve(name, {"images": 1}, connection=connection).granted for _ in range(5)]

    answers = all_at_once(
        [lambda name=f"s{n}", connection=connection: five(name, connection) for n, connection in enumerate(connections)]
    )
    assert Counter(granted for part in answers for granted in part) == {True: 50, False: 5 * CONNECTIONS - 50}
    assert ledger.usage("team").resources["images"].held == 50


def test_a_subject_moves_before_his_first_grant_or_not_at_all(
    ledger: Ledger, connections: list[psycopg.Connection]
) -> None:
    """While he is put into a tree, at one moment from nowhere and at the next from another tree, others reserve."""
    ledger.configure_subject("m", plan="pro")
    ledger.configure_subject("b", plan="pro")
    mover, *reservers = connections[:6]
    barrier = Barrier(6)
    rounds = 40

    def move() -> list[bool]:
        moved = []
        for number in range(rounds):
            if number % 2:
                ledger.configure_subject(f"n{number}", plan="pro", parent="b", connection=mover)
            barrier.wait(timeout=60)
            try:
                ledger.configure_subject(f"n{number}", plan="pro", parent="m", connection=mover)
                moved.append(True)
            except InvalidRequest:
                moved.append(False)
            barrier.wait(timeout=60)
        return moved

    def reserve(connection: psycopg.Connection) -> None:
        for number in range(rounds):
            barrier.wait(timeout=60)
            assert ledger.reserve(f"n{number}", {"images": 1}, connection=connection)
            barrier.wait(timeout=60)

    with ThreadPoolExecutor(6) as threads:
        moving = threads.submit(move)
        list(threads.map(reserve, reservers))
        moved = moving.result()
    for number in range(rounds):
        expected = ("m",) if moved[number] else ("b",) if number % 2 else ()
        assert ledger.subject(f"n{number}").ancestors == expected
        assert ledger.usage(f"n{number}").resources["images"].held == len(reservers)
    elsewhere = mover.execute(
        "SELECT b.subject FROM earmark._private_balance b JOIN earmark._private_subject s USING (subject) "
        "WHERE b.root <> s.root"
    ).fetchall()
    assert elsewhere == []
    assert ledger.usage("m").resources["images"].held == len(reservers) * sum(moved)


@pytest.mark.parametrize("before", [None, "b"])
def test_a_call_that_waited_for_a_move_waits_for_the_new_tree_too(
    ledger: Ledger, connections: list[psycopg.Connection], before: str | None
) -> None:
    """What `m` has left is being taken when `n`, who was just put under it, goes on: he must see that it is gone."""
    ledger.configure_subject("b", plan="pro")
    ledger.configure_subject("m", plan="pro", quotas={"images": 1})
    ledger.configure_subject("n", plan="pro", parent=before)
    ledger.configure_subject("sibling", plan="pro", parent="m")
    mover, waiter, holder, onlooker = connections[:4]

    def until_blocked_by(other: psycopg.Connection) -> None:
        blocked, blocking = waiter.info.backend_pid, [other.info.backend_pid]
        while onlooker.execute("SELECT pg_blocking_pids(%s)", (blocked,)).fetchone() != (blocking,):
            assert not reserving.done()

    with ThreadPoolExecutor(1) as threads:
        with holder.transaction():
            with mover.transaction():
                mover.execute("SELECT FROM earmark._private_subject WHERE subject IN ('n', 'b') FOR NO KEY UPDATE")
                mover.execute(
                    "UPDATE earmark._private_subject SET root = 'm', ancestors = '{n, m}' WHERE subject = 'n'"
                )
                reserving = threads.submit(ledger.reserve, "n", {"images": 1}, connection=waiter)
                until_blocked_by(mover)
                assert ledger.reserve("sibling", {"images": 1}, connection=holder)
            until_blocked_by(holder)
        assert [short.subject for short in reserving.result(timeout=60).short] == ["m"]
    assert ledger.usage("m").resources["images"].held == 1
