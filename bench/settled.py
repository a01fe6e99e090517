"""What a pair costs with many settled holds in the tables, against an empty ledger in the same run."""

import psycopg
from contestants import Earmark, prepare_ledger
from crowd import fill
from pairs import compare
from servers import database

CALLERS, USERS = 64, 10_000


class Full(Earmark):
    """Earmark with a past."""

    name = "full"


def run(server: str, *, holds: int, rounds: int, seconds: float, seed: int) -> dict[str, float]:
    """Pairs per second of both, and `cost`: how many times what a pair costs when empty."""
    empty, full = database(server, "settled_none"), database(server, "settled_many")
    for url in (empty, full):
        prepare_ledger(url, USERS)
    fill(full, holds, USERS, settled=True)
    with psycopg.connect(full) as connection:
        assert connection.execute("SELECT count(*) FROM earmark._private_hold").fetchone() == (holds,)
        assert connection.execute("SELECT * FROM earmark.verify('7')").fetchall() == []
    found = compare([Earmark(empty), Full(full)], CALLERS, USERS, rounds=rounds, seconds=seconds, seed=seed)
    rates = {name: figures["pairs_per_second"] for name, figures in found.items()}
    return {"holds": holds, "empty": rates["earmark"], "full": rates["full"], "cost": rates["earmark"] / rates["full"]}


def show(figures: dict[str, float]) -> None:
    """One line."""
    print(
        f"settled  {figures['holds']:,.0f} settled holds: {figures['full']:,.0f} pairs/s, empty "
        f"{figures['empty']:,.0f}: a pair costs {figures['cost']:.2f}x"
    )
