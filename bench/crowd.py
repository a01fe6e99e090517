"""Many holds, made by the functions themselves: settled ones to be in the way, overdue ones to be swept."""

import json
from concurrent.futures import ThreadPoolExecutor

import psycopg

BATCH = 1000


def fill(url: str, holds: int, users: int, *, settled: bool) -> None:
    """Adds holds of one image, evenly over the users: rolled back, or with deadlines of the last hour, in no order."""
    with ThreadPoolExecutor(2) as threads:
        halves = [range(part * BATCH, holds, 2 * BATCH) for part in (0, 1)]
        for done in [threads.submit(_fill, url, half, users, settled=settled) for half in halves]:
            done.result()
    with psycopg.connect(url, autocommit=True) as connection:
        if not settled:
            query = "UPDATE earmark._private_hold SET expires_at = clock_timestamp() - interval '1 hour' * random()"
            connection.execute(query)
        connection.execute("VACUUM ANALYZE")


def _fill(url: str, starts: range, users: int, *, settled: bool) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for start in starts:
            requests = [
                {"subject": str(number % users), "items": {"1": {"images": 1}}}
                for number in range(start, start + BATCH)
            ]
            query = "SELECT reservation FROM earmark.reserve(%s)"
            granted = connection.execute(query, (json.dumps(requests),)).fetchall()
            if settled:
                requests = [{"reservation": str(row[0]), "cause": "cancelled"} for row in granted]
                connection.execute("SELECT count(*) FROM earmark.rollback(%s)", (json.dumps(requests),))
