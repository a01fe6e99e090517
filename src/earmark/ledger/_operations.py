"""The calls by which the books are swept, checked, kept and read out, and the decoding of their rows."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from earmark.ledger._calls import Json, Query, Row, entry_of, with_given
from earmark.ledger._parameters import count_of, document, id_of, value_of
from earmark.model import Adopted, Check, Counted, Drift, Expired, Followed, Health, Repair, SetAside, Tally


def expire(max_holds: int, after: datetime | None, before: datetime | None) -> Query[tuple[Expired, ...]]:
    """One batch of the sweeper, of deadlines from `after` to `before`."""
    return Query(
        "SELECT subject, reservation, item, resource, amount, expired_at FROM earmark.expire(%s, %s, %s)",
        (count_of("max_holds", max_holds), value_of("after", datetime, after), value_of("before", datetime, before)),
        lambda rows: tuple(Expired(*row) for row in rows),
    )


def verify(subject: str | None) -> Query[tuple[Drift, ...]]:
    """What does not agree."""
    return Query(
        "SELECT subject, resource, period_start, figure, balance, holds, journal, seq FROM earmark.verify(%s)",
        (value_of("subject", str, subject),),
        lambda rows: tuple(Drift(*row) for row in rows),
    )


def repair(reason: str, *, subject: str | None, actor: str | None) -> Query[tuple[Repair, ...]]:
    """Make balances, holds and journal agree."""
    return Query(
        "SELECT subject, resource, period_start, reservation, item, seq, committed_before, held_before, "
        "committed_after, held_after, reason FROM earmark.repair(%s, %s, %s)",
        (value_of("reason", str, reason), value_of("subject", str, subject), value_of("actor", str, actor)),
        lambda rows: tuple(Repair(*row) for row in rows),
    )


def set_aside() -> Query[tuple[SetAside, ...]]:
    """What the sweeper could not roll back."""
    return Query(
        "SELECT subject, reservation, item, error, times, at, retry_at, expires_at FROM earmark.set_aside()",
        (),
        lambda rows: tuple(SetAside(*row) for row in rows),
    )


def journal_since(cursor: str | None, max_entries: int) -> Query[tuple[Followed, ...]]:
    """The next entries of everybody's journal."""
    return Query(
        "SELECT next_cursor, subject, seq, at, kind, resource, period_start, reservation, item, committed, held, "
        "cause, actor, reason FROM earmark.journal_since(%s, %s)",
        (value_of("cursor", str, cursor), count_of("max_entries", max_entries)),
        lambda rows: tuple(Followed(row[0], row[1], entry_of(row[2:])) for row in rows),
    )


def journal_export(subject: str, after_seq: int, max_entries: int) -> Query[tuple[Json, ...]]:
    """One subject's journal with its hashes, as JSON values."""
    return Query(
        "SELECT to_jsonb(e) FROM earmark.journal_export(%s, %s, %s) e",
        (
            value_of("subject", str, subject),
            value_of("after_seq", int, after_seq),
            count_of("max_entries", max_entries),
        ),
        lambda rows: tuple(row[0] for row in rows),
    )


def prune_settled(
    before: datetime | None, max_reservations: int, after: UUID | None
) -> Query[tuple[int, int, UUID | None]]:
    """One batch of pruning reservations: how many, of how many holds, and where to go on."""
    return Query(
        "SELECT reservations, holds, next_after FROM earmark.prune_settled(%s, %s, %s)",
        (
            value_of("before", datetime, before),
            count_of("max_reservations", max_reservations),
            after and id_of("after", after),
        ),
        lambda rows: (rows[0][0], rows[0][1], rows[0][2]),
    )


def prune_journal(before: datetime | None, max_entries: int, after: str | None) -> Query[tuple[int, str | None]]:
    """One batch of pruning the journal: how many entries, and where to go on."""
    return Query(
        "SELECT entries, next_after FROM earmark.prune_journal(%s, %s, %s)",
        (value_of("before", datetime, before), count_of("max_entries", max_entries), value_of("after", str, after)),
        lambda rows: (rows[0][0], rows[0][1]),
    )


def configure_retention(reservations: timedelta | None, journal: timedelta | None) -> Query[None]:
    """How long to keep what is settled."""
    kept = {"reservations": reservations, "journal": journal}
    parameters = tuple(value_of(field, timedelta, value) for field, value in kept.items())
    return Query("SELECT earmark.configure_retention(%s, %s)", parameters, lambda _: None)


def adopt(
    counted: Sequence[Counted], *, key: str, reason: str, actor: str, dry_run: bool
) -> Query[tuple[Adopted, ...]]:
    """Take over what another system has counted."""
    requests = [
        with_given(
            {"subject": value_of("subject", str, one.subject), "resource": one.resource, "used": one.used},
            plan=one.plan,
            quota=one.quota_limit,
        )
        for one in counted
    ]
    return Query(
        "SELECT outcome, detail FROM earmark.adopt(%s::jsonb, %s, %s, %s, %s)",
        (
            document(requests),
            value_of("key", str, key),
            value_of("reason", str, reason),
            value_of("actor", str, actor),
            dry_run,
        ),
        lambda rows: tuple(Adopted(outcome, tuple(detail.get("differs", ()))) for outcome, detail in rows),
    )


def journal_position() -> Query[str]:
    """Where the journal ends."""
    return Query("SELECT earmark.journal_position()", (), lambda rows: str(rows[0][0]))


def tally(max_entries: int) -> Query[int]:
    """Count what was added to the journal."""
    return Query("SELECT earmark.tally(%s)", (count_of("max_entries", max_entries),), lambda rows: int(rows[0][0]))


def record_check(name: str, findings: int) -> Query[None]:
    """Note what a check found."""
    return Query(
        "SELECT earmark.record_check(%s, %s)",
        (value_of("name", str, name), value_of("findings", int, findings)),
        lambda _: None,
    )


def health() -> Query[Health]:
    """How the ledger and the uploads are doing."""

    def decode(rows: list[Row]) -> Health:
        found: Json = rows[0][0]
        return Health(
            holds=found["holds"],
            holds_overdue=found["holds_overdue"],
            holds_overdue_seconds=float(found["holds_overdue_seconds"] or 0),
            set_aside=found["set_aside"],
            images=found["images"],
            images_overdue=found["images_overdue"],
            images_overdue_seconds=float(found["images_overdue_seconds"] or 0),
            images_to_remove=found["images_to_remove"],
            tallies=tuple(Tally(**one) for one in found["tallies"]),
            checks=tuple(
                Check(one["name"], one["findings"], datetime.fromisoformat(one["at"])) for one in found["checks"]
            ),
        )

    return Query("SELECT earmark.health()", (), decode)
