"""`import earmark` needs psycopg and nothing else."""

import subprocess
import sys
from importlib import import_module
from importlib.metadata import packages_distributions

import pytest

from earmark.extras import needs

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


@pytest.mark.parametrize(
    ("program", "extra"),
    [
        ("import earmark.client", "client"),
        ("from earmark import metrics", "server"),
        ("import earmark.uploads.processing", "server"),
        ("from earmark import tracing; tracing.trace_operations()", "otel"),
        ("import runpy; runpy.run_module('earmark', run_name='__main__')", "server"),
    ],
)
def test_what_needs_an_extra_names_it(program: str, extra: str) -> None:
    done = run(program, ALLOWED)
    assert done.returncode == 1
    assert f"is not installed. Run: pip install 'earmark[{extra}]'" in done.stderr.splitlines()[-1]


def test_the_command_answers_a_missing_extra_in_one_line() -> None:
    done = run("from earmark.__main__ import main; main()", ALLOWED)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("earmark: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_fault_of_our_own_is_not_taken_for_a_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'earmark\.nothing'$"), needs("server"):
        import_module("earmark.nothing")


def test_without_psycopg_it_says_what_is_missing() -> None:
    done = run("import earmark", {"earmark"})
    assert done.returncode != 0
    assert "No module named 'psycopg'" in done.stderr
