"""`make run-s3`: the same flow with the same outcomes, whichever store there is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.service import Service

CASES = Path(__file__).parents[2].parent / "shared/cases/files/open"
TOOL = Path(__file__).parents[2] / "tools/run_s3.py"


class OnS3(Service):
    def serving(self):
        return [sys.executable, str(TOOL)]


def outcomes(service):
    """Of each case file, once the service has dealt with them, and what is used then."""
    command = ("upload", str(CASES), "--url", service.url, "--token", service.token, "--json")
    files = json.loads(service.run(*command).stdout)["files"]
    usage = {name: (one["committed"], one["held"]) for name, one in service.usage().items()}
    return {file["file"]: (file["outcome"], file["reason"]) for file in files}, usage


def test_a_second_one_in_the_same_folder_says_so(tmp_path):
    first = OnS3(tmp_path / "home")
    first.start()
    try:
        told = (first.home / "s3/output").read_text()
        command = [*first.serving(), "--home", str(first.home), "--port", "0"]
        done = subprocess.run(command, capture_output=True, text=True, env=first.environment, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"run-s3: another one uses {first.home / 's3'}; ")
        assert (first.home / "s3/output").read_text().startswith(told)
        with first.client() as client:
            assert client.get("/readyz").json()["checks"]["storage"] == "ok"
    finally:
        first.stop()


@pytest.mark.skipif(not CASES.exists(), reason=f"{CASES} is missing")
def test_the_outcomes_are_those_of_the_local_store(tmp_path):
    stores = [OnS3(tmp_path / "s3 home"), Service(tmp_path / "home")]
    found = []
    for service in stores:
        service.start()
        try:
            found.append(outcomes(service))
        finally:
            service.stop()
    assert found[0] == found[1]
    assert {outcome for outcome, _ in found[0][0].values()} >= {"accepted", "refused", "rolled back"}
    secret = (tmp_path / "s3 home/s3/secret").read_text()
    assert secret not in stores[0].log.read_text()
    assert not (tmp_path / "s3 home/objects").exists()
    assert (tmp_path / "s3 home/s3/environment").stat().st_mode & 0o077 == 0
