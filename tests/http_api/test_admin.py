"""What an administrator sets, looks at and corrects: trees of subjects, quotas of their own, adjustments."""

import asyncio
from typing import Any

import httpx
import pytest

from http_api.harness import Api, described

pytestmark = pytest.mark.anyio

ADJUST = "/api/admin/adjust"


@pytest.fixture
async def tree(service: httpx.AsyncClient) -> None:
    """`alice` and `bob` under `team`, under `acme`."""
    for name, parent in (("acme", None), ("team", "acme"), ("alice", "team"), ("bob", "team")):
        body = {"plan": "pro"} | ({"parent": parent} if parent else {})
        assert (await service.put(f"/api/admin/subjects/{name}", json=body)).status_code == 200


def correction(amount: int, subject: str = "alice", **other: Any) -> dict[str, Any]:
    return {"subject": subject, "resource": "images", "amount": amount, "reason": "goodwill"} | other


async def test_what_is_set_is_told(service: httpx.AsyncClient, tree: None) -> None:
    path = "/api/admin/subjects/alice"
    body = {"plan": "free", "quotas": {"images": 50, "storage_bytes": -1}, "anchor": "2026-01-15T00:00:00Z"}
    changed = (await service.put(path, json=body)).json()
    assert changed == (await service.get(path)).json()
    assert list(changed) == [
        "subject", "plan", "parent", "ancestors", "anchor", "quotas", "registeredAt", "usage",
    ]  # fmt: skip
    assert (changed["subject"], changed["plan"], changed["parent"]) == ("alice", "free", "team")
    assert changed["ancestors"] == ["team", "acme"]
    assert (changed["anchor"], changed["quotas"]) == (body["anchor"], body["quotas"])
    assert changed["usage"]["quota_limit"] == 50
    assert (await service.put(path, json={"quotas": {"images": None}})).json()["quotas"] == {"storage_bytes": -1}


async def test_whoever_changed_it_is_told_to_the_operator_and_to_the_user(
    service: httpx.AsyncClient, alice: httpx.AsyncClient, tree: None
) -> None:
    await service.put("/api/admin/subjects/alice", json={"plan": "free", "quotas": {"images": 50}})
    told = (await alice.get("/api/quota/explain")).json()
    newest = told["configured"][:2]
    assert newest == (await service.get("/api/quota/explain?subject=alice")).json()["configured"][:2]
    assert [(one["what"], one["was"], one["became"], one["subject"], one["plan"]) for one in newest] == [
        ("quotas.images", None, 50, "alice", None),
        ("plan", "pro", "free", "alice", None),
    ]
    assert {one["by"] for one in newest} == {"backend"}
    assert newest[1]["sentence"] in told["sentences"]


async def test_somebody_never_seen_is_told_as_he_would_start(service: httpx.AsyncClient) -> None:
    told = (await service.get("/api/admin/subjects/nobody")).json()
    assert (told["plan"], told["parent"], told["quotas"], told["registeredAt"]) == ("pro", None, {}, None)


async def test_a_team_that_is_short_is_named_in_the_refusal(api: Api, service: httpx.AsyncClient, tree: None) -> None:
    await service.put("/api/admin/subjects/team", json={"quotas": {"images": 2}})
    alice, bob = api.client("alice"), api.client("bob")
    await api.reserved(bob, described(), described())
    refusals = [
        await alice.post("/api/images/preupload", json={"files": [described()]}),
        await alice.post("/api/reservations", json={"amounts": {"images": 1}}),
    ]
    for refused in refusals:
        problem = refused.json()
        assert (refused.status_code, problem["type"]) == (429, "/problems/quota-exceeded")
        assert (problem["subject"], problem["used"], problem["quota_limit"], problem["remaining"]) == ("alice", 2, 2, 0)
        assert [(short["subject"], short["resource"]) for short in problem["short"]] == [("team", "images")]
        assert problem["detail"].endswith("0 left with team.")
    assert (await alice.get("/api/usage")).json()["remaining"] == 500


async def test_levels_say_who_has_how_much_left(api: Api, service: httpx.AsyncClient, tree: None) -> None:
    alice = api.client("alice")
    await api.reserved(api.client("bob"))
    told = (await alice.get("/api/usage/levels")).json()
    assert told["subject"] == "alice"
    assert [(level["subject"], level["tier"]) for level in told["levels"]] == [
        ("alice", "pro"),
        ("team", "pro"),
        ("acme", "pro"),
    ]
    assert [level["resources"]["images"]["remaining"] for level in told["levels"]] == [500, 499, 499]
    assert told["levels"][0]["resources"] == (await alice.get("/api/usage")).json()["resources"]
    assert (await service.get("/api/usage/levels?subject=alice")).json() == told
    assert (await alice.get("/api/usage/levels?subject=team")).status_code == 403


@pytest.mark.parametrize("parent", ["nobody", "alice", "", "x" * 256, 7, ["team"]], ids=str)
async def test_parents_that_make_no_sense(service: httpx.AsyncClient, tree: None, parent: object) -> None:
    refused = await service.put("/api/admin/subjects/team", json={"parent": parent, "quotas": {"images": 1}})
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/invalid-request")
    told = (await service.get("/api/admin/subjects/team")).json()
    assert (told["parent"], told["quotas"]) == ("acme", {})


async def test_whoever_has_books_stays_in_his_tree(api: Api, service: httpx.AsyncClient, tree: None) -> None:
    await service.put("/api/admin/subjects/rival", json={"plan": "pro"})
    await api.reserved(api.client("alice"))
    refused = await service.put("/api/admin/subjects/alice", json={"parent": "rival"})
    assert refused.status_code == 422
    assert (refused.json()["field"], refused.json()["root"]) == ("parent", "acme")
    assert "in the books" in refused.json()["detail"]
    moved = await service.put("/api/admin/subjects/alice", json={"parent": "acme"})
    assert (moved.status_code, moved.json()["ancestors"]) == (200, ["acme"])


async def test_use_is_adjusted_with_a_reason_in_the_journal(api: Api, service: httpx.AsyncClient, tree: None) -> None:
    made = await service.post(ADJUST, json=correction(501))
    assert made.status_code == 200
    told = made.json()
    assert (told["subject"], told["resource"], told["amount"], told["replayed"]) == ("alice", "images", 501, False)
    assert [(level["subject"], level["committed"], level["over_by"]) for level in told["levels"]] == [
        ("alice", 501, 1),
        ("team", 501, 1),
        ("acme", 501, 1),
    ]
    (entry,) = await api.history(api.client("alice"))
    assert (entry["kind"], entry["committed"], entry["actor"], entry["reason"]) == (
        "adjust",
        501,
        "backend",
        "goodwill",
    )
    assert (await api.client("alice").get("/api/usage")).json()["resources"]["images"]["over_by"] == 1


async def test_an_adjustment_that_takes_too_much_is_denied(api: Api, service: httpx.AsyncClient, tree: None) -> None:
    await service.post(ADJUST, json=correction(2))
    denied = await service.post(ADJUST, json=correction(-3))
    problem = denied.json()
    assert (denied.status_code, problem["type"]) == (409, "/problems/adjustment-denied")
    assert (problem["subject"], problem["resource"], problem["amount"]) == ("alice", "images", -3)
    assert [(short["subject"], short["lowest"]) for short in problem["short"]] == [
        ("alice", -2),
        ("team", -2),
        ("acme", -2),
    ]
    assert [level["committed"] for level in problem["levels"]] == [2, 2, 2]
    assert (await api.used(api.client("alice")))["images"] == (2, 0)


async def test_an_idempotency_key_adjusts_once(api: Api, service: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k"}
    answers = await asyncio.gather(*[service.post(ADJUST, json=correction(3), headers=headers) for _ in range(5)])
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(answer.json()["replayed"] for answer in answers) == [False, True, True, True, True]
    assert len({str(answer.json()["levels"]) for answer in answers}) == 1
    other = await service.post(ADJUST, json=correction(4), headers=headers)
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-key-reused")
    assert other.json()["differs"] == ["amount"]
    empty = await service.post(ADJUST, json=correction(3), headers={"Idempotency-Key": ""})
    assert empty.status_code == 422
    assert (await api.used(api.client("alice")))["images"] == (3, 0)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (correction(0), 422),
        (correction(1, reason=""), 422),
        (correction(1, reason="  "), 422),
        (correction(1, reason="x" * 501), 422),
        (correction(1, reason="a\0b"), 422),
        (correction(1, subject=""), 422),
        (correction(1, subject="x" * 256), 422),
        (correction(1, resource="steaks"), 422),
        (correction(1, resource=""), 422),
        (correction(2**63), 422),
        (correction(1) | {"amount": "1"}, 422),
        (correction(1) | {"amount": 1.5}, 422),
        (correction(1) | {"amount": True}, 422),
        ({"subject": "alice", "resource": "images", "amount": 1}, 422),
        ({"subject": "alice", "resource": "images", "reason": "r"}, 422),
        ({"resource": "images", "amount": 1, "reason": "r"}, 422),
        ([], 422),
    ],
    ids=str,
)
async def test_adjustments_that_make_no_sense(api: Api, service: httpx.AsyncClient, body: object, status: int) -> None:
    assert (await service.post(ADJUST, json=body)).status_code == status
    assert (await api.used(api.client("alice")))["images"] == (0, 0)


async def test_nobody_adjusts_himself(api: Api, alice: httpx.AsyncClient) -> None:
    await api.completed(alice)
    for body in (correction(-1), {}):
        assert (await alice.post(ADJUST, json=body)).status_code == 403
    assert (await api.used(alice))["images"] == (1, 0)


async def test_an_anchor_that_no_calendar_has_changes_nothing(service: httpx.AsyncClient):
    """At the ends of time it could be stored, but not be read again: whoever looked at the subject was refused."""
    path = "/api/admin/subjects/alice"
    before = (await service.put(path, json={"plan": "pro"})).json()["anchor"]
    for anchor in ("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z"):
        refused = await service.put(path, json={"anchor": anchor})
        assert (refused.status_code, refused.json().get("field")) == (422, "anchor"), anchor
    assert (await service.get(path)).json()["anchor"] == before
    assert (await service.put(path, json={"anchor": "0002-01-02T00:00:00Z"})).status_code == 200
