"""What has changed for a subject: how far his books have come, and the images that changed since."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from psycopg.rows import tuple_row

from earmark.uploads._calls import Connections
from earmark.uploads.model import Image


class Position(NamedTuple):
    """How far a subject's books have come; see the SQL function `positions`.

    Attributes:
        entries: Of his journal; only grows, as do `changes`.
        changes: Of his images, plan and quotas.
        plan_changes: Of the plan that he has: another number only says that his usage is to be looked at.
    """

    entries: int
    changes: int
    plan_changes: int = 0


NOWHERE = Position(0, 0)
"""Where a subject is who was never seen."""


async def positions(pool: Connections, subjects: Sequence[str]) -> Mapping[str, Position]:
    """How far the books of each of these subjects have come."""
    async with pool.connection() as connection, connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            "SELECT subject, entries, changes, plan_changes FROM earmark.positions(%s)", (list(subjects),)
        )
        found = {subject: Position(*numbers) for subject, *numbers in await cursor.fetchall()}
    return {subject: found.get(subject, NOWHERE) for subject in subjects}


async def images_changed(pool: Connections, subject: str, after: int, limit: int) -> Sequence[tuple[int, Image]]:
    """The subject's images whose latest change came after that one, as they are now, each with its change."""
    async with pool.connection() as connection, connection.cursor(row_factory=tuple_row) as cursor:
        query = "SELECT change, document FROM earmark.images_changed(%s, %s, %s)"
        await cursor.execute(query, (subject, after, limit))
        return [(change, msgspec.convert(document, Image)) for change, document in await cursor.fetchall()]
