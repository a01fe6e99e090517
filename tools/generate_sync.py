"""Writes `ledger/_sync.py` from `ledger/_async.py`, or with --check fails when the two have drifted apart."""

import re
import subprocess
import sys
from pathlib import Path

LEDGER = Path(__file__).parents[1] / "src/earmark/ledger"
SOURCE, TWIN = LEDGER / "_async.py", LEDGER / "_sync.py"

REPLACEMENTS = (
    (
        r'^""".*?"""',
        '"""The ledger without asyncio. Generated from `_async.py` by `tools/generate_sync.py`; do not edit."""',
    ),
    (r"\basync (def|with|for) ", r"\1 "),
    (r"\bawait ", ""),
    (r"\bAsync(Ledger|Reservation|Transport|ConnectionPool|Connection)\b", r"\1"),
    (r"__a(enter|exit)__", r"__\1__"),
    (r"^import asyncio\n", ""),
    (r"\binsist\b", "insist_sync"),
    (r"\(asyncio\.CancelledError, KeyboardInterrupt, GeneratorExit\)", "(KeyboardInterrupt, GeneratorExit)"),
    (
        r"    Under load the calls that arrive .*?batched\.\n",
        "    Every method takes the caller's own `connection`: then it is part of his transaction.\n",
    ),
    (r"was cancelled or interrupted", "was interrupted"),
)


def generate() -> str:
    """The text that `_sync.py` must have."""
    text = SOURCE.read_text(encoding="utf-8")
    for pattern, replacement in REPLACEMENTS:
        text, count = re.subn(
            pattern, replacement, text, flags=re.MULTILINE | re.DOTALL if ".*?" in pattern else re.MULTILINE
        )
        if count == 0:
            sys.exit(f"{SOURCE.name} no longer has anything like {pattern!r}; mend {Path(__file__).name}")
    for arguments in (["check", "--quiet", "--fix", "--select", "I"], ["format", "--quiet"]):
        ruff = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(TWIN), "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own text
    return text


if __name__ == "__main__":
    if "--check" not in sys.argv:
        TWIN.write_text(generate(), encoding="utf-8")
    elif TWIN.read_text(encoding="utf-8") != generate():
        sys.exit(f"{TWIN.name} is not what {SOURCE.name} generates: run python tools/generate_sync.py")
