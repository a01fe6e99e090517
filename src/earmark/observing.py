"""What happens, told to those who asked to be told: metrics, traces. It costs next to nothing while nobody has.

An observer hears when an operation begins, and then when it ends, in the thread or task that carries it out. What it
raises is logged and goes no further: nobody's quota may depend on who is watching.
"""

import functools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

_logger = logging.getLogger("earmark.observing")
_observers: "list[Observer]" = []

P = ParamSpec("P")
T = TypeVar("T")


class Operation:
    """One thing that is done, as a block.

    Attributes:
        name: What, in the ledger's own words: `reserve`, `image_complete`…
        ids: Of what it is about, such as `subject`, `reservation`, `cause`; nothing secret.
        headers: Of the request that asked for it, where a trace may have begun elsewhere.
        outcome: The answer's; None where an error ended it.
        error: What ended it, or None.
        seconds: How long it took, once it is over.
    """

    __slots__ = ("_finishes", "_started", "error", "headers", "ids", "name", "outcome", "seconds")

    def __init__(self, name: str, *, headers: Mapping[str, str] | None = None, **ids: object) -> None:
        self.name = name
        self.headers = headers
        self.ids = ids
        self.outcome: str | None = None
        self.error: BaseException | None = None
        self.seconds = 0.0

    def ended(self, outcome: str, **ids: object) -> None:
        """Says how it ended, and what is known by now of what it is about."""
        self.outcome = outcome
        self.ids.update(ids)

    def __enter__(self) -> Self:
        self._finishes = [finish for observer in _observers if (finish := _guarded(observer, self)) is not None]
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._started
        self.error = error
        for finish in reversed(self._finishes):
            _guarded(finish, self)


Finish = Callable[[Operation], None]
Observer = Callable[[Operation], Finish]
"""Called when an operation begins; what it returns is called when the operation is over."""


def observe(observer: Observer) -> Callable[[], None]:
    """Lets an observer hear of every operation of this process from now on, until what is returned is called."""
    if observer not in _observers:
        _observers.append(observer)
    return lambda: _observers.remove(observer) if observer in _observers else None


def happened(name: str, **ids: object) -> None:
    """Tells of something that takes no time."""
    with Operation(name) as operation:
        operation.ids.update(ids)


def observed(
    name: str, describe: Callable[[T], tuple[str, Mapping[str, object]]]
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
    """Makes an operation of every call of an async function.

    Args:
        name: The operation's.
        describe: Its outcome, and the ids of what it was about, from what the function returned.
    """

    def decorate(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        @functools.wraps(function)
        async def call(*arguments: P.args, **options: P.kwargs) -> T:
            with Operation(name) as operation:
                answer = await function(*arguments, **options)
                outcome, ids = describe(answer)
                operation.ended(outcome, **ids)
                return answer

        return call

    return decorate


def _guarded(call: Callable[[Operation], T], operation: Operation) -> T | None:
    try:
        return call(operation)
    except Exception:
        _logger.exception("observer_failed", extra={"operation": operation.name})
        return None
