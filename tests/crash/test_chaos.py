"""kill -9 of everything, at seeded moments, under load: afterwards the books are right and nothing done is lost.

`make soak` runs 500. A seed decides who is killed after how much progress, so a failing one can be run again:
`EARMARK_CHAOS_SEED=17 EARMARK_CHAOS_RUNS=1 make test ARGS=tests/crash/test_chaos.py`.
"""

import os
import random
import signal
import subprocess
from contextlib import contextmanager, suppress
from uuid import uuid4

import psutil
import psycopg
import pytest

from earmark.local_postgres import running_url
from fixtures.life import assert_what_is_there_is_what_is_used, assert_what_was_answered_is_so
from fixtures.object_store import bucket
from fixtures.pictures import picture

FIRST = int(os.environ.get("EARMARK_CHAOS_SEED", "1"))
RUNS = int(os.environ.get("EARMARK_CHAOS_RUNS", "20"))
VICTIMS = ("client", "service", "worker", "database", "store")
WAYS = ("worker", "webhook", "external")
"""Who processes: by turns, so that any three seeds in a row try all."""
KILLS, CLIENTS, FILES = 3, 2, 6
SETTINGS = {
    "evidence_ttl_seconds": 1,
    "processing_ttl_seconds": 2,
    "queue_ttl_seconds": 4,
    "upload_ttl_seconds": 5,
    "upload_grace_seconds": 0.5,
    "sweep_interval_seconds": 0.2,
    "retry_base_seconds": 0.05,
    "retry_cap_seconds": 0.2,
    "processing_attempts": 10,
    "processes": 1,
}
PATIENCE = 4800
PROGRESS = """
SELECT coalesce(sum(CASE state WHEN 'reserved' THEN 1 WHEN 'uploading' THEN 2 WHEN 'uploaded' THEN 3
    WHEN 'processing' THEN 4 ELSE 5 END), 0) FROM earmark._private_image
"""


class Site:
    """Everything that can be killed: a service with its database, a worker beside it, a store, clients, the outside."""

    def __init__(self, service, store, outside, folder):
        self.service = service
        self.store = store
        self.outside = outside
        self.folder = folder
        self.worker = None
        self.clients = []

    def start_worker(self):
        mark = {self.service.mark.split("=")[0]: str(uuid4())}
        command = self.service.command("worker", "--home", str(self.service.home))
        with self.service.log.with_suffix(".worker.log").open("a") as log:
            self.worker = subprocess.Popen(command, env=self.service.environment | mark, stdout=log, stderr=log)

    def start_client(self, number):
        folder = self.folder / f"pictures-{number}"
        folder.mkdir()
        for file in range(FILES):
            data = picture(160 + 16 * file, 120)
            (folder / f"{file}.jpg").write_bytes(data[: len(data) // 2] if file == 0 else data)
        command = self.service.command("upload", str(folder), "--url", self.service.url, "--token", self.service.token)
        with self.service.log.with_suffix(f".client-{number}.log").open("w") as log:
            self.clients.append(subprocess.Popen(command, env=self.service.environment, stdout=log, stderr=log))

    def kill(self, victim):
        """kill -9, and what its operator would do then."""
        match victim:
            case "client":
                self.clients[0].kill()
            case "service":
                self.service.signal(signal.SIGKILL)
                self.service.start()
            case "worker":
                self.worker.kill()
                self.worker.wait()
                self.start_worker()
            case "store":
                self.store.kill()
                self.store.start()
            case "outside":
                self.outside.kill()
                self.outside.start()
            case "database":  # it has an operator of its own: whoever serves or works starts it again
                with suppress(psutil.NoSuchProcess):
                    psutil.Process(
                        int((self.service.home / "postgres/data/postmaster.pid").read_text().split()[0])
                    ).kill()

    def asked(self, query):
        """The database's answer; None while it is away."""
        url = running_url(self.service.home)
        if url is None:
            return None
        try:
            with psycopg.connect(url, autocommit=True) as connection:
                return connection.execute(query).fetchone()[0]
        except psycopg.Error:
            return None

    def is_over(self):
        return all(client.poll() is not None for client in self.clients)

    def is_at_rest(self):
        """Whether nothing is left to happen, from outside either: a report may yet come for what had expired."""
        is_quiet = self.outside is None or self.outside.is_quiet()
        return is_quiet and self.service.is_at_rest(workers=2)

    def left(self):
        """What is not at rest, for whoever reads of a failure."""
        jobs = self.asked("SELECT jsonb_agg(j) FROM procrastinate.procrastinate_jobs j")
        images = self.asked(
            "SELECT jsonb_agg(to_jsonb(i) - 'metadata' - 'outputs') FROM earmark._private_image i "
            "WHERE state NOT IN ('completed', 'deleted') OR remove_objects_at IS NOT NULL"
        )
        return f"jobs: {jobs}\nimages: {images}\noutside: {self.outside and self.outside.pending()}"

    def stop(self):
        for process in (*self.clients, self.worker):
            if process is not None:
                process.kill()
                process.wait()
        self.service.signal(signal.SIGKILL)  # whichever of the two had started the database took it along


@contextmanager
def site(service, store, outside, folder):
    made = Site(service, store, outside, folder)
    try:
        yield made
    finally:
        made.stop()


@pytest.mark.parametrize("seed", range(FIRST, FIRST + RUNS))
def test_everything_is_right_after_deaths_at_any_moment(seed, service_of, outside_of, own_object_store, tmp_path):
    chance = random.Random(seed)
    most = 5 * CLIENTS * FILES
    way = WAYS[seed % len(WAYS)]
    victims = VICTIMS if way == "worker" else (*VICTIMS, "outside")
    plan = sorted((chance.randrange(1, most), chance.choice(victims)) for _ in range(KILLS))
    print(f"seed {seed}, {way}: {plan}")  # noqa: T201 - what a failure is read by
    service = service_of(**SETTINGS, storage_url="s3://objects")
    service.environment |= own_object_store.environment
    outside = None if way == "worker" else outside_of(service, way, seed=seed)
    service.start()
    with site(service, own_object_store, outside, tmp_path) as here:
        here.start_worker()
        for number in range(CLIENTS):
            here.start_client(number)
        for progress, victim in plan:
            service.wait_until(lambda at=progress: here.is_over() or (here.asked(PROGRESS) or 0) >= at, tries=PATIENCE)
            here.kill(victim)
        service.wait_until(here.is_over, tries=PATIENCE)
        try:
            service.wait_until(here.is_at_rest, tries=PATIENCE)
        except pytest.fail.Exception:
            pytest.fail(f"not at rest: {here.left()}")
        sweep_after_the_last_upload_url_has_expired(here)
        assert_what_is_there_is_what_is_used(service, bucket(own_object_store))
        if outside is not None:
            assert_what_was_answered_is_so(service, outside)
        service.run("reconcile")


def sweep_after_the_last_upload_url_has_expired(here):
    """A PUT that was on its way may have come after its image was over: what the sweeper looks for a minute later."""
    here.service.wait_until(
        lambda: (
            here.asked(
                "WITH due AS (UPDATE earmark._private_image SET remove_objects_at = clock_timestamp() "
                "WHERE remove_objects_at IS NOT NULL OR state NOT IN ('completed', 'deleted') RETURNING 1) "
                "SELECT count(*) FROM due"
            )
            is not None
        )
    )
    here.service.wait_until(
        lambda: here.asked("SELECT count(*) FROM earmark._private_image WHERE remove_objects_at <= now()") == 0
    )
