"""`earmark log --follow`, as a process of its own beside one that writes."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from earmark import Cause, Ledger
from fixtures.service import Service

ONE = {"images": 1}


@pytest.fixture
def service(tmp_path, database) -> Service:
    return Service(tmp_path / "home", database_url=database)


@contextmanager
def following(service: Service, *arguments: str) -> Iterator[Iterator[str]]:
    """Its lines as they come; at the end it is interrupted, as with Ctrl-C."""
    command = service.command("log", "--follow", *arguments)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=service.environment
    ) as process:
        try:
            yield iter(process.stdout)
        finally:
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "")


def entry_of(line):
    entry = json.loads(line)
    return entry["subject"], entry["kind"], entry["resource"], entry["held"], entry["cause"]


def test_everybodys_entries_from_the_start_and_then_as_they_come(service, ledger: Ledger):
    first = ledger.reserve("alice", ONE).id
    with following(service, "--after", "start", "--json") as lines:
        assert entry_of(next(lines)) == ("alice", "reserve", "images", 1, None)
        ledger.reserve("bob", ONE)
        assert entry_of(next(lines)) == ("bob", "reserve", "images", 1, None)
        ledger.rollback(first, cause=Cause.CANCELLED)
        last = next(lines)
        assert entry_of(last) == ("alice", "rollback", "images", -1, "cancelled")
    ledger.reserve("carol", ONE)
    with following(service, "--after", json.loads(last)["cursor"], "--json") as lines:
        assert entry_of(next(lines))[0] == "carol"


def test_a_subjects_last_entries_and_then_only_his(service, ledger: Ledger, database):
    for _ in range(3):
        ledger.reserve("alice", ONE)
    with following(service, "alice", "--limit", "2", "--json") as lines:
        assert [json.loads(next(lines))["seq"] for _ in range(2)] == [2, 3]
        ledger.reserve("bob", ONE)
        ledger.reserve("alice", ONE)
        assert json.loads(next(lines))["seq"] == 4


def test_in_the_order_of_commits(service, ledger: Ledger, database):
    with following(service, "--after", "start", "--json") as lines, psycopg.connect(database) as slow:
        ledger.reserve("early", ONE, connection=slow)
        ledger.reserve("late", ONE)
        slow.commit()
        assert [entry_of(next(lines))[0] for _ in range(2)] == ["early", "late"]


def test_for_people(service, ledger: Ledger):
    ledger.adjust("al\x1bice", "images", 5, reason="moved\nhere", actor="operator")
    with following(service, "--after", "start") as lines:
        line = next(lines)
    assert line.split("  ", 1)[1] == r"al\x1bice  adjust  images +5 committed  by operator  (moved\nhere)" + "\n"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [((), "name the SUBJECT"), (("alice", "--after", "start"), "--after goes with --follow")],
)
def test_used_wrongly(service, arguments, word):
    done = service.run("log", *arguments, check=False)
    assert done.returncode == 2
    assert word in " ".join(done.stderr.replace("│", " ").split())


def test_a_cursor_that_is_none(service):
    done = service.run("log", "--follow", "--after", "yesterday", check=False)
    assert (done.returncode, done.stderr) == (2, "earmark: This is not a cursor of journal_since.\n")
