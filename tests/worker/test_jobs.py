"""Processing jobs: every ending settles the hold, once, and only the current attempt can."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from io import BytesIO
from pathlib import Path

import psycopg
import pytest
from PIL import Image as Picture
from psycopg.conninfo import make_conninfo

from earmark.config import Settings
from earmark.errors import AlreadySettled, SchemaMismatch, ValidationFailed
from earmark.model import Cause
from earmark.uploads import _calls, job
from earmark.uploads.job import ImageJobs, backoff_seconds
from earmark.uploads.process_pool import ImagePool
from earmark.uploads.processing import PermanentFailure, Processed, Source, TransientFailure, make_thumbnail
from earmark.uploads.storage import StorageUnavailable
from earmark.worker import job_loop
from earmark.worker.job_loop import run_jobs
from fixtures.pictures import picture

JPEG = picture()
CUT = JPEG[: len(JPEG) * 6 // 10]


def crashes(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(*_: object, **__: object) -> None:
    signal.pause()


def fails_for_good(source: Source) -> Processed:
    raise PermanentFailure("no such model")


def fails_for_now(source: Source) -> Processed:
    raise TransientFailure("busy")


def fails_once(source: Source) -> Processed:
    if source.attempt == 1:
        raise TransientFailure("busy")
    return make_thumbnail(source)


def spoils_its_file(source: Source) -> Processed:
    made = make_thumbnail(source)
    source.path.write_bytes(b"spoilt")
    return made


def uses_less(source: Source) -> Processed:
    made = make_thumbnail(source)
    return Processed(
        made.width,
        made.height,
        made.format,
        made.frames,
        made.colors,
        made.thumbhash,
        made.outputs,
        {"storage_bytes": 10},
    )


def uses_more(source: Source) -> Processed:
    made = make_thumbnail(source)
    return Processed(
        made.width,
        made.height,
        made.format,
        made.frames,
        made.colors,
        made.thumbhash,
        made.outputs,
        {"storage_bytes": 10**9},
    )


def test_an_upload_that_arrives_while_it_is_looked_for_is_not_given_back(flow_of, monkeypatch):
    """Said to be complete too early, and again when it is: the first call has seen nothing, and rolls back last."""

    async def run():
        async with flow_of() as flow:
            image = await flow.reserve(JPEG)

            async def overtaken(key, length):
                monkeypatch.undo()
                await flow.put(image, JPEG)
                assert (await flow.uploads.complete(image.image)).state == "uploaded"

            monkeypatch.setattr(flow.storage, "peek", overtaken)
            assert (await flow.uploads.complete(image.image)).state == "uploaded"
            assert await flow.used() == (0, 1, 0, len(JPEG))
            assert await flow.jobs().run(image.image) == "completed"

    asyncio.run(run())


def test_completes_and_commits(flow_of):
    async def run():
        async with flow_of() as flow:
            image = await flow.uploaded(JPEG)
            assert await flow.jobs_waiting() == [image.image]
            assert await flow.jobs().run(image.image) == "completed"
            done = await flow.uploads.image(image.image)
            assert (done.state, done.metadata["width"], done.metadata["height"]) == ("completed", 64, 48)
            assert await flow.used() == (1, 0, len(JPEG), 0)
            thumbnail = await flow.content(done.outputs["thumbnail"].key)
            assert Picture.open(BytesIO(thumbnail)).size == (64, 48)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("processor", "data", "outcome", "state", "cause"),
    [
        (make_thumbnail, CUT, "rejected", "rejected", Cause.VALIDATION_FAILED),
        (fails_for_good, JPEG, "failed", "failed", Cause.PROCESSING_FAILED),
        (uses_more, JPEG, "failed", "failed", Cause.PROCESSING_FAILED),
    ],
)
def test_a_failure_for_good_gives_back_at_once(flow_of, processor, data, outcome, state, cause):
    async def run():
        async with flow_of() as flow:
            image = await flow.uploaded(data)
            assert await flow.jobs(processor).run(image.image) == outcome
            ended = await flow.uploads.image(image.image)
            assert (ended.state, ended.cause) == (state, cause)
            assert ended.reason
            assert await flow.used() == (0, 0, 0, 0)
            assert await flow.jobs(processor).run(image.image) == "over"

    asyncio.run(run())


def test_a_failure_that_may_pass_is_tried_again_and_then_given_up(flow_of):
    async def run():
        async with flow_of(processing_attempts=3, retry_base_seconds=0.001) as flow:
            image = await flow.uploaded(JPEG)
            outcomes = [await flow.jobs(fails_for_now).run(image.image) for _ in range(4)]
            assert outcomes == ["retrying", "retrying", "failed", "over"]
            assert len(await flow.jobs_waiting()) == 3
            assert await flow.used() == (0, 0, 0, 0)

    asyncio.run(run())


def test_actual_use_below_the_reserved_amount_returns_the_rest(flow_of):
    async def run():
        async with flow_of() as flow:
            image = await flow.uploaded(JPEG)
            assert await flow.jobs(uses_less).run(image.image) == "completed"
            assert await flow.used() == (1, 0, 10, 0)

    asyncio.run(run())


def test_the_same_job_twice_at_once_is_worked_on_once(flow_of):
    async def run():
        async with flow_of() as flow:
            image = await flow.uploaded(JPEG)
            outcomes = await asyncio.gather(*(flow.jobs().run(image.image) for _ in range(5)))
            assert set(outcomes) <= {"busy", "completed"}  # one that comes when the work is done finds it completed
            assert (await flow.uploads.image(image.image)).attempt == 1
            assert await flow.used() == (1, 0, len(JPEG), 0)

    asyncio.run(run())


def test_a_worker_taken_for_dead_can_neither_finish_nor_fail_its_successor(flow_of, clock):
    async def run():
        async with flow_of() as flow:
            image = await flow.uploaded(JPEG)
            deadline = flow.uploads.deadline("processing")
            async with flow.uploads.pool.connection() as connection:
                first = (await _calls.start(connection, image.image, deadline)).image
                clock.advance(61)
                second = (await _calls.start(connection, image.image, deadline)).image
                assert (first.attempt, second.attempt) == (1, 2)
                beat = await _calls.heartbeat(connection, image.image, 1, deadline)
                failed = await _calls.roll_back(connection, image.image, Cause.PROCESSING_FAILED, attempt=1)
                finished = await _calls.complete(
                    connection, image.image, 1, content_type="image/jpeg", metadata={}, outputs={}, actual={}
                )
                assert [beat.outcome, failed.outcome, finished.outcome] == ["stale"] * 3
                finished = await _calls.complete(
                    connection, image.image, 2, content_type="image/jpeg", metadata={}, outputs={}, actual={}
                )
                assert finished.outcome == "completed"
            assert await flow.used() == (1, 0, len(JPEG), 0)

    asyncio.run(run())


def never_ends(source: Source) -> Processed:
    for _ in range(2000):
        time.sleep(0.01)
    raise AssertionError("nobody stopped the job")


def test_a_cancelled_image_stops_its_running_job(flow_of, eventually):
    async def run():
        async with flow_of() as flow:
            image = await flow.uploaded(JPEG)
            job = asyncio.create_task(flow.jobs(never_ends).run(image.image))

            async def started():
                return await flow.state(image) == "processing"

            await eventually(started)
            await flow.uploads.cancel(image.image, subject="alice")
            assert await flow.used() == (0, 0, 0, 0)
            assert await job == "stale"
            assert await flow.state(image) == "cancelled"

    asyncio.run(run())


def test_shutting_down_hands_the_job_to_the_next_worker(flow_of, eventually):
    async def run():
        async with flow_of() as flow:
            image = await flow.uploaded(JPEG)
            job = asyncio.create_task(flow.jobs(never_ends).run(image.image))

            async def started():
                return await flow.state(image) == "processing"

            await eventually(started)
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job
            assert await flow.state(image) == "uploaded"
            assert await flow.jobs().run(image.image) == "completed"
            assert await flow.used() == (1, 0, len(JPEG), 0)

    asyncio.run(run())


UNDEFINED_FUNCTION = "42883"
REFUSE = """
CREATE SEQUENCE earmark.refusals;
CREATE FUNCTION earmark.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state = '{before}' AND NEW.state = 'processing' AND nextval('earmark.refusals') <= 2 THEN
        RAISE 'not now' USING ERRCODE = '{state}';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON earmark._private_image FOR EACH ROW EXECUTE FUNCTION earmark.refuse();
"""
"""The database refuses twice to move an image from the state `before` to `processing`, with that SQLSTATE."""


def waits_for(source: Source, *, gate: str) -> Processed:
    for _ in range(4000):
        if Path(gate).exists():
            return make_thumbnail(source)
        time.sleep(0.01)
    raise AssertionError("nobody opened the gate")


@pytest.mark.parametrize("state", ["53300", "25006", "P0001", UNDEFINED_FUNCTION])
def test_a_heartbeat_that_the_database_refuses_stops_no_job(flow_of, connection, eventually, tmp_path, state):
    connection.execute(REFUSE.format(before="processing", state=state))

    async def run():
        async with flow_of(processing_ttl_seconds=0.3) as flow:
            image = await flow.uploaded(JPEG)
            gate = tmp_path / "gate"
            job = asyncio.create_task(flow.jobs(partial(waits_for, gate=str(gate))).run(image.image))

            async def refused():
                return connection.execute("SELECT last_value >= 2 FROM earmark.refusals").fetchone()[0]

            await eventually(refused)
            gate.touch()
            assert await job == "completed"
            assert (await flow.uploads.image(image.image)).attempt == 1

    asyncio.run(run())


def test_an_attempt_whose_end_another_schema_does_not_know_fails_no_image(flow_of, connection):
    """As while a deploy is under way, which is no fault of the image."""
    refuse = REFUSE.format(before="processing", state=UNDEFINED_FUNCTION)
    connection.execute(refuse.replace("NEW.state = 'processing'", "NEW.state = 'completed'"))

    async def run():
        async with flow_of(processing_attempts=1) as flow:
            image = await flow.uploaded(JPEG)
            with pytest.raises(SchemaMismatch):
                await flow.jobs().run(image.image)
            assert await flow.state(image) == "processing"
            assert await flow.used() == (0, 1, 0, len(JPEG))

    asyncio.run(run())


@pytest.mark.parametrize("state", ["53300", "P0001"])
def test_a_job_that_the_database_refuses_to_start_comes_again_at_once(
    flow_of, connection, eventually, monkeypatch, state
):
    connection.execute(REFUSE.format(before="uploaded", state=state))
    monkeypatch.setattr(job_loop, "COMES_AGAIN_SECONDS", 0)

    async def run():
        async with flow_of() as flow, flow.uploads.queue.open_async():
            loop = asyncio.create_task(run_jobs(flow.uploads.queue, flow.jobs(), processes=1))
            image = await flow.uploaded(JPEG)

            async def is_completed():
                return await flow.state(image) == "completed"

            await eventually(is_completed)
            loop.cancel()
            with pytest.raises(asyncio.CancelledError):
                await loop
            assert await flow.jobs_waiting() == []

    asyncio.run(run())


async def away(*_: object, **__: object) -> None:
    raise StorageUnavailable("the store does not answer")


@asynccontextmanager
async def not_opened(*_: object) -> AsyncIterator[Path]:
    raise StorageUnavailable("the store does not answer")
    yield


@pytest.mark.parametrize(
    ("operation", "away", "processor"),
    [("as_file", not_opened, make_thumbnail), ("download", away, uses_less), ("put", away, make_thumbnail)],
    ids=["as_file", "download", "put"],
)
def test_a_store_that_is_away_for_longer_than_all_tries_fails_no_image(
    flow_of, monkeypatch, operation, away, processor
):
    async def run():
        async with flow_of(processing_attempts=1, retry_base_seconds=0.001) as flow:
            image = await flow.uploaded(JPEG)
            monkeypatch.setattr(flow.storage, operation, away)
            assert [await flow.jobs(processor).run(image.image) for _ in range(3)] == ["retrying"] * 3
            waiting = await flow.uploads.image(image.image)
            assert (waiting.state, waiting.tries) == ("uploaded", 0)
            assert "store" in waiting.reason
            monkeypatch.undo()
            assert await flow.jobs().run(image.image) == "completed"
            assert await flow.used() == (1, 0, len(JPEG), 0)

    asyncio.run(run())


def test_a_store_that_stays_away_is_given_up_in_the_end(flow_of, monkeypatch):
    async def run():
        async with flow_of(processing_attempts=1, abandon_after_seconds=0.001) as flow:
            image = await flow.uploaded(JPEG)
            monkeypatch.setattr(flow.storage, "as_file", not_opened)
            assert await flow.jobs().run(image.image) == "failed"
            assert await flow.used() == (0, 0, 0, 0)

    asyncio.run(run())


def test_a_processor_that_writes_to_its_file_spoils_no_original(flow_of):
    async def run():
        async with flow_of() as flow:
            image = await flow.uploaded(JPEG)
            assert await flow.jobs(spoils_its_file).run(image.image) == "completed"
            assert await flow.content(image.key) == JPEG

    asyncio.run(run())


def test_a_pause_never_overflows():
    settings = Settings(retry_base_seconds=1, retry_cap_seconds=60)
    assert 0.5 <= backoff_seconds(settings, 1) <= 1
    assert 30 <= backoff_seconds(settings, 5000) <= 60


def test_the_caller_finds_his_search_path_as_it_was(flow_of):
    async def run():
        async with flow_of() as flow:
            image = await flow.reserve(JPEG)
            await flow.put(image, JPEG)
            async with flow.uploads.pool.connection() as connection, connection.transaction():
                await connection.execute("SET LOCAL search_path = mine, public")
                done = await flow.uploads.on(connection).complete(image.image)
                (path,) = await (await connection.execute("SHOW search_path")).fetchone()
            assert (done.state, path) == ("uploaded", "mine, public")

    asyncio.run(run())


def test_a_picture_is_decoded_by_its_own_processor_in_the_trip_that_inspects_it(flow_of, monkeypatch):
    """A failure of that one trip says not whose fault it was: the attempts after it make a trip for each."""

    async def run():
        async with flow_of(retry_base_seconds=0.001) as flow:
            image, dead = await flow.uploaded(JPEG), await flow.uploaded(JPEG)
            trips = []
            pool_run = flow.pool.run

            async def counted(function, *args, **kwargs):
                trips.append(function.__name__)
                if trips == ["inspect_and_make_thumbnail"] * 2:
                    return await pool_run(os._exit, 3)
                return await pool_run(function, *args, **kwargs)

            monkeypatch.setattr(flow.pool, "run", counted)
            jobs = flow.jobs()
            assert await jobs.run(image.image) == "completed"
            assert await jobs.run(dead.image) == "retrying"
            assert await jobs.run(dead.image) == "completed"
            assert trips == ["inspect_and_make_thumbnail"] * 2 + ["inspect", "make_thumbnail"]
            done = [await flow.uploads.image(one.image) for one in (image, dead)]
            assert done[0].metadata == done[1].metadata
            assert await flow.used() == (2, 0, 2 * len(JPEG), 0)

    asyncio.run(run())


def test_a_picture_that_takes_too_long_to_decode_is_refused(flow_of):
    file = BytesIO()
    Picture.new("RGBA", (8660, 5773)).save(file, "PNG", compress_level=1)
    slow = file.getvalue()

    async def run():
        pool = ImagePool(1, 0.01)
        try:
            async with flow_of() as flow:
                image = await flow.uploaded(slow, filename="a.png", content_type="image/png")
                assert await ImageJobs(flow.uploads, pool, make_thumbnail).run(image.image) == "rejected"
                ended = await flow.uploads.image(image.image)
                assert (ended.cause, ended.reason) == (
                    Cause.VALIDATION_FAILED,
                    "The image takes too long to decode.",
                )
                assert await flow.used() == (0, 0, 0, 0)
        finally:
            pool.close()

    asyncio.run(run())


def test_an_attempt_that_a_shutdown_interrupts_is_no_try(flow_of, eventually):
    async def run():
        async with flow_of(processing_attempts=2, retry_base_seconds=0.001) as flow:
            image = await flow.uploaded(JPEG)
            for attempt in (1, 2, 3):
                job = asyncio.create_task(flow.jobs(never_ends).run(image.image))

                async def started(attempt=attempt):
                    now = await flow.uploads.image(image.image)
                    return (now.state, now.attempt) == ("processing", attempt)

                await eventually(started)
                job.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await job
            outcomes = [await flow.jobs(fails_for_now).run(image.image) for _ in range(2)]
            assert outcomes == ["retrying", "failed"]
            ended = await flow.uploads.image(image.image)
            assert (ended.attempt, ended.interrupted, ended.tries) == (5, 3, 2)
            assert await flow.used() == (0, 0, 0, 0)

    asyncio.run(run())


def test_the_first_look_refuses_and_gives_back(flow_of):
    async def run():
        async with flow_of() as flow:
            image = await flow.reserve(b"just text" * 20)
            await flow.put(image, b"just text" * 20)
            with pytest.raises(ValidationFailed):
                await flow.uploads.complete(image.image, subject="alice")
            with pytest.raises(AlreadySettled):
                await flow.uploads.complete(image.image, subject="alice")
            assert await flow.state(image) == "rejected"
            assert await flow.used() == (0, 0, 0, 0)
            assert await flow.jobs_waiting() == []

    asyncio.run(run())


def test_the_loop_takes_jobs_off_the_queue_and_retries_them(flow_of, eventually):
    async def run():
        async with flow_of(retry_base_seconds=0.01) as flow, flow.uploads.queue.open_async():
            loop = asyncio.create_task(run_jobs(flow.uploads.queue, flow.jobs(fails_once), processes=1))
            images = [await flow.uploaded(JPEG) for _ in range(3)]

            async def all_completed():
                return [await flow.state(image) for image in images] == ["completed"] * 3

            await eventually(all_completed)
            loop.cancel()
            with pytest.raises(asyncio.CancelledError):
                await loop
            assert await flow.used() == (3, 0, 3 * len(JPEG), 0)
            assert await flow.jobs_waiting() == []

    asyncio.run(run())


def test_a_file_that_kills_its_decoder_twice_is_refused(flow_of, monkeypatch):
    """Once may be bad luck: the system was short of memory."""
    for decoding in ("inspect_and_make_thumbnail", "inspect"):
        monkeypatch.setattr(job, decoding, crashes)

    async def run():
        async with flow_of() as flow:
            image = await flow.uploaded(JPEG)
            assert [await flow.jobs().run(image.image) for _ in range(2)] == ["retrying", "rejected"]
            assert (await flow.uploads.image(image.image)).cause is Cause.VALIDATION_FAILED
            assert await flow.used() == (0, 0, 0, 0)

    asyncio.run(run())


@pytest.mark.parametrize("processor", [make_thumbnail, uses_less])
def test_a_file_that_its_decoder_does_not_get_through_is_refused_at_once(flow_of, monkeypatch, processor):
    for decoding in ("inspect_and_make_thumbnail", "inspect"):
        monkeypatch.setattr(job, decoding, hangs)

    async def run():
        async with flow_of() as flow:
            image = await flow.uploaded(JPEG)
            pool = ImagePool(1, 0.2)
            try:
                assert await ImageJobs(flow.uploads, pool, processor).run(image.image) == "rejected"
            finally:
                pool.close()
            assert "too long" in (await flow.uploads.image(image.image)).reason
            assert await flow.used() == (0, 0, 0, 0)

    asyncio.run(run())


@pytest.mark.parametrize("trouble", ["the books are locked", "the answer is lost", "read-only"])
def test_what_was_made_is_not_made_again_for_want_of_an_answer(flow_of, database, monkeypatch, caplog, trouble):
    """The attempt may have been paid for."""
    complete, calls = _calls.complete, 0
    monkeypatch.setattr(job, "RETRY_DELAYS", (0.01,))

    async def run():
        with psycopg.connect(database) as other:

            async def troubled(*args, **named):
                nonlocal calls
                calls += 1
                if trouble == "the books are locked":
                    if calls == 1:
                        other.execute("SELECT FROM earmark._private_subject WHERE subject = 'alice' FOR NO KEY UPDATE")
                    elif calls == 3:
                        other.rollback()
                    return await complete(*args, **named)
                if trouble == "read-only" and calls < 3:
                    await args[0].execute("SET default_transaction_read_only = on")
                    try:
                        return await complete(*args, **named)
                    finally:
                        await args[0].execute("RESET default_transaction_read_only")
                moved = await complete(*args, **named)
                if calls < 3:
                    raise psycopg.OperationalError("server closed the connection unexpectedly")
                return moved

            monkeypatch.setattr(_calls, "complete", troubled)
            async with flow_of(url=make_conninfo(database, options="-c lock_timeout=20ms")) as flow:
                image = await flow.uploaded(JPEG)
                assert await flow.jobs().run(image.image) == "completed"
                assert calls == 3
                assert [record.msg for record in caplog.records].count("completion_postponed") == 2
                assert (await flow.uploads.image(image.image)).attempt == 1
                assert await flow.used() == (1, 0, len(JPEG), 0)

    asyncio.run(run())


def test_an_attempt_that_gets_no_answer_ends_with_its_time(flow_of, monkeypatch):
    calls = 0

    async def away(*_, **__):
        nonlocal calls
        calls += 1
        raise psycopg.OperationalError("the database is away")

    monkeypatch.setattr(_calls, "complete", away)
    monkeypatch.setattr(job, "RETRY_DELAYS", (0.01,))

    async def run():
        async with flow_of(processing_ttl_seconds=1) as flow:
            image = await flow.uploaded(JPEG)
            with pytest.raises(psycopg.OperationalError):
                await flow.jobs().run(image.image)
            assert calls > 1
            assert await flow.state(image) == "processing", "its deadline brings it back"

    asyncio.run(run())
