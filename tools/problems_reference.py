"""Writes docs/reference/problems.md from the errors themselves; with --check, only fails where it has drifted."""

import sys
from pathlib import Path

from earmark.http_api import app  # noqa: F401 - so that every problem is known
from earmark.http_api.reference import problems_text

PAGE = Path(__file__).parents[1] / "docs/reference/problems.md"


def main() -> None:
    """The command."""
    if "--check" in sys.argv[1:]:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != problems_text():
            sys.exit(f"{PAGE.name} has drifted: run python tools/problems_reference.py")
        return
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(problems_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
