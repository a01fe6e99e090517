"""kill -9 right after each commit: the next start and one sweep put everything right."""

import contextlib
import re
import threading
from pathlib import Path

import httpx
import pytest

import earmark
from earmark.errors import InvalidRequest
from earmark.faults import POINTS, FaultInjected, arm, reached
from earmark.uploads.outside import TRIES
from fixtures.ledger_process import LEDGER_POINTS
from fixtures.life import (
    assert_what_is_there_is_what_is_used,
    assert_what_was_answered_is_so,
    complete,
    preupload,
    put,
)
from fixtures.pictures import picture

JPEG = picture(320, 240)
CUT = JPEG[: len(JPEG) * 6 // 10]
SETTINGS = {
    "evidence_ttl_seconds": 1,
    "processing_ttl_seconds": 1.5,
    "upload_ttl_seconds": 4,
    "upload_grace_seconds": 0,
    "queue_ttl_seconds": 4,
    "sweep_interval_seconds": 0.2,
    "retry_base_seconds": 0.01,
    "processor": "first_attempt_fails:process",
    "processes": 1,
}
BEFORE = {"driven_again": ["started"]}
"""A point that only a death brings about."""
OUTSIDE = (
    ("published", "webhook"),
    ("waiting", "webhook"),
    ("completed", "webhook"),
    ("posted", "external"),
    ("handed_over", "external"),
    ("refused", "external"),
    ("told_later", "external"),
    ("result_taken", "external"),
)
"""Points to be reached while somebody outside sets off or does the processing, and which of the two."""
ONLY_OUTSIDE = {point for point, _ in OUTSIDE} - {"waiting", "completed"}


def live(service):
    """Images to every kind of end: completed, damaged, cancelled, rolled back with others, abandoned, adopted, deleted.

    Each in a thread of its own, which ends where the service does.
    """

    def uploaded(data=JPEG):
        (image,) = preupload(service, data)
        put(image, data).raise_for_status()
        return image

    def completed(data=JPEG):
        image = uploaded(data)
        complete(service, image).raise_for_status()
        return image

    def post(path, **body):
        with service.client() as client:
            client.post(path, json=body).raise_for_status()

    def cancelled():
        (image,) = preupload(service, JPEG)
        post(f"/api/images/{image['imageId']}/cancel")

    def many():
        images = preupload(service, JPEG, JPEG)
        post("/api/quota/rollback", imageIds=[image["imageId"] for image in images])

    def deleted():
        image = completed()["imageId"]
        with service.client() as client:
            service.wait_until(
                lambda: service.is_dead() or client.get(f"/api/images/{image}").json()["state"] == "completed"
            )
            client.delete(f"/api/images/{image}").raise_for_status()

    def alone(act, *arguments):
        with contextlib.suppress(httpx.HTTPError):
            act(*arguments)

    acts = [(completed,), (completed, CUT), (cancelled,), (many,), (preupload, service, JPEG), (uploaded,)]
    return [threading.Thread(target=alone, args=act) for act in [*acts, (deleted,)]]


@pytest.mark.parametrize("point", sorted(POINTS - {*LEDGER_POINTS, *ONLY_OUTSIDE}))
def test_killed_after_a_commit(service_of, point):
    service = service_of(**SETTINGS)
    die_at(service, point)
    service.start()
    service.wait_until(service.is_at_rest, tries=4800)
    assert_what_is_there_is_what_is_used(service)


@pytest.mark.parametrize(("point", "processing"), OUTSIDE)
def test_killed_while_somebody_outside_takes_part(service_of, outside_of, point, processing):
    service = service_of(**SETTINGS)
    outside = outside_of(service, processing, refusals=TRIES if point == "told_later" else 0)
    die_at(service, point)
    service.start()
    service.wait_until(outside.is_quiet, tries=4800)
    service.wait_until(service.is_at_rest, tries=4800)
    assert_what_is_there_is_what_is_used(service)
    assert_what_was_answered_is_so(service, outside)
    service.run("reconcile")


def die_at(service, point):
    for fault in [*BEFORE.get(point, []), point]:
        service.environment["EARMARK_FAULT"] = f"{fault}:kill"
        service.start()
        acts = live(service)
        for act in acts:
            act.start()
        service.wait_until(service.is_dead)
        for act in acts:
            act.join(60)
            assert not act.is_alive()
        service.kill()
    del service.environment["EARMARK_FAULT"]


def test_every_point_in_the_code_is_listed():
    """And every listed one is reached, or the test that waits for its death fails."""
    source = Path(earmark.__file__).parent
    named = {point for file in source.rglob("*.py") for point in re.findall(r'reached\("(\w+)"\)', file.read_text())}
    assert named == POINTS


def test_a_fault_happens_once_at_its_point_and_time():
    try:
        arm("completed:error@2")
        reached("started")
        reached("completed")
        with pytest.raises(FaultInjected):
            reached("completed")
        reached("completed")
    finally:
        arm(None)


@pytest.mark.parametrize("spec", ["", "completed", "nowhere:kill", "completed:explode", "completed:kill@x"])
def test_a_misspelt_fault_is_refused(spec):
    with pytest.raises(InvalidRequest, match="points are"):
        arm(spec)
