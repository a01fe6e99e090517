"""HTTP benchmark: reserve and rollback over HTTP with a JWT, against a bare Starlette echo with the same JWT check.

50 connections by wrk, one machine, one run; rounds are interleaved. Durable commits are on. The echo is one process;
so is Earmark, and once more several, which also use what PostgreSQL leaves of the cores. Also told is the processor
time that a request takes, of Python and of PostgreSQL: it sways less than a rate with what else the machine does.
Prints a table and writes JSON. wrk comes from the system's packages: `apt-get install wrk`.

    python bench/over_http.py [--seconds 5] [--rounds 3] [--connections 50] [--users 1000] [--workers 2] [--json FILE]
"""

import argparse
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import httpx
import psutil

from earmark.cli.token import local_token

SCRIPT = Path(__file__).with_name("over_http.lua")
WRK = "wrk"
START_SECONDS = 60
RATE = re.compile(r"Requests/sec:\s+([\d.]+)")
REQUESTS = re.compile(r"(\d+) requests in")
PERCENTILE = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s)", re.MULTILINE)
UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def echo_application(home):
    """What the echo serves: its body again, for whoever has signed in."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    from earmark.cli.token import secret_of
    from earmark.config import Settings
    from earmark.http_api.sign_in import SignIn, bearer_token

    sign_in = SignIn(secret_of(Settings(home=home)))

    async def echo(request):
        sign_in.verify(bearer_token(request.headers.get("authorization", "")) or "")
        return Response(await request.body(), media_type="application/json")

    return Starlette(routes=[Route("/api/reservations", echo, methods=["POST"])])


def serve_echo(home, port):
    """Runs the echo, on the loop and the parser that Earmark runs on."""
    import uvicorn

    uvicorn.run(echo_application(home), port=port, access_log=False, log_level="warning", loop="uvloop", ws="none")


class Contestant:
    """A server in a process of its own."""

    def __init__(self, name, command, port, environment):
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def wait(self, path):
        for _ in range(START_SECONDS * 20):
            try:
                httpx.get(self.url + path)
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return
        sys.exit(f"{self.name} did not start")

    def seconds(self):
        """Processor time so far: of our own processes, and of PostgreSQL's."""
        spent = {"python": 0.0, "postgres": 0.0}
        first = psutil.Process(self._process.pid)
        for process in (first, *first.children(recursive=True)):
            times = process.cpu_times()
            spent["postgres" if process.name() == "postgres" else "python"] += times.user + times.system
        return spent

    def stop(self):
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)


def measure(contestant, arguments, tokens, seconds):
    """Requests per second, latencies in ms at 50 and 99 percent, and a request's µs of Python and of PostgreSQL."""
    environment = {**os.environ, "TOKENS": str(tokens), "SETTLE": "" if contestant.name == "echo" else "1"}
    command = [
        *(WRK, "--threads", "1", "--connections", str(arguments.connections), "--duration", f"{seconds}s"),
        *("--latency", "--script", str(SCRIPT), contestant.url),
    ]
    before = contestant.seconds()
    said = subprocess.run(  # noqa: S603 - our own command
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert "Non-2xx" not in said, said
    latencies = {percent: float(value) * UNITS[unit] for percent, value, unit in PERCENTILE.findall(said)}
    requests = int(REQUESTS.search(said)[1])
    spent = [(after - before[kind]) / requests * 1e6 for kind, after in contestant.seconds().items()]
    return float(RATE.search(said)[1]), latencies["50"], latencies["99"], *spent


def earmark(name, home, port, workers):
    """The service with a database of its own; both sign in with the same secret."""
    home.mkdir()
    shutil.copy(home.parent / "secret", home)
    quiet = {"EARMARK_HOME": str(home), "EARMARK_DEFAULT_PLAN": "enterprise", "EARMARK_LOG_FORMAT": "json"}
    command = [sys.executable, "-m", "earmark", "serve", "--port", str(port), "--workers", str(workers)]
    return Contestant(name, command, port, quiet)


def run(arguments, home):
    tokens = home / "tokens"
    port = arguments.port
    tokens.write_text("".join(f"{local_token(home, f'user-{n}')}\n" for n in range(arguments.users)))
    echo = Contestant("echo", [sys.executable, __file__, "--serve-echo", str(home)], port, {"PORT": str(port)})
    one = earmark("earmark", home / "one", port + 1, 1)
    several = earmark(f"earmark, {arguments.workers} processes", home / "several", port + 2, arguments.workers)
    try:
        echo.wait("/")
        one.wait("/readyz")
        several.wait("/readyz")
        seen = {contestant.name: [] for contestant in (echo, one, several)}
        for number in range(arguments.rounds + 1):
            for contestant in (echo, one, several):
                figures = measure(contestant, arguments, tokens, arguments.seconds if number else 2)
                if number:  # the first round warms up
                    seen[contestant.name].append(figures)
        return seen
    finally:
        echo.stop()
        one.stop()
        several.stop()


def show(seen):
    middle = {
        name: [statistics.median(column) for column in zip(*rounds, strict=True)] for name, rounds in seen.items()
    }
    print(f"{'server':22} {'requests/s':>11} {'p50 ms':>8} {'p99 ms':>8} {'Python µs':>10} {'PostgreSQL µs':>14}")
    for name, (rate, half, most, python, postgres) in middle.items():
        print(f"{name:22} {rate:11,.0f} {half:8.2f} {most:8.2f} {python:10.0f} {postgres:14.0f}")
    echo = middle.pop("echo")
    ratios = {name: {"requests": one[0] / echo[0], "p99": one[2] / echo[2]} for name, one in middle.items()}
    for name, of in ratios.items():
        print(f"{name}: {of['requests']:.2f}x the echo's requests, {of['p99']:.2f}x its p99")
    return {"ratios": ratios}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--port", type=int, default=18787)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve-echo", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve_echo:
        serve_echo(arguments.serve_echo, int(os.environ["PORT"]))
        return
    if shutil.which(WRK) is None:
        sys.exit("wrk is needed to make the load: apt-get install wrk, or your system's package of that name")
    with tempfile.TemporaryDirectory() as home:
        seen = run(arguments, Path(home))
    ratios = show(seen)
    if arguments.json:
        facts = {
            "python": sys.version,
            "machine": platform.platform(),
            "versions": {name: version(name) for name in ("earmark", "starlette", "uvicorn", "psycopg")},
        }
        arguments.json.write_text(json.dumps({**facts, **ratios, "rounds": seen}, indent=2))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # all is closed on the way here
        sys.exit(130)
