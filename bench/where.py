"""Where the time of a pair goes: to the disk, and to each of the functions by itself."""

import json
import statistics
import time

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
    """Per size of a batch: microseconds of a pair, of those on the disk, and in each function by itself."""
    url = database(server, "where")
    prepare_ledger(url, USERS)
    with psycopg.connect(url, autocommit=True) as connection:
        return {name: _measure(connection, *sizes) for name, sizes in BATCHES.items()}


def _measure(connection: psycopg.Connection, size: int, calls: int) -> dict:
    _pairs(connection, size, calls)
    durable, lazy = [], []
    for _ in range(3):
        connection.execute("SET synchronous_commit = on")
        durable += _pairs(connection, size, calls)
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
        "disk_us": microseconds * (statistics.median(durable) - statistics.median(lazy)),
        "functions_us": {name: 1000 * own / calls / size for name, own in found},
    }


def _pairs(connection: psycopg.Connection, size: int, calls: int) -> list[float]:
    """Seconds of each pair of calls; never twice the same user in one."""
    lasting = []
    for call in range(calls):
        subjects = [str((call * size + place) % USERS) for place in range(size)]
        requests = [{"subject": subject, "items": {"1": {"images": 1}}} for subject in subjects]
        begun = time.perf_counter()
        granted = connection.execute("SELECT * FROM earmark.reserve(%s)", (json.dumps(requests),)).fetchall()
        requests = [{"reservation": str(row[2]), "cause": "cancelled"} for row in granted]
        settled = connection.execute("SELECT * FROM earmark.rollback(%s)", (json.dumps(requests),)).fetchall()
        lasting.append(time.perf_counter() - begun)
        assert {row[1] for row in settled} == {"rolled_back"}
    return lasting


def show(figures: dict[str, dict]) -> None:
    """A column per size of a batch, the dearest functions first."""
    batches = list(figures.values())
    print(f"{'where':8} {'µs of a pair':22}" + "".join(f"{name:>9}" for name in figures))
    rows = {"all": [batch["pair_us"] for batch in batches], "disk": [batch["disk_us"] for batch in batches]}
    rows["functions"] = [sum(batch["functions_us"].values()) for batch in batches]
    dearest = sorted(batches[-1]["functions_us"], key=lambda name: -batches[-1]["functions_us"][name])[:SHOWN]
    rows |= {name: [batch["functions_us"].get(name, 0) for batch in batches] for name in dearest}
    for name, row in rows.items():
        print(f"{'':8} {name:22}" + "".join(f"{figure:9,.0f}" for figure in row))
