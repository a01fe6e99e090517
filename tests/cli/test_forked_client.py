"""An HTTP client that was used before the process forked serves each process."""

import subprocess
import sys

PROGRAM = """
import os, sys
from earmark import Cause
from earmark.client import Client

def work(subject):
    for _ in range(25):
        reservation = client.reserve(subject, {"images": 1})
        assert reservation.granted
        assert client.rollback(reservation.id, cause=Cause.CANCELLED).subject == subject

with Client(sys.argv[1], sys.argv[2]) as client:
    work("parent")  # leaves a connection open, for the next call
    children = []
    for name in ("a", "b", "c"):
        child = os.fork()
        if child == 0:
            try:
                work(name)
            except BaseException as error:
                print(repr(error), flush=True)
                os._exit(1)
            os._exit(0)
        children.append(child)
    work("parent")
    print([os.waitpid(child, 0)[1] for child in children])
"""


def test_no_process_reads_the_answers_of_another(service_of) -> None:
    service = service_of().start()
    token = service.run("token", "backend", "--service").stdout.strip()
    command = [sys.executable, "-c", PROGRAM, service.url, token]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 0, 0]\n", "")
