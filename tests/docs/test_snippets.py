"""Every snippet of the documentation runs, page by page and in order, on a database or a home of the page's own.

`sh` runs in bash; `python` in one interpreter per page; `sql` on the page's database; `console` is commands after `$`
and what they print; `csv`, `ini`, `yaml` and `dockerfile` with a title are files. `output` is what the block before
printed, where `…` stands for anything. A comment before a block says `background` (a service to wait for) or
`not run: why`.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg
import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
WRITTEN = {
    "answers.md",
    "client.md",
    "command-line.md",
    "configuration.md",
    "errors.md",
    "metrics.md",
    "problems.md",
    "python.md",
    "sql.md",
}
"""Generated, and free of examples."""
ELSEWHERE = {"process.md": "tests/uploads/test_process_howto.py", "browser.md": "tests/web/test_client.py"}
"""Pages whose snippets have a test of their own."""
SHOWN = {"text", "mermaid"}
"""Nothing to run."""
BASH = shutil.which("bash")
RUN = {"sh", "python", "sql", "console", "output"}
DOCUMENTED_PORT = "127.0.0.1:8787"


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    line: int
    language: str
    title: str | None
    text: str
    comment: str


def blocks_of(page: Path) -> Iterator[Block]:
    comment = ""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            comment = token.content.strip().removeprefix("<!--").removesuffix("-->").strip()
        elif token.type == "fence":
            language, _, rest = token.info.strip().partition(" ")
            title = re.search(r'title="([^"]+)"', rest)
            yield Block(token.map[0] + 1, language, title and title[1], token.content, comment)
            comment = ""
        elif token.type not in {"list_item_open", "bullet_list_open"}:
            comment = ""


@dataclass
class Reader:
    """Somebody who does what a page says, in a folder of his own."""

    folder: Path
    database: str
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen] = field(default_factory=list)
    interpreter: subprocess.Popen | None = None

    def localized(self, text: str) -> str:
        return text.replace(DOCUMENTED_PORT, f"127.0.0.1:{self.port}")

    def do(self, block: Block) -> str:
        text = self.localized(block.text)
        if block.title:
            (self.folder / block.title).write_text(text)
            return ""
        if block.comment == "background":
            self.start(text)
            return ""
        return {"sh": self.shell, "python": self.python, "sql": self.sql, "console": self.console}[block.language](text)

    def start(self, text: str) -> None:
        with (self.folder / "service.log").open("w") as log:
            self.started.append(
                subprocess.Popen(
                    [BASH, "-euc", text],
                    cwd=self.folder,
                    env=self.environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
        for _ in range(1200):
            with suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{self.port}/healthz").status_code == 200:
                    return
            assert self.started[-1].poll() is None, (self.folder / "service.log").read_text()
            time.sleep(0.05)
        pytest.fail((self.folder / "service.log").read_text())

    def ran(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    def shell(self, text: str) -> str:
        done = self.ran(BASH, "-euo", "pipefail", "-c", text)
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        return done.stdout

    def console(self, text: str) -> str:
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            done = self.ran(BASH, "-uc", command)
            assert_like(done.stdout + done.stderr, expected)
        return ""

    def python(self, text: str) -> str:
        if self.interpreter is None:
            self.interpreter = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("driver.py"))],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        self.interpreter.stdin.write(json.dumps(text) + "\n")
        self.interpreter.stdin.flush()
        output, error = json.loads(self.interpreter.stdout.readline())
        assert error is None, f"{text}\n{error}"
        return output

    def sql(self, text: str) -> str:
        with psycopg.connect(self.database, autocommit=True) as connection:
            cursor = connection.execute(text.encode())
            lines = []
            while True:
                if cursor.description:
                    lines += [" | ".join(map(str, row)) for row in cursor.fetchall()]
                if not cursor.nextset():
                    return "\n".join(lines)

    def leave(self) -> None:
        if self.interpreter is not None:
            self.interpreter.stdin.close()
            self.interpreter.wait(30)
            self.interpreter.stdout.close()
        for process in self.started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def assert_like(found: str, expected: str) -> None:
    def plain(text: str) -> str:
        return " ".join(text.split())

    pattern = re.sub(r"(\\ )?…(\\ )?", ".*?", re.escape(plain(expected)))
    assert re.fullmatch(pattern, plain(found)), f"the page says\n{expected}\nbut it is\n{found}"


@pytest.fixture
def reader(tmp_path: Path, database: str) -> Iterator[Reader]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    reader = Reader(tmp_path, database, port)
    reader.environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("EARMARK_")},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "EARMARK_HOME": str(tmp_path / "var"),
        "EARMARK_PORT": str(port),
        "EARMARK_URL": f"http://127.0.0.1:{port}",
        "EARMARK_DATABASE_URL": database,
        "COLUMNS": "200",
    }
    with psycopg.connect(database, autocommit=True) as connection:
        before = roles(connection)
        yield reader
        reader.leave()
        for role in roles(connection) - before:
            connection.execute(f'DROP OWNED BY "{role}"')
            connection.execute(f'DROP ROLE "{role}"')


def roles(connection: psycopg.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in WRITTEN | ELSEWHERE.keys()], ids=lambda page: page.stem
)
def test_what_the_page_says_works(page: Path, reader: Reader) -> None:
    printed = ""
    for block in blocks_of(page):
        where = f"{page.name}, line {block.line}"
        if block.comment.startswith("not run:"):
            assert len(block.comment) > len("not run: ") + 10, f"{where}: say why"
            continue
        runs = block.language in RUN | SHOWN or block.title
        assert runs, f"{where}: nobody runs {block.language!r}"
        if block.language in SHOWN and not block.title:
            continue
        try:
            if block.language == "output":
                assert_like(printed, reader.localized(block.text))
            else:
                printed = reader.do(block)
        except BaseException as error:
            error.add_note(where)
            raise


def test_hardly_anything_is_not_run() -> None:
    pages = [page for page in PAGES if page.name not in WRITTEN | ELSEWHERE.keys()]
    blocks = [block for page in pages for block in blocks_of(page)]
    skipped = [block for block in blocks if block.comment.startswith("not run:")]
    run = [block for block in blocks if block.language in RUN and block not in skipped]
    assert len(run) > 5 * len(skipped)


def test_what_is_tested_elsewhere_is() -> None:
    for page in PAGES:
        assert page.name not in ELSEWHERE or (ROOT / ELSEWHERE[page.name]).is_file()


def test_the_written_pages_are_written() -> None:
    for page in PAGES:
        assert (page.name in WRITTEN) == ("Written by `python tools/" in page.read_text(encoding="utf-8")), page
