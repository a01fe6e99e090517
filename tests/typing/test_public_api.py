"""The public API as a type checker sees it: right uses pass under --strict, wrong ones do not."""

import sys
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parents[2]
RIGHT = """
from datetime import timedelta
from uuid import UUID

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from typing import Any, assert_type

from earmark import AsyncLedger, Cause, Late, Ledger, QuotaExceeded, Reservation, client
from earmark.model import Settlement, Usage


def sync(connection: psycopg.Connection[Any], pool: ConnectionPool) -> None:
    with Ledger("postgresql://") as ledger, ledger.reserve("a", {"images": 1}, key="k", ttl=timedelta(1)) as held:
        assert_type(held, Reservation)
        assert_type(held.id, UUID)
        assert_type(held.commit(items={"1": {"images": 0}}), Settlement)
        held.rollback(Cause.UPLOAD_FAILED, items=["1"])
        assert_type(held.detach(), UUID)
        ledger.commit(held.id, late=Late.REFUSE, connection=connection)
        assert_type(ledger.usage("a"), Usage)
        assert_type(ledger.usage("a").resources["images"].remaining, int)
        for entry in ledger.history("a"):
            assert_type(entry.cause, Cause | None)
    Ledger(pool).sweep(max_holds=10)


async def asynchronous(connection: psycopg.AsyncConnection[Any], pool: AsyncConnectionPool) -> None:
    async with AsyncLedger(pool) as ledger:
        try:
            async with await ledger.reserve("a", items={"1": {"images": 1}}, connection=connection) as held:
                assert_type(await held.extend(timedelta(minutes=1)), Settlement)
        except QuotaExceeded as error:
            assert_type(error.detail, dict[str, Any])
        assert_type(await ledger.usage("a"), Usage)


def over_http() -> None:
    with client.Client("http://quota", lambda: "token") as remote, remote.reserve(None, {"images": 1}) as held:
        assert_type(held, client.Reservation)
        assert_type(held.commit(amounts={"images": 1}), Settlement)
        assert_type(remote.history("a").entries[0].cause, Cause | None)
        assert_type(remote.images.preupload([client.File("a.jpg", "image/jpeg", 1)]).uploads[0].image, UUID)
"""
WRONG = {
    "amount": 'ledger.reserve("a", {"images": "1"})',
    "subject": 'ledger.reserve(7, {"images": 1})',
    "positional key": 'ledger.reserve("a", {"images": 1}, None, "k")',
    "ttl": 'ledger.reserve("a", {"images": 1}, ttl=60)',
    "id": 'ledger.commit("0190")',
    "cause": 'ledger.rollback(held.id, cause="cancelled")',
    "no cause": "ledger.rollback(held.id)",
    "an amount to give back": 'ledger.rollback(held.id, cause=Cause.ADMIN, amounts={"images": 1})',
    "the other kind of connection": 'ledger.usage("a", connection=elsewhere)',
    "changing an answer": 'ledger.usage("a").plan = "pro"',
    "a name that does not exist": 'ledger.release("a")',
}
FRAME = """
from typing import Any

import psycopg

from earmark import Cause, Ledger


def use(ledger: Ledger, elsewhere: psycopg.AsyncConnection[Any]) -> None:
    held = ledger.reserve("a", {{"images": 1}})
    {use}
"""


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What mypy says of all snippets, in one run."""
    folder = tmp_path_factory.mktemp("snippets")
    (folder / "right.py").write_text(RIGHT, encoding="utf-8")
    for number, use in enumerate(WRONG.values()):
        (folder / f"wrong_{number}.py").write_text(FRAME.format(use=use), encoding="utf-8")
    config = folder / "mypy.ini"
    config.write_text(f"[mypy]\nstrict = true\nmypy_path = {ROOT / 'src'}\n", encoding="utf-8")
    options = ["--config-file", str(config), "--cache-dir", str(folder / "cache"), "--no-error-summary"]
    report, problems, _ = api.run([*options, "--python-executable", sys.executable, *map(str, folder.glob("*.py"))])
    assert problems == ""
    return report


def test_right_uses_pass(complaints: str) -> None:
    assert [line for line in complaints.splitlines() if "wrong_" not in line] == []


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_use_is_seen(complaints: str, name: str) -> None:
    assert f"wrong_{list(WRONG).index(name)}.py:11: error:" in complaints
