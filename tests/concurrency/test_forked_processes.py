"""A ledger that was opened before the process forked, as Celery and `gunicorn --preload` do, serves each process."""

import subprocess
import sys

FORKS = """
import asyncio, gc, os, sys
from earmark import AsyncLedger, Cause, Ledger

def work(ledger, subject):
    for _ in range(25):
        reservation = ledger.reserve(subject, {"images": 1})
        assert reservation.granted
        assert ledger.rollback(reservation.id, cause=Cause.CANCELLED).subject == subject

def in_child(task):
    child = os.fork()
    if child == 0:
        try:
            task()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return child
"""
SYNC = """
with Ledger(sys.argv[1]) as ledger:
    ledger.usage("parent")
    children = [in_child(lambda name=name: work(ledger, name)) for name in ("a", "b", "c")]
    work(ledger, "parent")
    print([os.waitpid(child, 0)[1] for child in children])
    work(ledger, "parent")
"""
OPENED_IN_THE_CHILD_TOO = """
async def child():
    async with ledger:
        print((await ledger.usage("a")).subject, flush=True)
    gc.collect()

async def main():
    global ledger
    async with AsyncLedger(sys.argv[1]) as ledger:
        await ledger.usage("parent")
        print(os.waitpid(in_child(in_thread), 0)[1])
        print((await ledger.usage("parent")).subject)

def in_thread():
    import threading
    thread = threading.Thread(target=lambda: asyncio.run(child()))
    thread.start()
    thread.join()

asyncio.run(main())
"""


def output_of(program: str, database: str) -> str:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS + program, database]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def test_no_process_reads_the_answers_of_another(database: str) -> None:
    assert output_of(SYNC, database) == "[0, 0, 0]\n"


def test_an_async_ledger_is_opened_again_in_the_child(database: str) -> None:
    assert output_of(OPENED_IN_THE_CHILD_TOO, database) == "a\n0\nparent\n"
