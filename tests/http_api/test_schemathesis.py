"""Schemathesis, with all of its checks, finds nothing: what the API's document promises is what the service does."""

import subprocess
import sys
from pathlib import Path

from earmark.http_api.caller import Role
from earmark.http_api.sign_in import SignIn
from http_api.harness import SECRET, Server

CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 5
SEED = 1


def test_schemathesis_finds_nothing(running: Server, tmp_path: Path):
    token = SignIn(SECRET).issue("backend", Role.SERVICE)
    found = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli"),
            *("--config-file", str(CONFIG), "run", f"{running.url}/openapi.json"),
            *("--checks", "all", "--header", f"Authorization: Bearer {token}"),
            *("--seed", str(SEED), "--max-examples", str(EXAMPLES), "--generation-database", "none", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-8000:] + found.stderr[-2000:]
    assert "No issues found" in found.stdout
