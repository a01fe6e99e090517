"""What was left behind by a death: adopted, driven again, or given back; the evidence decides."""

import asyncio
from datetime import timedelta

import pytest
from psycopg.conninfo import make_conninfo

from earmark.model import Cause
from earmark.uploads import _calls, recovery
from earmark.uploads.model import File, State
from earmark.uploads.recovery import STORE_FAILURES_MAX, recover, remove_objects, sweep
from earmark.uploads.storage import StorageUnavailable
from earmark.worker.duties import Duty, run_duties
from earmark.worker.job_rescuer import rescue_once
from earmark.worker.sweeper import sweep_once
from fixtures.pictures import picture

JPEG = picture()
UPLOAD_TTL, QUEUE_TTL, PROCESSING_TTL = 1201, 3601, 61


def test_nothing_is_done_before_the_deadline(flow_of, clock):
    async def run():
        async with flow_of() as flow:
            await flow.reserve(JPEG)
            clock.advance(UPLOAD_TTL - 2)
            assert await sweep_once(flow.uploads) == {}
            assert await flow.used() == (0, 1, 0, len(JPEG))

    asyncio.run(run())


def test_an_upload_that_never_came_expires_once(flow_of, clock, storage):
    async def run():
        async with flow_of(storage=storage) as flow:
            image = await flow.reserve(JPEG)
            clock.advance(UPLOAD_TTL)
            reports = [await sweep(flow.uploads) for _ in range(2)]
            assert [dict(report.images) for report in reports] == [{"expired": 1}, {}]
            assert await flow.state(image) == "expired"
            assert await flow.used() == (0, 0, 0, 0)
            story = await flow.uploads.ledger.history("alice")
            assert [entry.kind for entry in story] == ["rollback"] * 2 + ["reserve"] * 2
            assert {entry.cause for entry in story[:2]} == {Cause.EXPIRED}

    asyncio.run(run())


def test_an_upload_that_came_without_a_word_is_adopted(flow_of, clock, storage):
    async def run():
        async with flow_of(storage=storage) as flow:
            image = await flow.reserve(JPEG)
            await flow.put(image, JPEG)
            clock.advance(UPLOAD_TTL)
            assert dict((await sweep(flow.uploads)).images) == {"adopted": 1}
            assert await flow.jobs().run(image.image) == "completed"
            assert await flow.used() == (1, 0, len(JPEG), 0)

    asyncio.run(run())


def test_an_upload_of_the_wrong_size_is_given_back(flow_of, clock, storage):
    async def run():
        async with flow_of(storage=storage) as flow:
            image = await flow.reserve(JPEG)
            await flow.put(image, JPEG[:-1])
            clock.advance(UPLOAD_TTL)
            assert dict((await sweep(flow.uploads)).images) == {"UploadFailed": 1}
            assert await flow.state(image) == "failed"
            assert await flow.used() == (0, 0, 0, 0)

    asyncio.run(run())


def test_a_job_that_was_lost_is_driven_again(flow_of, clock, connection):
    async def run():
        async with flow_of() as flow:
            image = await flow.uploaded(JPEG)
            connection.execute("TRUNCATE procrastinate.procrastinate_jobs CASCADE")
            clock.advance(QUEUE_TTL)
            assert dict((await sweep(flow.uploads)).images) == {"driven": 1}
            assert await flow.jobs_waiting() == [image.image]
            assert await flow.jobs().run(image.image) == "completed"

    asyncio.run(run())


@pytest.mark.parametrize("days_behind", [0, 2])
def test_an_image_that_no_worker_takes_is_given_up_after_a_day_by_the_databases_clock(flow_of, clock, days_behind):
    async def run():
        clock.advance(-86_400 * days_behind)
        async with flow_of(abandon_after_seconds=3 * 3600) as flow:
            image = await flow.uploaded(JPEG)
            seen = []
            for _ in range(3):
                clock.advance(QUEUE_TTL)
                seen.append(dict((await sweep(flow.uploads)).images))
            assert seen == [{"driven": 1}, {"driven": 1}, {"expired": 1}]
            assert await flow.state(image) == "expired"
            assert await flow.used() == (0, 0, 0, 0)

    asyncio.run(run())


def test_a_dead_worker_is_succeeded_and_a_poisonous_image_is_given_up(flow_of, clock):
    async def run():
        async with flow_of(processing_attempts=3) as flow:
            image = await flow.uploaded(JPEG)
            seen = []
            for _ in range(4):
                async with flow.uploads.pool.connection() as connection:
                    moved = await _calls.start(connection, image.image, flow.uploads.deadline("processing"))
                seen.append(moved.outcome)
                clock.advance(PROCESSING_TTL)
                seen.append(dict((await sweep(flow.uploads)).images))
            assert seen == ["started", {"driven": 1}] * 2 + ["started", {"processing_failed": 1}, "over", {}]
            assert await flow.used() == (0, 0, 0, 0)

    asyncio.run(run())


def test_a_live_worker_is_left_alone(flow_of, clock, storage):
    async def run():
        async with flow_of(storage=storage) as flow:
            image = await flow.uploaded(JPEG)
            deadline = flow.uploads.deadline("processing")
            async with flow.uploads.pool.connection() as connection:
                await _calls.start(connection, image.image, deadline)
                for _ in range(5):
                    clock.advance(PROCESSING_TTL - 20)
                    await _calls.heartbeat(connection, image.image, 1, deadline)
                    assert await sweep_once(flow.uploads) == {}
            assert await flow.used() == (0, 1, 0, len(JPEG))

    asyncio.run(run())


def test_without_an_upload_sweeper_the_hold_comes_back_all_the_same(flow_of, clock):
    async def run():
        async with flow_of() as flow:
            image = await flow.reserve(JPEG)
            clock.advance(UPLOAD_TTL + 120)
            assert len(await flow.uploads.ledger.sweep()) == 2
            assert await flow.state(image) == "expired"

    asyncio.run(run())


def test_sweepers_that_remove_the_same_objects_at_once_have_looked_once(flow_of, clock):
    """Else nobody would look again for what comes late through a URL that is still good."""

    async def run():
        async with flow_of() as flow:
            image = await flow.reserve(JPEG)
            await flow.uploads.cancel(image.image, subject="alice")
            async with flow.uploads.pool.connection() as connection:
                assert [one.image for one in await _calls.to_remove(connection, 9)] == [image.image]
                for _ in range(3):
                    await _calls.removed(connection, [image.image])
            await flow.put(image, JPEG)
            clock.advance(UPLOAD_TTL)
            assert (await sweep(flow.uploads)).removed == 1
            assert await flow.storage.head(image.key) is None

    asyncio.run(run())


def test_what_was_not_accepted_leaves_nothing_in_the_store_even_when_it_comes_late(flow_of, clock, storage):
    async def run():
        async with flow_of(storage=storage) as flow:
            image = await flow.reserve(JPEG)
            await flow.put(image, JPEG)
            await flow.uploads.cancel(image.image, subject="alice")
            assert (await sweep(flow.uploads)).removed == 1
            assert await flow.storage.head(image.key) is None
            await flow.put(image, JPEG)  # through a URL that is still good
            assert (await sweep(flow.uploads)).removed == 0
            clock.advance(UPLOAD_TTL + 61)
            assert (await sweep(flow.uploads)).removed == 1
            assert await flow.storage.head(image.key) is None
            clock.advance(UPLOAD_TTL + 61)
            assert (await sweep(flow.uploads)).removed == 0
            await flow.put(image, JPEG)  # what had begun while the URL was good
            clock.advance(3600)
            assert (await sweep(flow.uploads)).removed == 1
            assert await flow.storage.head(image.key) is None
            clock.advance(86_400)
            assert (await sweep(flow.uploads)).removed == 0

    asyncio.run(run())


def test_an_upload_whose_hold_was_committed_by_hand_is_not_waited_for_for_ever(flow_of, clock):
    async def run():
        async with flow_of() as flow:
            image = await flow.reserve(JPEG)
            await flow.uploads.ledger.commit(image.reservation)
            clock.advance(UPLOAD_TTL)
            reports = [dict((await sweep(flow.uploads)).images) for _ in range(2)]
            assert reports == [{"already_committed": 1}, {}]
            assert await flow.state(image) == "expired"
            assert await flow.used() == (1, 0, len(JPEG), 0)

    asyncio.run(run())


def test_what_cannot_be_looked_at_is_left_to_the_next_sweep_and_keeps_no_other_waiting(flow_of, clock, monkeypatch):
    """Of all, also those behind the first batch: the holds are given back next."""
    monkeypatch.setattr(recovery, "BATCH", 2)

    async def run():
        async with flow_of() as flow:
            images = [await flow.reserve(JPEG) for _ in range(6)]
            for image in images:
                await flow.put(image, JPEG)
            clock.advance(UPLOAD_TTL + 120)
            head = flow.storage.head

            async def broken(key):
                if key in {images[0].key, images[3].key}:
                    raise StorageUnavailable("it does not answer")
                return await head(key)

            monkeypatch.setattr(flow.storage, "head", broken)
            done, failed = await recover(flow.uploads)
            assert (dict(done), dict(failed)) == ({"adopted": 4}, {"StorageUnavailable": 2})
            monkeypatch.undo()
            assert (await recover(flow.uploads))[0] == {"adopted": 2}
            assert await flow.used() == (0, 6, 0, 6 * len(JPEG))

    asyncio.run(run())


def test_a_store_that_is_away_is_asked_a_few_times_and_what_needs_no_store_goes_on(flow_of, clock, monkeypatch):
    asked = []

    async def run():
        async with flow_of() as flow:
            arrived = await flow.uploaded(JPEG)
            for _ in range(STORE_FAILURES_MAX + 3):
                await flow.reserve(JPEG)
            clock.advance(QUEUE_TTL)

            async def away(key):
                asked.append(key)
                raise StorageUnavailable("it does not answer")

            monkeypatch.setattr(flow.storage, "head", away)
            done, failed = await recover(flow.uploads)
            assert (dict(done), dict(failed)) == ({"driven": 1}, {"StorageUnavailable": STORE_FAILURES_MAX + 3})
            assert len(asked) == STORE_FAILURES_MAX
            assert await flow.state(arrived) == "uploaded"

    asyncio.run(run())


def test_a_hold_that_became_overdue_during_the_sweep_is_left_to_the_next_which_looks_first(flow_of, clock, monkeypatch):
    """As after an outage that began between the looking and the giving back."""

    async def run():
        async with flow_of() as flow:
            image = await flow.uploaded(JPEG)

            async def overtaken(uploads):
                done = await recover(uploads)
                clock.advance(QUEUE_TTL + 120)
                return done

            monkeypatch.setattr(recovery, "recover", overtaken)
            assert (await sweep(flow.uploads)).expired_holds == 0
            monkeypatch.undo()
            assert dict((await sweep(flow.uploads)).images) == {"driven": 1}
            assert await flow.jobs().run(image.image) == "completed"

    asyncio.run(run())


def test_an_object_that_the_store_does_not_let_go_keeps_no_other_image_waiting(flow_of, monkeypatch):
    async def run():
        async with flow_of() as flow:
            images = [await flow.uploaded(JPEG) for _ in range(3)]
            delete = flow.storage.delete

            async def locked(keys):
                if images[0].key in keys:
                    raise StorageUnavailable("it is under a legal hold")
                await delete(keys)

            monkeypatch.setattr(flow.storage, "delete", locked)
            for image in images:
                await flow.uploads.cancel(image.image, subject="alice")
            report = await sweep(flow.uploads)
            assert (report.removed, dict(report.failed)) == (2, {"StorageUnavailable": 1})
            assert [stored.key async for stored in flow.storage.list()] == [images[0].key]
            monkeypatch.undo()
            assert (await sweep(flow.uploads)).removed == 1
            assert [stored.key async for stored in flow.storage.list()] == []

    asyncio.run(run())


def test_a_store_that_lets_nothing_go_is_asked_a_few_times_and_again_by_the_next_sweep(flow_of, monkeypatch):
    asked = []

    async def run():
        async with flow_of() as flow:
            images = [await flow.uploaded(JPEG) for _ in range(8)]

            async def away(keys):
                asked.append(keys)
                raise StorageUnavailable("it does not answer")

            monkeypatch.setattr(flow.storage, "delete", away)
            for image in images:
                await flow.uploads.cancel(image.image, subject="alice")
            assert (await sweep(flow.uploads)).removed == 0
            assert len(asked) == STORE_FAILURES_MAX
            monkeypatch.undo()
            assert (await sweep(flow.uploads)).removed == 8

    asyncio.run(run())


def test_no_evidence_no_verdict_while_the_store_is_away(flow_of, clock, monkeypatch):
    async def run():
        async with flow_of() as flow:
            image = await flow.reserve(JPEG)
            clock.advance(UPLOAD_TTL)

            async def away(key: str) -> None:
                raise StorageUnavailable("the store does not answer")

            monkeypatch.setattr(flow.storage, "head", away)
            report = await sweep(flow.uploads)
            assert dict(report.failed) == {"StorageUnavailable": 1}
            assert await flow.state(image) == "reserved"
            monkeypatch.undo()
            assert dict((await sweep(flow.uploads)).images) == {"expired": 1}

    asyncio.run(run())


def test_an_image_that_the_database_refuses_to_move_keeps_no_other_waiting(flow_of, clock, connection):
    connection.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NEW.filename = 'broken.jpg' AND NEW.state <> OLD.state THEN RAISE 'this row is broken'; END IF; "
        "RETURN NEW; END $$"
    )
    connection.execute(
        "CREATE TRIGGER refuse BEFORE UPDATE OF state ON earmark._private_image FOR EACH ROW EXECUTE FUNCTION refuse()"
    )

    async def run():
        async with flow_of() as flow:
            broken = await flow.reserve(JPEG, filename="broken.jpg")
            other = await flow.reserve(JPEG)
            clock.advance(UPLOAD_TTL)
            images, failed = await recover(flow.uploads)
            assert (dict(images), dict(failed)) == ({"expired": 1}, {"RaiseException": 1})
            assert [await flow.state(image) for image in (broken, other)] == ["reserved", "expired"]
            connection.execute("DROP TRIGGER refuse ON earmark._private_image")
            assert dict((await sweep(flow.uploads)).images) == {"expired": 1}
            assert await flow.used() == (0, 0, 0, 0)

    asyncio.run(run())


def test_many_sweepers_at_once_give_back_once(flow_of, clock):
    async def run():
        async with flow_of() as flow:
            for _ in range(5):
                await flow.reserve(JPEG)
            clock.advance(UPLOAD_TTL)
            reports = await asyncio.gather(*(sweep(flow.uploads) for _ in range(6)))
            assert sum(report.images["expired"] for report in reports) == 5
            assert await flow.used() == (0, 0, 0, 0)
            story = await flow.uploads.ledger.history("alice")
            assert sum(entry.kind == "rollback" for entry in story) == 10

    asyncio.run(run())


def test_a_failing_duty_stops_neither_itself_nor_the_others():
    calls: list[str] = []

    async def run():
        enough = asyncio.Event()

        async def failing():
            calls.append("failing")
            raise OSError("no")

        async def working():
            calls.append("working")
            if calls.count("working") >= 3 and calls.count("failing") >= 3:
                enough.set()
            return {}

        duties = asyncio.create_task(run_duties([Duty("a", 0.001, failing), Duty("b", 0.001, working)]))
        await asyncio.wait_for(enough.wait(), 30)
        duties.cancel()
        with pytest.raises(asyncio.CancelledError):
            await duties

    asyncio.run(run())
    assert calls.count("failing") >= 3


def test_times_of_the_books_are_times_of_the_database(flow_of, clock):
    async def run():
        async with flow_of() as flow:
            clock.set("2031-03-10T12:00:00Z")
            image = await flow.reserve(JPEG)
            assert image.upload_expires_at - image.created_at == timedelta(seconds=900)
            assert image.due_at - image.created_at == timedelta(seconds=1200)
            assert image.created_at.year == 2031

    asyncio.run(run())


def test_a_hold_outlives_each_stage_so_that_there_is_time_to_look(flow_of, clock):
    async def run():
        async with flow_of(evidence_ttl_seconds=77) as flow:
            clock.set("2031-03-10T12:00:00Z")

            async def lasts_longer(image):
                hold = (await flow.uploads.ledger.reservation(image.reservation)).items["1"]
                return (hold.expires_at - (await flow.uploads.image(image.image)).due_at).total_seconds()

            image = await flow.reserve(JPEG)
            assert await lasts_longer(image) == 77
            await flow.put(image, JPEG)
            await flow.uploads.complete(image.image, subject="alice")
            assert await lasts_longer(image) == 77

    asyncio.run(run())


def test_what_expired_before_it_was_worked_on_is_removed_at_once(flow_of, clock):
    """Only of what is being processed a success may yet come."""

    async def run():
        async with flow_of() as flow:
            waiting, worked_on = [await flow.uploaded(JPEG) for _ in range(2)]
            async with flow.uploads.pool.connection() as connection:
                await _calls.start(connection, worked_on.image, flow.uploads.deadline(State.PROCESSING))
            clock.advance(100_000)
            await flow.uploads.ledger.sweep()
            assert [await flow.state(image) for image in (waiting, worked_on)] == ["expired"] * 2
            assert (await remove_objects(flow.uploads))[0] == 1
            assert [stored.key async for stored in flow.storage.list()] == [worked_on.key]
            clock.advance(3601)
            assert (await remove_objects(flow.uploads))[0] == 1

    asyncio.run(run())


def test_what_an_attempt_that_died_has_stored_is_removed_once_another_has_completed(flow_of, clock):
    async def run():
        async with flow_of() as flow:
            image = await flow.uploaded(JPEG)
            async with flow.uploads.pool.connection() as connection:
                await _calls.start(connection, image.image, flow.uploads.deadline(image.state))
            await flow.storage.put(f"{image.folder}/1-thumbnail", b"half", content_type="image/webp")
            clock.advance(QUEUE_TTL)
            assert await flow.jobs().run(image.image) == "completed"
            assert (await sweep(flow.uploads)).removed == 1
            assert (await sweep(flow.uploads)).removed == 0
            left = {stored.key async for stored in flow.storage.list()}
            assert left == {image.key, f"{image.folder}/2-thumbnail"}

    asyncio.run(run())


def test_a_job_whose_worker_died_before_it_began_goes_back_on_the_queue(flow_of, connection):
    """Else its image would wait for the queue's own deadline, an hour."""

    async def run():
        async with flow_of() as flow, flow.uploads.queue.open_async():
            image = await flow.uploaded(JPEG)
            connection.execute("SET search_path = procrastinate")
            connection.execute(
                "WITH dead AS (INSERT INTO procrastinate_workers (last_heartbeat) "
                "VALUES (now() - interval '31 s') RETURNING id) "
                "UPDATE procrastinate_jobs SET status = 'doing', worker_id = dead.id FROM dead"
            )
            assert await flow.jobs_waiting() == []
            assert await rescue_once(flow.uploads) == {"rescued_jobs": 1}
            assert await flow.jobs_waiting() == [image.image]
            assert await rescue_once(flow.uploads) == {}

    asyncio.run(run())


@pytest.mark.parametrize(
    ("state", "seconds", "found"),
    [
        ("completed", 61, {"ended_jobs": 1}),
        ("completed", 50, {}),
        ("processing", 1000, {}),
        ("uploaded", 181, {"rescued_jobs": 1}),
        ("uploaded", 170, {}),
    ],
)
def test_a_job_that_its_living_worker_has_left_does_not_stay_for_ever(flow_of, connection, state, seconds, found):
    """As when the database went away just as the job was taken, or as it ended."""

    async def run():
        async with flow_of() as flow, flow.uploads.queue.open_async():
            image = await flow.uploaded(JPEG)
            connection.execute("SET search_path = procrastinate")
            connection.execute(
                "WITH alive AS (INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id) "
                "UPDATE procrastinate_jobs SET status = 'doing', worker_id = alive.id FROM alive"
            )
            connection.execute(
                "UPDATE procrastinate_events SET at = at - %s * interval '1 second' WHERE type = 'started'", (seconds,)
            )
            if state == "completed":
                assert await flow.jobs().run(image.image) == "completed"
            elif state == "processing":
                async with flow.uploads.pool.connection() as own:
                    await _calls.start(own, image.image, flow.uploads.deadline(image.state))
            assert await rescue_once(flow.uploads) == found
            left = connection.execute("SELECT status::text FROM procrastinate_jobs").fetchall()
            assert left == {"ended_jobs": [], "rescued_jobs": [("todo",)]}.get(next(iter(found), ""), [("doing",)])

    asyncio.run(run())


def test_jobs_of_other_queues_in_the_same_schema_are_nobodys_to_rescue(flow_of, connection):
    """Somebody who had procrastinate there before has jobs that take hours, and looks after them himself."""

    async def run():
        async with flow_of() as flow, flow.uploads.queue.open_async():
            connection.execute("SET search_path = procrastinate")
            for worker in ("DEFAULT VALUES", "(last_heartbeat) VALUES (now() - interval '31 s')"):
                connection.execute(
                    f"WITH theirs AS (INSERT INTO procrastinate_workers {worker} RETURNING id) "  # noqa: S608
                    "INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, worker_id) "
                    "SELECT 'reports', 'theirs', '{\"image\": \"a1\"}', 'doing', theirs.id FROM theirs"
                )
            connection.execute(
                "INSERT INTO procrastinate_events (job_id, type, at) "
                "SELECT id, 'started', now() - interval '1 hour' FROM procrastinate_jobs"
            )
            assert await rescue_once(flow.uploads) == {}
            left = connection.execute("SELECT status::text FROM procrastinate_jobs").fetchall()
            assert left == [("doing",), ("doing",)]

    asyncio.run(run())


def test_an_image_that_is_deleted_while_leftovers_are_removed_loses_its_own_objects_too(flow_of, clock):
    async def run():
        async with flow_of() as flow:
            image = await flow.uploaded(JPEG)
            async with flow.uploads.pool.connection() as connection:
                await _calls.start(connection, image.image, flow.uploads.deadline(image.state))
                clock.advance(QUEUE_TTL)
                assert await flow.jobs().run(image.image) == "completed"
                (listed,) = await _calls.to_remove(connection, 10)
                await flow.uploads.delete(image.image, subject="alice")
                await _calls.removed(connection, [listed.image])
            assert (await sweep(flow.uploads)).removed == 1
            assert [stored async for stored in flow.storage.list()] == []

    asyncio.run(run())


@pytest.mark.parametrize("limit", ["lock_timeout", "statement_timeout"])
def test_a_lock_that_somebody_keeps_holds_up_only_its_subject(flow_of, clock, database, connection, caplog, limit):
    async def run():
        impatient = make_conninfo(database, options=f"-c {limit}=300ms")
        async with flow_of(url=impatient) as flow:
            files = [File("a.jpg", "image/jpeg", 9)]
            whose = ("alice", "bob", "bob", "carol")
            images = [(await flow.uploads.reserve(subject, files)).uploads[0].image for subject in whose]
            clock.advance(UPLOAD_TTL)
            with connection.transaction():
                connection.execute("SELECT FROM earmark._private_subject WHERE subject = 'bob' FOR NO KEY UPDATE")
                done, failed = await recover(flow.uploads)
            gave_up = "LockNotAvailable" if limit == "lock_timeout" else "QueryCanceled"
            assert (dict(done), dict(failed)) == ({"expired": 2}, {gave_up: 2})
            assert [await flow.state(image) for image in images] == ["expired", "reserved", "reserved", "expired"]
            waited = [record.image for record in caplog.records if record.msg == "recovery_postponed"]
            assert waited == [str(images[1].image)], "his lock was waited for once"
            await flow.uploads.failed_rollbacks.aclose()
            assert [dict(found) for found in await recover(flow.uploads)] == [{"expired": 2}, {}]

    asyncio.run(run())
