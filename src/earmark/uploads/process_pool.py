"""Processes that decode images, each killed when it takes too long and replaced when it dies.

A decoder may hang, crash or be killed for its memory; that costs the one image it was decoding. Each process is a
pebble pool of its own: in a shared one, an idle process that dies takes every task of the pool with it.
"""

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any, ParamSpec, TypeVar, cast

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from earmark.uploads.decoder_memory import begin_task, end_task, keep_freed_memory, remember_start

P = ParamSpec("P")
T = TypeVar("T")

_START_SECONDS = 30.0
"""What a process may take to start, on top of its task's time limit."""
_TASKS_PER_PROCESS = 500
"""A process is replaced after that many: decoders leak."""
_PRELOADED = [
    "earmark.uploads.inspection",
    "earmark.uploads.processing",
    *(f"PIL.{name}ImagePlugin" for name in ("Jpeg", "Mpo", "Png", "WebP", "Gif", "Avif")),
]
_NICENESS = 5
"""Added to the service's own, so that the service and its database go first where processors are short."""
_PR_SET_PDEATHSIG = 1


class PoolTimeout(Exception):  # noqa: N818 - named for what happened
    """The task took longer than the time limit, and its process was killed."""


class PoolCrashed(Exception):  # noqa: N818 - named for what happened
    """The task's process died: a crash in native code, killed by the system for its memory, or the pool was closed."""


class ImagePool:
    """A fixed number of processes that run one task each.

    They are started at once, from a fork server that has the decoders loaded; they ignore Ctrl-C, and die with the
    service even when it is killed. Close the pool to end them. One event loop after another may use it.

    Args:
        processes: How many tasks run at the same time; more wait their turn.
        timeout_seconds: Time limit of a task, from its start.
        memory_bytes: Limit of a process's private memory (RLIMIT_DATA), beyond which decoders meet a MemoryError;
            None for no limit. Has no effect on Windows, and little on macOS.
    """

    def __init__(self, processes: int, timeout_seconds: float, memory_bytes: int | None = None) -> None:
        self._timeout_seconds = timeout_seconds
        self._memory_bytes = memory_bytes
        self._turns: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None
        self._processes = [self._started() for _ in range(processes)]
        self._idle = list(range(processes))
        self._running: set[ProcessFuture[tuple[bool, bytes]]] = set()
        self._closed = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returns in one of the processes. Cancelling the call kills the process.

        Args:
            function: Importable by name; its arguments and its result can be pickled.
            args: Its arguments.
            kwargs: Its arguments by name.

        Raises:
            PoolTimeout: It took too long.
            PoolCrashed: Its process died.
            RuntimeError: The pool is closed.
            Exception: Whatever the function raises.
        """
        async with self._turn():
            slot = self._idle.pop()
            try:
                packed = await self._outcome(slot, function, args, kwargs)
            finally:
                self._idle.append(slot)
        succeeded, outcome = pickle.loads(packed)  # noqa: S301 - from our own child
        if succeeded:
            return cast("T", outcome)
        raise outcome

    def close(self) -> None:
        """Ends all processes at once, whatever they are doing, and waits for them."""
        self._closed = True
        for future in tuple(self._running):
            future.cancel()  # type: ignore[no-untyped-call]
        for process in self._processes:
            process.stop()  # type: ignore[no-untyped-call]
        for process in self._processes:
            process.join()

    def _turn(self) -> asyncio.Semaphore:
        """That of the running event loop: who once waited in one belongs to it."""
        loop = asyncio.get_running_loop()
        if self._turns is None or self._turns[0] is not loop:
            self._turns = loop, asyncio.Semaphore(len(self._processes))
        return self._turns[1]

    async def _outcome(self, slot: int, *task: object) -> bytes:
        """The packed outcome of a task.

        It is tried a second time where its process was dead before it could start, or may have failed for what earlier
        tasks left of its memory: what is said of a picture must not depend on those before it.
        """
        worn = False
        for last in (False, True):
            if self._closed:
                raise RuntimeError("The pool is closed.")
            if worn or not self._processes[slot].active:
                self._replace(slot)
            outcome = await self._attempt(slot, task)
            if outcome is not None:
                worn, packed = outcome
                if last or not worn:
                    return packed
        raise PoolCrashed("The process died, and so did the one that replaced it.")

    async def _attempt(self, slot: int, task: tuple[object, ...]) -> tuple[bool, bytes] | None:
        """What `_packed_outcome` says; None where the process was dead before it could start."""
        future = self._processes[slot].schedule(_packed_outcome, args=task, timeout=self._timeout_seconds)
        self._running.add(future)
        waiter = asyncio.wrap_future(future)
        try:
            await asyncio.wait([waiter], timeout=self._timeout_seconds + _START_SECONDS)
        finally:
            self._running.discard(future)
            given_up = not waiter.done()
            waiter.cancel()  # does nothing to a task that is done; kills the process of one that is not
        if given_up:
            self._replace(slot)
            raise PoolTimeout("The process did not answer in time.")
        if waiter.cancelled():
            raise PoolCrashed("The pool was closed.")
        if (error := waiter.exception()) is None:
            return waiter.result()
        if isinstance(error, TimeoutError):
            raise PoolTimeout(f"The task took longer than {self._timeout_seconds:g} s.")
        if isinstance(error, ProcessExpired):
            raise PoolCrashed(f"The process died with exit code {error.exitcode}.")
        if not isinstance(error, BrokenProcessPool):
            raise error
        return None

    def _replace(self, slot: int) -> None:
        broken, self._processes[slot] = self._processes[slot], self._started()
        broken.stop()  # type: ignore[no-untyped-call]
        threading.Thread(target=broken.join, daemon=True).start()

    def _started(self) -> ProcessPool:
        process = ProcessPool(
            max_workers=1,
            max_tasks=_TASKS_PER_PROCESS,
            initializer=_prepare,
            initargs=(self._memory_bytes,),
            context=_context(),
        )
        try:
            started = process.active  # asking starts it
        except BrokenProcessPool as error:
            raise PoolCrashed("A process could not be started.") from error
        if not started:
            raise PoolCrashed("A process could not be started.")
        return process


def _context() -> Any:
    """How processes are started: never as a fork of this one, whose threads may hold any lock."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def _packed_outcome(
    function: Callable[..., object], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[bool, bytes]:
    """Whether a fresh process may do better, and the outcome, pickled here so that no error can break the pool.

    The outcome is whether the function succeeded, and its result or error.
    """
    begin_task()
    outcome: tuple[bool, object]
    try:
        outcome = True, function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - it is raised again where the task came from
        error.add_note(traceback.format_exc())
        outcome = False, error
    except BaseException as error:  # noqa: BLE001 - sys.exit in a processor must not end the service
        outcome = False, RuntimeError(f"The task ended with {error!r}.")
    try:
        packed = pickle.dumps(outcome)
        if not outcome[0]:
            pickle.loads(packed)  # noqa: S301 - made just above
    except Exception:  # noqa: BLE001 - pickling runs the code of foreign classes
        packed = pickle.dumps((False, RuntimeError(f"The task's outcome cannot be sent: {outcome[1]!r}")))
    return end_task(), packed


def _prepare(memory_bytes: int | None) -> None:
    """Runs first in every process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Python's own handlers wait until native code returns
    if hasattr(os, "nice"):  # not on Windows
        os.nice(_NICENESS)
    keep_freed_memory()
    service = multiprocessing.parent_process()
    if service is None:
        return
    if sys.platform == "linux":
        # Our parent is the fork server, which ends when the service does.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if not service.is_alive():
        os._exit(1)
    threading.Thread(target=_die_with, args=(service.sentinel,), daemon=True).start()
    remember_start()
    if memory_bytes is not None:
        _limit_memory(memory_bytes)


def _die_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


def _limit_memory(memory_bytes: int) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such module, macOS hardly the limit
        import resource  # noqa: PLC0415 - only where it exists

        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
