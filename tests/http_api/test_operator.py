"""What the operator's view asks for over HTTP."""

from datetime import timedelta

import httpx
import psycopg
import pytest

from earmark.uploads.status import read_status
from http_api.harness import Api, described

pytestmark = pytest.mark.anyio


async def test_subjects_are_searched(api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient) -> None:
    await api.reserved(alice)
    found = (await service.get("/api/admin/subjects?like=LIC")).json()
    assert found == {"subjects": [{"subject": "alice", "plan": "pro", "parent": None}]}
    assert (await service.get("/api/admin/subjects?like=nobody")).json() == {"subjects": []}
    for query in ("", "?like=a%00", "?like=a&limit=0", f"?like={'a' * 256}"):
        assert (await service.get(f"/api/admin/subjects{query}")).status_code == 422, query


async def test_use_over_time_ends_at_what_is_used_now(
    api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient
) -> None:
    await api.completed(alice)
    await api.reserved(alice)
    told = (await service.get("/api/admin/use?subject=alice&days=7")).json()
    now = (await alice.get("/api/usage")).json()["resources"]
    assert told["subject"] == "alice"
    assert set(told["resources"]) == set(now)
    for name, points in told["resources"].items():
        assert len(points) == 121
        assert (points[0]["committed"], points[0]["held"]) == (0, 0)
        assert (points[-1]["committed"], points[-1]["held"]) == (now[name]["committed"], now[name]["held"])
    assert (await service.get("/api/admin/use?subject=nobody")).json()["resources"] == {}
    for days in ("0", "366", "x"):
        response = await service.get(f"/api/admin/use?subject=alice&days={days}")
        assert (response.status_code, response.json()["field"]) == (422, "days")


async def test_rollbacks_by_cause(api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient) -> None:
    upload, _ = await api.reserved(alice, described(), described())
    await alice.post(f"/api/images/{upload['imageId']}/cancel", json={})
    await service.post("/api/quota/rollback", json={"count": 1, "cause": "admin", "subject": "alice"})
    await api.services.ledger.tally()
    by_day = (await service.get("/api/admin/rollbacks")).json()
    assert (by_day["step"], by_day["rollbacks"][-1]["causes"]) == ("day", {"cancelled": 1, "admin": 1})
    assert len(by_day["rollbacks"]) == 31
    by_hour = (await service.get("/api/admin/rollbacks?days=1")).json()
    assert by_hour["step"] == "hour"
    assert sum(sum(one["causes"].values()) for one in by_hour["rollbacks"]) == 2


async def test_status_is_what_the_command_tells(
    api: Api, service: httpx.AsyncClient, connection: psycopg.Connection
) -> None:
    await api.services.ledger.reserve("alice", {"images": 1}, ttl=timedelta(milliseconds=1))
    told = (await service.get("/api/admin/status")).json()
    assert set(told) == {
        "at",
        "overdueHolds",
        "overdueImages",
        "setAside",
        "failedRollbacks",
        "queue",
        "duties",
        "checks",
    }
    assert told["overdueHolds"]["count"] == 1
    assert (told["queue"]["waiting"], told["queue"]["workersAlive"], told["queue"]["workerSeenAt"]) == (0, 0, None)
    assert told["duties"] == {"sweep": {"state": "late", "ranAt": None, "failedAt": None, "error": None}}
    assert told["checks"] == {}
    await api.services.ledger.record_check("verify", 3)
    assert (await service.get("/api/admin/status")).json()["checks"]["verify"]["findings"] == 3
    for ran, failed, state in ((True, None, "ok"), (False, "no", "failing")):
        connection.execute("SELECT earmark.record_duty('sweep', %s)", (failed,))
        sweep = (await service.get("/api/admin/status")).json()["duties"]["sweep"]
        assert (sweep["state"], sweep["error"], sweep["ranAt"] is not None) == (state, failed, True), ran
    connection.execute("UPDATE earmark._private_duty SET ran_at = ran_at - interval '10 minutes', failed_at = NULL")
    assert (await service.get("/api/admin/status")).json()["duties"]["sweep"]["state"] == "late"
    assert [read_status(connection).sweep_is_late(interval) for interval in (119, 200)] == [True, False]


async def test_a_deadline_is_moved_with_a_reason(
    api: Api, alice: httpx.AsyncClient, service: httpx.AsyncClient
) -> None:
    (upload,) = await api.reserved(alice)
    image = (await alice.get(f"/api/images/{upload['imageId']}")).json()
    path = f"/api/reservations/{image['reservationId']}/extend"
    response = await service.post(path, json={"ttlSeconds": 86_400, "reason": "his train was late"})
    assert response.status_code == 200, response.text
    entry = (await api.history(alice))[0]
    assert (entry["kind"], entry["actor"]) == ("extend", "backend")
    assert entry["reason"].endswith("his train was late")
    assert (await service.post(path, json={"ttlSeconds": 1, "reason": ""})).status_code == 422
    explained = (await service.get("/api/quota/explain?subject=alice")).json()
    assert explained["open"][0]["expiresAt"] == response.json()["expiresAt"]
