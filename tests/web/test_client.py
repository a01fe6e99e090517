"""The client outside a browser: Node runs its own tests of it against a running service."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from earmark.cli.token import local_token
from earmark.http_api import app  # noqa: F401 - so that every problem is known
from earmark.http_api.problems import catalogue
from fixtures.pictures import picture
from fixtures.service import Service

HERE = Path(__file__).parent
SCRIPT = HERE / "client.test.mjs"
CLIENT = HERE.parents[1] / "src/earmark/web/client.js"
PAGES = sorted(CLIENT.parent.glob("*.js"))
NAMES = re.findall(r'^test\("(.*?)"', SCRIPT.read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_in_node(service: Service, tmp_path: Path, name: str) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node found; the client is tested with Node 18 or newer")
    (tmp_path / "picture.png").write_bytes(picture(32, 24, "PNG"))
    told = {
        "client": CLIENT.as_uri(),
        "url": service.url,
        "token": local_token(service.home, name),
        "picture": str(tmp_path / "picture.png"),
    }
    done = subprocess.run(
        [node, f"--test-name-pattern=^{re.escape(name)}$", "--test-reporter=spec", str(SCRIPT)],
        env={**os.environ, "EARMARK_CLIENT_TEST": json.dumps(told)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass 1" in done.stdout


def test_problems_are_called_what_the_service_calls_them() -> None:
    named = {
        (page.name, slug)
        for page in PAGES
        for slug in re.findall(r'(?:slug [!=]==|IN_FLIGHT =|SHORT =) "(.*?)"', page.read_text())
    }
    assert {slug for _, slug in named} >= {"request-in-flight", "quota-exceeded", "bulk-limit-exceeded"}
    assert [(page, slug) for page, slug in sorted(named) if slug not in catalogue()] == []
