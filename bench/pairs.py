"""Pairs of reserve and rollback: Earmark against others, each in a database of its own, in interleaved rounds."""

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Sequence

from contestants import ALL, Contestant
from servers import database

SCENES = {"hot": (64, 1), "spread": (64, 10_000), "single": (1, 1)}
"""Callers at the same time, and users they act for."""


async def measure(
    contestant: Contestant, callers: int, users: int, seconds: float, seed: int
) -> tuple[float, list[float]]:
    """Pairs per second and latencies, in seconds, of one round."""
    async with contestant.opened(callers):
        begun = time.perf_counter()
        latencies = await keep_calling(contestant, callers, users, seed, lambda: time.perf_counter() < begun + seconds)
        elapsed = time.perf_counter() - begun
    return len(latencies) / elapsed, latencies


async def keep_calling(
    contestant: Contestant, callers: int, users: int, seed: int, goes_on: Callable[[], bool]
) -> list[float]:
    """Latencies, in seconds, of the pairs that callers make one after another, each for any of the users."""
    latencies: list[float] = []
    pick = random.Random(seed)

    async def caller() -> None:
        while goes_on():
            begun = time.perf_counter()
            await contestant.pair(pick.randrange(users))
            latencies.append(time.perf_counter() - begun)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return latencies


def compare(
    contestants: Sequence[Contestant], callers: int, users: int, *, rounds: int, seconds: float, seed: int
) -> dict[str, dict[str, float]]:
    """Median pairs per second, p50 and p99 of each contestant; a machine whose speed drifts drifts for all."""
    rates: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    latencies: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds + 1):
        for contestant in contestants:
            lasting = seconds if number else min(1, seconds)
            rate, seen = asyncio.run(measure(contestant, callers, users, lasting, seed + number))
            if number:  # the first round warms up
                rates[contestant.name].append(rate)
                latencies[contestant.name] += seen
    return {
        name: {
            "pairs_per_second": statistics.median(rates[name]),
            "p50_ms": 1000 * statistics.median(latencies[name]),
            "p99_ms": 1000 * percentile_99(latencies[name]),
        }
        for name in rates
    }


def percentile_99(latencies: Sequence[float]) -> float:
    """The latency that one in a hundred exceeds."""
    return statistics.quantiles(latencies, n=100)[98]


def run(server: str, scene: str, *, rounds: int, seconds: float, seed: int) -> dict[str, dict[str, float]]:
    """One scene with every contestant."""
    callers, users = SCENES[scene]
    contestants = []
    for kind in ALL:
        contestants.append(kind(database(server, f"{kind.name}_{scene}")))
        contestants[-1].prepare(users)
    return compare(contestants, callers, users, rounds=rounds, seconds=seconds, seed=seed)


def show(scene: str, contestants: dict[str, dict[str, float]]) -> None:
    """A row per contestant."""
    ours = contestants["earmark"]["pairs_per_second"]
    print(f"{scene:8} {'contestant':15} {'pairs/s':>9} {'p50 ms':>8} {'p99 ms':>8}  earmark makes")
    for name, figures in contestants.items():
        ratio = f"{ours / figures['pairs_per_second']:.2f}x" if name != "earmark" else ""
        print(
            f"{'':8} {name:15} {figures['pairs_per_second']:9,.0f} {figures['p50_ms']:8.2f} "
            f"{figures['p99_ms']:8.2f}  {ratio}"
        )
