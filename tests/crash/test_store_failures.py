"""The store gone, silent or full: quota stays exact, users hear it, and what was only postponed is done later."""

import signal
import threading

import pytest

from fixtures.life import assert_what_is_there_is_what_is_used, complete, preupload, put
from fixtures.object_store import bucket
from fixtures.pictures import picture

JPEG = picture(320, 240)
SHORT = {
    "evidence_ttl_seconds": 1,
    "processing_ttl_seconds": 3,
    "sweep_interval_seconds": 0.2,
    "retry_base_seconds": 0.05,
    "retry_cap_seconds": 0.2,
    "processing_attempts": 50,
    "processes": 1,
}


@pytest.fixture
def on_s3(service_of, own_object_store):
    """Makes a running service on the store, with further settings."""

    def start(**settings):
        service = service_of(**SHORT | settings, storage_url="s3://objects")
        service.environment |= own_object_store.environment
        return service.start()

    return start


def test_gone_when_an_upload_is_complete(on_s3, own_object_store):
    service = on_s3()
    (image,) = preupload(service, JPEG)
    put(image, JPEG).raise_for_status()
    own_object_store.kill()
    refused = complete(service, image)
    assert refused.status_code == 503
    assert refused.headers["content-type"] == "application/problem+json"
    assert service.usage()["images"]["held"] == 1
    own_object_store.start()
    assert complete(service, image).status_code == 202
    service.wait_until(service.is_at_rest)
    assert [one["state"] for one in service.images()] == ["completed"]
    assert_what_is_there_is_what_is_used(service, bucket(own_object_store))


def test_gone_when_outputs_are_to_be_stored(on_s3, own_object_store, tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    service = on_s3(processor="gated_processor:process", test_gate=gate, processing_attempts=1)
    (image,) = preupload(service, JPEG)
    put(image, JPEG).raise_for_status()
    assert complete(service, image).status_code == 202
    service.wait_until((tmp_path / "begun-1").exists)
    own_object_store.kill()
    gate.unlink()
    service.wait_until(lambda: service.log_lines("attempt_failed"))
    assert service.usage()["images"]["held"] == 1
    own_object_store.start()
    service.wait_until(service.is_at_rest)
    assert [one["state"] for one in service.images()] == ["completed"]
    assert_what_is_there_is_what_is_used(service, bucket(own_object_store))


def test_gone_at_a_deadline(on_s3, own_object_store):
    """Without evidence nothing is expired; the hold's own, later deadline is what gives the quota back."""
    service = on_s3(upload_ttl_seconds=1, upload_grace_seconds=0, evidence_ttl_seconds=60)
    preupload(service, JPEG)
    own_object_store.kill()
    service.wait_until(lambda: service.log_lines("recovery_postponed"))
    assert service.usage()["images"]["held"] == 1
    assert service.images()[0]["state"] == "reserved"
    own_object_store.start()
    service.wait_until(service.is_at_rest)
    assert service.images()[0]["state"] == "expired"
    assert_what_is_there_is_what_is_used(service, bucket(own_object_store))


def test_silent(on_s3, own_object_store):
    """A store that neither answers nor refuses keeps nobody else waiting."""
    service = on_s3()
    slow, other = preupload(service, JPEG, JPEG)
    put(slow, JPEG).raise_for_status()
    own_object_store.signal(signal.SIGSTOP)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(complete(service, slow).status_code))
    try:
        waiting.start()
        with service.client() as client:
            client.post(f"/api/images/{other['imageId']}/cancel").raise_for_status()
        assert service.usage()["images"]["held"] == 1
        assert answers == []
    finally:
        own_object_store.signal(signal.SIGCONT)
    waiting.join(60)
    assert answers == [202]
    service.wait_until(service.is_at_rest)
    assert {one["state"] for one in service.images()} == {"cancelled", "completed"}


def test_full(service_of, small_disk):
    service = service_of(**SHORT, storage_url=small_disk.as_uri()).start()
    large, small = picture(2000, 1500), picture(320, 240)
    assert len(large) > 1_200_000
    image, second = preupload(service, large, small)
    assert put(image, large).status_code == 507
    with service.client() as client:
        client.post(f"/api/images/{image['imageId']}/failed", json={"error": "507"}).raise_for_status()
    assert put(second, small).status_code == 201
    assert complete(service, second).status_code == 202
    service.wait_until(service.is_at_rest)
    assert {one["state"] for one in service.images()} == {"failed", "completed"}
    assert service.usage()["storage_bytes"]["committed"] == len(small)
