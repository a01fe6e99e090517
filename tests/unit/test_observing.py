"""Observers hear of what happens, and are never in its way."""

import asyncio
import subprocess
import sys

import pytest

from earmark import AsyncLedger, Cause, Ledger
from earmark.observing import Operation, observe, observed


@pytest.fixture
def heard():
    """What an observer has heard so far: beginnings as names, ends as operations."""
    told = []

    def observer(operation):
        told.append(operation.name)
        return told.append

    stop = observe(observer)
    yield told
    stop()


def test_an_operation_is_told_when_it_begins_and_when_it_ends(heard):
    with Operation("reserve", subject="a") as operation:
        assert heard == ["reserve"]
        operation.ended("granted", reservation="r")
    _, ended = heard
    assert (ended.outcome, ended.ids, ended.error) == ("granted", {"subject": "a", "reservation": "r"}, None)
    assert ended.seconds >= 0


def test_an_error_goes_on_and_is_told(heard):
    error = OSError("gone")
    with pytest.raises(OSError, match="gone"), Operation("commit"):
        raise error
    assert (heard[-1].error, heard[-1].outcome) == (error, None)


def test_what_an_observer_raises_goes_no_further(caplog):
    def breaks(_):
        raise RuntimeError("no metrics today")

    stops = [observe(breaks), observe(lambda _: breaks)]
    try:
        with Operation("rollback") as operation:
            operation.ended("rolled_back")
    finally:
        for stop in stops:
            stop()
    assert [record.message for record in caplog.records] == ["observer_failed", "observer_failed"]


def test_an_observer_that_has_stopped_hears_nothing(heard):
    stop = observe(heard.append)
    stop()
    stop()
    with Operation("usage"):
        pass
    assert heard[0] == "usage"
    assert len(heard) == 2


def test_calls_of_a_function_are_operations(heard):
    @observed("image_start", lambda answer: (answer, {"image": 7}))
    async def start(answer):
        return answer

    assert asyncio.run(start("started")) == "started"
    assert (heard[0], heard[1].outcome, heard[1].ids) == ("image_start", "started", {"image": 7})


def test_the_ledger_tells_what_it_does(ledger: Ledger, heard):
    reservation = ledger.reserve("a", {"images": 1}, key="k").id
    ledger.reserve("a", {"images": 1}, key="k")
    ledger.reserve("a", {"images": 10_000})
    ledger.rollback(reservation, cause=Cause.CANCELLED)
    ledger.commit(reservation)
    ended = [(one.name, one.outcome, one.ids.get("cause")) for one in heard if isinstance(one, Operation)]
    assert ended == [
        ("reserve", "granted", None),
        ("reserve", "replayed", None),
        ("reserve", "denied", None),
        ("rollback", "rolled_back", Cause.CANCELLED),
        ("commit", "already_rolled_back", None),
    ]
    assert heard[1].ids == {"subject": "a", "reservation": reservation}


def test_both_ledgers_tell_the_same(database, heard):
    async def work():
        async with AsyncLedger(database) as ledger:
            reservation = await ledger.reserve("a", {"images": 1})
            await ledger.commit(reservation.id)
            await ledger.refund(reservation.id)

    asyncio.run(work())
    assert [one for one in heard if isinstance(one, str)] == ["reserve", "commit", "refund"]


def test_the_ledger_alone_loads_neither_metrics_nor_traces():
    code = "import sys, earmark; print({'prometheus_client', 'opentelemetry'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
