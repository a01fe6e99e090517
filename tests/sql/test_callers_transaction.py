"""Every method of both ledgers on the caller's own connection: part of his transaction, and undone with it.

The methods are found by introspection: one that is new has to be added to CASES.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg.pq import Format
from psycopg.types.string import StrDumper, TextLoader
from psycopg_pool import AsyncConnectionPool, AsyncNullConnectionPool

from earmark import AsyncLedger, Cause, Ledger, SchemaMismatch
from earmark.model import Counted, PlanQuota

SOON = timedelta(hours=1)
JSONB = psycopg.adapters.types["jsonb"].oid
JSONB_LOADER = psycopg.adapters.get_loader(JSONB, Format.TEXT)
FUTURE = datetime(2999, 1, 1, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
RESERVE = """SELECT earmark.reserve('[{"subject": "a", "items": {"1": {"images": 1}}}]')"""
DRIFT = "UPDATE earmark._private_balance SET held = held + 1 WHERE subject = 'a' AND resource = 'images'"
FORGET = """
UPDATE earmark._private_subject SET pruned_seq = entries, pruned_head = head;
DELETE FROM earmark._private_journal
"""
ROLLED_BACK = """
INSERT INTO earmark._private_rollback_hour (hour, cause, items)
VALUES (date_trunc('hour', clock_timestamp(), 'UTC'), 'cancelled', 7)
"""
ASIDE = """
INSERT INTO earmark._private_set_aside (root, reservation, item, error, times, at, retry_at, expires_at)
SELECT root, reservation, item, 'e', 1, expires_at, expires_at, expires_at FROM earmark._private_hold
WHERE state = 'held' LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A call, from what there is; what is done before it in the same transaction, and whether the call writes.

    A call that only reads sees what was done before, unless it is about the server.
    """

    call: Callable[[Callable[..., Any], dict[str, UUID]], Any]
    writes: bool = True
    before: str = ""
    sees: bool = True


CASES: dict[str, Case] = {
    "reserve": Case(lambda method, _: method("a", {"images": 1})),
    "commit": Case(lambda method, known: method(known["held"])),
    "rollback": Case(lambda method, known: method(known["held"], cause=Cause.CANCELLED)),
    "rollback_newest": Case(lambda method, _: method("a", "images", 5)),
    "refund": Case(lambda method, known: method(known["paid"])),
    "extend": Case(lambda method, known: method(known["held"], ttl=2 * SOON)),
    "adjust": Case(lambda method, _: method("a", "images", 1, reason="r", actor="support")),
    "adopt": Case(lambda method, _: method([Counted("a", "images", 5)], key="k", reason="r", actor="o")),
    "sweep": Case(lambda method, _: method()),
    "repair": Case(lambda method, _: method("found by verify"), before=DRIFT),
    "prune_settled": Case(lambda method, _: method(FUTURE)),
    "prune_journal": Case(lambda method, _: method(FUTURE)),
    "configure_retention": Case(lambda method, _: method(reservations=SOON, journal=SOON)),
    "configure_plan": Case(
        lambda method, _: method("new", quotas={"images": PlanQuota(1, "lifetime", refundable=False)})
    ),
    "configure_subject": Case(lambda method, _: method("a", quotas={"images": 7})),
    "usage": Case(lambda method, _: method("a"), writes=False, before=RESERVE),
    "usages": Case(lambda method, _: method(["a", "b"]), writes=False, before=RESERVE),
    "usage_levels": Case(lambda method, _: method("a"), writes=False, before=RESERVE),
    "subject": Case(
        lambda method, _: method("a"), writes=False, before="SELECT earmark.configure_subject('a', 'free')"
    ),
    "reservation": Case(
        lambda method, known: method(known["held"]),
        writes=False,
        before="SELECT earmark.rollback_newest('a', 'images', 100)",
    ),
    "history": Case(lambda method, _: method("a"), writes=False, before=RESERVE),
    "explain": Case(lambda method, _: method("a"), writes=False, before=RESERVE),
    "story": Case(
        lambda method, known: method(known["held"]),
        writes=False,
        before="SELECT earmark.rollback_newest('a', 'images', 100)",
    ),
    "verify": Case(lambda method, _: method(), writes=False, before=DRIFT),
    "set_aside": Case(lambda method, _: method(), writes=False, before=ASIDE),
    "follow": Case(lambda method, _: method(), writes=False, before=FORGET),
    "journal_position": Case(lambda method, _: method(), writes=False, sees=False),
    "health": Case(lambda method, _: method(), writes=False, before=RESERVE),
    "tally": Case(lambda method, _: method()),
    "record_check": Case(lambda method, _: method("verify", 1)),
    "journal_export": Case(lambda method, _: method("a"), writes=False, before=RESERVE),
    "subjects_like": Case(
        lambda method, _: method("new"), writes=False, before="SELECT earmark.configure_subject('newcomer', 'free')"
    ),
    "use_over_time": Case(lambda method, _: method("a", since=LONG_AGO)[-1], writes=False, before=RESERVE),
    "rollbacks_over_time": Case(
        lambda method, _: method(since=datetime.now(UTC) - SOON), writes=False, before=ROLLED_BACK
    ),
    "plans": Case(lambda method, _: method(), writes=False, before="SELECT earmark.configure_plan('new')"),
}
METHODS = sorted(
    name
    for name, method in inspect.getmembers(AsyncLedger, inspect.isfunction)
    if not name.startswith("_") and name not in {"open", "close"}
)


class Sync:
    """A caller with a transaction of his own, and the ledger without asyncio."""

    def __init__(self, database: str) -> None:
        self._connection = psycopg.connect(database, autocommit=True)
        self._ledger = Ledger("")

    def execute(self, statement: str) -> None:
        self._connection.execute(statement)  # type: ignore[arg-type]

    def method(self, name: str) -> Callable[..., Any]:
        return lambda *arguments, **options: getattr(self._ledger, name)(
            *arguments, connection=self._connection, **options
        )

    def digest(self) -> dict[str, Any]:
        return digest(lambda query: self._connection.execute(query).fetchall())  # type: ignore[arg-type]

    def close(self) -> None:
        self._connection.close()


class Async:
    """The same with asyncio."""

    def __init__(self, database: str) -> None:
        self._runner = asyncio.Runner()
        self._run = self._runner.run

        async def begin() -> tuple[psycopg.AsyncConnection, AsyncLedger]:
            return await psycopg.AsyncConnection.connect(database, autocommit=True), AsyncLedger("")

        self._connection, self._ledger = self._run(begin())

    def execute(self, statement: str) -> None:
        self._run(self._connection.execute(statement))  # type: ignore[arg-type]

    def method(self, name: str) -> Callable[..., Any]:
        return lambda *arguments, **options: self._run(
            getattr(self._ledger, name)(*arguments, connection=self._connection, **options)
        )

    def digest(self) -> dict[str, Any]:
        async def fetch(query: str) -> list[Any]:
            return await (await self._connection.execute(query)).fetchall()  # type: ignore[arg-type]

        return digest(lambda query: self._run(fetch(query)))

    def close(self) -> None:
        self._run(self._connection.close())
        self._runner.close()


def digest(fetch: Callable[[str], list[Any]]) -> dict[str, Any]:
    """All that is in the tables of the schema."""
    tables = fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'earmark'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1"
    )
    return {
        table: fetch(f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM earmark.{table} t")  # noqa: S608
        for (table,) in tables
    }


@pytest.fixture(scope="module")
def known(shared_database: str) -> dict[str, UUID]:
    """Reservations of `a`: one open, one overdue, one committed, one rolled back."""
    with Ledger(shared_database) as ledger:
        amounts = {"images": 1, "storage_bytes": 5}
        found = {name: ledger.reserve("a", amounts).id for name in ("held", "late", "paid", "undone")}
        ledger.commit(found["paid"])
        ledger.rollback(found["undone"], cause=Cause.CANCELLED)
    with psycopg.connect(shared_database) as connection:
        connection.execute(
            "UPDATE earmark._private_hold SET expires_at = clock_timestamp() WHERE reservation = %s", (found["late"],)
        )
    return found


@pytest.fixture(scope="module", params=[Sync, Async])
def caller(shared_database: str, request: pytest.FixtureRequest) -> Iterator[Sync | Async]:
    """Whose connection it is."""
    caller = request.param(shared_database)
    yield caller
    caller.close()


@pytest.fixture(scope="module")
def onlooker(shared_database: str, known: dict[str, UUID]) -> Iterator[Sync]:
    """Who sees what was committed."""
    onlooker = Sync(shared_database)
    yield onlooker
    onlooker.close()


@pytest.fixture
def transaction(caller: Sync | Async, onlooker: Sync) -> Iterator[Sync | Async]:
    """The caller in a transaction that is rolled back, and then has never been."""
    before = onlooker.digest()
    caller.execute("BEGIN")
    yield caller
    assert onlooker.digest() == before
    caller.execute("ROLLBACK")
    assert caller.digest() == onlooker.digest() == before


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_does_is_part_of_the_callers_transaction(
    transaction: Sync | Async, known: dict[str, UUID], name: str
) -> None:
    case = CASES[name]
    untouched = None if case.writes else case.call(transaction.method(name), known)
    if case.before:
        transaction.execute(case.before)
    before = transaction.digest()
    answer = case.call(transaction.method(name), known)
    assert (transaction.digest() != before) == case.writes
    if not case.writes and case.sees:
        assert answer != untouched


@pytest.mark.parametrize("name", METHODS)
def test_a_failed_call_costs_the_caller_no_more_than_a_savepoint(
    transaction: Sync | Async, known: dict[str, UUID], name: str
) -> None:
    """The call fails because the schema is gone, which is told as such, and is good again once it is back."""
    case = CASES[name]
    transaction.execute(case.before or "SELECT 1")
    before = transaction.digest()
    transaction.execute("SAVEPOINT here")
    transaction.execute("ALTER SCHEMA earmark RENAME TO gone")
    with pytest.raises(SchemaMismatch, match="earmark migrate"):
        case.call(transaction.method(name), known)
    transaction.execute("ROLLBACK TO SAVEPOINT here")
    assert transaction.digest() == before
    case.call(transaction.method(name), known)
    assert (transaction.digest() != before) == case.writes


@pytest.mark.parametrize(
    "kind",
    [
        {"row_factory": psycopg.rows.dict_row},
        {"cursor_factory": psycopg.RawCursor},
        {"cursor_factory": psycopg.ClientCursor},
        {"cursor_factory": psycopg.ServerCursor},
        {"prepare_threshold": 0},
    ],
    ids=["rows as dicts", "raw", "client", "server", "prepared"],
)
@pytest.mark.parametrize("reads", ["plain values", "its owner's values"])
@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.parametrize("in_pipeline", [False, True])
def test_any_kind_of_connection_will_do(
    database: str, ledger: Ledger, kind: dict[str, Any], reads: str, autocommit: bool, in_pipeline: bool
) -> None:
    with psycopg.connect(database, autocommit=autocommit) as connection:
        for name, value in kind.items():
            setattr(connection, name, value)
        if reads != "plain values":  # Django reads jsonb as text, others moments or ids
            for name in ("jsonb", "timestamptz", "uuid"):
                connection.adapters.register_loader(name, TextLoader)
            connection.adapters.register_dumper(str, StrDumper)
        with connection.pipeline() if in_pipeline else nullcontext():
            made = ledger.reserve("a", {"images": 1}, connection=connection)
            assert ledger.usage("a", connection=connection).resources["images"].held == 1
            assert ledger.rollback(made.id, cause=Cause.ADMIN, connection=connection).outcome == "rolled_back"
            told = ledger.history("a", connection=connection)
            assert [(entry.kind, entry.reservation) for entry in told] == [("rollback", made.id), ("reserve", made.id)]
            assert isinstance(told[0].at, datetime)
            assert ledger.explain("a", connection=connection).levels[0].plan == "pro"
            assert not ledger.reserve("a", {"images": 10**6}, connection=connection)
        assert (connection.adapters.get_loader(JSONB, Format.TEXT) is JSONB_LOADER) == (reads == "plain values")
    assert len(ledger.history("a")) == 2


@pytest.mark.parametrize("kind", [AsyncConnectionPool, AsyncNullConnectionPool])
def test_any_kind_of_pool_will_do_for_asyncio(database: str, kind: type[AsyncConnectionPool]) -> None:
    async def as_text(connection: psycopg.AsyncConnection[Any]) -> None:
        connection.adapters.register_loader("jsonb", TextLoader)

    async def use() -> None:
        settings = {"cursor_factory": psycopg.AsyncRawCursor, "autocommit": True}
        async with kind(database, kwargs=settings, configure=as_text, open=False) as pool:
            ledger = AsyncLedger(pool)
            assert len(await asyncio.gather(*(ledger.usage(name) for name in "abc"))) == 3
            made = await ledger.reserve("a", {"images": 1})
            async with pool.connection() as connection:
                assert (await ledger.commit(made.id, connection=connection)).outcome == "committed"

    asyncio.run(asyncio.wait_for(use(), 60))


ANSWERED: dict[str, LiteralString] = {
    "reserve": """SELECT outcome FROM earmark.reserve(
        '[{"subject": "a", "items": {"1": {"images": 501}}, "key": "k"}]')""",
    "adjust": """SELECT outcome FROM earmark.adjust(
        '[{"subject": "a", "resource": "images", "amount": -1, "reason": "r", "actor": "o", "key": "k"}]')""",
    "adopt": """SELECT outcome FROM earmark.adopt(
        '[{"subject": "a", "resource": "images", "used": 0}]', 'k', 'r', 'o')""",
    "keep_answer": "SELECT earmark.keep_answer('a', 'k', '1', '2')::text",
}
"""Calls that answer under a key, and change nothing that the lock of the tree would tell of."""


@pytest.mark.parametrize("level", [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE])
@pytest.mark.parametrize("verb", ANSWERED)
def test_a_key_answered_since_the_snapshot_is_a_failure_to_be_tried_again(
    database: str, connection: psycopg.Connection, verb: str, level: psycopg.IsolationLevel
) -> None:
    connection.execute("SELECT earmark.configure_subject('a', 'pro')")
    with psycopg.connect(database) as caller:
        caller.isolation_level = level
        caller.execute("SELECT 1 FROM earmark._private_subject")
        first = connection.execute(ANSWERED[verb]).fetchone()
        with pytest.raises(psycopg.errors.SerializationFailure):
            caller.execute(ANSWERED[verb])
        caller.rollback()
        if verb != "keep_answer":  # it comes after an answer_of, which tells then
            again = caller.execute(ANSWERED[verb]).fetchone()
            assert again == (("already_adopted",) if verb == "adopt" else first)


def test_an_answer_is_kept_once(connection: psycopg.Connection) -> None:
    connection.execute("SELECT earmark.configure_subject('a', 'pro')")
    connection.execute(ANSWERED["keep_answer"])
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(ANSWERED["keep_answer"])
    connection.execute("SELECT earmark.keep_answer('nobody', 'k', '1', '2')")


def test_no_answer_under_a_key_is_lost(connection: psycopg.Connection) -> None:
    """Though it is passed over without an error, where the lock did not keep another one away."""
    write = """SELECT earmark._private_write_reserve(ARRAY[ROW(1, 'a', 'a', 'k', 'a', '{}', false, 1, 'denied',
        gen_random_uuid(), now(), false, NULL)::earmark._private_request], '{}', now())"""
    connection.execute(write)
    with pytest.raises(psycopg.errors.UniqueViolation, match="key was answered"):
        connection.execute(write)
