"""Writes the sync twins of ledger and client from their asyncio sources; with --check fails when they have drifted."""

import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src/earmark"
SOURCES = sorted(PACKAGE.glob("ledger/_async*.py")) + sorted(PACKAGE.glob("client/_async*.py"))

REPLACEMENTS = (
    (r'^""".*?"""', '"""Generated from `{source}` by `tools/generate_sync.py`; do not edit."""'),
    (r"\basync (def|with|for) ", r"\1 "),
    (r"\bawait finish\((.*)\)$", r"\1"),
    (r"^from earmark\.ledger\.retrying import finish\n", ""),
    (r"(?<=import )finish, ", ""),
    (r" It ends,\n        and is logged, also where the caller is cancelled meanwhile\.", ""),
    (r"        Where its task is cancelled .*?\.\n\n", ""),
    (r"\bawait ", ""),
    (r"\bAsync(Client|Images|Ledger|Operations|Reservation|Transport|OwnPool|Sender|Connection(?:Pool)?)\b", r"\1"),
    (r"\b(client|ledger)\._async(?=\b|_)", r"\1._sync"),
    (r"\.aclose\b", ".close"),
    (r"\baclosing\b", "closing"),
    (r"\bAsyncGenerator\[bytes, None\]", "Generator[bytes, None, None]"),
    (r"\bAsyncGenerator\b", "Generator"),
    (r"__a(enter|exit)__", r"__\1__"),
    (r"\b(insist|repeat)(?=\(|,|$)", r"\1_sync"),
    (
        r"    Under load the calls that arrive .*?batched\.\n",
        "    Every method takes the caller's own `connection`: then it is part of his transaction.\n",
    ),
    (r"was cancelled or interrupted", "was interrupted"),
)


def generate() -> dict[Path, str]:
    """The text that each twin must have."""
    texts = {source: source.read_text(encoding="utf-8") for source in SOURCES}
    for pattern, replacement in REPLACEMENTS:
        flags = re.MULTILINE | re.DOTALL if ".*?" in pattern else re.MULTILINE
        found = 0
        for source, text in texts.items():
            texts[source], count = re.subn(pattern, replacement.replace("{source}", source.name), text, flags=flags)
            found += count
        if not found:
            sys.exit(f"nothing is like {pattern!r} any more; mend {Path(__file__).name}")
    twins = {source.with_name(source.name.replace("_async", "_sync")): text for source, text in texts.items()}
    return {twin: _formatted(twin, text) for twin, text in twins.items()}


def _formatted(twin: Path, text: str) -> str:
    for arguments in (["check", "--quiet", "--fix", "--select", "I"], ["format", "--quiet"]):
        ruff = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(twin), "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own text
    return text


if __name__ == "__main__":
    for twin, wanted in generate().items():
        if "--check" not in sys.argv:
            twin.write_text(wanted, encoding="utf-8")
        elif twin.read_text(encoding="utf-8") != wanted:
            sys.exit(f"{twin.name} is not what its source generates: run python tools/generate_sync.py")
