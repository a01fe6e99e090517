"""The browser client's types: TypeScript compiles a strict consumer of them, and they declare what the module has."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
WEB = HERE.parents[1] / "src/earmark/web"
EXPORTS = """
const found = await import(process.argv[1]);
const isClass = (value) => /^class/.test(String(value));
const members = Object.getOwnPropertyNames(found.EarmarkClient.prototype).filter((name) => name !== "constructor");
console.log(JSON.stringify({
  exports: Object.entries(found).map(([name, value]) => `${isClass(value) ? "class" : typeof value} ${name}`),
  members: [...members, ...Object.keys(new found.EarmarkClient())],
}));
"""


def test_a_strict_project_compiles(tmp_path: Path) -> None:
    tsc = shutil.which("tsc")
    if tsc is None:
        pytest.skip("no tsc found; the types are checked with TypeScript 4.8 or newer")
    options = {
        "strict": True,
        "noEmit": True,
        "noUncheckedIndexedAccess": True,
        "exactOptionalPropertyTypes": True,
        "noPropertyAccessFromIndexSignature": True,
        "target": "es2022",
        "module": "es2022",
        "moduleResolution": "node",
        "lib": ["es2022", "dom", "dom.iterable"],
        "types": [],
        "baseUrl": str(tmp_path),
        "paths": {"@earmark/client": [str(WEB / "client.d.ts")]},
    }
    project = tmp_path / "tsconfig.json"
    project.write_text(json.dumps({"compilerOptions": options, "files": [str(HERE / "consumer.ts")]}))
    done = subprocess.run([tsc, "-p", str(project)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_types_declare_exactly_what_the_module_has() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node found; the client is tested with Node 18 or newer")
    command = [node, "--input-type=module", "--eval", EXPORTS, (WEB / "client.js").as_uri()]
    has = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)
    types = (WEB / "client.d.ts").read_text()
    assert sorted(has["exports"]) == sorted(
        f"{kind} {name}" for kind, name in re.findall(r"^export (class|function) (\w+)", types, re.MULTILINE)
    )
    (body,) = re.findall(r"^export class EarmarkClient \{\n(.*?)^\}", types, re.MULTILINE | re.DOTALL)
    declared = re.findall(r"^  (\w+)[(:]", body, re.MULTILINE)
    assert sorted(has["members"]) == sorted(set(declared) - {"constructor"})
