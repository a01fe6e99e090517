"""Damaged files through real inspection and processing, in their process: a verdict each, in little memory."""

import asyncio
import json
import random
import resource
import sys
from pathlib import Path

import pytest

from earmark.uploads.inspection import FORMATS, Inspected, Limits, Rejection, inspect
from earmark.uploads.process_pool import ImagePool
from earmark.uploads.processing import PermanentFailure, Processed, Source, make_thumbnail

CASES = Path(__file__).parents[2].parent / "shared/cases/files"
FILES = json.loads((CASES / "manifest.json").read_text())["files"] if CASES.is_dir() else []
LIMITS = Limits(25_000_000, 50_000_000, 200_000_000, tuple(known.content_types[0] for known in FORMATS.values()))
PEAK_BYTES = 300_000_000
MUTANTS = 8


def damaged(data, chance):
    """Cut short, with some bits turned over, or with a piece of it repeated or left out."""
    data = bytearray(data)
    match chance.choice(["cut", "bits", "bits", "repeat", "hole"]):
        case "cut":
            del data[chance.randrange(len(data)) :]
        case "bits":
            for _ in range(chance.choice([1, 3, 20])):
                near = chance.choice([len(data), min(len(data), 200)])
                data[chance.randrange(near)] ^= 1 << chance.randrange(8)
        case "repeat":
            at = chance.randrange(len(data))
            data[at:at] = data[at : at + chance.randrange(1, 200)]
        case "hole":
            at = chance.randrange(len(data))
            del data[at : at + chance.randrange(1, 200)]
    return bytes(data)


async def looked_at(pool, path, content_type):
    """Inspected and, where it passes, processed; what became of it."""
    verdict = await pool.run(inspect, path, content_type=content_type, filename="", limits=LIMITS)
    assert isinstance(verdict, Inspected | Rejection)
    if isinstance(verdict, Rejection):
        assert verdict.reason.endswith(".")
        return "rejected"
    source = Source(path=path, content_type=verdict.content_type, filename="", image_id="", subject="", attempt=1)
    try:
        made = await pool.run(make_thumbnail, source)
    except PermanentFailure:
        return "failed"
    assert isinstance(made, Processed)
    return "processed"


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is Linux's")
@pytest.mark.skipif(not FILES, reason="the shared case files are not beside the project")
@pytest.mark.parametrize("seed", range(2))
def test_damaged_cases_end_in_a_verdict(seed, tmp_path):
    chance = random.Random(seed)

    async def run():
        pool = ImagePool(1, 30)
        ends = []
        try:
            for case in FILES:
                data = (CASES / case["file"]).read_bytes()
                for mutant in [data, *(damaged(data, chance) for _ in range(MUTANTS if data else 0))]:
                    path = tmp_path / "upload"
                    path.write_bytes(mutant)
                    ends.append(await looked_at(pool, path, case["declared_type"]))
            usage = await pool.run(resource.getrusage, resource.RUSAGE_SELF)
        finally:
            pool.close()
        return ends, usage.ru_maxrss * 1024

    ends, peak = asyncio.run(run())
    assert {"rejected", "processed"} <= set(ends)
    assert peak < PEAK_BYTES
