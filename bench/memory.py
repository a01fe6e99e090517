"""What a client's process keeps after many pairs, against after few."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from contestants import Earmark, prepare_ledger
from servers import database

CALLERS, USERS = 256, 10_000
FEW = 10_000


def run(server: str, *, pairs: int) -> dict[str, float]:
    """Resident megabytes of a client of its own process, after 10,000 pairs and after `pairs`."""
    url = database(server, "memory")
    prepare_ledger(url, USERS)
    command = [sys.executable, __file__, url, str(FEW), str(pairs)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()  # noqa: S603
    few, many = map(float, told)
    return {"pairs": pairs, "after_few_mb": few, "after_many_mb": many}


def show(figures: dict[str, float]) -> None:
    """One line."""
    grown = figures["after_many_mb"] - figures["after_few_mb"]
    print(
        f"memory   a client after {FEW:,} pairs {figures['after_few_mb']:.0f} MB, after {figures['pairs']:,.0f} "
        f"{figures['after_many_mb']:.0f} MB: {grown:+.1f} MB"
    )


async def _client(url: str, stops: list[int]) -> None:
    client = Earmark(url)
    done = 0

    async def caller(stop: int) -> None:
        nonlocal done
        while done < stop:
            done += 1
            await client.pair(done % USERS)

    async with client.opened(CALLERS):
        for stop in stops:
            await asyncio.gather(*(caller(stop) for _ in range(CALLERS)))
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            print(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)


if __name__ == "__main__":
    asyncio.run(_client(sys.argv[1], [int(text) for text in sys.argv[2:]]))
