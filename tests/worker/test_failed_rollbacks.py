"""A rollback that fails: its caller hears of it, it is tried again until it has ended, and operators can see it."""

import asyncio
import logging

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from earmark.model import Cause
from earmark.uploads import failed_rollbacks
from earmark.uploads.model import File
from earmark.uploads.recovery import sweep
from earmark.uploads.status import read_status
from earmark.worker.duties import Duty, run_duties
from fixtures.breakable import BROKEN, UNREACHABLE
from fixtures.pictures import picture

JPEG = picture()


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(failed_rollbacks, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(failed_rollbacks, "_LONGEST_PAUSE_SECONDS", 0.02)


@pytest.mark.parametrize("code", [UNREACHABLE, BROKEN])
def test_it_is_tried_again_until_it_has_ended(flow_of, breakable, eventually, connection, code):
    async def run():
        async with flow_of() as flow:
            image, other, third = [await flow.reserve(JPEG) for _ in range(3)]
            breakable(code)
            with pytest.raises(psycopg.Error):
                await flow.uploads.cancel(image.image, subject="alice")
            with pytest.raises(psycopg.Error):
                await flow.uploads.roll_back_many([other.image, third.image], Cause.CANCELLED, subject="alice")
            assert len(flow.uploads.failed_rollbacks) == 3
            assert (await flow.used())[1] == 3
            breakable(None)

            async def all_ended():
                return not len(flow.uploads.failed_rollbacks)

            await eventually(all_ended)
            assert [await flow.state(one) for one in (image, other, third)] == ["cancelled"] * 3
            assert (await flow.used())[1] == 0
            await flow.uploads.failed_rollbacks.aclose()

    asyncio.run(run())
    shown = read_status(connection).failed_rollbacks
    assert (shown.count, shown.open) == (3, 0)
    assert shown.attempts >= 6
    assert "out of order" in shown.error


@pytest.mark.parametrize("many", [False, True])
def test_it_is_kept_though_its_caller_was_cancelled(flow_of, breakable, connection, many):
    async def run():
        async with flow_of() as flow:
            image = await flow.reserve(JPEG)
            breakable(UNREACHABLE)
            failing = (
                flow.uploads.roll_back_many([image.image], Cause.CANCELLED, subject="alice")
                if many
                else flow.uploads.cancel(image.image, subject="alice")
            )
            caller = asyncio.ensure_future(failing)
            await asyncio.sleep(0)
            caller.cancel()
            await asyncio.wait({caller})
            assert caller.cancelled()
            assert len(flow.uploads.failed_rollbacks) == 1
            await flow.uploads.failed_rollbacks.aclose()

    asyncio.run(run())


def test_every_rollback_of_many_is_logged_though_the_caller_was_cancelled(flow_of, caplog):
    async def run():
        async with flow_of() as flow:
            images = [(await flow.reserve(JPEG)).image for _ in range(2)]
            with caplog.at_level(logging.INFO, "earmark.rollback"):
                caller = asyncio.ensure_future(
                    flow.uploads.roll_back_many(images, Cause.CANCELLED, subject="alice", actor="alice")
                )
                await asyncio.sleep(0)
                caller.cancel()
                await asyncio.wait({caller})
            assert caller.cancelled()
            assert (await flow.used())[1] == 0

    asyncio.run(run())
    logged = [record.message for record in caplog.records if record.name == "earmark.rollback"]
    assert logged == ["rollback"] * 2


def test_it_is_tried_again_even_where_that_cannot_be_noted(flow_of, breakable, eventually, connection):
    connection.execute(
        "CREATE FUNCTION earmark.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON earmark._private_failed_rollback "
        "FOR EACH ROW EXECUTE FUNCTION earmark.refuse()"
    )

    async def run():
        async with flow_of() as flow:
            image = await flow.reserve(JPEG)
            breakable(BROKEN)
            with pytest.raises(psycopg.Error):
                await flow.uploads.cancel(image.image, subject="alice")
            (kept,) = flow.uploads.failed_rollbacks._kept.values()

            async def tried_again():
                return kept.attempts > 5

            await eventually(tried_again)
            breakable(None)

            async def has_ended():
                return not len(flow.uploads.failed_rollbacks)

            await eventually(has_ended)
            assert await flow.state(image) == "cancelled"
            await flow.uploads.failed_rollbacks.aclose()

    asyncio.run(run())


def test_one_that_can_never_be_done_is_shown_given_up_and_left_to_the_sweeper(
    flow_of, breakable, eventually, connection, clock, monkeypatch
):
    monkeypatch.setattr(failed_rollbacks, "MAX_ATTEMPTS", 7)

    async def run():
        async with flow_of() as flow:
            image = await flow.reserve(JPEG)
            breakable(BROKEN)
            with pytest.raises(psycopg.errors.CheckViolation):
                await flow.uploads.cancel(image.image, subject="alice")

            async def open_ones():
                return read_status(connection).failed_rollbacks.open == 1

            await eventually(open_ones)

            async def given_up():
                return not len(flow.uploads.failed_rollbacks)

            await eventually(given_up)
            assert await flow.state(image) == "reserved"
            clock.advance(2000)
            shown = read_status(connection)
            assert shown.overdue_images.count == 1
            assert shown.overdue_holds.count == 2
            await flow.uploads.ledger.sweep()
            shown = read_status(connection)
            assert shown.set_aside.count == 1
            assert "out of order" in shown.set_aside.error
            assert shown.failed_rollbacks.attempts == 7
            breakable(None)
            clock.advance(3600)
            await sweep(flow.uploads)
            assert read_status(connection).set_aside.count == 0
            assert await flow.state(image) == "expired"

    asyncio.run(run())


def test_a_rollback_that_is_refused_has_ended(flow_of, breakable, eventually):
    async def run():
        async with flow_of() as flow:
            image = await flow.uploaded(JPEG)
            breakable(UNREACHABLE)
            with pytest.raises(psycopg.Error):
                await flow.uploads.cancel(image.image, subject="alice")
            assert await flow.jobs().run(image.image) == "completed"

            async def ended():
                return not len(flow.uploads.failed_rollbacks)

            await eventually(ended)
            assert await flow.state(image) == "completed"

    asyncio.run(run())


def test_status_tells_queue_workers_and_duties(flow_of, connection):
    async def run():
        async with flow_of() as flow:
            await flow.uploaded(JPEG)
            noted, both = set(), asyncio.Event()

            async def works():
                return {}

            async def fails():
                raise OSError("no disk")

            async def note(name, error):
                await flow.uploads.note_duty(name, error)
                noted.add(name)
                if len(noted) == 2:
                    both.set()

            duties = [Duty("sweep", 30, works), Duty("prune", 30, fails), Duty("silent", 30, works, is_noted=False)]
            running = asyncio.create_task(run_duties(duties, note))
            await asyncio.wait_for(both.wait(), 30)
            running.cancel()
            await asyncio.wait({running})

    asyncio.run(run())
    shown = read_status(connection)
    assert (shown.queue.waiting, shown.queue.scheduled, shown.queue.running) == (1, 0, 0)
    assert shown.queue.oldest <= shown.at
    assert shown.overdue_holds.count == 0
    assert {name: run.is_failing for name, run in shown.duties.items()} == {"sweep": False, "prune": True}
    assert shown.duties["prune"].error == "OSError: no disk"


def test_a_lock_that_somebody_keeps_holds_up_only_its_own(flow_of, database, eventually, connection):
    """The others' are tried again meanwhile; his ends when the lock is gone, however often it was tried."""

    async def run():
        async with flow_of(url=make_conninfo(database, options="-c lock_timeout=20ms")) as flow:
            files = [File("a.jpg", "image/jpeg", 9)]
            images = [(await flow.uploads.reserve(who, files)).uploads[0].image for who in ("alice", "bob")]
            kept = flow.uploads.failed_rollbacks

            lock = "SELECT FROM earmark._private_subject WHERE subject = %s FOR NO KEY UPDATE"
            with connection.transaction():
                connection.execute(lock, ("alice",))
                with connection.transaction(force_rollback=True):
                    connection.execute(lock, ("bob",))
                    for image in images:
                        with pytest.raises(psycopg.errors.LockNotAvailable):
                            await flow.uploads.cancel(image.image, subject=image.subject)

                async def only_hers_is_left():
                    return len(kept) == 1 and await flow.state(images[1]) == "cancelled"

                await eventually(only_hers_is_left)
                (hers,) = kept._kept.values()

                async def tried_often():
                    return hers.attempts > failed_rollbacks.MAX_ATTEMPTS

                await eventually(tried_often)
                assert len(kept) == 1

            async def all_ended():
                return not len(kept)

            await eventually(all_ended)
            assert await flow.state(images[0]) == "cancelled"
            await kept.aclose()

    asyncio.run(run())
