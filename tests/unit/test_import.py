"""`import earmark` needs psycopg and nothing else."""

import subprocess
import sys
from importlib.metadata import packages_distributions

PROGRAM = """
import sys

class OnlyPsycopg:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, OnlyPsycopg())
{program}
"""
ALLOWED = {"earmark", "psycopg", "psycopg_binary", "psycopg_c", "psycopg_pool", "typing_extensions"}


def run(program: str, allowed: set[str]) -> subprocess.CompletedProcess[str]:
    text = PROGRAM.format(blocked=set(packages_distributions()) - allowed, program=program)
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)


def test_the_public_api_is_imported_with_psycopg_alone() -> None:
    program = "import earmark, earmark.migrate; print(*(getattr(earmark, name).__name__ for name in earmark.__all__))"
    done = run(program, ALLOWED)
    assert done.returncode == 0, done.stderr
    assert "AsyncLedger" in done.stdout


def test_the_client_is_imported_with_its_extra_alone() -> None:
    extra = {"anyio", "certifi", "h11", "httpcore", "httpx", "idna", "msgspec", "sniffio"}
    done = run("import earmark.client; print(earmark.client.AsyncClient.__name__)", ALLOWED | extra)
    assert (done.stdout, done.stderr) == ("AsyncClient\n", "")


def test_without_psycopg_it_says_what_is_missing() -> None:
    done = run("import earmark", {"earmark"})
    assert done.returncode != 0
    assert "No module named 'psycopg'" in done.stderr
