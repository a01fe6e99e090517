"""Where the time of a pair goes: to the disk, and to each of the functions by itself."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg
from contestants import prepare_ledger
from servers import database

USERS = 10_000
BATCHES = {"alone": (1, 400), "of 100": (100, 40)}
"""Requests in a call, and pairs of calls in a round."""
SHOWN = 10
FUNCTIONS = """
SELECT funcname, self_time FROM pg_stat_user_functions WHERE schemaname = 'earmark' ORDER BY self_time DESC
"""


def run(server: str) -> dict[str, dict]:
    """Per size of a batch: microseconds of a pair, of the floor's, on the disk, and in each function by itself."""
    url = database(server, "where")
    prepare_ledger(url, USERS)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute((Path(__file__).parent / "floor_in_batches.sql").read_text())
        return {name: _measure(connection, *sizes) for name, sizes in BATCHES.items()}


def _measure(connection: psycopg.Connection, size: int, calls: int) -> dict:
    _pairs(connection, size, calls)
    durable, lazy, floor = [], [], []
    for _ in range(3):
        connection.execute("SET synchronous_commit = on")
        durable += _pairs(connection, size, calls)
        floor += _pairs(connection, size, calls, _floor)
        connection.execute("SET synchronous_commit = off")
        lazy += _pairs(connection, size, calls)
    connection.execute("SET track_functions = 'all'")
    connection.execute("SELECT pg_stat_reset()")
    _pairs(connection, size, calls)
    connection.execute("SET track_functions = 'none'")
    connection.execute("SELECT pg_stat_force_next_flush()")
    found = connection.execute(FUNCTIONS).fetchall()
    microseconds = 1e6 / size
    return {
        "pair_us": microseconds * statistics.median(durable),
        "floor_us": microseconds * statistics.median(floor),
        "disk_us": microseconds * (statistics.median(durable) - statistics.median(lazy)),
        "functions_us": {name: 1000 * own / calls / size for name, own in found},
    }


def _earmark(connection: psycopg.Connection, subjects: Sequence[str]) -> None:
    requests = [{"subject": subject, "items": {"1": {"images": 1}}} for subject in subjects]
    granted = connection.execute("SELECT * FROM earmark.reserve(%s)", (json.dumps(requests),)).fetchall()
    requests = [{"reservation": str(row[2]), "cause": "cancelled"} for row in granted]
    settled = connection.execute("SELECT * FROM earmark.rollback(%s)", (json.dumps(requests),)).fetchall()
    assert {row[1] for row in settled} == {"rolled_back"}


def _floor(connection: psycopg.Connection, subjects: Sequence[str]) -> None:
    granted = connection.execute("SELECT * FROM floor_reserve_all(%s)", (list(subjects),)).fetchall()
    ids = [row[0] for row in granted]
    assert connection.execute("SELECT floor_rollback_all(%s)", (ids,)).fetchone() == (len(subjects),)


def _pairs(
    connection: psycopg.Connection,
    size: int,
    calls: int,
    pair: Callable[[psycopg.Connection, Sequence[str]], None] = _earmark,
) -> list[float]:
    """Seconds of each pair of calls; never twice the same user in one."""
    lasting = []
    for call in range(calls):
        subjects = [str((call * size + place) % USERS) for place in range(size)]
        begun = time.perf_counter()
        pair(connection, subjects)
        lasting.append(time.perf_counter() - begun)
    return lasting


def show(figures: dict[str, dict]) -> None:
    """A column per size of a batch, the dearest functions first."""
    batches = list(figures.values())
    print(f"{'where':8} {'µs of a pair':22}" + "".join(f"{name:>9}" for name in figures))
    whole = {"all": "pair_us", "floor": "floor_us", "disk": "disk_us"}
    rows = {name: [batch[figure] for batch in batches] for name, figure in whole.items()}
    rows["functions"] = [sum(batch["functions_us"].values()) for batch in batches]
    dearest = sorted(batches[-1]["functions_us"], key=lambda name: -batches[-1]["functions_us"][name])[:SHOWN]
    rows |= {name: [batch["functions_us"].get(name, 0) for batch in batches] for name in dearest}
    for name, row in rows.items():
        print(f"{'':8} {name:22}" + "".join(f"{figure:9,.0f}" for figure in row))
