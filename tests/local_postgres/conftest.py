import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from earmark.local_postgres import LocalPostgres


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that does not exist yet, under a folder that only this user can enter, with a short path."""
    base = Path(tempfile.mkdtemp(prefix="earmark-test-"))
    yield base / "home"
    shutil.rmtree(base)


@pytest.fixture(scope="session")
def original() -> Iterator[Path]:
    """A home after its first start, to be copied."""
    base = Path(tempfile.mkdtemp(prefix="earmark-test-"))
    with LocalPostgres(base, settings={"max_connections": "10"}):
        pass
    (base / "postgres.log").unlink()
    yield base
    shutil.rmtree(base)


@pytest.fixture
def used_home(home: Path, original: Path) -> Path:
    """A home after its first start."""
    subprocess.run(["/bin/cp", "-a", original, home], check=True)
    return home
