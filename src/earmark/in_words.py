"""Explanations and stories as sentences that a person can read out: for the terminal, the page and the support desk."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import groupby
from uuid import UUID

from earmark.model import (
    UNLIMITED,
    Cause,
    Configured,
    Entry,
    Explanation,
    Item,
    OpenItem,
    ResourceUsage,
    Story,
    StoryImage,
)

Files = Mapping[tuple[UUID | None, str | None], str]
"""Name of the file that an item of a reservation is."""

CAUSES: Mapping[Cause, str] = {
    Cause.UPLOAD_FAILED: "the upload failed",
    Cause.PROCESSING_FAILED: "the processing failed",
    Cause.CANCELLED: "it was cancelled",
    Cause.VALIDATION_FAILED: "the file was refused",
    Cause.EXPIRED: "its time ran out",
    Cause.ADMIN: "an administrator gave it back",
}


def explained(explanation: Explanation) -> list[str]:
    """What is used, by level and resource; what holds quota now; what was configured, and what moved of late."""
    said = []
    for number, level in enumerate(explanation.levels):
        whose = f"{level.subject}, on plan {level.plan}" if number == 0 else f"{level.subject}, above him"
        said += [f"{whose}: {_usage(resource, usage)}" for resource, usage in level.resources.items()]
        if not level.resources:
            said.append(f"{whose}: counts nothing of this.")
    said += _above(explanation)
    said += [_open(one, explanation.subject) for one in explanation.open]
    if (more := explanation.open_total - len(explanation.open)) > 0:
        said.append("1 more item holds quota." if more == 1 else f"{more:,} more items hold quota.")
    alone = len(explanation.levels) == 1
    if explanation.open_total == 0:
        said.append("Nothing holds quota now." if alone else f"Nothing of {explanation.subject} holds quota now.")
    if explanation.configured:
        said += ["What was configured of late, newest first:", *map(configured, explanation.configured)]
    if explanation.changes:
        said.append("What changed of late, newest first:")
    elif not alone:
        said.append(f"Nothing of {explanation.subject} has moved yet.")
    else:
        said.append("Nothing has moved yet. If that is a surprise, check the name: upper and lower case count.")
    files = {(one.reservation, one.item): one.filename for one in explanation.changes if one.filename}
    return said + [_change(list(entries), files) for entries in _together(explanation.changes)]


def configured(one: Configured) -> str:
    """Who changed what of whom, when, and from what to what."""
    kind, _, name = one.what.partition(".")
    what = {
        "quotas": f"the quota of {name}",
        "periods": f"the period of {name}",
        "refundable": f"the refund of {name}",
        "features": f"the feature {name}",
    }.get(kind, f"the {kind}")
    whose = one.subject if one.plan is None else f"plan {one.plan}"
    was, became = (_value(kind, value, of_subject=one.plan is None) for value in (one.was, one.became))
    return f"{_when(one.at)}: {one.by} changed {what} of {whose} from {was} to {became}."


def told(story: Story) -> list[str]:
    """From the request to the end, one sentence after the other."""
    key = f" under the key {story.key}" if story.key else ""
    said = []
    if story.outcome == "denied":
        said.append(f"{_when(story.created_at)}: {story.subject} was refused{key}; nothing was taken.")
        said += [
            f"{short.subject} had {short.remaining:,} {short.resource} left of {short.quota_limit:,}, "
            f"and {short.requested:,} were asked for."
            for short in story.short
        ]
        return said
    said.append(f"{_when(story.created_at)}: {story.subject} was granted reservation {story.reservation}{key}.")
    names: Files = {(story.reservation, image.item): image.filename for image in story.images}
    said += [_change(list(entries), names) for entries in _together(story.entries)]
    files = {image.item: image for image in story.images}
    said += [_item(name, item, files.get(name)) for name, item in story.items.items()]
    said += [_image(image) for image in story.images]
    return said


def in_words(amounts: Mapping[str, int]) -> str:
    """`1 image, 3,931 storage_bytes`: of one, a resource's name in the singular."""
    named = (f"{amount:,} {one.removesuffix('s') if amount == 1 else one}" for one, amount in amounts.items())
    return ", ".join(named) or "nothing"


def _value(kind: str, value: object, *, of_subject: bool) -> str:
    match kind, value:
        case "quotas", None if of_subject:
            said = "the plan's"
        case "quotas", int():
            said = "unlimited" if value == UNLIMITED else f"{value:,}"
        case "anchor", str():
            said = _when(datetime.fromisoformat(value))
        case _, bool():
            said = "yes" if value else "no"
        case _, None:
            said = "none"
        case _, str():
            said = value
        case _:
            said = json.dumps(value, ensure_ascii=False)
    return said


def _above(explanation: Explanation) -> list[str]:
    """Of what he can have none, whatever he has left himself."""
    return [
        f"Nothing is left of {resource} with {level.subject}, so {explanation.subject} is refused more, "
        f"whatever he has left himself."
        for level in explanation.levels[1:]
        for resource, usage in level.resources.items()
        if usage.remaining == 0
    ]


def _usage(resource: str, usage: ResourceUsage) -> str:
    until = f" until {usage.period_end:%Y-%m-%d}" if usage.period_end else ""
    figures = f"{usage.committed:,} committed and {usage.held:,} held"
    if usage.quota_limit == UNLIMITED:
        return f"{resource} is unlimited{until}; {figures}."
    over = f", {usage.over_by:,} over. Nothing is lost; more is refused until it fits again" if usage.over_by else ""
    return f"{usage.used:,} of {usage.quota_limit:,} {resource} used{until}: {figures}; {usage.remaining:,} left{over}."


def _open(one: OpenItem, subject: str) -> str:
    what = one.filename or f"item {one.item} of reservation {one.reservation}"
    whose = "" if one.owner == subject else f" of {one.owner}"
    state = f", which is {one.image_state}," if one.image_state else ""
    by = f" (by {one.by})" if one.by and one.by != one.owner else ""
    if one.overdue:
        end = f"was due back {_when(one.expires_at)}, and comes back at the next sweep or when somebody needs it"
    else:
        end = f"comes back {_when(one.expires_at)} unless it is settled before"
    earlier = " It counts in a period that is over." if one.earlier_period else ""
    return f"{what}{whose}{state} holds {in_words(one.amounts)} since {_when(one.since)}{by}; it {end}.{earlier}"


def _together(entries: Iterable[Entry]) -> Iterable[Iterable[Entry]]:
    """Entries of one thing that was done, next to each other."""
    return (
        group
        for _, group in groupby(
            entries, key=lambda one: (one.at, one.kind, one.reservation, one.item, one.actor, one.cause, one.reason)
        )
    )


def _change(entries: list[Entry], files: Files) -> str:
    one = entries[0]
    held = {entry.resource: entry.held for entry in entries}
    committed = {entry.resource: entry.committed for entry in entries}
    back = {entry.resource: -entry.held - entry.committed for entry in entries if entry.held + entry.committed < 0}
    rest = f" and gave back {in_words(back)}" if back else ""
    done = {
        "reserve": f"reserved {in_words(held)}",
        "commit": f"committed {in_words(committed)}{rest}",
        "rollback": f"gave back {in_words(back)}",
        "refund": f"refunded {in_words(back)}",
        "extend": "moved the deadline",
        "adjust": f"adjusted {', '.join(f'{amount:+,} {name}' for name, amount in committed.items())}",
    }[one.kind]
    because = f", because {CAUSES[one.cause]}" if one.cause else ""
    note = f" ({one.reason})" if one.reason else ""
    where = f" for {files.get((one.reservation, one.item), f'item {one.item}')}" if one.item else ""
    return f"{_when(one.at)}: {one.actor} {done}{where}{because}{note}."


def _item(name: str, item: Item, image: StoryImage | None) -> str:
    what = f"Item {name}" + (f" ({image.filename})" if image else "")
    if item.at is None:
        return f"{what} still holds {in_words(item.amounts)}, until {_when(item.expires_at)}."
    because = f", because {CAUSES[item.cause]}" if item.cause else ""
    state = {
        "committed": f"was charged {in_words(item.committed)}",
        "refunded": f"was charged {in_words(item.committed)}, of which came back what the plan refunds",
        "rolled_back": f"gave back {in_words(item.amounts)}{because}",
    }[item.state]
    return f"{what} {state}: {_when(item.at)}, by {item.by}."


def _image(image: StoryImage) -> str:
    tries = f" after {image.attempt} attempt{'s' if image.attempt > 1 else ''}" if image.attempt else ""
    reason = f": {image.reason.removesuffix('.')}" if image.reason else ""
    return f"Image {image.image} ({image.filename}) is {image.state}{tries}, since {_when(image.updated_at)}{reason}."


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
