"""What the ledger is asked and what it answers: frozen values, the same words as in SQL, JSON and the documentation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

Amounts = Mapping[str, int]
"""Amount per resource: whole numbers, 64 bits."""

UNLIMITED = -1
"""How an unlimited `quota_limit` or `remaining` is written."""


class Cause(StrEnum):
    """Why a hold was rolled back. A closed set."""

    UPLOAD_FAILED = "upload_failed"
    PROCESSING_FAILED = "processing_failed"
    CANCELLED = "cancelled"
    VALIDATION_FAILED = "validation_failed"
    EXPIRED = "expired"
    ADMIN = "admin"


USER_CAUSES = frozenset({Cause.CANCELLED, Cause.UPLOAD_FAILED})
"""The causes that a user may state of his own holds; the others are a service's to state."""


class Late(StrEnum):
    """What a commit does that arrives after its hold has expired."""

    REACQUIRE = "reacquire"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Shortage:
    """A resource that a denied reservation was short of, and with whom: the subject, or one of those above him."""

    subject: str
    resource: str
    requested: int
    quota_limit: int
    used: int
    remaining: int


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to a request to reserve.

    Attributes:
        outcome: `granted` or `denied`.
        reservation: Its id; None when denied.
        expires_at: The deadline; None when denied.
        replayed: The answer was stored under the key by an earlier, equal request.
        short: When denied, what was missing.
    """

    outcome: str
    reservation: UUID | None
    expires_at: datetime | None
    replayed: bool
    short: tuple[Shortage, ...] = ()

    @property
    def granted(self) -> bool:
        """Whether quota was taken."""
        return self.outcome == "granted"


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a reservation, and what happened to it.

    Attributes:
        state: `held`, `committed`, `refunded` or `rolled_back`.
        cause: Why it was rolled back, else None.
        at: When it was settled, None while held.
        by: Who settled it, None while held.
        amounts: What was reserved.
        committed: What was committed.
    """

    state: str
    cause: Cause | None
    at: datetime | None
    by: str | None
    expires_at: datetime
    amounts: Amounts
    committed: Amounts


@dataclass(frozen=True, slots=True)
class Settlement:
    """The answer to a commit, rollback, refund or extend.

    Attributes:
        outcome: `committed`, `rolled_back`, `refunded`, `extended`: this call did it. `already_committed`,
            `already_rolled_back`, `already_refunded`: an earlier one had. `exceeds_hold`, `denied`, `not_committed`,
            `not_found`: nothing was done.
        subject: Whose; None when not found.
        returned: What this call gave back.
        committed: What this call committed.
        items: Every item named, and what happened to it.
        done: The items that this call settled.
        short: When a commit that is late or grows was denied, what was missing.
    """

    outcome: str
    subject: str | None
    returned: Amounts
    committed: Amounts
    items: Mapping[str, Item]
    done: tuple[str, ...] = ()
    short: tuple[Shortage, ...] = ()


@dataclass(frozen=True, slots=True)
class Returned:
    """One item given back by the count form of rollback."""

    reservation: UUID
    item: str
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class Expired:
    """One hold given back by the sweeper."""

    subject: str
    reservation: UUID
    item: str
    resource: str
    amount: int
    expired_at: datetime


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """Use of one resource in its current period; `quota_limit` and `remaining` are -1 where unlimited."""

    quota_limit: int
    committed: int
    held: int
    used: int
    remaining: int
    over_by: int
    period: str
    period_start: datetime | None
    period_end: datetime | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a subject may use and uses now."""

    subject: str
    plan: str
    features: Mapping[str, object]
    resources: Mapping[str, ResourceUsage]


@dataclass(frozen=True, slots=True)
class UsageLevel:
    """What one holder of a subject's tree may use and uses now: the subject himself, his parent, and so on."""

    subject: str
    plan: str
    resources: Mapping[str, ResourceUsage]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is set for a subject.

    Attributes:
        parent: Above him in his tree; None where he has nobody.
        ancestors: All above him, from his parent up to the root.
        anchor: From which his periods are counted.
        quotas: His own, in place of the plan's; -1 where unlimited.
        registered_at: None where he was never seen: then the rest is what he would start with.
    """

    subject: str
    plan: str
    parent: str | None
    ancestors: tuple[str, ...]
    anchor: datetime
    quotas: Mapping[str, int]
    registered_at: datetime | None


@dataclass(frozen=True, slots=True)
class AdjustedLevel:
    """The figures of one holder after an adjustment; `quota_limit` and `remaining` are -1 where unlimited."""

    subject: str
    quota_limit: int
    committed: int
    held: int
    used: int
    remaining: int
    over_by: int


@dataclass(frozen=True, slots=True)
class AdjustmentBound:
    """A holder whose figures an adjustment would have taken too far, and the furthest amount that would do."""

    subject: str
    lowest: int | None = None
    highest: int | None = None


@dataclass(frozen=True, slots=True)
class Adjustment:
    """The answer to an adjustment.

    Attributes:
        outcome: `adjusted` or `denied`.
        replayed: The answer was stored under the key by an earlier, equal request.
        levels: The subject, his parent, and so on up to the root, as they are after it.
        short: When denied, with whom.
    """

    outcome: str
    replayed: bool
    levels: tuple[AdjustedLevel, ...]
    short: tuple[AdjustmentBound, ...] = ()

    @property
    def adjusted(self) -> bool:
        """Whether the use was corrected."""
        return self.outcome == "adjusted"


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal entry; `committed` and `held` are what it added to the balance."""

    seq: int
    at: datetime
    kind: str
    resource: str
    period_start: datetime | None
    reservation: UUID | None
    item: str | None
    committed: int
    held: int
    cause: Cause | None
    actor: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class FoundSubject:
    """A registered subject, as a search tells him."""

    subject: str
    plan: str
    parent: str | None


@dataclass(frozen=True, slots=True)
class UseAt:
    """What was used of a resource at a moment, in the period that it fell in."""

    resource: str
    at: datetime
    committed: int
    held: int


@dataclass(frozen=True, slots=True)
class RollbacksAt:
    """How many items were rolled back in the hour or day that begins then, by cause."""

    at: datetime
    causes: Mapping[Cause, int]


@dataclass(frozen=True, slots=True)
class ReservationStory:
    """A reservation as it stands."""

    reservation: UUID
    subject: str
    key: str | None
    created_at: datetime
    items: Mapping[str, Item] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OpenItem:
    """An item that holds quota now.

    Attributes:
        owner: Who reserved it: the subject, or somebody below him.
        by: Who asked for it; None where the journal no longer tells.
        overdue: It comes back at the next sweep, or before anybody is refused for it.
        earlier_period: Some of it counts in a period that is over, where its use stays if it is committed.
        image: With `filename` and `image_state`, the upload it is for.
    """

    reservation: UUID
    item: str
    owner: str
    amounts: Amounts
    key: str | None
    since: datetime
    by: str | None
    expires_at: datetime
    overdue: bool
    earlier_period: bool
    image: UUID | None
    filename: str | None
    image_state: str | None


@dataclass(frozen=True, slots=True)
class Change(Entry):
    """A journal entry, and the file that it is about, where it is about an upload."""

    filename: str | None


@dataclass(frozen=True, slots=True)
class Configured:
    """A value that was configured: of a subject, or of a plan itself.

    Attributes:
        by: Who did it; where nobody was named, the role in the database.
        subject: Of whom, or None.
        plan: Of which plan, or None.
        what: `plan`, `parent`, `anchor` or `quotas.RESOURCE` of a subject; `quotas.RESOURCE`, `periods.RESOURCE`,
            `refundable.RESOURCE` or `features.NAME` of a plan.
        was: Its value before. A quota of -1 is unlimited; None is nothing, so of a subject's own quota the plan's.
        became: Its value since.
    """

    at: datetime
    by: str
    subject: str | None
    plan: str | None
    what: str
    was: Any
    became: Any


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a subject's quota is what it is, in one snapshot.

    Attributes:
        levels: The subject, his parent and so on up to the root: a grant needs room with each.
        open: What holds quota now, oldest first.
        open_total: How many such items there are, where not all are told.
        configured: What was configured of him, of all above him and of the plans they have now, newest first.
        changes: The newest entries of his journal, newest first.
    """

    subject: str
    levels: tuple[UsageLevel, ...]
    open: tuple[OpenItem, ...]
    open_total: int
    configured: tuple[Configured, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class StoryImage:
    """An image of a reservation, as it stands."""

    image: UUID
    item: str
    filename: str
    state: str
    cause: Cause | None
    reason: str | None
    attempt: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Story:
    """What became of a reservation, or of one image of it, from reserve to settlement.

    Attributes:
        outcome: `granted` or `denied`; `short` says what was missing.
        items: What was held, and what happened to it; empty once pruned.
        entries: Its entries in the owner's journal, oldest first.
    """

    reservation: UUID
    subject: str
    key: str | None
    outcome: str
    short: tuple[Shortage, ...]
    created_at: datetime
    items: Mapping[str, Item]
    images: tuple[StoryImage, ...]
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Drift:
    """Something that does not agree.

    Attributes:
        figure: `committed` or `held`: the balance, what the holds say, what the journal says. `state`: a hold that is
            not as the journal last said of it, in entry `seq`, or is missing, or whose reservation is missing or was
            not granted. `owner`: a hold at the level of another than its reservation's subject. `chain`: journal entry
            `seq` was edited, inserted or removed.
        seq: The journal entry, for `state`, `owner` and `chain`; None for a hold that has none.
    """

    subject: str
    resource: str
    period_start: datetime | None
    figure: str
    balance: int
    holds: int
    journal: int
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class Repair:
    """One adjustment that a repair wrote: the balance before and after it, and in `reason` what was found.

    Attributes:
        reservation: With `item`, the hold whose state it explains; None where it is about a balance.
        seq: The journal entry.
    """

    subject: str
    resource: str
    period_start: datetime | None
    reservation: UUID | None
    item: str | None
    seq: int
    committed_before: int
    held_before: int
    committed_after: int
    held_after: int
    reason: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """An overdue item that the sweeper could not roll back.

    Attributes:
        error: SQLSTATE and message of the last try.
        times: How often it was tried.
        at: When it was last tried; `retry_at` when it is next.
        expires_at: The deadline it had.
    """

    subject: str
    reservation: UUID
    item: str
    error: str
    times: int
    at: datetime
    retry_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Followed:
    """A journal entry as followers get it; `cursor` is where to go on after it."""

    cursor: str
    subject: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many settled reservations, and holds of theirs, were removed."""

    reservations: int
    holds: int


@dataclass(frozen=True, slots=True)
class Counted:
    """What another system has counted, to be adopted.

    Attributes:
        used: From 0; over the quota too.
        plan: To put the subject on; None: as he is, or the default plan.
        quota_limit: His own quota of the resource, -1: unlimited; None: the plan's.
    """

    subject: str
    resource: str
    used: int
    plan: str | None = None
    quota_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Adopted:
    """What became of one of them.

    Attributes:
        outcome: `adopted`; `already_adopted`, under the same key: its plan and limit are left as they are by now;
            `nothing`: nothing was used; `conflict`: another amount was adopted under the key; or `denied`: 64 bits
            would not hold it. With one of these two among the answers nothing at all was adopted, and the others say
            what they would have become.
        differs: What the conflict is about.
    """

    outcome: str
    differs: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether it stands in the way of all."""
        return self.outcome in {"conflict", "denied"}


@dataclass(frozen=True, slots=True)
class Tally:
    """How often something has happened, as counted from the journal.

    Attributes:
        metric: `granted`, `committed`, `rolled_back`, `refunded`, `adjusted`; `give_back`, whose values by bucket are a
            histogram of the seconds from a reservation to its rollback, and `give_back_seconds`, their sum.
        cause: Of a rollback; else empty.
        le: Upper bound of the bucket in seconds; None where there is none.
    """

    metric: str
    cause: str
    le: float | None
    value: float


@dataclass(frozen=True, slots=True)
class Check:
    """What a check of the whole ledger, such as `verify`, last found, and when; no findings is well."""

    name: str
    findings: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Health:
    """How the ledger and the uploads of a database are doing.

    Attributes:
        holds: Open ones; `holds_overdue` of them are past their deadline, the oldest by `holds_overdue_seconds`.
        set_aside: Overdue items that the sweeper could not roll back.
        images: Open ones, by state; `images_overdue` of them are past their stage's deadline, likewise.
        images_to_remove: Images whose objects are to be removed from the store.
        tallies: What has happened so far.
        checks: What checks have found.
    """

    holds: int
    holds_overdue: int
    holds_overdue_seconds: float
    set_aside: int
    images: Mapping[str, int]
    images_overdue: int
    images_overdue_seconds: float
    images_to_remove: int
    tallies: tuple[Tally, ...]
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class PlanQuota:
    """What a plan grants of one resource; `quota_limit` is -1 where unlimited.

    `period`: `lifetime`, or after what the count starts again, such as `P1D` or `P1M` (ISO 8601). `refundable`: whether
    a refund, as of a deleted image, gives it back.
    """

    quota_limit: int
    period: str = "lifetime"
    refundable: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A named set of quotas and features."""

    plan: str
    features: Mapping[str, object]
    quotas: Mapping[str, PlanQuota]
