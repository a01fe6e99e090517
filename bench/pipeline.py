"""The pipeline's benchmark: pictures through the whole flow, against the same Pillow work in a bare process pool.

    python bench/pipeline.py [--images 500] [--processes 2] [--bare-keeps-memory] [--json FILE]

Both work on the same generated 12-megapixel JPEGs with as many processes, one after the other on the same machine.
The flow is what `earmark serve` does behind HTTP: reserve, PUT, complete, inspect, process, store, commit. Its clients,
its database and the service itself share the machine's cores with the processes, as they do where it is run. The
flow's processes keep the memory that they have freed; those of the bare pool do only where that is asked for.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import platform
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg
from PIL import Image

from earmark.cli.token import local_token
from earmark.config import Settings
from earmark.local_postgres import LocalPostgres
from earmark.uploads.decoder_memory import keep_freed_memory
from earmark.uploads.inspection import Limits, Rejection
from earmark.uploads.processing import Source, inspect_and_make_thumbnail

SIZE = (4000, 3000)
DISTINCT = 12
"""Pictures that are really different; the others are repeats of them, which no part of the flow notices."""
CLIENTS = 4
BATCH = 20
POLL_SECONDS = 0.05
STATES = """
SELECT count(*) FILTER (WHERE state = 'completed'),
    count(*) FILTER (WHERE state IN ('reserved', 'uploading', 'uploaded', 'processing')) FROM earmark._private_image
"""
"""How many images are completed, and how many are not at an end."""
STATISTICS = {
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.track_planning": "on",
}
STATEMENTS = """
SELECT regexp_replace(left(query, 90), '\\s+', ' ', 'g'), (total_exec_time + total_plan_time)::float8 / %s,
    calls::float8 / %s
FROM public.pg_stat_statements WHERE query NOT LIKE '%%count(*) FILTER (WHERE state%%' ORDER BY 2 DESC
"""
"""Milliseconds and calls of each statement, per image: all that the database does but for `STATES`."""


def pictures(folder: Path, seed: int) -> list[Path]:
    """Photographs, as far as their size and the work of decoding them go: about 3 MB each."""
    chance = random.Random(seed)
    made = []
    for number in range(DISTINCT):
        noise = Image.effect_noise((SIZE[0] // 4, SIZE[1] // 4), 60).resize(SIZE, Image.Resampling.BICUBIC)
        tint = Image.linear_gradient("L").rotate(chance.randrange(360)).resize(SIZE)
        picture = Image.merge("RGB", (noise, tint, Image.blend(noise, tint, chance.random())))
        path = folder / f"{number}.jpg"
        picture.save(path, "JPEG", quality=92)
        made.append(path)
    return made


def work(path: Path) -> float:
    """The Pillow work of one image, as the flow's processes do it; processor seconds it took."""
    begun = time.process_time()
    source = Source(path, "image/jpeg", path.name, "", "", 1)
    found = inspect_and_make_thumbnail(source, Limits.from_settings(Settings()))
    assert not isinstance(found, Rejection)
    assert found[1].outputs
    return time.process_time() - begun


def prepare(keeps_memory: bool) -> None:
    """Begins a process of the bare pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for its parent, which ends it
    if keeps_memory:
        keep_freed_memory()


def bare(paths: list[Path], processes: int, *, keeps_memory: bool) -> tuple[float, float]:
    """Seconds of the work alone, in processes that are warm, and processor seconds."""
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=prepare, initargs=(keeps_memory,)) as pool:
        list(pool.map(work, paths[: 2 * processes]))
        begun = time.perf_counter()
        used = sum(pool.map(work, paths))
        return time.perf_counter() - begun, used


class Service:
    """`earmark serve` on an empty home whose database runs already."""

    def __init__(self, home: Path, processes: int) -> None:
        self.home = home
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EARMARK_")}
        environment |= {"EARMARK_PROCESSES": str(processes), "EARMARK_DEFAULT_PLAN": "enterprise"}
        command = [sys.executable, "-m", "earmark", "serve", "--port", "0", "--home", str(home), "--as", "bench"]
        self._log = (home.parent / "service.log").open("w")
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            command, env=environment, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := re.search(r"(http://\S+)/#token=", line):
                self.url = found[1]
                return
        raise RuntimeError(f"the service did not start: see {self._log.name}")

    def token_of(self, subject: str) -> str:
        return local_token(self.home, subject, role="authenticated", ttl=timedelta(hours=12))

    def peaks(self) -> dict[str, int]:
        """Peak resident megabytes of the service itself and of its largest decoding process."""
        return {"service": peak_of(self._process.pid), "decoder": max(map(peak_of, self._decoders()), default=0)}

    def cpu_seconds(self) -> dict[str, float]:
        """What the service itself and its decoding processes have used of the processor."""
        return {"service": cpu_of([self._process.pid]), "decoders": cpu_of(self._decoders())}

    def _decoders(self) -> list[int]:
        return [child.pid for child in psutil.Process(self._process.pid).children(recursive=True)]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._log.close()


def peak_of(pid: int) -> int:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) // 1024 if found else 0


def cpu_of(pids: list[int]) -> float:
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(one.user + one.system for one in times)


def run(service: Service, database: psycopg.Connection, paths: list[Path]) -> None:
    """Returns when the last image is at its end."""
    upload(service, paths)
    while states(database)[1]:
        time.sleep(POLL_SECONDS)


def upload(service: Service, paths: list[Path]) -> None:
    """Clients that send everything, as fast as it is taken, and take little of the processors for themselves.

    Each is a user of his own, as they would be: what one user does is done in turn, under his lock.
    """
    contents = {path: path.read_bytes() for path in set(paths)}
    batches = iter([paths[at : at + BATCH] for at in range(0, len(paths), BATCH)])

    def client(number: int) -> None:
        with closing(Client(service.url, service.token_of(f"user-{number}"))) as api:
            for batch in batches:  # what one has taken the others do not see
                files = [{"filename": p.name, "contentType": "image/jpeg", "size": len(contents[p])} for p in batch]
                reserved = api.post("/api/images/preupload", {"files": files})
                for path, image in zip(batch, reserved["images"], strict=True):
                    api.send("PUT", image["uploadUrl"], contents[path], image["headers"])
                    api.post("/api/images/complete", {"imageId": image["imageId"]})

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(client, range(CLIENTS)))


class Client:
    """One user's connection to the service."""

    def __init__(self, url: str, token: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def post(self, path: str, body: object) -> dict:
        return json.loads(self.send("POST", path, json.dumps(body).encode(), self._headers))

    def send(self, method: str, url: str, body: bytes, headers: dict[str, str]) -> bytes:
        parts = urlsplit(url)
        self._connection.request(method, urlunsplit(("", "", parts.path, parts.query, "")), body, headers)
        with self._connection.getresponse() as answer:
            read = answer.read()
            if answer.status >= 400:
                raise RuntimeError(f"{method} {parts.path}: {answer.status} {read.decode()}")
            return read

    def close(self) -> None:
        self._connection.close()


def states(database: psycopg.Connection) -> tuple[int, int]:
    found = database.execute(STATES).fetchone()
    assert found is not None
    return found[0], found[1]


def cpu_seconds(service: Service, database: psycopg.Connection) -> dict[str, float]:
    """What each part has used of the processors."""
    server = psutil.Process(database.info.backend_pid).parent()
    assert server is not None
    ended = server.cpu_times()
    backends = cpu_of([server.pid, *(child.pid for child in server.children())])
    return {
        **service.cpu_seconds(),
        "database": backends + ended.children_user + ended.children_system,
        "clients": cpu_of([os.getpid()]),
    }


def flow(folder: Path, paths: list[Path], processes: int) -> dict:
    """Seconds of the whole flow, and what it cost."""
    home = folder / "home"
    with (
        LocalPostgres(home, settings=STATISTICS) as local,
        psycopg.connect(local.url, autocommit=True) as database,
    ):
        database.execute("CREATE EXTENSION pg_stat_statements SCHEMA public")
        service = Service(home, processes)
        try:
            run(service, database, paths[: 2 * processes])
            database.execute("SELECT public.pg_stat_statements_reset()")
            used, begun = cpu_seconds(service, database), time.perf_counter()
            run(service, database, paths)
            seconds = time.perf_counter() - begun
            used = {name: now - used[name] for name, now in cpu_seconds(service, database).items()}
            assert states(database)[0] == len(paths) + 2 * processes, "an image was not completed"
            statements = database.execute(STATEMENTS, (len(paths),) * 2).fetchall()
            return {
                "seconds": seconds,
                "cpu_ms": {name: 1000 * one / len(paths) for name, one in used.items()},
                "database_ms": sum(row[1] for row in statements),
                "statements": [dict(zip(("query", "ms", "calls"), row, strict=True)) for row in statements[:12]],
                "peak_mb": service.peaks(),
            }
        finally:
            service.stop()


def show(found: dict) -> None:
    images, alone, whole = found["images"], found["bare_seconds"], found["flow"]["seconds"]
    print(f"\n{images} JPEGs of 12 megapixels, {found['megabytes']:.1f} MB each, {found['processes']} processes")
    print(f"  bare process pool   {images / alone:8.1f} images/s")
    print(f"  whole flow          {images / whole:8.1f} images/s    ratio {alone / whole:.2f} (wanted >= 0.85)")
    print(f"  database time       {found['flow']['database_ms']:8.1f} ms per image (wanted <= 5)")
    for statement in found["flow"]["statements"][:6]:
        print(f"    {statement['ms']:6.2f} ms in {statement['calls']:5.2f} calls: {statement['query']}")
    shares = ", ".join(f"{name} {ms:.0f}" for name, ms in found["flow"]["cpu_ms"].items())
    print(f"  processor time      {shares} ms per image; bare {found['bare_cpu_ms']:.0f} ms")
    for name, megabytes in found["flow"]["peak_mb"].items():
        print(f"  peak RSS, {name:9} {megabytes:8} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bare-keeps-memory", action="store_true", help="the bare pool's processes, too")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="earmark-bench-") as name:
        folder = Path(name)
        made = pictures(folder, arguments.seed)
        paths = [made[number % len(made)] for number in range(arguments.images)]
        alone, used = bare(paths, arguments.processes, keeps_memory=arguments.bare_keeps_memory)
        found = {
            "seed": arguments.seed,
            "images": arguments.images,
            "processes": arguments.processes,
            "bare_keeps_memory": arguments.bare_keeps_memory,
            "megabytes": sum(path.stat().st_size for path in made) / len(made) / 1e6,
            "bare_seconds": alone,
            "bare_cpu_ms": 1000 * used / len(paths),
            "flow": flow(folder, paths, arguments.processes),
            "versions": {name: version(name) for name in ("earmark", "pillow", "psycopg")},
            "machine": {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()},
        }
    show(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # all is closed on the way here
        sys.exit(130)
