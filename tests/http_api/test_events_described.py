"""GET /api/events, which Schemathesis leaves out as it never ends, asked in every way that its description allows."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from earmark import Ledger
from earmark.http_api.caller import Role
from earmark.http_api.sign_in import SignIn
from http_api.harness import SECRET, Server

HEADER = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60).map(str.strip)
NUMBER = st.integers(0, 10**20)
LAST = st.none() | HEADER | st.builds(lambda entries, changes: f"{entries}-{changes}", NUMBER, NUMBER)
NAME = st.none() | st.sampled_from(["alice", "bob"]) | st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@pytest.fixture
def asked(running: Server, ledger: Ledger) -> Iterator[httpx.Client]:
    with ledger.reserve("alice", {"images": 1}):
        pass
    with httpx.Client(base_url=running.url) as client:
        yield client


def first_events(response: httpx.Response) -> list[tuple[str, str, Any]]:
    """Name, id and data of the first two events. Lines end with LF alone; a name may have other separators."""
    text = ""
    for chunk in response.iter_text():
        text += chunk
        told = [dict(line.split(": ", 1) for line in block.split("\n")) for block in text.split("\n\n")[:-1]]
        events = [one for one in told if "data" in one]
        if len(events) >= 2:
            return [(one["event"], one["id"], json.loads(one["data"])) for one in events[:2]]
    pytest.fail(f"the stream ended after {text}")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(None, "2-0", Role.AUTHENTICATED)
@example("a\0b", None, Role.SERVICE)
@example("x" * 256, None, Role.SERVICE)
@example("", None, Role.SERVICE)
@example("line\u2028\x85\x1cseparators", None, Role.SERVICE)
@given(subject=NAME, last=LAST, role=st.sampled_from([*Role, None]))
def test_every_answer_is_as_it_is_described(
    asked: httpx.Client, ledger: Ledger, subject: str | None, last: str | None, role: Role | None
) -> None:
    described = asked.get("/openapi.json").json()["paths"]["/api/events"]["get"]["responses"]
    token = {"Authorization": f"Bearer {SignIn(SECRET).issue('alice', role)}"} if role else {}
    resumption = {"Last-Event-ID": last} if last is not None else {}
    params = {"subject": subject} if subject is not None else {}
    with asked.stream("GET", "/api/events", params=params, headers={**token, **resumption}) as response:
        (kind,) = described[str(response.status_code)]["content"]
        assert response.headers["content-type"].partition(";")[0] == kind
        who = "alice" if subject is None else subject
        if role is None:
            assert response.status_code == 401
        elif role is Role.AUTHENTICATED and who != "alice":
            assert response.status_code == 403
        elif not 1 <= len(who) <= 255 or "\0" in who:
            assert response.status_code == 422
        else:
            assert response.status_code == 200
            (name, at, ready), (second, _, usage) = first_events(response)
            assert (name, second, usage["subject"]) == ("ready", "usage", who)
            entries = 2 if who == "alice" else 0
            place = re.fullmatch(r"([0-9]{1,18})-([0-9]{1,18})", last or "")
            known = place is not None and int(place[1]) <= entries and int(place[2]) == 0
            assert ready == {"resumed": known}
            assert at == (f"{int(place[1])}-{int(place[2])}" if place and known else f"{entries}-0")
