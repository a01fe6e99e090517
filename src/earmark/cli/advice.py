"""What an operator can do about a subject's quota: for each cause the command, ready to be run."""

from collections.abc import Iterator, Sequence
from shlex import quote

from earmark.in_words import in_words
from earmark.model import Drift, Explanation

LONG_ENTRIES = 20_000
"""Of a longer journal, verifying it takes seconds."""
BY_A_WORKER = frozenset({"uploaded", "processing"})


def advice(explanation: Explanation, drift: Sequence[Drift]) -> list[str]:
    """The commands that lead on from what was explained, or help; `drift` is what `verify` finds of this subject."""
    said = [f"The books do not agree, as after a change by hand: {drifted(one)}." for one in drift]
    commands = list(_commands(explanation, drift))
    if commands:
        said.append("What can be done:")
    for why, command in commands:
        said += [f"  {why}:", f"    {command}"]
    return said


def is_short(explanation: Explanation) -> bool:
    """Whether his books may be verified while somebody waits."""
    return not explanation.changes or explanation.changes[0].seq <= LONG_ENTRIES


def drifted(found: Drift) -> str:
    """What does not agree, as one line."""
    if found.seq is not None:
        return f"{found.subject} {found.figure}: journal entry {found.seq} does not agree"
    figures = f"balance {found.balance}, holds {found.holds}, journal {found.journal}"
    return f"{found.subject} {found.resource} {found.figure}: {figures}"


def _commands(explanation: Explanation, drift: Sequence[Drift]) -> Iterator[tuple[str, str]]:
    subject = quote(explanation.subject)
    if drift:
        yield "Make the books agree, journaled", f"earmark verify {subject} --repair --reason WHY"
    if not is_short(explanation):
        yield "See whether somebody has changed the books by hand", f"earmark verify {subject}"
    for one in explanation.open[:1]:
        what = f"Give back the {in_words(one.amounts)} of {one.filename or f'item {one.item}'} now"
        which = f"{one.reservation} --item {quote(one.item)}"
        yield what, f"earmark rollback {which} --reason WHY"
    if any(one.image_state in BY_A_WORKER for one in explanation.open):
        yield "See whether workers and sweeper are running", "earmark status"
    own, *above = explanation.levels
    for level in above:
        if any(usage.remaining == 0 for usage in level.resources.values()):
            yield f"See who has used what counts with {level.subject}", f"earmark explain {quote(level.subject)}"
    short = [resource for resource, usage in own.resources.items() if usage.remaining == 0]
    if short:
        yield "Raise the limit", f"earmark plan {subject} {' '.join(f'--quota {resource}=N' for resource in short)}"
    if explanation.changes and explanation.changes[-1].seq > 1:
        yield "See what moved before", f"earmark log {subject} --limit 1000"
