"""Writes the sync twins of the ledger from its asyncio sources, or with --check fails when they have drifted apart."""

import re
import subprocess
import sys
from pathlib import Path

LEDGER = Path(__file__).parents[1] / "src/earmark/ledger"
TWINS = {
    "_async.py": "_sync.py",
    "_async_operations.py": "_sync_operations.py",
    "_async_reservation.py": "_sync_reservation.py",
}

REPLACEMENTS = (
    (r'^""".*?"""', '"""Generated from `{source}` by `tools/generate_sync.py`; do not edit."""'),
    (r"\basync (def|with|for) ", r"\1 "),
    (r"\bawait ", ""),
    (r"\bAsync(Ledger|Operations|Reservation|Transport|ConnectionPool|Connection)\b", r"\1"),
    (r"\bledger\._async(?=\b|_)", "ledger._sync"),
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


def generate() -> dict[str, str]:
    """The text that each twin must have."""
    texts = {source: (LEDGER / source).read_text(encoding="utf-8") for source in TWINS}
    for pattern, replacement in REPLACEMENTS:
        flags = re.MULTILINE | re.DOTALL if ".*?" in pattern else re.MULTILINE
        found = 0
        for source, text in texts.items():
            texts[source], count = re.subn(pattern, replacement.replace("{source}", source), text, flags=flags)
            found += count
        if not found:
            sys.exit(f"nothing is like {pattern!r} any more; mend {Path(__file__).name}")
    return {TWINS[source]: _formatted(TWINS[source], text) for source, text in texts.items()}


def _formatted(twin: str, text: str) -> str:
    for arguments in (["check", "--quiet", "--fix", "--select", "I"], ["format", "--quiet"]):
        ruff = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(LEDGER / twin), "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own text
    return text


if __name__ == "__main__":
    for twin, wanted in generate().items():
        if "--check" not in sys.argv:
            (LEDGER / twin).write_text(wanted, encoding="utf-8")
        elif (LEDGER / twin).read_text(encoding="utf-8") != wanted:
            sys.exit(f"{twin} is not what its source generates: run python tools/generate_sync.py")
