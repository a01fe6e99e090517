"""Server-sent events through a real server: his own, in order, none missed, whoever changes what and how."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg
import pytest
from starlette.types import Message

from earmark import Ledger
from earmark.http_api.caller import Role
from earmark.http_api.routes import events
from earmark.http_api.sign_in import SignIn
from earmark.model import PlanQuota
from http_api.harness import SECRET, Api, Server, described

HOLD = {"amounts": {"images": 1}}


class Stream:
    """The events of one open stream; reading waits for them, at most the client's time-out."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.iter_lines()
        self.last_id: str | None = None

    def next(self) -> tuple[str, dict[str, Any]]:
        name, data = "", None
        for line in self._lines:
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "id":
                self.last_id = value
            elif field == "data":
                data = json.loads(value)
            elif line == "" and data is not None:
                return name, data
        raise EOFError

    def until(self, name: str, **members: object) -> dict[str, Any]:
        """The first event of this name with these members; those before it are passed over."""
        for _ in range(200):
            told, data = self.next()
            if told == name and members.items() <= data.items():
                return data
        pytest.fail(f"no {name} with {members}")

    def until_held(self, amount: int) -> dict[str, Any]:
        for _ in range(200):
            name, data = self.next()
            if name == "usage" and data["resources"]["images"]["held"] == amount:
                return data
        pytest.fail(f"never {amount} held")


@contextmanager
def following(client: httpx.Client, last_id: str | None = None, path: str = "/api/events") -> Iterator[Stream]:
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    with client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["cache-control"] == "no-store"
        yield Stream(response)


@pytest.fixture
def alice(running: Server) -> Iterator[httpx.Client]:
    with running.client("alice") as client:
        yield client


def reserved(client: httpx.Client, count: int = 1) -> list[str]:
    answer = client.post("/api/images/preupload", json={"files": [described()] * count}).raise_for_status()
    return [image["imageId"] for image in answer.json()["images"]]


def cancel(client: httpx.Client, image: str) -> None:
    client.post(f"/api/images/{image}/cancel").raise_for_status()


def test_the_life_of_an_image_and_what_it_does_to_usage(alice: httpx.Client) -> None:
    with following(alice) as stream:
        assert stream.next() == ("ready", {"resumed": False})
        name, usage = stream.next()
        assert (name, usage) == ("usage", alice.get("/api/usage").json())
        (image,) = reserved(alice)
        told = stream.until("image", imageId=image, state="reserved")
        assert told == {**alice.get(f"/api/images/{image}").json(), "url": None, "thumbnailUrl": None}
        stream.until_held(1)
        cancel(alice, image)
        assert stream.until("image", imageId=image, state="cancelled")["cause"] == "cancelled"
        stream.until_held(0)
        alice.delete(f"/api/images/{image}").raise_for_status()
        stream.until("image", imageId=image, state="deleted")


def test_usage_changes_also_without_an_image(alice: httpx.Client, ledger: Ledger) -> None:
    with following(alice) as stream:
        stream.until_held(0)
        ledger.reserve("alice", {"images": 3})
        stream.until_held(3)
        ledger.configure_subject("alice", quotas={"images": 7})
        stream.until("usage", quota_limit=7)


def test_a_plan_that_is_changed_for_everybody_is_told(running: Server, alice: httpx.Client, ledger: Ledger) -> None:
    for subject, plan in (("alice", "free"), ("bob", "free"), ("carol", "enterprise")):
        ledger.configure_subject(subject, plan=plan)
    with running.client("bob") as bob, running.client("carol") as carol:
        with following(alice) as his, following(bob) as hers, following(carol) as others:
            for stream in (his, hers, others):
                stream.until("usage")
            last = others.last_id
            ledger.configure_plan("free", quotas={"images": PlanQuota(77, "P1M", refundable=False)})
            for stream in (his, hers):
                assert stream.until("usage", tier="free")["quota_limit"] == 77
            ledger.configure_plan("free", features={"max_bulk_upload": 3})
            assert his.until("usage")["features"] == {"max_bulk_upload": 3}
            ledger.configure_subject("carol", quotas={"images": 5})
            assert others.until("usage")["quota_limit"] == 5  # and nothing of another plan before
        with following(carol, last) as again:
            assert again.until("ready")["resumed"] is True


def test_what_happened_while_nobody_listened_comes_on_resumption(alice: httpx.Client) -> None:
    with following(alice) as stream:
        stream.until_held(0)
        (first,) = reserved(alice)
        stream.until_held(1)
        last = stream.last_id
    others = reserved(alice, 20) + reserved(alice, 20) + reserved(alice, 20)
    cancel(alice, others[7])
    cancel(alice, first)
    with following(alice, last) as stream:
        assert stream.next() == ("ready", {"resumed": True})
        told = [stream.next() for _ in range(61)]
        assert {name for name, _ in told} == {"image"}
        assert {data["imageId"]: data["state"] for _, data in told} == {
            **dict.fromkeys(others, "reserved"),
            others[7]: "cancelled",
            first: "cancelled",
        }
        stream.until_held(59)
    with following(alice, stream.last_id) as stream:
        assert [stream.next()[0] for _ in range(2)] == ["ready", "usage"]


def test_resumed_in_the_middle_of_what_was_missed(alice: httpx.Client) -> None:
    images = reserved(alice, 5)
    with following(alice, "0-0") as stream:
        assert stream.next() == ("ready", {"resumed": True})
        assert [stream.next()[1]["imageId"] for _ in range(2)] == images[:2]
        last = stream.last_id
    with following(alice, last) as stream:
        stream.next()
        assert [stream.next()[1]["imageId"] for _ in range(3)] == images[2:]


@pytest.mark.parametrize("last", ["", "x", "1", "99-0", "0-99", "-1-0", "1-2-3", "9" * 30 + "-0"])
def test_an_id_that_is_none_of_ours_begins_anew(alice: httpx.Client, last: str) -> None:
    reserved(alice)
    with following(alice, last) as stream:
        assert stream.next() == ("ready", {"resumed": False})
        assert stream.next()[0] == "usage"


def test_each_sees_only_his_own(running: Server, alice: httpx.Client) -> None:
    with running.client("bob") as bob, following(alice) as of_alice, following(bob) as of_bob:
        of_alice.until_held(0)
        of_bob.until_held(0)
        reserved(alice)
        of_alice.until_held(1)
        (image,) = reserved(bob)
        name, told = of_bob.next()
        assert (name, told["imageId"]) == ("image", image)
        of_bob.until_held(1)
        assert bob.get("/api/events?subject=alice").status_code == 403


def test_a_service_follows_anybody(running: Server, alice: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {SignIn(SECRET).issue('backend', Role.SERVICE)}"}
    with (
        httpx.Client(base_url=running.url, headers=headers, timeout=20) as backend,
        following(backend, path="/api/events?subject=alice") as stream,
    ):
        stream.until_held(0)
        (image,) = reserved(alice)
        stream.until("image", imageId=image)


def test_many_tabs_of_many_users(running: Server, ledger: Ledger) -> None:
    names = [f"user-{n}" for n in range(6)]
    clients = [running.client(name) for name in names for _ in range(3)]
    opened = [following(client) for client in clients]
    streams = [one.__enter__() for one in opened]
    try:
        for stream in streams:
            stream.until_held(0)
        for n, name in enumerate(names):
            ledger.reserve(name, {"images": n + 1})
        for n, stream in enumerate(streams):
            assert stream.next()[1]["subject"] == names[n // 3]
    finally:
        for one, client in zip(opened, clients, strict=True):
            one.__exit__(None, None, None)
            client.close()


def test_nobody_without_a_token(running: Server) -> None:
    assert httpx.get(f"{running.url}/api/events").status_code == 401


def test_head_ends(alice: httpx.Client) -> None:
    assert alice.head("/api/events").headers["content-type"] == "text/event-stream"


def test_it_ends_with_the_token(running: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.05)
    token = SignIn(SECRET, now=lambda: time.time() - 43200 + 2).issue("alice")  # good for 2 seconds more
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=running.url, headers=headers, timeout=20) as client:
        with following(client) as stream:
            stream.until_held(0)
            with pytest.raises(EOFError):
                stream.next()
        assert client.get("/api/events").status_code == 401


def test_more_streams_than_anybody_needs(alice: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "STREAMS_PER_SUBJECT", 2)
    with following(alice) as one, following(alice) as other:
        one.next(), other.next()
        refused = alice.get("/api/events")
        assert (refused.status_code, refused.json()["type"], refused.json()["limit"]) == (
            429,
            "/problems/too-many-streams",
            2,
        )


def test_somebody_unknown_is_told_so_before_the_stream_begins(running: Server, connection: psycopg.Connection) -> None:
    connection.execute("DELETE FROM earmark._private_setting WHERE name = 'default_plan'")
    with running.client("nobody") as client:
        for method in ("GET", "HEAD"):
            assert client.request(method, "/api/events").status_code == 404
        assert client.get("/api/events").json()["type"] == "/problems/unknown-subject"


@pytest.mark.anyio
async def test_a_client_that_does_not_read_is_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its second event finds no room; the stream ends, and nothing follows for it any more."""
    monkeypatch.setattr(events, "SEND_SECONDS", 0.05)
    token = SignIn(SECRET).issue("alice")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/api/events",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {token}".encode()), (b"host", b"service.test")],
        "server": ("service.test", 80),
    }
    taken: list[bytes] = []
    full = asyncio.Event()

    async def send(message: Message) -> None:
        if len(taken) == 2:
            await full.wait()
        taken.append(message.get("body", b""))

    async def receive() -> Message:
        await full.wait()
        return {"type": "http.disconnect"}

    async with asyncio.timeout(20):
        await api.app(scope, receive, send)
    assert len(taken) == 2
    assert b"event: ready" in taken[1]
