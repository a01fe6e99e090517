"""Jobs that the outside sets off or carries out: every delivery, duplicate, reordered, early or late, ends right."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from earmark.uploads import _calls
from earmark.uploads import outside as calling
from earmark.uploads.process_pool import ImagePool
from earmark.uploads.processing import PermanentFailure, Processed, Source, TransientFailure, make_thumbnail
from http_api.harness import ADDRESS, JPEG, Api
from http_api.outside_harness import EXTERNAL, PROCESS, PROCESSOR, RESULT, SECRET, WEBHOOK, Outside, outside

pytestmark = pytest.mark.anyio


def fails_once(source: Source) -> Processed:
    if source.attempt == 1:
        raise TransientFailure("busy")
    return make_thumbnail(source)


def fails_for_good(source: Source) -> Processed:
    raise PermanentFailure("no such model")


@pytest.fixture(scope="module")
def images() -> Any:
    pool = ImagePool(1, 30)
    yield pool
    pool.close()


@pytest.fixture
def webhook(database: str, tmp_path: Path, images: ImagePool) -> Any:
    return lambda processor=make_thumbnail: outside(database, tmp_path, images, WEBHOOK, processor)


@pytest.fixture
async def external(database: str, tmp_path: Path, images: ImagePool, connection) -> AsyncIterator[Outside]:
    connection.execute("SELECT earmark.configure_plan('pro', NULL, '{\"credits\": {\"quota\": 100}}')")
    async with outside(database, tmp_path, images, EXTERNAL, make_thumbnail) as found:
        yield found


async def handed_over(found: Outside) -> str:
    """An image whose first attempt the processor has taken."""
    image = await found.api.queued(found.alice)
    assert await found.jobs.run(UUID(image)) == "told"
    return image


# --- QStash calls, and we process


async def test_an_image_is_published_and_processed_when_called_for(webhook):
    async with webhook() as found:
        image = await found.api.queued(found.alice)
        assert await found.jobs.run(UUID(image)) == "told"
        (sent,) = found.told
        assert str(sent.url) == f"http://qstash.test/v2/publish/{ADDRESS}{PROCESS}"
        assert sent.headers["authorization"] == "Bearer publish-token"
        assert sent.headers["upstash-deduplication-id"] == f"{image}-1"
        assert json.loads(sent.content) == {"imageId": image, "attempt": 1}
        answered = await found.process(image)
        assert (answered.status_code, answered.json()) == (200, {"imageId": image, "outcome": "completed"})
        assert await found.state(image) == ("completed", None)
        for _ in range(2):
            replayed = await found.process(image)
            assert (replayed.status_code, replayed.json()["outcome"]) == (200, "completed")
        assert [entry["kind"] for entry in await found.api.history(found.alice)].count("commit") == 2
        assert await found.jobs.run(UUID(image)) == "stale"
        assert await found.jobs.run(uuid4()) == "stale"


async def test_a_standard_webhook_may_call_as_well(webhook):
    async with webhook() as found:
        image = await found.api.queued(found.alice)
        body = json.dumps({"imageId": image}).encode()
        answered = await found.nobody.post(PROCESS, content=body, headers=found.signed(body))
        assert (answered.status_code, await found.state(image)) == (200, ("completed", None))


async def test_calls_that_come_twenty_times_at_once_do_the_work_once(webhook):
    async with webhook() as found:
        image = await found.api.queued(found.alice)
        answers = await asyncio.gather(*(found.process(image) for _ in range(20)))
        told = sorted({(answer.status_code, answer.json()["outcome"]) for answer in answers})
        assert set(told) <= {(200, "completed"), (503, "busy")}
        assert (200, "completed") in told
        assert (await found.api.used(found.alice))["images"] == (1, 0)


async def test_an_attempt_that_fails_is_called_for_again(webhook):
    async with webhook(fails_once) as found:
        image = await found.api.queued(found.alice)
        waiting = await found.waiting()
        first = await found.process(image)
        assert (first.status_code, first.json()["outcome"]) == (503, "retrying")
        assert int(first.headers["retry-after"]) >= 1
        assert await found.waiting() == waiting  # the queue outside comes again; ours does not need to
        assert (await found.process(image)).status_code == 200
        assert await found.state(image) == ("completed", None)


async def test_what_fails_for_good_is_not_called_for_again(webhook):
    async with webhook(fails_for_good) as found:
        image = await found.api.queued(found.alice)
        for _ in range(2):
            answered = await found.process(image)
            assert (answered.status_code, answered.json()["outcome"]) == (489, "failed")
            assert answered.headers["upstash-nonretryable-error"] == "true"
        assert await found.state(image) == ("failed", "processing_failed")
        assert await found.api.used(found.alice) == {"images": (0, 0), "storage_bytes": (0, 0)}
        assert (await found.process(str(uuid4()))).status_code == 489


async def test_calls_for_what_is_not_there_yet_or_over(webhook):
    async with webhook() as found:
        (upload,) = await found.api.reserved(found.alice)
        early = await found.process(upload["imageId"])
        assert (early.status_code, early.json()["outcome"]) == (503, "too_early")
        await found.alice.post(f"/api/images/{upload['imageId']}/cancel")
        late = await found.process(upload["imageId"])
        assert (late.status_code, late.json()["outcome"]) == (200, "over")


async def test_what_cannot_be_published_goes_back_on_the_queue(webhook):
    async with webhook() as found:
        image = await found.api.queued(found.alice)
        waiting = await found.waiting()
        found.answers += [500, 429, 401]
        assert await found.jobs.run(UUID(image)) == "retrying"
        assert await found.waiting() == waiting + 1
        found.answers += [503]
        assert await found.jobs.run(UUID(image)) == "told"
        assert len({one.headers["upstash-deduplication-id"] for one in found.told}) == 1


# --- A processor outside


async def test_a_job_is_signed_and_names_where_the_bytes_are(external: Outside):
    image = await handed_over(external)
    (sent,) = external.told
    assert str(sent.url) == PROCESSOR
    job = Webhook(SECRET).verify(sent.content, dict(sent.headers))
    assert (job["imageId"], job["attempt"], job["subject"], job["size"]) == (image, 1, "alice", len(JPEG))
    assert job["resultUrl"] == ADDRESS + RESULT
    assert sent.headers["webhook-id"] == f"{image}-1"
    assert (await external.nobody.get(job["downloadUrl"])).content == JPEG
    assert await external.state(image) == ("processing", None)
    assert await external.jobs.run(UUID(image)) == "stale"


async def test_a_result_commits_at_what_was_really_used(external: Outside):
    image = await handed_over(external)
    assert (await external.api.used(external.alice))["credits"] == (0, 5)
    answered = await external.result(image, actual={"credits": 2})
    expected = {"imageId": image, "attempt": 1, "outcome": "completed"}
    assert (answered.status_code, answered.json()) == (200, expected)
    assert await external.api.used(external.alice) == {
        "images": (1, 0), "storage_bytes": (len(JPEG), 0), "credits": (2, 0),
    }  # fmt: skip


@pytest.mark.parametrize("overtaken", [False, True])
async def test_what_the_inspection_found_is_told_of_the_image(external: Outside, overtaken: bool):
    """Also where the result is there before the note that the job was taken."""
    image = await external.api.queued(external.alice)
    if overtaken:
        assert (await external.result(image)).status_code == 200
        async with external.api.services.uploads.pool.connection() as connection:
            found = {"width": 64, "height": 48, "format": "jpeg"}
            await _calls.hand_over(connection, UUID(image), 1, _calls.Deadline(60, 60), found)
    else:
        assert await external.jobs.run(UUID(image)) == "told"
        assert (await external.result(image)).status_code == 200
    shown = (await external.alice.get(f"/api/images/{image}")).json()
    assert (shown["state"], shown["width"], shown["height"], shown["format"]) == ("completed", 64, 48, "jpeg")


async def test_a_report_that_comes_again_is_answered_as_before(external: Outside):
    image = await handed_over(external)
    before = await external.result(image, delivery="m1")
    for said in ({}, {"outcome": "failed", "permanent": True}, {"attempt": 7}):
        again = await external.result(image, **{"attempt": 1, **said}, delivery="m1")
        assert (again.status_code, again.json()) == (200, before.json())
    assert (await external.result(image, delivery="m2")).json() == before.json()


@pytest.mark.parametrize("permanent", [True, False])
async def test_a_failure_that_comes_after_the_success_undoes_nothing_and_need_not_come_again(
    external: Outside, permanent
):
    image = await handed_over(external)
    done = await external.result(image)
    waiting = await external.waiting()
    late = await external.result(image, outcome="failed", permanent=permanent, error="timed out")
    assert (late.status_code, late.json()) == (200, done.json())
    assert await external.state(image) == ("completed", None)
    assert (await external.api.used(external.alice))["images"] == (1, 0)
    assert await external.waiting() == waiting


@pytest.mark.parametrize("permanent", [True, False])
async def test_whatever_a_processor_says_of_its_failure_is_taken_as_one_line(external: Outside, permanent: bool):
    """A refused report would have the job done again, and paid for, at every deadline."""
    image = await handed_over(external)
    said = "Traceback\n\x1b[31m\0gpj" + "x" * 600
    answered = await external.result(image, outcome="failed", permanent=permanent, error=said)
    assert answered.status_code == 200
    shown = (await external.alice.get(f"/api/images/{image}")).json()
    assert shown["state"] == ("failed" if permanent else "uploaded")
    assert "Traceback [31m gpjxxx" in shown["reason"]
    assert len(shown["reason"]) <= 500
    assert shown["reason"].isprintable()


@pytest.mark.parametrize("status", [200, 503])
async def test_what_comes_with_the_status_of_an_answer_is_not_read(status: int):
    """It may never end, or be larger than the memory is."""

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            pytest.fail("it was read")
            yield b""

    transport = httpx.MockTransport(lambda _: httpx.Response(status, stream=Endless()))
    async with httpx.AsyncClient(transport=transport) as client:
        with pytest.raises(calling.NotTold, match="x answered 503") if status == 503 else nullcontext():
            await calling._post(client, "http://x/jobs", b"{}", {})


async def test_whoever_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    async def silence(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(calling, "TIMEOUT_SECONDS", 0.01)
    async with httpx.AsyncClient(transport=httpx.MockTransport(silence)) as client:
        with pytest.raises(calling.NotTold, match="x: TimeoutError"):
            await calling._post(client, "http://x/jobs", b"{}", {})


async def test_contrary_reports_at_once_have_one_winner(external: Outside):
    image = await handed_over(external)
    done, failed = await asyncio.gather(
        external.result(image), external.result(image, outcome="failed", permanent=True)
    )
    assert failed.json()["outcome"] == ("completed" if done.is_success else "failed")
    assert done.status_code == (200 if failed.json()["outcome"] == "completed" else 409)
    assert await external.state(image) == (("completed", None) if done.is_success else ("failed", "processing_failed"))
    assert (await external.api.used(external.alice))["images"] == ((1, 0) if done.is_success else (0, 0))


async def test_a_report_may_overtake_the_note_that_the_job_was_taken(external: Outside):
    image = await external.api.queued(external.alice)
    assert (await external.result(image)).json()["outcome"] == "completed"
    assert await external.state(image) == ("completed", None)
    assert await external.jobs.run(UUID(image)) == "stale"
    assert external.told == []


async def test_early_and_stale_reports_do_nothing(external: Outside):
    (upload,) = await external.api.reserved(external.alice)
    too_early = await external.result(upload["imageId"])
    assert (too_early.status_code, too_early.json()["type"]) == (425, "/problems/too-early")
    image = await handed_over(external)
    assert (await external.result(image, 2)).status_code == 425
    assert (await external.result(image, outcome="failed", error="busy")).json()["outcome"] == "retrying"
    assert await external.jobs.run(UUID(image)) == "told"
    stale = await external.result(image, 1, outcome="failed", permanent=True)
    assert (stale.status_code, stale.json()["attempt"]) == (409, 2)
    assert await external.state(image) == ("processing", None)
    assert (await external.result(image, 2)).json()["outcome"] == "completed"


@pytest.mark.parametrize("end", ["cancelled", "expired", "deleted"])
async def test_a_report_on_what_ended_while_its_job_was_told_need_not_come_again(external: Outside, connection, end):
    image = await external.api.queued(external.alice)
    if end == "cancelled":
        await external.alice.post(f"/api/images/{image}/cancel")
    elif end == "deleted":
        await external.alice.delete(f"/api/images/{image}")
    else:
        connection.execute("UPDATE earmark._private_hold SET expires_at = clock_timestamp() WHERE state = 'held'")
        await external.api.services.ledger.sweep()
    for said in ({}, {"outcome": "failed", "permanent": True}, {"outcome": "failed"}):
        answered = await external.result(image, **said)
        assert (answered.status_code, answered.json()["state"]) == (409, end)
    assert set((await external.api.used(external.alice)).values()) == {(0, 0)}


async def test_a_failure_that_may_pass_is_tried_again_and_the_last_one_gives_back(external: Outside):
    image = await handed_over(external)
    waiting = await external.waiting()
    for _ in range(2):  # under another id: said twice, queued once
        answered = await external.result(image, outcome="failed", error="no GPU is free")
        assert answered.json()["outcome"] == "retrying"
    assert await external.waiting() == waiting + 1
    assert await external.jobs.run(UUID(image)) == "told"
    assert [one.headers["webhook-id"] for one in external.told] == [f"{image}-1", f"{image}-2"]
    last = await external.result(image, 2, outcome="failed", error="no GPU is free")
    assert last.json()["outcome"] == "failed"
    assert (await external.result(image, 2, outcome="failed")).json()["outcome"] == "failed"
    shown = (await external.alice.get(f"/api/images/{image}")).json()
    assert (shown["state"], shown["reason"]) == ("failed", "Processing failed: no GPU is free")
    assert set((await external.api.used(external.alice)).values()) == {(0, 0)}


async def test_a_permanent_failure_gives_back_at_once(external: Outside):
    image = await handed_over(external)
    answered = await external.result(image, outcome="failed", permanent=True, error="no face in it")
    assert answered.json()["outcome"] == "failed"
    assert set((await external.api.used(external.alice)).values()) == {(0, 0)}
    assert (await external.result(image)).status_code == 409


async def test_more_than_was_held_is_not_charged(external: Outside):
    image = await handed_over(external)
    assert (await external.result(image, actual={"credits": 6})).json()["outcome"] == "failed"
    assert await external.state(image) == ("failed", "processing_failed")
    assert set((await external.api.used(external.alice)).values()) == {(0, 0)}


async def test_a_report_on_what_was_cancelled_does_nothing(external: Outside):
    image = await handed_over(external)
    await external.alice.post(f"/api/images/{image}/cancel")
    for said in ({}, {"outcome": "failed", "permanent": True}, {"outcome": "failed"}):
        assert (await external.result(image, **said)).status_code == 409
    assert await external.state(image) == ("cancelled", "cancelled")


@pytest.mark.parametrize("room", [True, False])
async def test_a_result_after_expiry_counts_where_there_is_room(external: Outside, connection, room: bool):
    image = await handed_over(external)
    connection.execute("UPDATE earmark._private_hold SET expires_at = clock_timestamp() WHERE state = 'held'")
    await external.api.services.ledger.sweep()
    assert await external.state(image) == ("expired", "expired")
    if not room:
        connection.execute("SELECT earmark.configure_subject('alice', 'pro', '{\"images\": 0}')")
    for _ in range(2):
        answered = await external.result(image, delivery="late")
        assert (answered.status_code, answered.json()["outcome"]) == ((200, "completed") if room else (409, "too_late"))
    assert await external.state(image) == (("completed", None) if room else ("expired", "expired"))
    assert (await external.api.used(external.alice))["images"] == (int(room), 0)


async def test_content_is_refused_before_anybody_is_told(external: Outside):
    cut = JPEG[: len(JPEG) * 6 // 10]
    image = await external.api.uploaded(external.alice, cut)
    await external.alice.post("/api/images/complete", json={"imageId": image})
    assert await external.jobs.run(UUID(image)) == "rejected"
    assert external.told == []
    assert await external.state(image) == ("rejected", "validation_failed")
    gone = await external.api.queued(external.alice)
    for path in external.api.objects:
        path.unlink()
    assert await external.jobs.run(UUID(gone)) == "failed"
    assert await external.state(gone) == ("failed", "processing_failed")
    assert set((await external.api.used(external.alice)).values()) == {(0, 0)}


async def test_a_processor_that_is_away_is_told_later(external: Outside):
    image = await external.api.queued(external.alice)
    waiting = await external.waiting()
    external.answers += [503] * 3
    assert await external.jobs.run(UUID(image)) == "retrying"
    assert (await external.waiting(), await external.state(image)) == (waiting + 1, ("uploaded", None))


async def test_nonsense_that_is_signed_is_refused(external: Outside):
    image = await handed_over(external)
    assert (await external.result(str(uuid4()))).status_code == 404
    for said in (
        {"outcome": "done"}, {"attempt": 0}, {"attempt": "1"}, {"actual": {"credits": -1}},
        {"actual": {"credits": 1.5}}, {"delivery": "m" * 501}, {"permanent": "yes"},
    ):  # fmt: skip
        refused = await external.result(image, **{"attempt": 1, **said})
        assert refused.status_code == 422, said
    assert await external.state(image) == ("processing", None)


# --- Whoever calls


async def test_a_call_that_is_not_signed_touches_nothing(webhook, external: Outside):
    image = await handed_over(external)
    body = json.dumps({"imageId": image, "attempt": 1, "outcome": "completed"}).encode()
    stranger = f"whsec_{base64.b64encode(b's' * 24).decode()}"
    service_token = {"Authorization": f"Bearer {external.api.services.sign_in.issue('x', 'service_role')}"}
    for headers in ({}, service_token, external.signed(body, secret=stranger), external.signed(body + b" ")):
        answered = await external.nobody.post(RESULT, content=body, headers=headers)
        assert (answered.status_code, answered.json()["type"]) == (401, "/problems/message-not-signed"), headers
    large = b" " * 1_048_577
    assert (await external.nobody.post(RESULT, content=large, headers=external.signed(large))).status_code == 413
    assert await external.state(image) == ("processing", None)
    async with webhook() as found:
        for headers in ({}, {"Upstash-Signature": "nonsense"}, found.signed(body, secret=stranger)):
            assert (await found.nobody.post(PROCESS, content=body, headers=headers)).status_code == 401
        assert (await found.nobody.post(PROCESS, content=large)).status_code == 413
        assert await found.state(image) == ("processing", None)


async def test_each_way_of_processing_has_its_own_address(api: Api, webhook, external: Outside):
    async with webhook() as found:
        for client, there in ((api.client(None), ()), (found.nobody, (PROCESS,)), (external.nobody, (RESULT,))):
            for path in (PROCESS, RESULT):
                assert (await client.post(path)).status_code == (401 if path in there else 404)
            assert set((await client.get("/openapi.json")).json()["paths"]) & {PROCESS, RESULT} == set(there)
