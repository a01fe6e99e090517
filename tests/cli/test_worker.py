"""`earmark worker` alone: it says how it is doing where it is asked to, and ends in order."""

import asyncio
import json
import signal
import socket
import subprocess

import httpx
from prometheus_client.parser import text_string_to_metric_families

from earmark.cli.serve import until_signalled


def test_the_worker_says_how_it_is_doing(service_of):
    service = service_of(metrics_port=0, tally_interval_seconds=0.1, sweep_interval_seconds=0.1)
    command = service.command("worker", "--home", str(service.home))
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=service.environment) as worker:
        try:
            lines = (json.loads(line) for line in worker.stderr if line.startswith("{"))
            listening = next(line for line in lines if line["event"] == "listening")
            assert listening["host"] == "127.0.0.1"
            url = f"http://127.0.0.1:{listening['port']}"
            assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
            assert httpx.get(f"{url}/readyz").json()["status"] == "ok"
            assert httpx.get(f"{url}/api/usage").status_code == 404

            def done():
                text = httpx.get(f"{url}/metrics").text
                samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
                duties = {one.labels["duty"] for one in samples if one.name == "earmark_duty_done_timestamp_seconds"}
                checks = {one.labels["check"] for one in samples if one.name == "earmark_drift"}
                return duties >= {"sweep", "tally", "verify"} and checks == {"verify"}

            service.wait_until(done)
        finally:
            worker.send_signal(signal.SIGTERM)
        worker.stderr.read()
        assert worker.wait(30) == 0
    service.wait_until(lambda: not service.left_behind())


def test_a_second_signal_cuts_nothing_short():
    """Cancelled again while it hands on its jobs, the worker would leave them to their deadlines."""
    ended = []

    async def work():
        try:
            signal.raise_signal(signal.SIGTERM)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            signal.raise_signal(signal.SIGTERM)
            for _ in range(20):
                await asyncio.sleep(0)
            ended.append("in order")
            raise

    asyncio.run(until_signalled(work()))
    assert ended == ["in order"]


def test_the_worker_on_a_port_that_is_taken(service_of):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = service_of(metrics_port=port)
        done = service.run("worker", check=False)
    assert done.returncode == 1
    told = f"earmark: cannot listen on 127.0.0.1:{port}: Address already in use."
    assert done.stderr.strip() == f"{told} Set another EARMARK_METRICS_PORT or EARMARK_METRICS_HOST."


def test_several_web_processes_answer_for_all_of_them(service_of):
    """Whichever of them is asked, and what the worker beside them did is in it."""
    service = service_of(workers=2, sweep_interval_seconds=0.1).start()
    for _ in range(20):
        with service.client() as client:  # a connection each, so that both are reached
            client.get("/api/usage").raise_for_status()

    def scraped():
        samples = {}
        for family in text_string_to_metric_families(httpx.get(f"{service.url}/metrics").text):
            samples.update(
                {(one.name, one.labels.get("route"), one.labels.get("duty")): one.value for one in family.samples}
            )
        return samples

    for _ in range(10):
        found = scraped()
        assert found["earmark_http_request_seconds_count", "/api/usage", None] == 20
        assert found["earmark_database_up", None, None] == 1
    service.wait_until(lambda: ("earmark_duty_done_timestamp_seconds", None, "sweep") in scraped())
