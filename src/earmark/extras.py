"""What is installed only with an extra, and what is said where it is not."""

from collections.abc import Iterator
from contextlib import contextmanager


class MissingExtra(ModuleNotFoundError):  # noqa: N818 - says what is wrong, as ModuleNotFoundError does
    """Something is used that comes with an extra which is not installed; the message says how to install it."""


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """The imports in the block need this extra.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        yield
    except MissingExtra:
        raise
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "earmark":
            raise
        message = f"{error.name} is not installed. Run: pip install 'earmark[{extra}]'"
        raise MissingExtra(message, name=error.name) from None
