"""The SQL, driven through the client by random steps, against a small model that keeps everything in one list."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count, product
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from earmark import Cause, InvalidRequest, KeyConflict, Late, Ledger

PLANS = {
    "free": {"images": 10, "storage_bytes": 250_000_000},
    "pro": {"images": 500, "storage_bytes": 25_000_000_000},
    "enterprise": {"images": None, "storage_bytes": 1_000_000_000_000},
}


@dataclass
class Hold:
    subject: str
    reservation: UUID
    item: str
    resource: str
    amount: int
    holders: tuple[str, ...]
    period: str
    expires_at: datetime
    state: str = "held"
    cause: str | None = None
    committed: int = 0


@dataclass
class Oracle:
    """What the ledger should say, by the plainest means: figures are sums over all holds, every time."""

    now: datetime
    holds: list[Hold] = field(default_factory=list)
    plans: dict[str, str] = field(default_factory=dict)
    overrides: dict[tuple[str, str], int | None] = field(default_factory=dict)
    keys: dict[tuple[str, str], tuple[Any, str, UUID | None]] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    adjusted: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def holders(self, subject: str) -> tuple[str, ...]:
        """The subject, his parent, and so on up to the root."""
        above = self.parents.get(subject)
        return (subject, *(self.holders(above) if above else ()))

    def quota(self, subject: str, resource: str) -> int | None:
        return self.overrides.get((subject, resource), PLANS[self.plans.get(subject, "pro")][resource])

    def period(self, resource: str) -> str:
        return f"{self.now:%Y-%m}" if resource == "images" else "lifetime"

    def booked(self, holder: str, resource: str, state: str, period: str | None = None) -> list[Hold]:
        place = (resource, period or self.period(resource), state)
        return [h for h in self.holds if holder in h.holders and (h.resource, h.period, h.state) == place]

    def figures(
        self, holder: str, resource: str, period: str | None = None, *, overdue: bool = False
    ) -> tuple[int, int]:
        held = [h for h in self.booked(holder, resource, "held", period) if overdue or h.expires_at > self.now]
        committed = sum(h.committed for h in self.booked(holder, resource, "committed", period))
        return committed + self.adjusted[holder, resource, period or self.period(resource)], sum(h.amount for h in held)

    def fits(self, subject: str, amounts: Iterable[tuple[str, int]]) -> bool:
        wanted = sum((Counter({resource: amount}) for resource, amount in amounts), Counter[str]())
        for resource, holder in product(wanted, self.holders(subject)):
            quota = self.quota(holder, resource)
            if quota is not None and wanted[resource] > quota - sum(self.figures(holder, resource, overdue=True)):
                return False
        return True

    def adjust(self, subject: str, resource: str, amount: int) -> str:
        for holder in self.holders(subject):
            refundable = self.booked(holder, resource, "committed") if resource == "storage_bytes" else []
            if self.figures(holder, resource)[0] + min(amount, 0) < sum(hold.committed for hold in refundable):
                return "denied"
        self.adjusted.update({(holder, resource, self.period(resource)): amount for holder in self.holders(subject)})
        return "adjusted"

    def reserve(self, subject: str, items: dict[str, dict[str, int]], key: str | None, ttl: timedelta) -> str:
        if key is not None and (subject, key) in self.keys:
            known, outcome, _ = self.keys[subject, key]
            return f"replayed {outcome}" if known == (items, ttl) else "conflict"
        amounts = [line for item in items.values() for line in item.items()]
        if not self.fits(subject, amounts):
            self.expire(subject)
        outcome = "granted" if self.fits(subject, amounts) else "denied"
        if key is not None:
            self.keys[subject, key] = ((items, ttl), outcome, None)
        return outcome

    def take(self, subject: str, reservation: UUID, items: dict[str, dict[str, int]], ttl: timedelta) -> None:
        for item, resource, amount in ((item, *line) for item, lines in items.items() for line in lines.items()):
            place = (self.holders(subject), self.period(resource))
            self.holds.append(Hold(subject, reservation, item, resource, amount, *place, self.now + ttl))

    def lacks(self, reservation: UUID, items: Iterable[str] | None) -> bool:
        known = {hold.item for hold in self.holds if hold.reservation == reservation}
        return bool(known) and not known.issuperset(items or ())

    def targets(self, reservation: UUID, items: Iterable[str] | None) -> list[Hold]:
        return [h for h in self.holds if h.reservation == reservation and (items is None or h.item in items)]

    def expire(self, subject: str | None = None, among: list[Hold] | None = None) -> list[Hold]:
        """Gives back what is overdue: of all, or of whoever shares a holder with the subject, or among these."""
        near = set(self.holders(subject)) if subject is not None else None
        among = [h for h in (self.holds if among is None else among) if near is None or near & {*h.holders}]
        return self.change([h for h in among if h.expires_at <= self.now], "held", state="rolled_back", cause="expired")

    def change(self, among: list[Hold], before: str, /, **change: Any) -> list[Hold]:
        done = [hold for hold in among if hold.state == before]
        for hold in done:
            vars(hold).update(change)
        return done

    def commit(self, reservation: UUID, items: Any, late: Late, grow: bool) -> tuple[str, list[Hold]]:
        targets = self.targets(reservation, items)
        actual = items if isinstance(items, dict) else {}
        used = {id(h): int(actual.get(h.item, {}).get(h.resource, h.amount)) for h in targets}
        anew = late is Late.REACQUIRE
        more = [h for h in targets if used[id(h)] > h.amount and (h.state == "held" or (anew and h.cause == "expired"))]
        if more and not grow:
            return "exceeds_hold", []
        if not anew:
            self.expire(among=targets)
        if not self.take_more(targets, used, anew):
            return "denied", []
        done = self.change(targets, "held", state="committed")
        for hold in done:
            hold.committed = used[id(hold)]
        return self.outcome("committed", targets, done), done

    def take_more(self, targets: list[Hold], totals: dict[int, int], anew: bool) -> bool:
        """What expired comes into today's period, as large as was used; what is held grows in its own to `totals`."""

        def wanted() -> list[tuple[Hold, str, int]]:
            late = [h for h in targets if anew and h.cause == "expired"]
            held = [h for h in targets if h.state == "held" and totals[id(h)] > h.amount]
            return [(h, self.period(h.resource), max(totals[id(h)], 1)) for h in late] + [
                (h, h.period, totals[id(h)] - h.amount) for h in held
            ]

        def fits() -> bool:
            """A holder whom he has left meanwhile has nothing for him."""
            sums: Counter[tuple[str, str, str]] = Counter()
            for hold, period, amount in wanted():
                sums.update({(holder, hold.resource, period): amount for holder in hold.holders})
                if not {*hold.holders} <= {*self.holders(hold.subject)}:
                    return False
            quotas = {place: self.quota(place[0], place[1]) for place in sums}
            return all(q is None or sums[p] + sum(self.figures(*p, overdue=True)) <= q for p, q in quotas.items())

        if not fits() and not (self.expire(targets[0].subject) and fits()):
            return False
        for hold, period, amount in wanted():
            hold.amount = amount + (hold.amount if hold.state == "held" else 0)
            hold.state, hold.cause, hold.period = "held", None, period
        return True

    def rollback(self, reservation: UUID, items: Iterable[str] | None, cause: Cause) -> tuple[str, list[Hold]]:
        targets = self.targets(reservation, items)
        done = self.change(targets, "held", state="rolled_back", cause=cause.value)
        return self.outcome("rolled_back", targets, done), done

    def refund(self, reservation: UUID, items: Iterable[str] | None) -> tuple[str, list[Hold]]:
        targets = self.targets(reservation, items)
        done = self.change([h for h in targets if h.resource == "storage_bytes"], "committed", state="refunded")
        return self.outcome("refunded", targets, done), done

    def extend(self, reservation: UUID, ttl: timedelta) -> str:
        targets = self.targets(reservation, None)
        done = [hold for hold in targets if hold.state == "held"]
        for hold in done:
            hold.expires_at = max(hold.expires_at, self.now + ttl)
        return self.outcome("extended", targets, done)

    def newest(self, subject: str, resource: str, room: int) -> set[tuple[UUID, str]]:
        mine = [h for h in self.holds if (h.subject, h.resource, h.state) == (subject, resource, "held")]
        returned = set()
        for hold in sorted(mine, key=lambda hold: (hold.reservation, hold.item), reverse=True):
            if hold.amount <= room:
                room -= hold.amount
                returned.add((hold.reservation, hold.item))
                self.rollback(hold.reservation, [hold.item], Cause.CANCELLED)
        return returned

    @staticmethod
    def outcome(done: str, targets: list[Hold], mine: list[Hold]) -> str:
        states = {hold.state for hold in targets}
        if mine:
            return done
        if states <= {done}:
            return f"already_{done}" if states else "not_found"
        for state in ("refunded", "committed", "rolled_back"):
            if state in states and not (state == done == "committed"):
                return f"already_{state}"
        return "not_committed"


SUBJECTS = ("ann", "ben", "cat", "team", "crew", "acme")
PARENTS = {"team": "acme", "crew": "acme", "ann": "team", "ben": "crew"}
amounts = st.dictionaries(st.sampled_from(["images", "storage_bytes"]), st.integers(1, 3), min_size=1, max_size=2).map(
    lambda chosen: {name: amount * (10 if name == "storage_bytes" else 1) for name, amount in chosen.items()}
)
item_sets = st.dictionaries(st.sampled_from("123"), amounts, min_size=1, max_size=3)
ttls = st.sampled_from([60, 900, 900, 5_000_000]).map(lambda seconds: timedelta(seconds=seconds))
some_items = st.none() | st.lists(st.sampled_from("1234"), min_size=1, max_size=3, unique=True)
actual = st.dictionaries(
    st.sampled_from("123"),
    st.dictionaries(st.sampled_from(["images", "storage_bytes"]), st.integers(0, 6), max_size=2),
    min_size=1,
    max_size=2,
)
overrides = st.sampled_from([0, 3, 7, 20, 60, 200, -1, None])
_worlds = count()


def totals(holds: list[Hold], figure: Callable[[Hold], int]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for hold in holds:
        sums[hold.resource] = sums.get(hold.resource, 0) + figure(hold)
    return sums


class LedgerMachine(RuleBasedStateMachine):
    """Every rule does one thing to both and compares the answers; the invariants compare all that can be seen."""

    reservations = Bundle("reservations")

    def __init__(self, ledger: Ledger, connection: psycopg.Connection, clock: Any) -> None:
        super().__init__()
        self.world = next(_worlds)
        self.ledger = ledger
        self.connection = connection
        self.clock = clock
        self.oracle = Oracle(datetime(2026, 1, 20, 12, tzinfo=UTC))
        self.clock.set(self.oracle.now)
        for subject in SUBJECTS:
            self.ledger.configure_subject(self.name(subject), quotas={"images": 12, "storage_bytes": 120})
            self.oracle.overrides |= {(self.name(subject), "images"): 12, (self.name(subject), "storage_bytes"): 120}
        for subject, parent in PARENTS.items():
            self.set_parent(subject, parent)

    def name(self, subject: str) -> str:
        return f"{subject}-{self.world}"

    @rule(subject=st.sampled_from(["ann", "ben"]), parent=st.sampled_from(["team", "crew", "acme"]))
    def set_parent(self, subject: str, parent: str) -> None:
        self.ledger.configure_subject(self.name(subject), parent=self.name(parent))
        self.oracle.parents[self.name(subject)] = self.name(parent)

    @rule(subject=st.sampled_from(SUBJECTS), resource=st.sampled_from(["images", "storage_bytes"]),
          amount=st.sampled_from([-20, -5, -2, -1, 1, 3, 15]))  # fmt: skip
    def adjust(self, subject: str, resource: str, amount: int) -> None:
        expected = self.oracle.adjust(self.name(subject), resource, amount)
        made = self.ledger.adjust(self.name(subject), resource, amount, reason="r", actor="a")
        assert made.outcome == expected
        assert [level.subject for level in made.levels] == list(self.oracle.holders(self.name(subject)))

    @rule(target=reservations, subject=st.sampled_from(SUBJECTS), items=item_sets, key=st.sampled_from("xy"), ttl=ttls)
    def reserve_with_key(self, subject: str, items: dict[str, Any], key: str, ttl: timedelta) -> Any:
        return self.reserve_as(self.name(subject), items, key, ttl)

    @initialize(target=reservations, chosen=st.lists(item_sets, min_size=3, max_size=3))
    def begin(self, chosen: list[dict[str, Any]]) -> Any:
        taken = [self.reserve_as(self.name("ann"), items, None, timedelta(minutes=15)) for items in chosen]
        return multiple(*[one for one in taken if isinstance(one, UUID)])

    @rule(target=reservations, subject=st.sampled_from(SUBJECTS), items=item_sets, ttl=ttls)
    def reserve_without_key(self, subject: str, items: dict[str, Any], ttl: timedelta) -> Any:
        return self.reserve_as(self.name(subject), items, None, ttl)

    @rule(target=reservations, subject=st.sampled_from(SUBJECTS), ttl=ttls)
    def reserve_one(self, subject: str, ttl: timedelta) -> Any:
        return self.reserve_as(self.name(subject), {"1": {"images": 1, "storage_bytes": 5}}, None, ttl)

    def reserve_as(self, subject: str, items: dict[str, Any], key: str | None, ttl: timedelta) -> Any:
        expected = self.oracle.reserve(subject, items, key, ttl)
        try:
            grant = self.ledger.reserve(subject, items=items, key=key, ttl=ttl).grant
        except KeyConflict:
            assert expected == "conflict"
            return multiple()
        assert f"{'replayed ' if grant.replayed else ''}{grant.outcome}" == expected
        if grant.reservation is None:
            assert grant.short
            return multiple()
        if grant.replayed:
            assert grant.reservation == self.oracle.keys[subject, key or ""][2]
            return multiple()
        if key is not None:
            self.oracle.keys[subject, key] = (*self.oracle.keys[subject, key][:2], grant.reservation)
        self.oracle.take(subject, grant.reservation, items, ttl)
        for resource in {name for item in items.values() for name in item}:
            for holder in self.oracle.holders(subject):
                quota = self.oracle.quota(holder, resource)
                assert quota is None or sum(self.oracle.figures(holder, resource, overdue=True)) <= quota
        return grant.reservation

    @precondition(lambda self: self.oracle.keys)
    @rule(data=st.data())
    def repeat_a_reserve(self, data: st.DataObject) -> None:
        (subject, key), ((items, ttl), _, _) = data.draw(st.sampled_from(list(self.oracle.keys.items())))
        self.reserve_as(subject, items, key, ttl)

    @rule(reservation=reservations, items=some_items | actual, late=st.sampled_from(Late), grow=st.booleans())
    def commit(self, reservation: UUID, items: Any, late: Late, grow: bool) -> None:
        if self.oracle.lacks(reservation, items):
            with pytest.raises(InvalidRequest, match=r"has no item|holds no"):
                self.ledger.commit(reservation, items=items, late=late, grow=grow)
            return
        held = {(hold.item, hold.resource) for hold in self.oracle.targets(reservation, items)}
        actual = items if isinstance(items, dict) else {}
        if not {(item, name) for item, _ in held for name, n in actual.get(item, {}).items() if n} <= held:
            with pytest.raises(InvalidRequest, match="holds no"):
                self.ledger.commit(reservation, items=items, late=late)
            return
        outcome, done = self.oracle.commit(reservation, items, late, grow)
        settlement = self.ledger.commit(reservation, items=items, late=late, grow=grow)
        assert settlement.outcome == outcome
        assert settlement.committed == totals(done, lambda hold: hold.committed)
        assert settlement.returned == totals(done, lambda hold: hold.amount - hold.committed)

    @rule(reservation=reservations, items=some_items, cause=st.sampled_from(Cause))
    def rollback(self, reservation: UUID, items: list[str] | None, cause: Cause) -> None:
        if self.oracle.lacks(reservation, items):
            with pytest.raises(InvalidRequest, match="has no item"):
                self.ledger.rollback(reservation, items=items, cause=cause)
            return
        outcome, done = self.oracle.rollback(reservation, items, cause)
        settlement = self.ledger.rollback(reservation, items=items, cause=cause)
        assert settlement.outcome == outcome
        assert settlement.returned == totals(done, lambda hold: hold.amount)

    @rule(reservation=reservations, items=some_items)
    def refund(self, reservation: UUID, items: list[str] | None) -> None:
        if self.oracle.lacks(reservation, items):
            with pytest.raises(InvalidRequest, match="has no item"):
                self.ledger.refund(reservation, items=items)
            return
        outcome, done = self.oracle.refund(reservation, items)
        settlement = self.ledger.refund(reservation, items=items)
        assert settlement.outcome == outcome
        assert settlement.returned == totals(done, lambda hold: hold.committed)

    @rule(reservation=reservations, ttl=ttls)
    def extend(self, reservation: UUID, ttl: timedelta) -> None:
        assert self.ledger.extend(reservation, ttl=ttl).outcome == self.oracle.extend(reservation, ttl)

    @rule(subject=st.sampled_from(SUBJECTS), resource=st.sampled_from(["images", "storage_bytes"]),
          room=st.integers(1, 30))  # fmt: skip
    def roll_back_by_count(self, subject: str, resource: str, room: int) -> None:
        expected = self.oracle.newest(self.name(subject), resource, room)
        returned = self.ledger.rollback_newest(self.name(subject), resource, room)
        assert {(one.reservation, one.item) for one in returned} == expected
        assert sum(one.amounts[resource] for one in returned) <= room

    @rule()
    def sweep(self) -> None:
        expected = {(hold.reservation, hold.item, hold.resource) for hold in self.oracle.expire()}
        assert {(hold.reservation, hold.item, hold.resource) for hold in self.ledger.sweep(max_holds=2)} == expected

    @rule(subject=st.sampled_from(SUBJECTS), resource=st.sampled_from(["images", "storage_bytes"]), quota=overrides)
    def change_quota(self, subject: str, resource: str, quota: int | None) -> None:
        self.ledger.configure_subject(self.name(subject), quotas={resource: quota})
        place = (self.name(subject), resource)
        self.oracle.overrides.pop(place, None)
        if quota is not None:
            self.oracle.overrides[place] = None if quota == -1 else quota

    @rule(subject=st.sampled_from(SUBJECTS), plan=st.sampled_from(list(PLANS)))
    def change_plan(self, subject: str, plan: str) -> None:
        self.ledger.configure_subject(self.name(subject), plan=plan)
        self.oracle.plans[self.name(subject)] = plan

    @rule(seconds=st.sampled_from([1, 60, 900, 86_400]))
    def wait(self, seconds: int) -> None:
        self.stand_at(self.oracle.now + timedelta(seconds=seconds))

    @rule()
    def wait_for_the_next_month(self) -> None:
        later = self.oracle.now.replace(day=1) + timedelta(days=32)
        self.stand_at(later.replace(day=1, hour=0))

    def stand_at(self, moment: datetime) -> None:
        self.oracle.now = moment
        self.clock.set(moment)

    @invariant()
    def usage_is_the_oracles(self) -> None:
        for subject in map(self.name, SUBJECTS):
            for resource, usage in self.ledger.usage(subject).resources.items():
                committed, held = self.oracle.figures(subject, resource)
                quota = self.oracle.quota(subject, resource)
                room = -1 if quota is None else max(quota - committed - held, 0)
                over = 0 if quota is None else max(committed + held - quota, 0)
                assert (usage.quota_limit, usage.committed, usage.held, usage.used, usage.remaining, usage.over_by) == (
                    -1 if quota is None else quota, committed, held, committed + held, room, over,
                )  # fmt: skip

    @invariant()
    def the_books_agree(self) -> None:
        assert [drift for subject in SUBJECTS for drift in self.ledger.verify(self.name(subject))] == []

    @invariant()
    def every_hold_is_as_the_oracle_has_it_and_was_settled_once(self) -> None:
        rows = self.connection.execute(
            """
            SELECT h.subject, h.reservation, h.item, h.resource, h.amount, h.state, h.cause, h.committed, h.expires_at,
                j.taken - j.settled - (h.state = 'held')::int
            FROM earmark._private_hold h
            CROSS JOIN LATERAL (
                SELECT count(*) FILTER (WHERE kind = 'reserve' AND reason IS NOT DISTINCT FROM NULL
                        OR reason LIKE 'late: taken%%') AS taken,
                    count(*) FILTER (WHERE kind IN ('commit', 'rollback')) AS settled
                FROM earmark._private_journal j
                WHERE (j.root, j.subject) = (h.root, h.subject)
                    AND (j.reservation, j.item, j.resource) = (h.reservation, h.item, h.resource)
            ) j
            WHERE h.root = ANY (%s)
            """,
            ([self.name(subject) for subject in SUBJECTS],),
        ).fetchall()
        assert sorted(rows) == sorted(
            (holder, h.reservation, h.item, h.resource, h.amount, h.state, h.cause, h.committed, h.expires_at, 0)
            for h in self.oracle.holds
            for holder in h.holders
        )

    def teardown(self) -> None:
        """What is still open must not meet the next example's sweeps."""
        for subject in SUBJECTS:
            self.ledger.rollback_newest(self.name(subject), "images", 10**9)
            self.ledger.rollback_newest(self.name(subject), "storage_bytes", 10**9)


def test_the_ledger_behaves_as_the_oracle(ledger: Ledger, connection: psycopg.Connection, clock: Any) -> None:
    run_state_machine_as_test(
        lambda: LedgerMachine(ledger, connection, clock),
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
