"""A batch in one call answers, and leaves the books, exactly as its requests do one after another."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Request = dict[str, Any]
SUBJECTS = ("ann", "ben", "cat")
CAUSES = ["cancelled", "upload_failed", "processing_failed", "validation_failed", "expired", "admin"]
_worlds = count()

amounts = st.dictionaries(st.sampled_from(["images", "storage_bytes"]), st.integers(1, 4), min_size=1, max_size=2)
reserve = st.fixed_dictionaries(
    {
        "subject": st.sampled_from(SUBJECTS),
        "items": st.dictionaries(st.sampled_from("123"), amounts, min_size=1, max_size=3),
        "ttl_seconds": st.sampled_from([60, 900]),
    },
    optional={"key": st.sampled_from("xyz"), "actor": st.just("somebody")},
)
names = st.lists(st.sampled_from("1234"), min_size=1, max_size=3, unique=True)
target = {"reservation": st.integers(0, 9)}
owner = {"subject": st.sampled_from(SUBJECTS)}
actual = st.dictionaries(
    st.sampled_from("123"),
    st.dictionaries(st.sampled_from(["images", "storage_bytes"]), st.integers(0, 5), min_size=1, max_size=2),
    min_size=1,
    max_size=2,
)
REQUESTS = {
    "reserve": reserve,
    "commit": st.fixed_dictionaries(
        target,
        optional={
            "items": names | actual,
            "late": st.sampled_from(["reacquire", "refuse"]),
            "grow": st.booleans(),
            **owner,
        },
    ),
    "rollback": st.fixed_dictionaries(target | {"cause": st.sampled_from(CAUSES)}, optional={"items": names, **owner}),
    "refund": st.fixed_dictionaries(target, optional={"items": names}),
    "extend": st.fixed_dictionaries(target | {"ttl_seconds": st.sampled_from([1, 900])}, optional={"items": names}),
}


def batch(verb: str) -> st.SearchStrategy[tuple[str, Any]]:
    return st.tuples(st.just(verb), st.lists(REQUESTS[verb], min_size=1, max_size=8))


waits = st.tuples(st.just("wait"), st.sampled_from([30, 60, 900]))
quotas = st.tuples(st.just("quota"), st.sampled_from([3, 8, 20, -1]))
scripts = st.lists(
    st.one_of(batch("reserve"), batch("reserve"), *[batch(verb) for verb in REQUESTS], waits, quotas),
    min_size=2,
    max_size=10,
)


class World:
    """Subjects of its own, in which a script is played; `split` says how a batch is sent."""

    def __init__(self, connection: psycopg.Connection, split: Callable[[list[Request]], list[list[Request]]]) -> None:
        self.connection = connection
        self.split = split
        self.number = next(_worlds)
        self.granted: list[str] = []
        for subject in SUBJECTS:
            self.quota(subject, 8)

    def quota(self, subject: str, quota: int) -> None:
        self.connection.execute(
            "SELECT earmark.configure_subject(%s, quotas => jsonb_build_object('images', %s, 'storage_bytes', %s))",
            (self.name(subject), quota, quota),
        )

    def name(self, subject: str) -> str:
        return f"{subject}-{self.number}"

    def send(self, verb: str, requests: list[Request]) -> list[Any]:
        columns = "outcome, reservation, expires_at, replayed, detail" if verb == "reserve" else "outcome, detail"
        rows = []
        for part in self.split([self.address(request) for request in requests]):
            rows += self.connection.execute(
                f"SELECT {columns} FROM earmark.{verb}(%s::jsonb) ORDER BY ordinal",  # type: ignore[arg-type]  # noqa: S608
                (json.dumps(part),),
            ).fetchall()
        if verb != "reserve":
            return rows
        self.granted += [str(row[1]) for row in rows if row[1] is not None and str(row[1]) not in self.granted]
        return [(row[0], row[1] and self.granted.index(str(row[1])), *row[2:]) for row in rows]

    def address(self, request: Request) -> Request:
        request = dict(request)
        if "subject" in request:
            request["subject"] = self.name(request["subject"])
        if "reservation" in request:
            known = request["reservation"] < len(self.granted)
            request["reservation"] = self.granted[request["reservation"]] if known else str(_nobody)
        return request

    def books(self) -> list[Any]:
        who = "split_part(subject, '-', 1)"
        order = [(reservation, number) for number, reservation in enumerate(self.granted)]
        journal = self.connection.execute(
            f"SELECT {who}, kind, at, resource, period_start::text, reservation::text, item, committed, held, cause, "  # type: ignore[arg-type]  # noqa: S608
            "split_part(actor, '-', 1), reason FROM earmark._private_journal WHERE subject LIKE %s",
            (f"%-{self.number}",),
        ).fetchall()
        balances = self.connection.execute(
            f"SELECT {who}, resource, period_start::text, committed, held FROM earmark._private_balance "  # type: ignore[arg-type]  # noqa: S608
            "WHERE subject LIKE %s",
            (f"%-{self.number}",),
        ).fetchall()
        numbers = dict(order)
        return [sorted(balances), sorted(map(repr, ([*row[:5], numbers[row[5]], *row[6:]] for row in journal)))]


_nobody = "00000000-0000-8000-8000-000000000000"


def anonymous(answers: list[Any], world: World) -> str:
    return json.dumps(answers, default=str, sort_keys=True).replace(f'-{world.number}"', '"')


def test_a_batch_is_its_requests_one_after_another(connection: psycopg.Connection, clock: Any) -> None:
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(script=scripts)
    def check(script: list[tuple[str, Any]]) -> None:
        now = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)
        clock.set(now)
        together = World(connection, lambda requests: [requests])
        one_by_one = World(connection, lambda requests: [[request] for request in requests])
        for verb, what in script:
            if verb == "wait":
                now += timedelta(seconds=what)
                clock.set(now)
            elif verb == "quota":
                for world in (together, one_by_one):
                    world.quota("ann", what)
            else:
                try:
                    answers = anonymous(together.send(verb, what), together)
                except psycopg.Error as error:  # malformed: refused whole in a batch, alone one by one
                    words = re.split(r"[0-9a-f-]{36}", error.diag.message_primary or "")  # ids differ
                    with pytest.raises(type(error), match=".{36}".join(map(re.escape, words))):
                        one_by_one.send(verb, what)
                    break
                assert answers == anonymous(one_by_one.send(verb, what), one_by_one), verb
            assert together.books() == one_by_one.books()

    check()
    assert connection.execute("SELECT * FROM earmark.verify()").fetchall() == []
