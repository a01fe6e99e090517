"""The scenarios of ../shared/cases that concern the ledger alone, played step by step against the real database."""

import json
import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from earmark import Cause, InvalidRequest, KeyConflict, Late, Ledger, SchemaMismatch

CASES = Path(__file__).parents[2].parent / "shared/cases/scenarios.json"
SCENARIOS: dict[str, Any] = (
    {scenario["id"]: scenario for scenario in json.loads(CASES.read_text(encoding="utf-8"))["scenarios"]}
    if CASES.exists()
    else {}
)
PLAYED = [
    "Q01",
    "Q04",
    "Q05",
    "Q07",
    "Q08",
    "Q09",
    "Q10",
    "Q12",
    "Q14",
    "Q16",
    "Q17",
    "Q19",
    "Q20",
    "Q24",
    "Q27",
    "Q30",
    "Q34",
    "Q35",
    "Q38",
    "Q39",
    "Q41",
    "Q43",
    "Q45",
    "Q47",
    "Q48",
    "Q55",
    "Q60",
    "Q61",
    "Q62",
    "Q64",
    "Q66",
    "Q67",
    "Q68",
    "Q69",
    "Q70",
    "Q72",
    "Q76",
]
EXCUSED = {
    "Q21": "limits are only ever set to absolute values; that setting one twice is harmless is tested below",
    "Q26": "fencing by attempt: played in tests/worker/test_scenarios.py",
    "Q32": "a result before its upload: see tests/worker/test_scenarios.py",
    "Q50": "there is no transfer of an asset to another owner",
    "Q53": "nothing is replaced in place: every upload is a new object under a new reservation",
    "Q56": "how many bytes a signed upload takes: played in tests/worker/test_scenarios.py",
    "Q57": "that an upload address is spent once used belongs to storage",
    **dict.fromkeys(
        ("V01", "V03", "V05", "V06", "V07", "V08", "V09", "V10", "V11", "V13", "V14"),
        "image validation: played in tests/worker/test_scenarios.py",
    ),
}
REACQUIRING = {"Q27"}
"""Where `accept_also` allows that a late success takes quota anew."""
ANSWERS = {
    "commit": {"committed": "committed", "already_committed": "already", "not_found": "not_found"},
    "rollback": {"rolled_back": "released", "not_found": "not_found"},
    "delete": {"refunded": "ok", "already_refunded": "not_found"},
}
FAULTS = {
    "database error between raising held and writing the reservation row": (
        "ALTER TABLE earmark._private_hold ADD CONSTRAINT fault CHECK (false) NOT VALID",
        "ALTER TABLE earmark._private_hold DROP CONSTRAINT fault",
    ),
    "quota tables cannot be read or written for 5 s": (
        "ALTER TABLE earmark._private_balance RENAME TO _private_gone",
        "ALTER TABLE earmark._private_gone RENAME TO _private_balance",
    ),
}

needs_cases = pytest.mark.skipif(not SCENARIOS, reason=f"{CASES} is missing")


class Player:
    """Plays one scenario, checking after every step what the step expects and what must always be true."""

    def __init__(self, scenario: dict[str, Any], ledger: Ledger, connection: psycopg.Connection, clock: Any) -> None:
        self.scenario = scenario
        self.ledger = ledger
        self.connection = connection
        self.clock = clock
        self.late = Late.REACQUIRE if scenario["id"] in REACQUIRING else Late.REFUSE
        self.named: dict[str, tuple[UUID, list[str] | None]] = {}
        self.asked: dict[str, dict[str, Any]] = {}
        self.assets: dict[str, UUID | None] = {}
        self.fault: tuple[str, str] | None = None
        self.journal: list[Any] = []

    def play(self) -> None:
        self.set_up()
        for number, step in enumerate(self.scenario["steps"]):
            where = f"{self.scenario['id']} step {number}: {json.dumps(step)}"
            answer = self.do(step)
            expected = step.get("expect")
            if expected is not None:
                assert answer in (expected if isinstance(expected, list) else [expected]), where
            self.check_invariants(where)
        self.check(self.scenario["expected"]["final"], "final figures")

    def set_up(self) -> None:
        given = self.scenario["given"]
        self.clock.set(given.get("clock", "2026-03-10T12:00:00Z"))
        for account, state in given["accounts"].items():
            anchor = datetime.fromisoformat(state.get("period_anchor", "2026-01-01T00:00:00Z"))
            limits = {"images": None, "storage_bytes": None} | state["limits"]
            self.ledger.configure_subject(account, plan="pro", quotas=_quotas(limits), anchor=anchor)
            left = dict(state.get("used", {}))
            for asset in given.get("assets", []):
                if asset["account"] == account:
                    self.assets[asset["id"]] = None
                    if asset.get("charged", True):
                        self.assets[asset["id"]] = self.use(account, {"storage_bytes": asset["storage_bytes"]})
                        left["storage_bytes"] -= asset["storage_bytes"]
            self.use(account, {resource: amount for resource, amount in left.items() if amount})

    def use(self, account: str, amounts: dict[str, int]) -> UUID | None:
        if not amounts:
            return None
        reservation = self.ledger.reserve(account, amounts).id
        assert self.ledger.commit(reservation).outcome == "committed"
        return reservation

    def do(self, step: dict[str, Any]) -> str | None:
        verb: Callable[[dict[str, Any]], str | None] = getattr(self, f"do_{step['do']}")
        return verb(step)

    def do_note(self, _step: dict[str, Any]) -> None:
        """For a reader."""

    def do_restart(self, _step: dict[str, Any]) -> None:
        """Every connection is a new one."""
        self.ledger.close()
        self.ledger = Ledger(self.connection.info.dsn, max_connections=8)
        self.ledger.open()

    def do_inject(self, step: dict[str, Any]) -> None:
        if step["applies"]:
            self.fault = FAULTS[step["what"]]

    def do_reserve(self, step: dict[str, Any]) -> str:
        fault, self.fault = self.fault, None
        if fault is not None:
            self.connection.execute(fault[0])  # type: ignore[arg-type]
        try:
            return self.reserve(step["account"], {"1": step["amounts"]}, step)
        except InvalidRequest:
            return "invalid"
        except KeyConflict:
            return "key_conflict"
        except (psycopg.Error, SchemaMismatch):  # both are a 503
            if fault is None:
                raise
            return "unavailable"
        finally:
            if fault is not None:
                self.connection.execute(fault[1])  # type: ignore[arg-type]

    def reserve(self, account: str, items: dict[str, Any], step: dict[str, Any]) -> str:
        reservation = self.ledger.reserve(account, items=items, key=step.get("key"))
        if not reservation:
            assert {short.resource for short in reservation.short} <= {name for item in items.values() for name in item}
            return "over_quota"
        name = step.get("as", "")
        self.asked[name] = step
        if reservation.grant.replayed:
            assert self.named[name][0] == reservation.id
            return "same_reservation"
        self.named[name] = (reservation.id, None)
        return "held"

    def do_batch_reserve(self, step: dict[str, Any]) -> str:
        answer = self.reserve(step["account"], {item["as"]: item["amounts"] for item in step["items"]}, step)
        reservation, _ = self.named[""]
        self.named |= {item["as"]: (reservation, [item["as"]]) for item in step["items"]}
        return answer

    def do_retry_processing(self, step: dict[str, Any]) -> str:
        """A retry reserves anew."""
        return self.do_reserve({**self.asked[step["r"]], "as": "retry"})

    def do_put(self, step: dict[str, Any]) -> str:
        """The ledger's part: bytes are taken only for what is held."""
        reservation, items = self.target(step)
        if not step.get("valid", True):
            answer = self.ledger.rollback(reservation, items=items, cause=Cause.VALIDATION_FAILED).outcome
            return f"rejected_{ANSWERS['rollback'][answer]}"
        story = self.ledger.reservation(reservation)
        states = set() if story is None else {story.items[name].state for name in items or story.items}
        return "stored" if states == {"held"} else "refused"

    def do_complete(self, step: dict[str, Any]) -> str:
        reservation, items = self.target(step)
        amounts = {"storage_bytes": step["actual"]} if "actual" in step else None
        settlement = self.ledger.commit(reservation, items=items, amounts=amounts, late=self.late)
        return ANSWERS["commit"].get(settlement.outcome, "too_late")

    def do_fail(self, step: dict[str, Any]) -> str:
        return self.roll_back(step, Cause.PROCESSING_FAILED)

    def do_cancel(self, step: dict[str, Any]) -> str:
        return self.roll_back(step, Cause.CANCELLED)

    def roll_back(self, step: dict[str, Any], cause: Cause) -> str:
        reservation, items = self.target(step)
        settlement = self.ledger.rollback(reservation, items=items, cause=cause)
        return ANSWERS["rollback"].get(settlement.outcome, "already")

    def do_delete(self, step: dict[str, Any]) -> str:
        reservation = self.assets[step["asset"]]
        return "ok" if reservation is None else ANSWERS["delete"][self.ledger.refund(reservation).outcome]

    def do_advance(self, step: dict[str, Any]) -> None:
        self.clock.advance(step["seconds"])

    def do_clock(self, step: dict[str, Any]) -> None:
        self.clock.set(step["to"])

    def do_sweep(self, _step: dict[str, Any]) -> str:
        return f"swept_{len({(hold.reservation, hold.item) for hold in self.ledger.sweep()})}"

    def do_reset(self, step: dict[str, Any]) -> str:
        """Nothing is ever reset: the period is a part of the balance's key, and looking changes nothing."""
        self.ledger.usage(step["account"])
        return "ok"

    def do_reconcile(self, _step: dict[str, Any]) -> str:
        return "ok" if self.ledger.verify() == () else "drift"

    def do_set_limit(self, step: dict[str, Any]) -> None:
        self.ledger.configure_subject(step["account"], quotas=_quotas(step["limits"]))

    def do_check(self, step: dict[str, Any]) -> None:
        self.check(step["accounts"], "check")

    def do_parallel(self, step: dict[str, Any]) -> None:
        calls = [one for one in step["steps"] for _ in range(step["times"])]
        random.Random(self.scenario["id"]).shuffle(calls)
        with ThreadPoolExecutor(len(calls)) as threads:
            answers = Counter(threads.map(self.do, calls))
        if step["expect_counts"] is not None:
            assert answers == step["expect_counts"]
        else:
            assert sum(answers[won] for won in ("committed", "released")) == 1, answers

    def target(self, step: dict[str, Any]) -> tuple[UUID, list[str] | None]:
        return self.named.get(step["r"], (uuid4(), None))

    def check(self, accounts: dict[str, Any], where: str) -> None:
        for account, resources in accounts.items():
            usage = self.ledger.usage(account).resources
            for resource, figures in resources.items():
                shown = usage[resource]
                names = {"limit": "quota_limit", "used": "committed"}
                for figure, value in figures.items():
                    found = getattr(shown, names.get(figure, figure))
                    allowed = value["one_of"] if isinstance(value, dict) else [-1 if value is None else value]
                    assert found in allowed, f"{self.scenario['id']} {where}: {account} {resource} {figure} {found}"

    def check_invariants(self, where: str) -> None:
        assert self.ledger.verify() == (), where
        broken = self.connection.execute(
            "SELECT b::text FROM earmark._private_balance b "
            "WHERE committed < 0 OR held < 0 OR committed + held > ceiling"
        ).fetchall()
        assert broken == [], where
        twice = self.connection.execute(
            "SELECT reservation, item, resource FROM earmark._private_journal WHERE kind IN ('commit', 'rollback') "
            "GROUP BY 1, 2, 3 HAVING count(*) > 1"
        ).fetchall()
        assert twice == [], where
        journal = self.connection.execute(
            "SELECT j::text FROM earmark._private_journal j ORDER BY subject, seq"
        ).fetchall()
        assert all(entry in journal for entry in self.journal), where
        self.journal = journal


def _quotas(limits: dict[str, int | None]) -> dict[str, int | None]:
    return {resource: -1 if limit is None else limit for resource, limit in limits.items()}


@needs_cases
@pytest.mark.parametrize("name", PLAYED)
def test_scenario(name: str, database: str, connection: psycopg.Connection, clock: Any) -> None:
    with Ledger(database, max_connections=8) as ledger:
        player = Player(SCENARIOS[name], ledger, connection, clock)
        player.play()
        player.ledger.close()


@needs_cases
def test_every_scenario_is_played_or_excused() -> None:
    assert set(PLAYED) | set(EXCUSED) == set(SCENARIOS)
    assert set(PLAYED) & set(EXCUSED) == set()


def test_setting_a_limit_twice_is_harmless(books: Any) -> None:
    for _ in range(2):
        books.configure_subject("a", quotas={"images": 110})
    assert books.usage("a").resources["images"].quota_limit == 110
