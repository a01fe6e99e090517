"""The whole flow over HTTP by random steps of two users and a worker, against a model that is one list of images."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from earmark.errors import (
    AlreadySettled,
    KeyConflict,
    NotFound,
    QuotaExceeded,
    UploadFailed,
)
from earmark.http_api.app import create_app
from earmark.http_api.caller import Role
from earmark.http_api.problems import ReservationOver
from earmark.uploads.job import ImageJobs
from earmark.uploads.process_pool import ImagePool
from earmark.uploads.processing import make_thumbnail
from earmark.uploads.reconcile import reconcile
from earmark.uploads.recovery import sweep
from earmark.uploads.storage import AlreadyUploaded, WrongLength
from fixtures.machines import ServiceMachine, assert_machine_holds
from fixtures.pictures import picture
from http_api.harness import JPEG, Api, described, opened

QUOTA = 7
CUT = JPEG[: len(JPEG) * 6 // 10]
"""What a first look takes for a picture, and a decoder refuses."""
CONTENTS = {"whole": JPEG, "cut": CUT, "other": picture(32, 24)}
OPEN = {"reserved", "uploading", "uploaded", "processing"}
ARRIVED = {"uploaded", "processing", "completed"}
JUMP = timedelta(hours=2)
"""Longer than any stage of an open image."""


@dataclass(repr=False)
class Imaged:
    """What the model knows of an image."""

    image: str
    owner: str
    reservation: str
    item: str
    data: bytes
    upload: dict[str, Any]
    state: str = "reserved"
    stored: bool = False
    was_completed: bool = False

    def __repr__(self) -> str:
        return f"<{self.state} {self.image} item {self.item} of {self.reservation}, {self.owner}'s>"


@dataclass
class Model:
    """What the service should say; figures are sums over all images, every time."""

    images: list[Imaged] = field(default_factory=list)
    keys: dict[tuple[str, str], tuple[tuple[bytes, ...], list[str]]] = field(default_factory=dict)

    def of(self, owner: str) -> list[Imaged]:
        return [image for image in self.images if image.owner == owner]

    def figures(self, owner: str) -> dict[str, tuple[int, int]]:
        """Committed and held: an image that was used stays used when it is deleted, its bytes come back."""
        own = self.of(owner)
        held = [image for image in own if image.state in OPEN]
        return {
            "images": (sum(image.was_completed for image in own), len(held)),
            "storage_bytes": (
                sum(len(image.data) for image in own if image.state == "completed"),
                sum(len(image.data) for image in held),
            ),
        }


class ImageMachine(ServiceMachine):
    numbers = count()

    def __init__(
        self, database: str, folder: Path, connection: psycopg.Connection, clock: Any, pool: ImagePool
    ) -> None:
        super().__init__(connection, clock)
        self.model = Model()
        self.users = [f"user-{next(self.numbers)}" for _ in range(2)]
        services = self.run(self.stack.enter_async_context(opened(database, folder)))
        self.api = Api(services, create_app(services))
        self.jobs = ImageJobs(services.uploads, pool, make_thumbnail)
        self.clients = {user: self.api.client(user) for user in self.users}
        self.service = self.api.client("backend", Role.SERVICE)

    def ask(self, method: str, path: str, user: str, **options: Any) -> httpx.Response:
        return self.run(self.clients[user].request(method, path, **options))

    @initialize()
    def users_begin_their_month_yesterday(self) -> None:
        (now,) = self.connection.execute("SELECT earmark._private_now()").fetchone()
        body = {"quotas": {"images": QUOTA}, "anchor": (now - timedelta(days=1)).isoformat()}
        for user in self.users:
            assert self.run(self.service.put(f"/api/admin/subjects/{user}", json=body)).status_code == 200

    def one_of(self, data: st.DataObject) -> Imaged:
        return data.draw(st.sampled_from(self.model.images))

    def someone(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(self.users))

    def is_refused(self, response: httpx.Response, error: type) -> None:
        assert (response.status_code, response.json().get("type")) == (error.status, f"/problems/{error.slug}")

    def take(self, user: str, response: httpx.Response, contents: list[bytes]) -> list[str]:
        answered = response.json()
        for number, (upload, data) in enumerate(zip(answered["images"], contents, strict=True), 1):
            known = (upload["imageId"], user, answered["reservationId"], str(number), data, upload)
            self.model.images.append(Imaged(*known))
        return [upload["imageId"] for upload in answered["images"]]

    @rule(
        data=st.data(),
        kinds=st.lists(st.sampled_from(sorted(CONTENTS)), min_size=1, max_size=3),
        key=st.sampled_from([None, None, "a", "b"]),
    )
    def reserve(self, data: st.DataObject, kinds: list[str], key: str | None) -> None:
        user, contents = self.someone(data), [CONTENTS[kind] for kind in kinds]
        response = self.ask(
            "POST",
            "/api/images/preupload",
            user,
            json={"files": [described(content) for content in contents]},
            headers={"Idempotency-Key": key} if key else {},
        )
        known = self.model.keys.get((user, key)) if key else None
        if known is not None and known[0] != tuple(map(len, contents)):
            self.is_refused(response, KeyConflict)
        elif known is not None:
            if known[1]:
                assert [upload["imageId"] for upload in response.json()["images"]] == known[1]
            else:
                self.is_refused(response, QuotaExceeded)
        else:
            fits = sum(self.model.figures(user)["images"]) + len(contents) <= QUOTA
            if fits:
                assert response.status_code == 201, response.text
            else:
                self.is_refused(response, QuotaExceeded)
            images = self.take(user, response, contents) if fits else []
            if key:
                self.model.keys[user, key] = (tuple(map(len, contents)), images)

    @precondition(lambda self: self.model.images)
    @rule(data=st.data(), whole=st.sampled_from([True, True, True, False]))
    def put(self, data: st.DataObject, whole: bool) -> None:
        image = self.one_of(data)
        body = image.data if whole else image.data[:-1]
        response = self.ask(
            "PUT", image.upload["uploadUrl"], image.owner, content=body, headers=image.upload["headers"]
        )
        if not whole:
            self.is_refused(response, WrongLength)
        elif image.state == "deleted":
            assert response.status_code in {NotFound.status, ReservationOver.status}
        elif image.state in ARRIVED or (image.state == "uploading" and image.stored):
            self.is_refused(response, AlreadyUploaded)
        elif image.state in OPEN:
            assert response.status_code == 201, response.text
            image.state, image.stored = "uploading", True
        else:
            self.is_refused(response, ReservationOver)

    @precondition(lambda self: self.model.images)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        image = self.one_of(data)
        response = self.ask("POST", "/api/images/complete", image.owner, json={"imageId": image.image})
        if image.state == "deleted":
            self.is_refused(response, NotFound)
        elif image.state in ARRIVED:
            assert response.status_code == 202
        elif image.state not in OPEN:
            self.is_refused(response, AlreadySettled)
        elif image.stored:
            assert (response.status_code, response.json()["status"]) == (202, "uploaded")
            image.state = "uploaded"
        else:
            self.is_refused(response, UploadFailed)
            image.state = "failed"

    @precondition(lambda self: self.model.images)
    @rule(data=st.data())
    def work(self, data: st.DataObject) -> None:
        image = self.one_of(data)
        outcome = self.run(self.jobs.run(UUID(image.image)))
        if image.state in {"uploaded", "processing"}:
            outcome_of = {CUT: ("rejected", "rejected")}
            expected, image.state = outcome_of.get(image.data, ("completed", "completed"))
            assert outcome == expected
            image.was_completed = image.state == "completed"
        else:
            expected = {"reserved": "too_early", "uploading": "too_early", "completed": "completed"}
            assert outcome == expected.get(image.state, "over")

    @precondition(lambda self: any(image.state == "uploaded" for image in self.model.images))
    @rule(data=st.data())
    def a_worker_dies_on_it(self, data: st.DataObject) -> None:
        image = data.draw(st.sampled_from([one for one in self.model.images if one.state == "uploaded"]))
        assert self.run(self.api.started(image.image)).outcome == "started"
        image.state = "processing"
        assert self.run(self.jobs.run(UUID(image.image))) == "busy"
        self.time_passes()

    @precondition(lambda self: self.model.images)
    @rule(data=st.data(), verb=st.sampled_from(["cancel", "failed"]))
    def end(self, data: st.DataObject, verb: str) -> None:
        image = self.one_of(data)
        response = self.ask("POST", f"/api/images/{image.image}/{verb}", image.owner, json={})
        if image.was_completed and verb == "cancel":
            self.is_refused(response, AlreadySettled)
        else:
            if image.state in OPEN:
                image.state = {"cancel": "cancelled", "failed": "failed"}[verb]
            assert (response.status_code, response.json()["image"]["state"]) == (200, image.state)

    @precondition(lambda self: self.model.images)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        image = self.one_of(data)
        response = self.ask("DELETE", f"/api/images/{image.image}", image.owner)
        if image.state == "deleted":
            self.is_refused(response, NotFound)
        else:
            assert response.status_code == 200
            image.state = "deleted"

    @precondition(lambda self: self.model.images)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        image = self.one_of(data)
        response = self.ask("POST", f"/api/images/{image.image}/retry", image.owner)
        if image.state == "deleted":
            self.is_refused(response, NotFound)
        elif image.state in OPEN | {"completed"}:
            self.is_refused(response, AlreadySettled)
        elif sum(self.model.figures(image.owner)["images"]) < QUOTA:
            assert response.status_code == 201, response.text
            self.take(image.owner, response, [image.data])
        else:
            self.is_refused(response, QuotaExceeded)

    @precondition(lambda self: self.model.images)
    @rule(data=st.data())
    def roll_back_images(self, data: st.DataObject) -> None:
        named = data.draw(st.lists(st.sampled_from(self.model.images), min_size=1, max_size=4))
        user = named[0].owner
        response = self.ask("POST", "/api/quota/rollback", user, json={"imageIds": [image.image for image in named]})
        if any(image.owner != user for image in named):
            self.is_refused(response, NotFound)
        elif all(image.was_completed for image in named):
            self.is_refused(response, AlreadySettled)
        else:
            self.gave_back(response, {image.image: image for image in named if image.state in OPEN})

    @precondition(lambda self: self.model.images)
    @rule(data=st.data(), some=st.booleans())
    def roll_back_a_reservation(self, data: st.DataObject, some: bool) -> None:
        image = self.one_of(data)
        body = {"reservationId": image.reservation} | ({"items": [image.item]} if some else {})
        response = self.ask("POST", "/api/quota/rollback", image.owner, json=body)
        siblings = [one for one in self.model.of(image.owner) if one.reservation == image.reservation]
        named = [image] if some else siblings
        if all(one.was_completed for one in named):
            self.is_refused(response, AlreadySettled)
        else:
            self.gave_back(response, {one.image: one for one in named if one.state in OPEN})

    @rule(data=st.data(), number=st.integers(1, QUOTA))
    def roll_back_the_newest(self, data: st.DataObject, number: int) -> None:
        user = self.someone(data)
        response = self.ask("POST", "/api/quota/rollback", user, json={"count": number})
        named = [one for one in self.model.of(user) if one.state in OPEN]
        latest = list(dict.fromkeys(image.reservation for image in reversed(named)))
        ended = {(item["reservationId"], item["item"]) for item in response.json()["returned"]}
        returned = {image.image: image for image in named if (image.reservation, image.item) in ended}
        assert len(returned) == len(ended) == min(number, len(named))
        touched = latest[: len({reservation for reservation, _ in ended})]
        assert {reservation for reservation, _ in ended} == set(touched)
        self.gave_back(response, returned)

    def gave_back(self, response: httpx.Response, images: dict[str, Imaged]) -> None:
        total = {"images": len(images), "storage_bytes": sum(len(image.data) for image in images.values())}
        assert (response.status_code, response.json()["rolledBack"]) == (200, total if images else {})
        for image in images.values():
            image.state = "cancelled"

    @precondition(lambda self: self.model.images)
    @rule(data=st.data())
    def somebody_else_reaches_for_it(self, data: st.DataObject) -> None:
        image = self.one_of(data)
        (other,) = (user for user in self.users if user != image.owner)
        own = f"/api/images/{image.image}"
        for method, path, body in (
            ("GET", own, None),
            ("DELETE", own, None),
            ("POST", f"{own}/cancel", {}),
            ("POST", f"{own}/failed", {}),
            ("POST", f"{own}/retry", {}),
            ("POST", "/api/images/complete", {"imageId": image.image}),
            ("POST", "/api/quota/rollback", {"imageIds": [image.image]}),
            ("POST", "/api/quota/rollback", {"reservationId": image.reservation}),
        ):
            self.is_refused(self.ask(method, path, other, json=body), NotFound)

    @rule()
    def time_passes(self) -> None:
        """And the sweeper comes: what has arrived goes on, the rest ends."""
        self.clock.advance(JUMP.total_seconds())
        self.run(sweep(self.api.services.uploads))
        for image in self.model.images:
            if image.state in {"reserved", "uploading"}:
                image.state = "uploaded" if image.stored else "expired"
            elif image.state == "processing":
                image.state = "uploaded"

    @invariant()
    def usage_is_the_models(self) -> None:
        for user in self.users:
            assert self.run(self.api.used(self.clients[user])) == self.model.figures(user)

    @invariant()
    def images_are_the_models(self) -> None:
        for user in self.users:
            shown = self.ask("GET", "/api/images?limit=200", user).json()["images"]
            assert {image["imageId"]: image["state"] for image in shown} == {
                image.image: image.state for image in self.model.of(user) if image.state != "deleted"
            }

    @invariant()
    def the_books_agree(self) -> None:
        for user in self.users:
            assert self.run(self.api.services.ledger.verify(user)) == ()

    def teardown(self) -> None:
        """When all is at its end the store holds what the books say; the next example meets nothing of this one."""
        self.run(self.at_rest())
        super().teardown()

    async def at_rest(self) -> None:
        for image in self.model.images:
            if image.state in OPEN:
                await self.clients[image.owner].post(f"/api/images/{image.image}/cancel")
        self.clock.advance(JUMP.total_seconds())
        await sweep(self.api.services.uploads)
        drifts = reconcile(self.api.services.uploads, moment=datetime.now(UTC) + timedelta(days=1))
        assert [drift async for drift in drifts] == []
        for client in self.api.clients:
            await client.aclose()


def test_the_service_behaves_as_the_model(
    database: str, tmp_path: Path, connection: psycopg.Connection, clock: Any
) -> None:
    assert_machine_holds(lambda pool: ImageMachine(database, tmp_path, connection, clock, pool), examples=25)
