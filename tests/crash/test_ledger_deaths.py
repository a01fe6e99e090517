"""kill -9 of a process that uses the ledger itself, after the server has committed and before it sees the answer."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.ledger_process import AMOUNT, KEYS, LEDGER_POINTS, TTL, is_kept

PROCESS = Path(__file__).parents[1] / "fixtures/ledger_process.py"
COMMITTED = AMOUNT * sum(map(is_kept, KEYS))
BEFORE = """
SELECT key, reservation::text, state
FROM earmark._private_reservation JOIN earmark._private_hold USING (root, reservation)
"""


def run(database, kind, fault=None):
    command = [sys.executable, str(PROCESS), database, kind, *([fault] if fault else [])]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(params=["sync", "async"])
def killed(request, database):
    """Makes a process of this kind and kills it at a point."""

    def kill(point):
        dead = run(database, request.param, f"{point}:kill@3")
        assert dead.returncode == -signal.SIGKILL, dead.stderr
        return request.param

    return kill


@pytest.mark.parametrize("point", LEDGER_POINTS)
def test_a_retry_gets_the_answer_that_nobody_saw(killed, point, database, connection, ledger):
    kind = killed(point)
    before = {key: (reservation, state) for key, reservation, state in connection.execute(BEFORE)}
    assert before
    retried = run(database, kind)
    assert retried.returncode == 0, retried.stderr
    for key, reservation, replayed, outcome in json.loads(retried.stdout):
        known, state = before.get(key, (reservation, None))
        assert (reservation, replayed) == (known, key in before)
        done = "committed" if is_kept(key) else "rolled_back"
        assert outcome == (f"already_{done}" if state == done else done)
    images = ledger.usage("alice").resources["images"]
    assert (images.committed, images.held) == (COMMITTED, 0)
    ends = connection.execute(
        "SELECT count(*), count(DISTINCT reservation) FROM earmark._private_journal "
        "WHERE kind IN ('commit', 'rollback')"
    )
    assert ends.fetchone() == (len(KEYS), len(KEYS))


@pytest.mark.parametrize("point", LEDGER_POINTS)
def test_what_it_held_comes_back_at_its_deadline(killed, point, connection, ledger, clock):
    killed(point)
    states = [state for *_, state in connection.execute(BEFORE)]
    clock.advance(TTL.total_seconds() + 1)
    assert len(ledger.sweep()) == states.count("held")
    images = ledger.usage("alice").resources["images"]
    assert (images.committed, images.held) == (AMOUNT * states.count("committed"), 0)
