"""Why something was done, and who says so: as long everywhere as the journal takes it, and no longer."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from earmark import Cause, InvalidRequest, Ledger
from earmark.model import Counted

REASON_LONGEST, ACTOR_LONGEST = 500, 255
HOUR = timedelta(hours=1)

CALLS: dict[str, Callable[..., Any]] = {
    "commit": lambda ledger, made, **words: ledger.commit(made, **words),
    "commit of less": lambda ledger, made, **words: ledger.commit(made, amounts={"images": 1}, **words),
    "rollback": lambda ledger, made, **words: ledger.rollback(made, cause=Cause.ADMIN, **words),
    "rollback_newest": lambda ledger, _, **words: ledger.rollback_newest("a", "images", 1, **words),
    "refund": lambda ledger, made, **words: ledger.refund(made, **words),
    "extend": lambda ledger, made, **words: ledger.extend(made, ttl=HOUR, **words),
    "adjust": lambda ledger, _, **words: ledger.adjust("a", "images", 1, **{"reason": "r", "actor": "a"} | words),
    "adopt": lambda ledger, _, **words: ledger.adopt(
        [Counted("b", "images", 0)], key="k", **{"reason": "r", "actor": "a"} | words
    ),
    "repair": lambda ledger, _, **words: ledger.repair(**{"reason": "r"} | words),
}


@pytest.fixture
def made(ledger: Ledger) -> UUID:
    return ledger.reserve("a", {"images": 2}).id


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(("word", "longest"), [("reason", REASON_LONGEST), ("actor", ACTOR_LONGEST)])
def test_a_word_has_one_limit(ledger: Ledger, made: UUID, call: Callable[..., Any], word: str, longest: int) -> None:
    with pytest.raises(InvalidRequest, match=f"{word} must be a text of .*{longest} characters") as caught:
        call(ledger, made, **{word: "ä" * (longest + 1)})
    assert caught.value.detail == {"field": word}
    assert ledger.usage("a").resources["images"].held == 2
    call(ledger, made, **{word: "ä" * longest})


def test_who_reserves_has_it_too(ledger: Ledger) -> None:
    with pytest.raises(InvalidRequest, match="actor must be a text of at most 255"):
        ledger.reserve("a", {"images": 1}, actor="a" * 256)
    assert ledger.reserve("a", {"images": 1}, actor="a" * 255).granted


@pytest.mark.parametrize("call", ["adjust", "adopt", "repair"])
def test_what_needs_a_reason_is_refused_without_one(ledger: Ledger, made: UUID, call: str) -> None:
    for reason in ("", "  "):
        with pytest.raises(InvalidRequest, match="reason must be a text of 1 to 500"):
            CALLS[call](ledger, made, reason=reason)
