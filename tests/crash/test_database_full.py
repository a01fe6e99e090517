"""The database's own disk full: who asks is told so, nothing of what was granted is lost, and all goes on with room."""

from uuid import uuid4

import httpx
import psycopg
import pytest

from earmark.local_postgres import running_url
from fixtures.life import assert_what_is_there_is_what_is_used, complete, preupload, put
from fixtures.pictures import picture
from fixtures.small_disk import filled

JPEG = picture(320, 240)
SHORT = {"evidence_ttl_seconds": 1, "sweep_interval_seconds": 0.2, "retry_base_seconds": 0.05, "processes": 1}
MANY = 3000
"""More than enough calls to use up what is left in the pages that the tables have."""


def reserve(service, key):
    """One reservation of the ledger's; what was answered, None where nobody did."""
    with service.client() as client:
        body = {"amounts": {"storage_bytes": 1}, "ttlSeconds": 600}
        try:
            return client.post("/api/reservations", json=body, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            return None


def reserve_until_refused(service):
    """Reservation by key of what was granted, the refusal, and the key that it was about."""
    granted = {}
    for _ in range(MANY):
        key = str(uuid4())
        answered = reserve(service, key)
        if answered is None or answered.status_code != 201:
            return granted, answered, key
        granted[key] = answered.json()["reservationId"]
    pytest.fail("the disk is not full")


@pytest.mark.parametrize("what", ["tables", "log"])
def test_full(database_disk, service_of, what):
    service = service_of("small", **SHORT).start()
    stored, waiting = preupload(service, JPEG, JPEG)
    put(stored, JPEG).raise_for_status()
    put(waiting, JPEG).raise_for_status()
    assert complete(service, stored).status_code == 202
    service.wait_until(lambda: "completed" in {one["state"] for one in service.images()})
    with filled(database_disk):
        if what == "log":  # its next segment has no room: the server gives up, and tries to start again until it can
            with psycopg.connect(running_url(service.home), autocommit=True) as connection:
                connection.execute("SELECT pg_switch_wal()")
        granted, refused, key = reserve_until_refused(service)
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert refused.json()["type"] in {"/problems/database-full", "/problems/database-unavailable"}
        assert what == "log" or refused.json()["type"] == "/problems/database-full"
        assert complete(service, waiting).status_code in {202, 503}  # what room its own tables have
        assert httpx.get(f"{service.url}/healthz").status_code == 200
    service.wait_until(lambda: reserve(service, key).status_code == 201)
    granted[key] = reserve(service, key).json()["reservationId"]
    assert complete(service, waiting).is_success
    service.wait_until(lambda: {one["state"] for one in service.images()} == {"completed"})
    assert service.usage()["storage_bytes"]["held"] == len(granted)
    for key, reservation in granted.items():
        assert reserve(service, key).json()["reservationId"] == reservation
    with service.client() as client:
        for reservation in granted.values():
            client.post(f"/api/reservations/{reservation}/rollback", json={}).raise_for_status()
    service.wait_until(service.is_at_rest)
    assert_what_is_there_is_what_is_used(service)
