"""The Python client without asyncio, over a socket; what both have in common is in `test_python_client.py`."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx
import pytest

from earmark import Cause
from earmark.client import Client, File, ServiceUnavailable, retrying
from earmark.errors import AlreadySettled, QuotaExceeded
from earmark.http_api.caller import Role
from earmark.http_api.sign_in import SignIn
from fixtures.service import Service
from http_api.harness import JPEG, SECRET, Server


@pytest.fixture
def client(running: Server) -> Iterator[Client]:
    with Client(running.url, SignIn(SECRET).issue("backend", Role.SERVICE)) as client:
        yield client


def used(client: Client) -> tuple[int, int]:
    images = client.usage("alice").resources["images"]
    return images.committed, images.held


def test_the_life_of_a_reservation(client: Client):
    with client.reserve("alice", items={"a": {"images": 1}, "b": {"images": 2}}, key="k") as held:
        assert client.reserve("alice", items={"a": {"images": 1}, "b": {"images": 2}}, key="k").id == held.id
        assert held.extend(timedelta(hours=1)).outcome == "extended"
        assert held.rollback(Cause.UPLOAD_FAILED, items=["b"]).returned == {"images": 2}
        assert client.explain("alice").open_total == 1
    assert used(client) == (1, 0)
    kinds = [entry.kind for entry in client.history("alice").entries]
    assert sorted(kinds) == ["commit", "reserve", "reserve", "rollback"]
    assert {entry.kind for entry in client.story(held.id).entries} == set(kinds)
    assert client.reservation(held.id).items["b"].cause is Cause.UPLOAD_FAILED


@pytest.mark.parametrize(
    ("error", "cause"), [(ValueError(), Cause.PROCESSING_FAILED), (KeyboardInterrupt(), Cause.CANCELLED)]
)
def test_a_block_that_fails_rolls_back(client: Client, error: BaseException, cause: Cause):
    held = client.reserve("alice", {"images": 2})
    with pytest.raises(type(error)), held:
        raise error
    assert used(client) == (0, 0)
    assert client.reservation(held.id).items["1"].cause is cause


def test_refusals(client: Client):
    left = client.usage("alice").resources["images"].remaining
    denied = client.reserve("alice", {"images": left + 1})
    assert [one.remaining for one in denied.short] == [left]
    with pytest.raises(QuotaExceeded), denied:
        pytest.fail("its block must not run")
    held = client.reserve("alice", {"images": 1})
    client.rollback(held.id, cause=Cause.ADMIN, reason="no longer wanted")
    with pytest.raises(AlreadySettled):
        client.commit(held.id)


def test_an_image_is_uploaded(client: Client):
    (upload,) = client.images.preupload([File("photo.jpg", "image/jpeg", len(JPEG))], subject="alice").uploads
    (sending,) = upload.sendings
    client.images.send(sending, lambda: (JPEG[start : start + 256] for start in range(0, len(JPEG), 256)))
    client.images.complete(upload.image)
    assert used(client) == (0, 1)
    assert client.images.cancel(upload.image).state == "cancelled"


def test_connections_of_ones_own_stay_open(running: Server):
    with httpx.Client() as http:
        with Client(f"{running.url}/", SignIn(SECRET).issue("alice"), http=http) as client:
            assert client.usage().subject == "alice"
        assert not http.is_closed


def test_a_user_of_the_product_as_it_is_served(service_of: Callable[..., Service], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retrying, "BASE_SECONDS", 0.001)
    service = service_of().start()
    with Client(service.url, service.token, attempts=2) as client:
        held = client.reserve(None, {"images": 1}, on_error=Cause.CANCELLED)
        assert held.subject == "alice"
        with pytest.raises(ValueError, match="no picture"), held:
            raise ValueError("no picture")
        assert client.usage().resources["images"].used == 0
        service.kill()
        with pytest.raises(ServiceUnavailable, match="connection refused"):
            client.usage()
