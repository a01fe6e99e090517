"""The unit file of docs/how-to/deploy.md, by systemd's own check."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/how-to/deploy.md"


def verified(unit: str, folder: Path) -> str:
    """What systemd has to say of a unit: nothing, when all is well."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze found; it comes with systemd")
    file = folder / "earmark.service"
    installed = Path(sys.executable).with_name("earmark")
    file.write_text(unit.replace("/opt/earmark/bin/earmark", str(installed)))
    done = subprocess.run([analyze, "verify", "--man=no", str(file)], capture_output=True, text=True, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if file.name in line]
    return "\n".join(said) + (f"\nexit {done.returncode}" if done.returncode else "")


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    (unit,) = re.findall(r'^```ini title="earmark\.service"\n(.*?)^```', PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert verified(unit, tmp_path) == ""
    assert "Restrat" in verified(unit.replace("Restart=always", "Restrat=always"), tmp_path)
