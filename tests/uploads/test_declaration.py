import json
from pathlib import Path
from typing import Any

import pytest

from earmark.config import DEFAULT_TYPES
from earmark.uploads.inspection import Limits, Rejection, check_declared, display_name

CASES = Path(__file__).parents[2].parent / "shared/cases/files"
NAMES: list[dict[str, Any]] = json.loads((CASES / "manifest.json").read_text())["names"] if CASES.is_dir() else []

LIMITS = Limits(25_000_000, 50_000_000, 200_000_000, DEFAULT_TYPES)


FOREIGN = """
    jxl jp2 svgz xcf heics orf rw2 CR3 mkv m4v flac 7z rar gz docx xlsx rtf odt
    phtml shtml xht hta jsp asp aspx cmd scr lnk msi jar apk ps1
"""


def code_of(refused: Rejection | None) -> str | None:
    return refused.code if refused else None


@pytest.mark.skipif(not NAMES, reason="the shared case files are not beside the project")
@pytest.mark.parametrize("case", NAMES, ids=lambda case: str(case["id"]))
def test_every_name_gets_its_verdict(case: dict[str, Any]):
    refused = check_declared(case["name"], "image/jpeg", 1000, LIMITS)
    expected = {"N05": "bad-name", "N10": "content-mismatch", "N19": "content-mismatch", "N21": "content-mismatch"}
    assert code_of(refused) == expected.get(case["id"])
    shown = display_name(case["name"])
    assert 0 < len(shown) <= 200
    assert shown not in {".", ".."}
    assert not set(shown) & set("/\\\0\u202e")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd.jpg", "passwd.jpg"),
        ("C:\\Users\\me\\photo.png", "photo.png"),
        ("folder/", "folder"),
        ("", "unnamed"),
        (" .. ", "unnamed"),
        ("\u202e\u2066", "unnamed"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("cafe\u0301.jpg", "caf\u00e9.jpg"),
        ("\u65e5\u672c\u8a9e.png", "\u65e5\u672c\u8a9e.png"),
        ("\u05e9\u05dc\u05d5\u05dd\u200f.jpg", "\u05e9\u05dc\u05d5\u05dd\u200f.jpg"),
        ("a\"b'c.jpg", "a\"b'c.jpg"),
        ("a\tb\x00c\x7f.jpg", "abc.jpg"),
        ("\ud800.jpg", "\ufffd.jpg"),
        ("x" * 300 + ".jpeg", "x" * 194 + "\u2026.jpeg"),
        ("x" * 300, "x" * 199 + "\u2026"),
    ],
)
def test_a_name_is_shown_safely(name: str, shown: str):
    assert display_name(name) == shown
    assert display_name(shown) == shown


@pytest.mark.parametrize(
    ("name", "content_type", "size", "code"),
    [
        ("a.jpg", "image/jpeg", 1, None),
        ("a.JPEG", "IMAGE/JPEG", 25_000_000, None),
        ("a.jpg", "image/jpg", 5, None),
        ("noextension", "image/png", 5, None),
        ("v1.2.final", "image/png", 5, None),
        ("IMG_2024.01.02", "image/png", 5, None),
        (".jpg", "image/jpeg", 5, None),
        ("\u65e5" * 300, "image/png", 5, None),
        ("a.jpg", "image/jpeg", 0, "empty"),
        ("a.jpg", "image/jpeg", -1, "empty"),
        ("a.jpg", "image/jpeg", 25_000_001, "too-large"),
        ("a.jpg", "image/png", 5, "content-mismatch"),
        ("a.jpg.", "image/png", 5, "content-mismatch"),
        ("a.html\u200e", "image/png", 5, "content-mismatch"),
        ("a.jpg/b.svg", "image/jpeg", 5, "content-mismatch"),
        ("a.mp4", "image/jpeg", 5, "content-mismatch"),
        *((f"a.{extension}", "image/jpeg", 5, "content-mismatch") for extension in FOREIGN.split()),
        ("www.example.com", "image/jpeg", 5, None),
        ("a photo by Dr. Smith", "image/jpeg", 5, None),
        ("a.svg", "image/svg+xml", 5, "type-not-allowed"),
        ("a.heic", "image/heic", 5, "type-not-allowed"),
        ("a.jpg", "", 5, "type-not-allowed"),
        ("a.jpg", "image/jpeg\r\nX-Evil: 1", 5, "type-not-allowed"),
        ("a.jpg", "image/jpeg; a=b", 5, "type-not-allowed"),
        ("a\nb.jpg", "image/jpeg", 5, "bad-name"),
        ("a\x85.jpg", "image/jpeg", 5, "bad-name"),
        ("\udfff.jpg", "image/jpeg", 5, "bad-name"),
        ("\u65e5" * 342, "image/png", 5, "bad-name"),
    ],
)
def test_a_declaration_is_checked(name: str, content_type: str, size: int, code: str | None):
    refused = check_declared(name, content_type, size, LIMITS)
    assert code_of(refused) == code
    assert refused is None or refused.reason.isprintable()
