"""What of the books, which others wrote, may be shown on a terminal: some characters it obeys."""

from collections.abc import Iterable

import typer


def safe_text(text: str) -> str:
    r"""Text from outside as it may be shown: control, bidirectional and invisible characters as `\x1b`, `\u202e`."""
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def print_lines(lines: Iterable[str]) -> None:
    """Prints each as one line, safely."""
    for line in lines:
        typer.echo(safe_text(line))


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file name that is not UTF-8, as Python carries it
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
