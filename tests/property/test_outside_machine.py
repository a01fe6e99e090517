"""A processor outside by random steps: jobs that are told and not noted, reports early, late, twice and contrary.

What a report may be answered follows from the image as it was, and what the books say from what was answered.
"""

from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from earmark.faults import FaultInjected, arm
from earmark.uploads.process_pool import ImagePool
from earmark.uploads.processing import make_thumbnail
from earmark.uploads.recovery import sweep
from fixtures.machines import ServiceMachine, assert_machine_holds
from http_api.harness import JPEG
from http_api.outside_harness import EXTERNAL, outside

OPEN = {"reserved", "uploading", "uploaded", "processing"}
HELD_CREDITS = 5
JUMP_SECONDS = 7200
"""Longer than any stage of an open image, and than the objects of one that expired are kept."""
SAYINGS: tuple[dict[str, Any], ...] = (
    {},
    {"actual": {"credits": 2}},
    {"actual": {"credits": HELD_CREDITS + 1}},
    {"outcome": "failed"},
    {"outcome": "failed", "permanent": True},
)


@dataclass
class Followed:
    """An image as it was when last seen, and what it was charged when it was completed."""

    image: str
    state: str = "uploaded"
    attempt: int = 0
    charged: int | None = None
    answered: dict[str, httpx.Response] = field(default_factory=dict)


class OutsideMachine(ServiceMachine):
    subjects = count()

    def __init__(
        self, database: str, folder: Path, connection: psycopg.Connection, clock: Any, pool: ImagePool
    ) -> None:
        super().__init__(connection, clock)
        self.images: list[Followed] = []
        self.subject = f"outside-{next(self.subjects)}"
        self.found = self.run(self.stack.enter_async_context(outside(database, folder, pool, EXTERNAL, make_thumbnail)))
        self.user = self.found.api.client(self.subject)

    @initialize()
    def there_is_room(self) -> None:
        self.make_room(room=True)

    @rule(room=st.booleans())
    def make_room(self, room: bool) -> None:
        quotas = '{"images": 500, "credits": 5000}' if room else '{"images": 0}'
        self.connection.execute("SELECT earmark.configure_subject(%s, 'pro', %s)", (self.subject, quotas))
        self.room = room

    @precondition(lambda self: self.room)
    @rule()
    def an_image_arrives(self) -> None:
        self.images.append(Followed(self.run(self.found.api.queued(self.user))))

    @precondition(lambda self: self.images)
    @rule(data=st.data(), dies=st.booleans())
    def its_job_is_told(self, data: st.DataObject, dies: bool) -> None:
        """And where the service dies before that is noted, nobody knows."""
        followed = data.draw(st.sampled_from(self.images))
        arm("posted:error" if dies else None)
        try:
            outcome = self.run(self.found.jobs.run(UUID(followed.image)))
            assert outcome == ("told" if followed.state == "uploaded" else "stale")
        except FaultInjected:
            assert dies
        finally:
            arm(None)
        self.look(followed)

    @precondition(lambda self: self.images)
    @rule(
        data=st.data(),
        attempt=st.integers(1, 3),
        said=st.sampled_from(SAYINGS),
        delivery=st.sampled_from([None, None, "a", "b"]),
    )
    def it_is_reported(self, data: st.DataObject, attempt: int, said: dict[str, Any], delivery: str | None) -> None:
        followed = data.draw(st.sampled_from(self.images))
        before = (followed.state, followed.attempt)
        answer = self.run(self.found.result(followed.image, attempt, delivery=delivery, **said))
        told = answer.json()
        self.look(followed)
        after = (followed.state, followed.attempt)
        assert answer.status_code in {200, 409, 425}, answer.text
        if delivery in followed.answered:
            known = followed.answered[delivery]
            assert (answer.status_code, told) == (known.status_code, known.json())
            assert after == before
            return
        if "outcome" in told and delivery is not None:
            followed.answered[delivery] = answer
        if answer.status_code == 425:
            assert before[0] in OPEN, "what is over is answered for good"
            assert attempt > before[1]
        match told.get("outcome"):
            case "completed":
                assert after == ("completed", attempt)
                if before[0] != "completed":
                    followed.charged = said.get("actual", {}).get("credits", HELD_CREDITS)
            case "failed":
                assert after == ("failed", attempt)
            case "retrying":
                assert after == ("uploaded", attempt)
            case "too_late":
                assert before[0] == "expired"
                assert after == before
            case _:
                assert after == before
        if before[0] not in {"uploaded", "processing", "expired"}:
            assert after == before, "what has ended does not change"

    @precondition(lambda self: self.images)
    @rule(data=st.data(), how=st.sampled_from(["cancel", "delete"]))
    def its_user_ends_it(self, data: st.DataObject, how: str) -> None:
        followed = data.draw(st.sampled_from(self.images))
        own = f"/api/images/{followed.image}"
        before = followed.state
        call = self.user.delete(own) if how == "delete" else self.user.post(f"{own}/cancel", json={})
        self.run(call)
        self.look(followed)
        if how == "delete":
            assert followed.state == "deleted"
        else:
            assert followed.state == ("cancelled" if before in OPEN else before)

    @rule(seconds=st.sampled_from([60, JUMP_SECONDS]), whole=st.booleans())
    def time_passes(self, seconds: int, whole: bool) -> None:
        """And the sweeper comes; or the ledger's alone, which looks at no evidence."""
        self.clock.advance(seconds)
        uploads = self.found.api.services.uploads
        self.run(sweep(uploads) if whole else uploads.ledger.sweep())
        for followed in self.images:
            before = followed.state
            self.look(followed)
            if before not in OPEN:
                assert followed.state == before
            else:
                assert followed.state in {"uploaded", "processing", "failed", "expired"}

    def look(self, followed: Followed) -> None:
        shown = self.run(self.user.get(f"/api/images/{followed.image}"))
        if shown.status_code == 404:
            followed.state = "deleted"
        else:
            followed.state, followed.attempt = shown.json()["state"], shown.json()["attempt"]

    @invariant()
    def usage_is_what_was_answered(self) -> None:
        held = sum(followed.state in OPEN for followed in self.images)
        charged = [followed for followed in self.images if followed.charged is not None]
        stored = sum(followed.state == "completed" for followed in charged)
        used = {
            "images": (len(charged), held),
            "storage_bytes": (stored * len(JPEG), held * len(JPEG)),
            "credits": (sum(followed.charged or 0 for followed in charged), held * HELD_CREDITS),
        }
        assert self.run(self.found.api.used(self.user)) == used

    @invariant()
    def the_books_agree(self) -> None:
        assert self.run(self.found.api.services.ledger.verify(self.subject)) == ()


def test_whatever_a_processor_outside_reports_ends_right(
    database: str, tmp_path: Path, connection: psycopg.Connection, clock: Any
) -> None:
    # No month ends in it.
    images = '"images": {"quota": 500, "period": "lifetime", "refundable": false}'
    connection.execute(
        "SELECT earmark.configure_plan('pro', NULL, %s)", (f'{{"credits": {{"quota": 100}}, {images}}}',)
    )
    assert_machine_holds(lambda pool: OutsideMachine(database, tmp_path, connection, clock, pool), examples=20)
