"""How fast overdue holds come back, and what other users notice of it meanwhile."""

import asyncio
import multiprocessing
import time
from multiprocessing.synchronize import Event

import psycopg
from contestants import Earmark, prepare_ledger
from crowd import fill
from pairs import keep_calling, percentile_99
from servers import database

from earmark import Ledger

USERS = 10_000
CALLERS = 8


def run(server: str, *, holds: int, seconds: float, seed: int) -> dict[str, float]:
    """Holds per second of one sweeper alone, and p99 of 8 callers, in milliseconds, before and during a sweep."""
    alone = database(server, "sweep_alone")
    prepare_ledger(alone, USERS)
    fill(alone, holds, USERS, settled=False)
    with Ledger(alone) as ledger:
        begun = time.perf_counter()
        swept = len(ledger.sweep())
        elapsed = time.perf_counter() - begun
    assert swept == holds
    beside = database(server, "sweep_beside")
    prepare_ledger(beside, 2 * USERS)
    fill(beside, holds, USERS, settled=False)
    before, during = asyncio.run(_beside(beside, holds, seconds, seed))
    return {"holds": holds, "holds_per_second": holds / elapsed, "p99_before_ms": before, "p99_during_ms": during}


async def _beside(url: str, holds: int, seconds: float, seed: int) -> tuple[float, float]:
    """The callers act for users who have nothing overdue; the sweeper is a process of its own, as a worker is."""
    others = Others(url)
    context = multiprocessing.get_context("spawn")
    ready, start = context.Event(), context.Event()
    sweeper = context.Process(target=_sweep, args=(url, ready, start), daemon=True)
    sweeper.start()
    await asyncio.to_thread(ready.wait)
    async with others.opened(CALLERS):
        for lasting in (1, seconds):  # the first warms up
            end = time.perf_counter() + lasting
            quiet = await keep_calling(others, CALLERS, USERS, seed, lambda end=end: time.perf_counter() < end)
        start.set()
        busy = await keep_calling(others, CALLERS, USERS, seed + 1, sweeper.is_alive)
    with psycopg.connect(url) as connection:
        query = "SELECT count(*) FROM earmark._private_hold WHERE cause = 'expired'"
        assert connection.execute(query).fetchone() == (holds,)
    return 1000 * percentile_99(quiet), 1000 * percentile_99(busy)


class Others(Earmark):
    """Acts for those of the users who have nothing overdue."""

    async def pair(self, user: int) -> None:
        await super().pair(USERS + user)


def _sweep(url: str, ready: Event, start: Event) -> None:
    with Ledger(url) as ledger:
        ready.set()
        start.wait()
        ledger.sweep()


def show(figures: dict[str, float]) -> None:
    """One line."""
    print(
        f"sweep    {figures['holds']:,.0f} overdue holds: {figures['holds_per_second']:,.0f} holds/s; p99 of others "
        f"{figures['p99_before_ms']:.1f} ms before, {figures['p99_during_ms']:.1f} ms during: "
        f"{figures['p99_during_ms'] / figures['p99_before_ms']:.2f}x"
    )
