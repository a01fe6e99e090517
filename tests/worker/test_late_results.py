"""A success that comes after expiry: the quota is taken anew where there is room, else what was made is thrown away."""

import asyncio
import os

import pytest

from earmark.uploads import _calls
from earmark.uploads.model import State
from earmark.uploads.processing import Processed, Source
from earmark.uploads.recovery import sweep
from fixtures import gated_processor
from fixtures.pictures import picture

JPEG = picture()
PROCESSING_TTL, EVIDENCE_TTL, KEPT = 60, 120, 3600
LOST = PROCESSING_TTL + EVIDENCE_TTL + 1


class Held:
    """`make_thumbnail`, once the gate is open."""

    def __init__(self, gate: str) -> None:
        self.gate = gate

    def __call__(self, source: Source) -> Processed:
        os.environ["EARMARK_TEST_GATE"] = self.gate  # in a process of the pool
        return gated_processor.process(source)


async def started(flow):
    image = await flow.uploaded(JPEG)
    async with flow.uploads.pool.connection() as connection:
        moved = await _calls.start(connection, image.image, flow.uploads.deadline(State.PROCESSING))
    assert moved.outcome == "started"
    return moved.image


async def expired(flow, clock):
    """An image whose worker gave no sign of life until the ledger's own sweep took the hold back."""
    image = await started(flow)
    clock.advance(LOST)
    await flow.uploads.ledger.sweep()
    assert await flow.state(image) == "expired"
    assert await flow.used() == (0, 0, 0, 0)
    return image


async def finish(flow, image, attempt=1):
    async with flow.uploads.pool.connection() as connection:
        return await _calls.complete(
            connection,
            image.image,
            attempt,
            content_type="image/jpeg",
            metadata={"width": 64},
            outputs={},
            actual={},
        )


def test_with_room_it_completes_and_the_journal_says_late(flow_of, clock, storage):
    async def run():
        async with flow_of(storage=storage) as flow:
            image = await expired(flow, clock)
            assert dict((await sweep(flow.uploads)).images) == {}
            moved = await finish(flow, image)
            assert (moved.outcome, moved.image.state, moved.image.cause) == ("completed", "completed", None)
            assert (await finish(flow, image)).outcome == "already_completed"
            assert await flow.used() == (1, 0, len(JPEG), 0)
            story = await flow.uploads.ledger.history("alice")
            assert [entry.kind for entry in story[:4]] == ["commit", "commit", "reserve", "reserve"]
            assert {entry.reason for entry in story[2:4]} == {"late: taken anew after expiry"}
            clock.advance(10 * KEPT)
            assert (await sweep(flow.uploads)).removed == 0
            assert await flow.storage.head(image.key) is not None

    asyncio.run(run())


def test_without_room_what_was_made_is_thrown_away_and_the_image_says_so(flow_of, clock, storage):
    async def run():
        async with flow_of(storage=storage) as flow:
            image = await expired(flow, clock)
            await flow.uploads.ledger.configure_subject("alice", quotas={"images": 0})
            moved = await finish(flow, image)
            assert (moved.outcome, moved.image.state) == ("too_late", "expired")
            assert "no quota left" in moved.image.reason
            await flow.uploads.ledger.configure_subject("alice", quotas={"images": 10})
            assert (await finish(flow, image)).outcome == "too_late"
            assert await flow.used() == (0, 0, 0, 0)
            assert (await sweep(flow.uploads)).removed == 1
            assert [stored.key async for stored in flow.storage.list(image.folder)] == []

    asyncio.run(run())


def test_once_its_file_is_being_removed_it_is_too_late(flow_of, clock):
    async def run():
        async with flow_of() as flow:
            image = await expired(flow, clock)
            clock.advance(KEPT - 2)
            assert (await sweep(flow.uploads)).removed == 0
            clock.advance(3)
            async with flow.uploads.pool.connection() as connection:
                (due,) = await _calls.to_remove(connection, 10)
            assert due.image == image.image
            moved = await finish(flow, image)
            assert (moved.outcome, moved.image.state) == ("too_late", "expired")
            assert "had been removed" in moved.image.reason
            assert await flow.used() == (0, 0, 0, 0)

    asyncio.run(run())


@pytest.mark.parametrize("attempt", [0, 2])
def test_another_attempt_is_stale_after_expiry_too(flow_of, clock, attempt):
    async def run():
        async with flow_of() as flow:
            image = await expired(flow, clock)
            assert (await finish(flow, image, attempt)).outcome == "stale"
            assert (await finish(flow, image)).outcome == "completed"

    asyncio.run(run())


def test_what_was_cancelled_is_not_brought_back(flow_of, clock):
    async def run():
        async with flow_of() as flow:
            image = await started(flow)
            await flow.uploads.cancel(image.image, subject="alice")
            assert (await finish(flow, image)).outcome == "stale"
            assert await flow.used() == (0, 0, 0, 0)

    asyncio.run(run())


@pytest.mark.parametrize(("quota", "outcome", "state"), [(10, "completed", "completed"), (0, "too_late", "expired")])
def test_a_worker_that_was_cut_off_goes_on_and_finishes_late(
    flow_of, clock, tmp_path, eventually, quota, outcome, state
):
    gate = tmp_path / "gate"
    gate.touch()

    async def run():
        async with flow_of() as flow:
            image = await flow.uploaded(JPEG)
            job = asyncio.create_task(flow.jobs(Held(str(gate))).run(image.image))

            async def begun():
                return (tmp_path / "begun-1").exists()

            await eventually(begun)
            clock.advance(LOST)
            await flow.uploads.ledger.sweep()
            await flow.uploads.ledger.configure_subject("alice", quotas={"images": quota})
            async with flow.uploads.pool.connection() as connection:
                beat = await _calls.heartbeat(connection, image.image, 1, flow.uploads.deadline(State.PROCESSING))
            assert beat.outcome == "expired"
            gate.unlink()
            assert await job == outcome
            assert await flow.state(image) == state
            outputs = [key async for key in flow.storage.list(image.folder) if "thumbnail" in key.key]
            assert len(outputs) == (1 if outcome == "completed" else 0)

    asyncio.run(run())
