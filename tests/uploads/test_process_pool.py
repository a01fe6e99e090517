import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from earmark.uploads import process_pool
from earmark.uploads.process_pool import ImagePool, PoolCrashed, PoolTimeout


def with_pool(
    scenario: Callable[[ImagePool], Awaitable[Any]],
    *,
    processes: int = 1,
    seconds: float = 30,
    memory: int | None = None,
) -> Any:
    async def main() -> Any:
        pool = ImagePool(processes, seconds, memory)
        try:
            return await scenario(pool)
        finally:
            pool.close()

    return asyncio.run(main())


def test_it_runs_in_another_process_and_returns_the_result():
    async def scenario(pool: ImagePool) -> tuple[int, int]:
        return await pool.run(os.getpid), await pool.run(divmod, 17, 5)

    pid, quotient = with_pool(scenario)
    assert pid != os.getpid()
    assert quotient == (3, 2)


def test_a_crash_costs_only_its_own_task():
    async def scenario(pool: ImagePool) -> list[Any]:
        tasks = [pool.run(os._exit, 3), pool.run(os.getpid), pool.run(os._exit, 4), pool.run(os.getpid)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    crashed, first, crashed_too, second = with_pool(scenario, processes=2)
    assert isinstance(crashed, PoolCrashed)
    assert isinstance(crashed_too, PoolCrashed)
    assert isinstance(first, int)
    assert isinstance(second, int)


def test_a_hanging_task_is_killed_and_the_next_one_runs():
    async def scenario(pool: ImagePool) -> int:
        pid = await pool.run(os.getpid)
        with pytest.raises(PoolTimeout):
            await pool.run(time.sleep, 600)
        assert not psutil.pid_exists(pid)
        return await pool.run(os.getpid)

    assert with_pool(scenario, seconds=0.5)


def test_it_serves_one_event_loop_after_another():
    async def wait_for_each_other(pool: ImagePool) -> list[int]:
        return await asyncio.gather(*(pool.run(os.getpid) for _ in range(3)))

    pool = ImagePool(1, 30)
    try:
        first, second = (asyncio.run(wait_for_each_other(pool)) for _ in range(2))
    finally:
        pool.close()
    assert first == second


def test_an_idle_process_that_was_killed_is_replaced():
    async def scenario(pool: ImagePool) -> tuple[int, int]:
        pid = await pool.run(os.getpid)
        os.kill(pid, signal.SIGKILL)
        return pid, await pool.run(os.getpid)

    before, after = with_pool(scenario)
    assert before != after


def test_a_process_that_does_not_even_start_its_task_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process_pool, "_START_SECONDS", 0.2)

    async def scenario(pool: ImagePool) -> tuple[int, int]:
        pid = await pool.run(os.getpid)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(PoolTimeout):
            await pool.run(os.getpid)
        return pid, await pool.run(os.getpid)

    before, after = with_pool(scenario, seconds=0.2)
    assert before != after
    assert psutil.wait_procs([psutil.Process(before)] if psutil.pid_exists(before) else [], timeout=20)[1] == []


def test_ctrl_c_is_ignored():
    async def scenario(pool: ImagePool) -> tuple[int, int]:
        pid = await pool.run(os.getpid)
        os.kill(pid, signal.SIGINT)
        return pid, await pool.run(os.getpid)

    before, after = with_pool(scenario)
    assert before == after


def test_a_cancelled_call_kills_its_task():
    async def scenario(pool: ImagePool) -> bool:
        pid = await pool.run(os.getpid)
        hanging = asyncio.create_task(pool.run(time.sleep, 600))
        while not any(future.running() for future in pool._running):  # noqa: ASYNC110 - it is another thread's doing
            await asyncio.sleep(0)
        (future,) = pool._running
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert future.cancelled()
        assert await pool.run(os.getpid) != pid
        return psutil.pid_exists(pid)

    assert with_pool(scenario) is False


def test_closing_ends_what_is_running_and_takes_nothing_new():
    async def scenario() -> None:
        pool = ImagePool(2, 600)
        pids = {await pool.run(os.getpid) for _ in range(2)}
        hanging = [asyncio.create_task(pool.run(time.sleep, 600)) for _ in range(3)]
        while len(pool._running) < 2:  # noqa: ASYNC110 - it is another thread's doing
            await asyncio.sleep(0)
        pool.close()
        outcomes = await asyncio.gather(*hanging, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [PoolCrashed, PoolCrashed, RuntimeError]
        assert not any(map(psutil.pid_exists, pids))
        with pytest.raises(RuntimeError, match="closed"):
            await pool.run(os.getpid)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        ("raise ValueError('mine')", ValueError, "mine"),
        ("raise TimeoutError('mine')", TimeoutError, "mine"),
        (
            "import httpx; raise httpx.HTTPStatusError('mine', request=None, response=None)",
            RuntimeError,
            "cannot be sent.*mine",
        ),
        ("import sys; sys.exit(3)", RuntimeError, "SystemExit"),
        (
            "class Local(Exception):\n  def __init__(self, a): super().__init__()\nraise Local('unpicklable')",
            RuntimeError,
            "cannot be sent",
        ),
    ],
)
def test_an_error_of_the_task_arrives_and_the_process_lives_on(code: str, error: type[Exception], text: str):
    async def scenario(pool: ImagePool) -> tuple[int, int]:
        pid = await pool.run(os.getpid)
        with pytest.raises(error, match=text):
            await pool.run(exec, code)
        return pid, await pool.run(os.getpid)

    before, after = with_pool(scenario)
    assert before == after


def test_a_result_that_cannot_be_sent_is_an_error():
    async def scenario(pool: ImagePool) -> None:
        await pool.run(eval, "lambda: 0")

    with pytest.raises(RuntimeError, match="cannot be sent"):
        with_pool(scenario)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts what we mean on Linux only")
def test_the_service_goes_before_its_decoders():
    async def scenario(pool: ImagePool) -> int:
        return await pool.run(os.getpriority, os.PRIO_PROCESS, 0)

    assert with_pool(scenario) == min(os.getpriority(os.PRIO_PROCESS, 0) + 5, 19)


def test_memory_is_limited():
    async def scenario(pool: ImagePool) -> int:
        with pytest.raises(MemoryError):
            await pool.run(bytearray, 400_000_000)
        return len(await pool.run(bytes, 1000))

    assert with_pool(scenario, memory=300_000_000) == 1000


def test_decoders_are_loaded_before_the_first_task():
    async def scenario(pool: ImagePool) -> bool:
        return bool(await pool.run(eval, "'PIL.WebPImagePlugin' in __import__('sys').modules"))

    assert with_pool(scenario) is True


def test_a_process_starts_small():
    async def scenario(pool: ImagePool) -> resource.struct_rusage:
        return await pool.run(resource.getrusage, resource.RUSAGE_SELF)

    unit = 1 if sys.platform == "darwin" else 1024
    assert with_pool(scenario).ru_maxrss * unit < 60_000_000


_SERVICE = """
import asyncio, os, time
from earmark.uploads import process_pool
from earmark.uploads.process_pool import ImagePool

async def main():
    pool = ImagePool(2, 600)
    pids = [await pool.run(os.getpid) for _ in range(2)]
    tasks = [asyncio.create_task(pool.run(time.sleep, 600)) for _ in range(2)]
    while not all(future.running() for future in pool._running) or len(pool._running) < 2:
        await asyncio.sleep(0)
    print("ready", flush=True)
    await asyncio.gather(*tasks)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_nothing_is_left_when_the_service_is_killed(tmp_path: Path):
    script = tmp_path / "service.py"
    script.write_text(_SERVICE)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        try:
            assert service.stdout.readline() == "ready\n"
            family = psutil.Process(service.pid).children(recursive=True)
        finally:
            service.kill()
    assert len(family) >= 3  # two processes and their fork server
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
