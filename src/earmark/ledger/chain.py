"""Checks a subject's exported journal without a database: whether an entry was edited, inserted or removed."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

COLUMNS = (
    "root",
    "subject",
    "seq",
    "at_microseconds",
    "kind",
    "resource",
    "period_start_microseconds",
    "reservation",
    "item",
    "committed",
    "held",
    "cause",
    "actor",
    "reason",
)
"""What an entry's hash covers besides the hash of the entry before, in this order."""


def entry_content(entry: Mapping[str, Any]) -> bytes:
    r"""The bytes an entry's hash covers: a JSON array, printed as PostgreSQL's jsonb prints it.

    That is: `, ` between the values; of the characters in a text only quotes, backslashes and those below U+0020
    escaped, the latter as `\b`, `\f`, `\n`, `\r`, `\t` or `\u00xx`; everything else as it is, in UTF-8.
    """
    return json.dumps([entry[column] for column in COLUMNS], ensure_ascii=False).encode()


def verify_export(
    entries: Iterable[Mapping[str, Any]], *, previous: str | None = None, head: str | None = None
) -> int | None:
    """The `seq` of the first entry that does not follow from the one before; None when all do.

    Args:
        entries: One subject's entries as `journal_export` gives them, in the order of `seq`, without a gap.
        previous: Hash (hex) of the entry before the first one, where it is known from an earlier export. Otherwise an
            export that begins in the middle is believed about where it begins.
        head: Hash (hex) that the last entry must have, where it is known from elsewhere: finds a cut-off end.

    Returns:
        The seq of an edited or inserted entry, or that of the first one missing.
    """
    expected: int | None = None
    for entry in entries:
        seq: int = entry["seq"]
        if expected is None:
            expected = seq
            if previous is None:
                previous = "" if seq == 1 else entry["previous"]
        if seq != expected:
            return min(expected, seq)
        if entry["previous"] != previous or entry["hash"] != _link(previous, entry):
            return seq
        previous = entry["hash"]
        expected = seq + 1
    if head is not None and (previous or "") != head:
        return expected or 1
    return None


def _link(previous: str | None, entry: Mapping[str, Any]) -> str | None:
    if previous is None:
        return None
    return hashlib.sha256(bytes.fromhex(previous) + entry_content(entry)).hexdigest()
