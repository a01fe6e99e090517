"""`earmark adopt`, with files as people have them."""

import json
import subprocess

import pytest

from earmark import Ledger
from fixtures.service import Service


@pytest.fixture
def service(tmp_path, database) -> Service:
    return Service(tmp_path / "home", database_url=database)


@pytest.fixture
def adopt(service, tmp_path):
    def run(text, *arguments, file=False):
        data = text if isinstance(text, bytes) else text.encode()
        path = tmp_path / "counters.csv"
        path.write_bytes(data)
        command = service.command("adopt", *([str(path)] if file else []), "--key", "legacy", *arguments)
        given = None if file else data
        return subprocess.run(
            command, input=given, capture_output=True, env=service.environment, timeout=60, check=False
        )

    return run


def committed(ledger, subject, resource="images"):
    return ledger.usage(subject).resources[resource].committed


def test_from_a_query_and_from_a_file_once(adopt, ledger: Ledger):
    text = '\ufeffsubject,resource,used,limit,plan\r\nalice,images,7,,free\r\n"bob, the 2nd",storage_bytes,900,-1,\r\n'
    done = adopt(text)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"2 rows: 2 adopted\n", b"")
    assert adopt(text, file=True).stdout == b"2 rows: 2 already adopted\n"
    assert (ledger.usage("alice").plan, committed(ledger, "alice")) == ("free", 7)
    assert committed(ledger, "bob, the 2nd", "storage_bytes") == 900
    assert ledger.history("alice")[0].reason == "adopted: legacy"


def test_a_dry_run(adopt, ledger: Ledger):
    done = adopt("subject,resource,used\nalice,images,7\n", "--dry-run", "--json")
    assert json.loads(done.stdout) == {"rows": 1, "outcomes": {"adopted": 1}, "dryRun": True}
    assert committed(ledger, "alice") == 0
    assert adopt("subject,resource,used\nalice,images,7\n", "--dry-run").stdout == b"1 rows would be: 1 adopted\n"


def test_every_fault_of_the_file_is_told_before_anything_is_done(adopt, ledger: Ledger):
    rows = ["alice,images,7", "bob,images,-3", "carol,images,1.5", "alice,images,8", ",images,1", "dave,images"]
    done = adopt("subject,resource,used\n" + "\n".join(rows) + "\n")
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "earmark: line 3: used is '-3'; it must be a whole number from 0",
        "earmark: line 4: used is '1.5'; it must be a whole number from 0",
        "earmark: line 5: alice images is on line 2 already",
        "earmark: line 6: subject and resource must be named",
        "earmark: line 7: it has not as many columns as the first line",
        "earmark: mend the file and repeat; nothing was adopted.",
    ]
    assert committed(ledger, "alice") == 0


def test_what_the_ledger_refuses_is_told_with_its_line(adopt, ledger: Ledger):
    done = adopt("subject,resource,used\nalice,images,7\nbob,gold,1\n")
    assert done.returncode == 1
    first, last = done.stderr.decode().splitlines()
    assert first == 'earmark: line 3: The plan of subject "bob" does not count gold.'
    assert last == "earmark: mend the file and repeat; nothing was adopted."
    assert committed(ledger, "alice") == 0


def test_another_amount_under_the_key(adopt, ledger: Ledger):
    adopt("subject,resource,used\nalice,images,7\n")
    done = adopt("subject,resource,used\nalice,images,8\n")
    assert done.returncode == 1
    told = done.stderr.decode().splitlines()[0]
    assert told == "earmark: line 2: alice images: adopted before under this key with another amount"
    assert committed(ledger, "alice") == 7


def test_a_fault_in_a_later_batch_leaves_the_earlier_ones_in(adopt, ledger: Ledger):
    rows = [f"user-{number},images,1" for number in range(500)]
    text = "subject,resource,used\n" + "\n".join(rows) + "\nlast,gold,1\n"
    done = adopt(text)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1] == "earmark: mend the file and repeat; the 500 rows before are in."
    done = adopt(text.replace("gold", "images"))
    assert done.stdout == b"501 rows: 1 adopted, 500 already adopted\n"
    assert committed(ledger, "user-499") == committed(ledger, "last") == 1


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("user,resource,used\n", "must name the columns"),
        ("subject,resource\n", "must name the columns"),
        ("", "must name the columns"),
        (b"subject,resource,used\n\xff,images,1\n", "not UTF-8"),
        ('subject,resource,used\n"alice,images,1\n', "not CSV"),
    ],
)
def test_what_is_no_such_file(adopt, text, word):
    done = adopt(text)
    assert done.returncode == 2, done.stderr
    assert word in " ".join(done.stderr.decode().replace("│", " ").split())
