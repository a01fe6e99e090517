"""Why quota is what it is, and what became of a reservation or image, as it goes over the wire."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from earmark.http_api.wire import EntryAnswer, ItemAnswer, LevelAnswer, entry_answer, item_answers
from earmark.in_words import configured, explained, told
from earmark.model import Cause, Explanation, Shortage, Story


class OpenItemAnswer(Struct, frozen=True, rename="camel"):
    """An item that holds quota now; by whom it was reserved, since when, until when, and for which file."""

    reservation_id: UUID
    item: str
    owner: str
    amounts: Mapping[str, int]
    since: datetime
    by: str | None
    expires_at: datetime
    overdue: bool
    earlier_period: bool
    image_id: UUID | None
    filename: str | None
    image_state: str | None


class ChangeAnswer(EntryAnswer, frozen=True, rename="camel", kw_only=True):
    """A journal entry, and the file that it is about, where it is about an upload."""

    filename: str | None


class ConfiguredAnswer(Struct, frozen=True, rename="camel"):
    """A value that was configured, of a subject or of a plan itself; `sentence` says the same in English.

    `what`: `plan`, `parent`, `anchor` or `quotas.RESOURCE` of a subject; `quotas.RESOURCE`, `periods.RESOURCE`,
    `refundable.RESOURCE` or `features.NAME` of a plan. Of a subject's own quota, null is the plan's.
    """

    at: datetime
    by: str
    subject: str | None
    plan: str | None
    what: str
    was: Any
    became: Any
    sentence: str


class ExplanationAnswer(Struct, frozen=True, rename="camel"):
    """Why a subject's quota is what it is; `sentences` says the same in English."""

    subject: str
    levels: Sequence[LevelAnswer]
    open: Sequence[OpenItemAnswer]
    open_total: int
    configured: Sequence[ConfiguredAnswer]
    changes: Sequence[ChangeAnswer]
    sentences: Sequence[str]


class StoryImageAnswer(Struct, frozen=True, rename="camel"):
    """An image of a reservation, as it stands."""

    image_id: UUID
    item: str
    filename: str
    state: str
    cause: Cause | None
    reason: str | None
    attempt: int
    updated_at: datetime


class StoryAnswer(Struct, frozen=True, rename="camel"):
    """What became of a reservation, or of one image of it; `sentences` says the same in English."""

    reservation_id: UUID
    subject: str
    outcome: str
    short: Sequence[Shortage]
    created_at: datetime
    items: Mapping[str, ItemAnswer]
    images: Sequence[StoryImageAnswer]
    entries: Sequence[EntryAnswer]
    sentences: Sequence[str]


def explanation_answer(explanation: Explanation) -> ExplanationAnswer:
    """An explanation as it is told."""
    return ExplanationAnswer(
        subject=explanation.subject,
        levels=[LevelAnswer(level.subject, level.plan, level.resources) for level in explanation.levels],
        open=[
            OpenItemAnswer(
                reservation_id=one.reservation,
                item=one.item,
                owner=one.owner,
                amounts=one.amounts,
                since=one.since,
                by=one.by,
                expires_at=one.expires_at,
                overdue=one.overdue,
                earlier_period=one.earlier_period,
                image_id=one.image,
                filename=one.filename,
                image_state=one.image_state,
            )
            for one in explanation.open
        ],
        open_total=explanation.open_total,
        configured=[ConfiguredAnswer(**asdict(one), sentence=configured(one)) for one in explanation.configured],
        changes=[
            ChangeAnswer(**msgspec.structs.asdict(entry_answer(change)), filename=change.filename)
            for change in explanation.changes
        ],
        sentences=explained(explanation),
    )


def story_answer(story: Story) -> StoryAnswer:
    """A story as it is told."""
    return StoryAnswer(
        reservation_id=story.reservation,
        subject=story.subject,
        outcome=story.outcome,
        short=story.short,
        created_at=story.created_at,
        items=item_answers(story.items),
        images=[
            StoryImageAnswer(
                image_id=image.image,
                item=image.item,
                filename=image.filename,
                state=image.state,
                cause=image.cause,
                reason=image.reason,
                attempt=image.attempt,
                updated_at=image.updated_at,
            )
            for image in story.images
        ],
        entries=[entry_answer(entry) for entry in story.entries],
        sentences=told(story),
    )
