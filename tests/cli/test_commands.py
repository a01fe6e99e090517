"""Every command for real, on an embedded home whose path has a space, most of them while its service runs."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from earmark import Ledger
from earmark.cli import _oneself
from earmark.config import Settings
from earmark.local_postgres import running_url
from fixtures.pictures import large_picture, picture
from fixtures.service import Service

CASES = Path(__file__).parents[2].parent / "shared/cases/files"
EITHER = {"png_named.jpg": False, "missing_eoi.jpg": False, "ztxt_bomb.png": True}
EITHER |= {"still.avif": True, "multipage.tif": False, "phone.heic": False, "three_sizes.ico": False}
EITHER |= {"plain.bmp": False}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Its own sweeper has run once and stays away; its processing stands still while the file `gate` is there."""
    folder = tmp_path_factory.mktemp("commands")
    gate = folder / "gate"
    service = Service(
        folder / "a home", sweep_interval_seconds=3600, processor="gated_processor:process", test_gate=gate
    )
    try:
        service.start()
        service.wait_until(lambda: has_swept(service))
        yield service
    finally:
        gate.unlink(missing_ok=True)
        service.stop()


def has_swept(service: Service) -> bool:
    with psycopg.connect(running_url(service.home)) as connection:
        found = connection.execute("SELECT FROM earmark._private_duty WHERE duty = 'sweep' AND ran_at IS NOT NULL")
        return found.fetchone() is not None


@pytest.fixture
def subject() -> str:
    return f"user-{uuid4()}"


@pytest.fixture
def ledger(service: Service) -> Iterator[Ledger]:
    with Ledger(running_url(service.home), max_connections=1) as ledger:
        yield ledger


def earmark(service, *arguments, columns=None, **environment):
    """A command that may fail; `columns` is the width of its terminal."""
    variables = {**service.environment, **environment}
    variables.pop("COLUMNS", None)
    if columns is not None:
        variables["COLUMNS"] = str(columns)
    command = service.command(*arguments, "--home", str(service.home))
    return subprocess.run(command, capture_output=True, text=True, env=variables, timeout=120, check=False)


def one_line(done, code):
    """What a command that failed says: one line, and no traceback."""
    assert done.returncode == code, done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


def says(done, code):
    """What a command that was used wrongly says, without the frame around it."""
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.stderr).split())


def in_json(service, *arguments):
    return json.loads(service.run(*arguments, "--json").stdout)


def folder_of(tmp_path, count):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.png").write_bytes(picture(kind="PNG"))
    return folder


def test_serve_a_stopped_home_and_serve_it_again(service_of, tmp_path):
    service = service_of("other home").start()
    assert service.url.startswith("http://127.0.0.1:")
    reservation = in_json(service, "usage", "alice")
    assert reservation["resources"]["images"]["used"] == 0
    service.run("upload", str(folder_of(tmp_path, 1)), "--as", "alice", "--url", service.url)
    with service.client() as client, client.stream("GET", "/api/events") as response:
        lines = response.iter_lines()
        assert "event: ready" in (next(lines), next(lines))
        assert service.signal(signal.SIGTERM) == 0
        assert "event: usage" in list(lines)  # and then an end in order: a cut one would be a RemoteProtocolError
    service.wait_until(lambda: not service.left_behind())
    assert in_json(service, "usage", "alice")["resources"]["images"]["committed"] == 1  # it starts what it needs
    service.wait_until(lambda: not service.left_behind())
    service.start()
    assert service.usage()["images"]["committed"] == 1


def test_serve_on_a_port_that_is_taken(service):
    port = service.url.rpartition(":")[2]
    line = one_line(earmark(service, "serve", "--port", port), 1)
    assert line == f"earmark: cannot listen on 127.0.0.1:{port}: Address already in use. Give another --port or --host."


def test_no_token_is_printed_that_was_not_asked_for(service_of):
    """What a deployment prints ends up in its logs."""
    service = service_of(jwt_secret="a secret of 32 bytes that is ours", port=0)
    command = service.command("serve", "--home", str(service.home))
    with subprocess.Popen(command, env=service.environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            told = [line for line in iter(process.stdout.readline, "    Ctrl-C stops it.\n") if line.strip()]
        finally:
            process.send_signal(signal.SIGTERM)
    assert len(told) == 1
    assert told[0].startswith("    Earmark is running at http://127.0.0.1:")


@pytest.mark.parametrize(
    ("secret", "subject"), [(None, "me"), ("a secret of 32 bytes that is ours", None)], ids=["local", "deployed"]
)
def test_an_account_without_a_name_serves_too(monkeypatch, secret, subject):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2_000_000_000)
    assert _oneself(Settings(jwt_secret=secret)) == subject


def assert_refused_elsewhere(service, elsewhere, command, lacking, *, code):
    done = subprocess.run(
        service.command(*command, "--home", str(elsewhere)),
        capture_output=True, text=True, env=service.environment, timeout=120, check=False,
    )  # fmt: skip
    said = one_line(done, code)
    assert said.startswith(f"earmark: there is no {lacking} in {elsewhere}. Give the --home of the service")
    assert not elsewhere.exists()


@pytest.mark.parametrize("command", [["usage", "alice"], ["explain", "alice"], ["log", "alice"], ["status"], ["verify"],
                                     ["sweep"], ["reconcile"], ["rollback", str(uuid4())]])  # fmt: skip
def test_a_folder_without_a_database_is_not_taken_for_an_empty_one(service, tmp_path, command):
    assert_refused_elsewhere(service, tmp_path / "mistyped", command, "database", code=1)


def test_migrate_twice(service_of):
    service = service_of("fresh home")
    assert re.fullmatch(r"\d+ files applied\.\n", service.run("migrate").stdout)
    assert service.run("migrate").stdout == "The schema is current.\n"
    service.wait_until(lambda: not service.left_behind())


def test_token(service, subject):
    with service.client(service.run("token", subject).stdout.strip()) as client:
        assert client.get("/api/usage").json()["subject"] == subject
        assert client.get(f"/api/admin/subjects/{subject}").status_code == 403
    with service.client(service.run("token", "operator", "--service").stdout.strip()) as client:
        assert client.get(f"/api/admin/subjects/{subject}").status_code == 200
    assert "subject must be" in one_line(earmark(service, "token", ""), 2)


@pytest.mark.parametrize("command", [["token", "alice"], ["upload", ".", "--as", "alice"]])
def test_a_token_is_none_of_a_folder_that_nothing_was_served_from(service, tmp_path, command):
    assert_refused_elsewhere(service, tmp_path / "mistyped", command, "secret", code=2)


def test_whoever_is_unknown_can_be_made_known(service_of, database):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DELETE FROM earmark._private_setting WHERE name = 'default_plan'")
    said = one_line(earmark(service_of(database_url=database), "usage", "nobody"), 1)
    assert said.startswith('earmark: Subject "nobody" is unknown. `earmark plan SUBJECT --plan PLAN` registers one,')


def test_a_name_that_the_terminal_cannot_show_is_escaped(service):
    service.run("plan", "\u05e9\u05dc\u05d5\u05dd", "--plan", "pro")
    shown = earmark(service, "usage", "\u05e9\u05dc\u05d5\u05dd", PYTHONIOENCODING="ascii")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "\\u05e9\\u05dc\\u05d5\\u05dd" in shown.stdout


def test_usage_in_a_table_and_in_json(service, subject, ledger):
    ledger.reserve(subject, {"images": 2, "storage_bytes": 24_000_000_000}, key="k").detach()
    found = in_json(service, "usage", subject)
    assert (found["subject"], found["plan"]) == (subject, "pro")
    assert found["resources"]["storage_bytes"]["held"] == 24_000_000_000
    for columns in (80, 100, 120):
        table = earmark(service, "usage", subject, columns=columns).stdout
        for whole in (subject, "storage_bytes", "25,000,000,000", "24,000,000,000", "1,000,000,000", "498", "P1M"):
            assert whole in table, f"{whole} at {columns} columns:\n{table}"
        assert "…" not in table
        assert max(map(len, table.splitlines())) <= columns


def test_log_at_any_width(service, subject, ledger):
    reservation = ledger.reserve(subject, {"images": 2, "storage_bytes": 9_876_543}, key="k").detach()
    ledger.rollback(reservation, cause="validation_failed", actor="worker", reason="not a picture")
    assert [entry["kind"] for entry in in_json(service, "log", subject)] == ["reserve"] * 2 + ["rollback"] * 2
    for columns in (100, 120, None):
        table = earmark(service, "log", subject, columns=columns).stdout
        assert re.search(r"rollback +storage_bytes +-9,876,543 +validation_failed +worker ", table), table
        assert "…" not in table
    assert str(reservation) in earmark(service, "log", subject).stdout  # what `earmark rollback` takes
    narrow = earmark(service, "log", subject, columns=80).stdout
    assert re.search(r"\d\d-\d\d \d\d:\d\d:\d\d rollback +storage_bytes +-9,876,543 +worker ", narrow), narrow
    assert "validation_failed" in narrow
    assert "…" not in narrow
    assert len(in_json(service, "log", subject, "--limit", "1")) == 1


@pytest.mark.parametrize(
    "command", [["verify"], ["verify", "--repair", "--reason", "r"], ["explain"], ["explain", str(uuid4())], ["log"]]
)
def test_a_name_that_nobody_has_is_not_said_to_be_well(service, command):
    done = earmark(service, command[0], "no\tbody", *command[1:])
    assert one_line(done, 1) == "earmark: there is no subject no\\tbody."
    assert done.stdout == ""


def test_usage_of_a_name_that_nobody_has_is_what_a_new_one_starts_with(service, subject):
    done = earmark(service, "usage", "newcomer", "--json")
    assert one_line(done, 0) == "earmark: there is no subject newcomer yet: this is what a new one starts with."
    assert json.loads(done.stdout)["resources"]["images"]["used"] == 0
    service.run("plan", subject, "--plan", "free")
    assert earmark(service, "log", subject).stdout == "No movements yet.\n"
    assert earmark(service, "usage", subject).stderr == ""


def test_explain(service, subject, ledger):
    reservation = ledger.reserve(subject, {"images": 2}, key="k").detach()
    said = service.run("explain", subject).stdout.splitlines()
    assert said[0].startswith(f"{subject}, on plan pro: 2 of 500 images used")
    assert f"item 1 of reservation {reservation} holds 2 images since" in "\n".join(said)
    (one,) = in_json(service, "explain", subject)["open"]
    assert (one["reservation"], one["amounts"], one["key"]) == (str(reservation), {"images": 2}, "k")
    ledger.rollback(reservation, cause="cancelled", actor="operator")
    assert service.run("explain", subject, str(reservation)).stdout.endswith("by operator.\n")
    assert in_json(service, "explain", subject, str(reservation))["items"]["1"]["state"] == "rolled_back"
    service.run("plan", "somebody-else", "--plan", "pro")
    other = one_line(earmark(service, "explain", "somebody-else", str(reservation)), 1)
    assert other == f"earmark: somebody-else has no reservation or image {reservation}."


def test_explain_names_the_commands_that_help(service, subject, ledger):
    team = f"{subject}'s team"
    ledger.configure_subject(team, quotas={"images": 1})
    ledger.configure_subject(subject, parent=team)
    assert commands(service.run("explain", subject).stdout) == []
    held = ledger.reserve(subject, {"images": 1}, ttl=timedelta(days=9)).detach()
    give_back, look_above = commands(service.run("explain", subject).stdout)
    assert look_above == ["explain", team]
    again, raise_limit = commands(service.run(*look_above).stdout)
    assert (again, raise_limit) == (give_back, ["plan", team, "--quota", "images=N"])
    assert give_back == ["rollback", str(held), "--item", "1", "--reason", "WHY"]
    assert service.run(*give_back).stdout.startswith("rolled_back: 1 image returned")
    assert commands(service.run("explain", subject).stdout) == []


def test_explain_says_that_somebody_changed_the_books_by_hand(service, subject, ledger):
    ledger.reserve(subject, {"images": 3}).commit()
    change = "UPDATE earmark._private_balance SET committed = committed + 9 WHERE subject = %s AND resource = 'images'"
    with psycopg.connect(running_url(service.home), autocommit=True) as connection:
        connection.execute(change, (subject,))
    said = service.run("explain", subject).stdout
    assert f"The books do not agree, as after a change by hand: {subject} images committed: balance 12, holds 3" in said
    (repair,) = commands(said)
    assert service.run(*repair).stdout.endswith("Balances, holds and journal agree.\n")
    assert commands(service.run("explain", subject).stdout) == []


def test_what_a_colleague_adjusted_is_found_however_long_ago_it_was(service, subject, ledger):
    ledger.adjust(subject, "images", 7, reason="[load] test of the import", actor="carol")
    for _ in range(10):
        ledger.reserve(subject, {"images": 1}).commit()
    (older,) = commands(service.run("explain", subject).stdout)
    assert older == ["log", subject, "--limit", "1000"]
    for columns in (80, 120, 200):
        said = earmark(service, *older, columns=columns).stdout
        assert "carol" in said
        assert "[load]" in said


def commands(output):
    """The commands in it, as a shell would read them."""
    found = (line.strip() for line in output.splitlines() if line.startswith("    earmark "))
    return [shlex.split(line)[1:] for line in found]


def test_what_others_wrote_does_not_reach_the_terminal_as_a_command(service, ledger):
    subject = f"\x1b[31m[red]{uuid4()}"
    shown = subject.replace("\x1b", r"\x1b")
    reservation = ledger.reserve(subject, {"images": 1}, key="k", actor="\x1b]0;title\x07").detach()
    ledger.rollback(reservation, cause="admin", reason="\u202eturned around\nand down", actor="operator")
    said = {command: service.run(command, subject).stdout for command in ("usage", "explain", "log")}
    assert shown in said["usage"]
    assert shown in said["explain"]
    assert r"(\u202eturned around\nand down)" in said["explain"]
    assert r"\x1b]0;tit" in said["log"]
    for output in said.values():
        assert not set(output) & {"\x1b", "\x07", "\u202e"}


def test_rollback(service, subject, ledger):
    reservation = str(ledger.reserve(subject, {"images": 3}, key="k").detach())
    first = service.run("rollback", reservation, "--reason", "asked for").stdout
    assert first.startswith("rolled_back: 3 images returned\n")
    again = service.run("rollback", reservation).stdout
    assert again.startswith("already_rolled_back: nothing returned\n")
    assert "(admin)" in again
    assert in_json(service, "usage", subject)["resources"]["images"]["used"] == 0
    (entry,) = (entry for entry in in_json(service, "log", subject) if entry["kind"] == "rollback")
    assert (entry["cause"], entry["actor"], entry["reason"], entry["held"]) == ("admin", "operator", "asked for", -3)
    unknown = str(uuid4())
    assert one_line(earmark(service, "rollback", unknown), 1) == f"earmark: there is no reservation {unknown}."
    assert "'1234' is no id: `earmark log SUBJECT --json` has" in says(earmark(service, "rollback", "1234"), 2)
    assert "'mood' is not one of" in says(earmark(service, "rollback", unknown, "--cause", "mood"), 2)


def test_sweep(service, subject, ledger):
    ledger.reserve(subject, {"images": 3}, key="k", ttl=timedelta(milliseconds=1)).detach()
    assert in_json(service, "sweep")["expired_holds"] == 1
    assert service.run("sweep").stdout.startswith("images: none overdue; other overdue holds: 0;")
    assert in_json(service, "log", subject)[-1]["cause"] == "expired"


def test_verify_finds_drift_and_says_where(service, subject, ledger):
    ledger.reserve(subject, {"images": 3}, key="k").detach()
    assert service.run("verify").stdout == "Balances, holds and journal agree.\n"
    change = "UPDATE earmark._private_balance SET held = held + %s WHERE subject = %s AND resource = 'images'"
    with psycopg.connect(running_url(service.home), autocommit=True) as connection:
        connection.execute(change, (1, subject))
        try:
            found = earmark(service, "verify")
            assert found.returncode == 3
            assert found.stdout == f"{subject} images held: balance 4, holds 3, journal 3\n"
            assert earmark(service, "verify", subject, "--json").returncode == 3
            service.run("plan", f"{subject}-else", "--plan", "pro")
            assert service.run("verify", f"{subject}-else").stdout == "Balances, holds and journal agree.\n"
        finally:
            connection.execute(change, (-1, subject))
    assert service.run("verify").returncode == 0


def test_plan_is_listed_set_and_overridden(service, subject):
    table = earmark(service, "plan", columns=80).stdout
    for whole in ("enterprise", "storage_bytes", "25,000,000,000", "max_bulk_upload", "unlimited", "lifetime"):
        assert whole in table, table
    assert "…" not in table
    assert {plan["plan"] for plan in in_json(service, "plan")} >= {"free", "pro", "enterprise"}
    assert "plan free" in service.run("plan", subject, "--plan", "free").stdout
    found = in_json(service, "plan", subject, "--quota", "images=3")
    assert (found["plan"], found["resources"]["images"]["quota_limit"]) == ("free", 3)
    said = service.run("explain", subject).stdout
    assert f"operator changed the quota of images of {subject} from the plan's to 3." in said
    assert in_json(service, "plan", subject, "--quota", "images=-1")["resources"]["images"]["quota_limit"] == -1


def test_defining_a_plan(service):
    define = ("plan", "--define", "--plan", "gold")
    service.run(*define, "--quota", "images=5:P1D", "--quota", "storage_bytes=1000", "--max-bulk-upload", "7")
    service.run(*define, "--quota", "images=6")  # what is not said stays as it was
    (gold,) = (plan for plan in in_json(service, "plan") if plan["plan"] == "gold")
    assert gold["features"] == {"max_bulk_upload": 7}
    assert gold["quotas"] == {
        "images": {"quota_limit": 6, "period": "P1D", "refundable": False},
        "storage_bytes": {"quota_limit": 1000, "period": "lifetime", "refundable": True},
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--quota", "images=3"], "name the SUBJECT whose plan or quota to set"),
        (["bob", "--quota", "images"], "'images' is not RESOURCE=N"),
        (["bob", "--quota", "images=many"], "'images=many' is not RESOURCE=N"),
        (["bob", "--quota", "=3"], "'=3' is not RESOURCE=N"),
        (["bob", "--quota", "images=3:P1D"], "a period belongs to a plan: add --define"),
        (["bob", "--max-bulk-upload", "3"], "--max-bulk-upload belongs to a plan: add --define"),
        (["--define"], "--define needs --plan NAME"),
        (["bob", "--define", "--plan", "gold"], "--define is about a plan, not about a SUBJECT"),
        (["--define", "--plan", "gold", "--quota", "images=3:P1X"], "its period is lifetime or"),
        (["--define", "--plan", "Gold Plus"], "A plan is named by"),
        (["bob", "--quota", "images=-5"], "images"),
        (["bob", "--plan", "nosuch"], 'There is no plan "nosuch".'),
        (["bob", "--quota", "nosuch=3"], "does not count nosuch"),
    ],
)
def test_plan_used_wrongly(service, arguments, message):
    assert message in says(earmark(service, "plan", *arguments), 2)


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
def test_uploading_every_case(service, subject):
    cases = {
        case["file"].removeprefix("open/"): case for case in json.loads((CASES / "manifest.json").read_text())["files"]
    }
    said = in_json(service, "upload", str(CASES / "open"), "--as", subject, "--url", service.url)
    reports = {report["file"]: report for report in said["files"] if report["file"] in cases}
    taken = {name: report["outcome"] == "accepted" for name, report in reports.items()}
    assert taken == {name: EITHER.get(name, case["verdict"] == "accept") for name, case in cases.items()}
    accepted = [report for report in said["files"] if report["outcome"] == "accepted"]
    usage = in_json(service, "usage", subject)["resources"]
    assert (usage["images"]["committed"], usage["images"]["held"]) == (len(accepted), 0)
    assert usage["storage_bytes"]["committed"] == sum(report["size"] for report in accepted)
    assert usage["storage_bytes"]["held"] == 0
    entries = [entry for entry in in_json(service, "log", subject, "--limit", "1000") if entry["resource"] == "images"]
    refused = [report for report in said["files"] if report["outcome"] == "rolled back"]
    reserved = {(entry["reservation"], entry["item"]) for entry in entries if entry["kind"] == "reserve"}
    assert len(reserved) == len(accepted) + len(refused)
    rolled_back = [entry for entry in entries if entry["kind"] == "rollback"]
    assert [entry["cause"] for entry in rolled_back] == ["validation_failed"] * len(refused)
    assert all(entry["reason"] for entry in rolled_back)
    assert service.run("verify").returncode == 0


def test_uploading_eight_with_quota_for_three(service, subject, tmp_path):
    service.run("plan", subject, "--quota", "images=3")
    said = in_json(service, "upload", str(folder_of(tmp_path, 8)), "--as", subject, "--url", service.url)
    assert said["counts"] == {"accepted": 3, "refused": 5}
    assert [report["outcome"] for report in said["files"]] == ["accepted"] * 3 + ["refused"] * 5
    assert all(report["reason"].startswith("quota: ") for report in said["files"][3:])
    usage = in_json(service, "usage", subject)["resources"]
    assert (usage["images"]["committed"], usage["images"]["held"], usage["storage_bytes"]["held"]) == (3, 0, 0)


def test_ctrl_c_during_an_upload_returns_the_quota(service, subject, tmp_path):
    gate = service.home.with_name("gate")
    begun = gate.with_name("begun-1")
    begun.unlink(missing_ok=True)
    gate.touch()
    command = service.command("upload", str(folder_of(tmp_path, 5)), "--as", subject, "--url", service.url)
    try:
        with subprocess.Popen(
            [*command, "--home", str(service.home)], stdout=subprocess.PIPE, env=service.environment, text=True
        ) as client:
            service.wait_until(begun.exists)
            client.send_signal(signal.SIGINT)
            said, _ = client.communicate(timeout=60)
    finally:
        gate.unlink()
    assert client.returncode == 130
    assert "5 files: 5 cancelled" in said
    usage = in_json(service, "usage", subject)["resources"]
    assert (usage["images"]["used"], usage["storage_bytes"]["used"]) == (0, 0)
    ends = [entry for entry in in_json(service, "log", subject) if entry["kind"] == "rollback"]
    assert {entry["cause"] for entry in ends} == {"cancelled"}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EARMARK_PORT", "abc"),
        ("EARMARK_MAX_FILE_BYTES", "-1"),
        ("EARMARK_LOG_FORMAT", "loud"),
        ("EARMARK_JWT_SECRET", "short"),
    ],
)
def test_a_wrong_setting_is_named(service, variable, value):
    assert variable in one_line(earmark(service, "token", "alice", **{variable: value}), 2)


def test_settings_that_do_not_go_together_are_named(service):
    said = one_line(earmark(service, "token", "alice", EARMARK_PROCESSING="external"), 2)
    needed = "EARMARK_PUBLIC_URL, EARMARK_PROCESSOR_URL, EARMARK_WEBHOOK_SECRETS"
    assert said == f"earmark: EARMARK_PROCESSING=external needs {needed}"


@pytest.mark.parametrize("command", [["usage", "alice"], ["serve", "--port", "0"], ["migrate"], ["worker"]])
def test_a_database_that_does_not_answer(service, command):
    with socket.socket() as taken:  # bound and not listening: nobody answers here
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        url = f"postgresql://earmark:hush@127.0.0.1:{port}/earmark"
        line = one_line(earmark(service, *command, EARMARK_DATABASE_URL=url), 1)
    assert line.startswith("earmark: the database does not answer: ")
    assert str(port) in line
    assert "hush" not in line


def test_a_database_that_says_nothing_is_not_waited_for_as_long_as_libpq_would(service):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://earmark@127.0.0.1:{silent.getsockname()[1]}/earmark"
        line = one_line(earmark(service, "status", EARMARK_DATABASE_URL=url), 1)
    assert line == "earmark: the database does not answer: connection timeout expired"


def test_a_database_with_another_style_of_dates(service):
    url = make_conninfo(running_url(service.home), options="-c datestyle=German")
    service.run("plan", "dates", "--plan", "pro")
    for command in (["status"], ["usage", "dates"], ["log", "dates"], ["explain", "dates"], ["migrate"]):
        done = earmark(service, *command, EARMARK_DATABASE_URL=url)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


def test_a_database_that_takes_no_changes(service):
    standby = make_conninfo(running_url(service.home), options="-c default_transaction_read_only=on")
    line = one_line(earmark(service, "plan", "free", "--quota", "images=5", EARMARK_DATABASE_URL=standby), 1)
    assert line.startswith("earmark: the database takes no changes now: cannot execute ")


@pytest.mark.parametrize("command", [["usage", "alice"], ["serve", "--port", "0"], ["migrate"], ["status"]])
def test_a_role_without_rights_learns_how_to_get_them(service, command):
    owners = running_url(service.home)
    role = f"stranger_{uuid4().hex}"
    with psycopg.connect(owners, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN")
    line = one_line(earmark(service, *command, EARMARK_DATABASE_URL=make_conninfo(owners, user=role)), 1)
    assert line.startswith("earmark: permission denied for ")
    assert "earmark migrate --grant service=ROLE" in line


def test_help_is_short_and_names_every_command(service):
    commands = ("serve", "worker", "migrate", "token", "usage", "rollback", "log", "sweep", "verify", "plan", "upload")
    commands += ("reconcile",)
    shown = subprocess.run(
        service.command("--help"), capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"}, check=True
    ).stdout
    for command in commands:
        assert re.search(rf"│ {command} ", shown), command
    assert len(shown.splitlines()) <= 30
    assert shutil.which("earmark") is None or "Usage: earmark " in shown
    said = subprocess.run(service.command("--version"), capture_output=True, text=True, check=True).stdout
    assert said == f"earmark {version('earmark')}\n"


def test_paragraphs_of_help_flow_as_wide_as_the_terminal(service):
    environment = {**os.environ, "COLUMNS": "400"}
    command = service.command("adopt", "--help")
    shown = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    assert re.search(r"From FILE or standard input.* repeated\.", shown), shown


def test_reconcile_tells_what_the_store_has_beside_the_books_and_repairs_it(service: Service, ledger: Ledger) -> None:
    key = f"images/{uuid4()}/original"
    stray = service.home / "objects" / key
    stray.parent.mkdir(parents=True)
    stray.write_bytes(picture())
    assert "agree" in service.run("reconcile").stdout, "what has just come may be on its way"
    os.utime(stray, (0, 0))
    told = service.run("reconcile", check=False)
    assert (told.returncode, "reconcile --repair" in told.stdout) == (3, True)
    assert f"{key}: an object of an image that is not in the books" in told.stdout
    as_json = service.run("reconcile", "--json", check=False)
    (drift,) = json.loads(as_json.stdout)
    assert [check.findings for check in ledger.health().checks if check.name == "reconcile"] == [1]
    assert (as_json.returncode, drift["difference"], drift["key"], drift["repaired"]) == (3, "unknown", key, False)
    assert stray.exists()
    repaired = service.run("reconcile", "--repair")
    assert "1 repaired, 0 left." in repaired.stdout
    assert not stray.exists()
    assert json.loads(service.run("reconcile", "--json").stdout) == []


def test_migrate_grants_roles_their_rights(service: Service) -> None:
    name = "earmark_test_service"
    refused = service.run("migrate", "--grant", "operator=x", check=False)
    assert (refused.returncode, "--grant takes" in refused.stderr) == (2, True)
    unknown = service.run("migrate", "--grant", f"service={name}", check=False)
    assert unknown.returncode == 2
    assert name in unknown.stderr


def test_plan_puts_a_subject_under_a_parent(service: Service, ledger: Ledger, subject: str) -> None:
    service.run("plan", f"{subject}-team", "--plan", "pro", "--quota", "images=1")
    service.run("plan", subject, "--plan", "pro", "--parent", f"{subject}-team")
    denied = ledger.reserve(subject, {"images": 2})
    assert [(short.subject, short.remaining) for short in denied.short] == [(f"{subject}-team", 1)]


def test_status_shows_how_the_background_is_doing(service):
    service.wait_until(lambda: in_json(service, "status")["duties"].get("sweep"))
    shown = in_json(service, "status")
    assert shown["overdue_holds"]["count"] == shown["set_aside"]["count"] == shown["failed_rollbacks"]["open"] == 0
    assert len(shown["queue"]["workers"]) == 1
    lines = {line.split("  ")[0].strip(): line for line in service.run("status").stdout.splitlines()}
    assert "1 alive" in lines["workers"]
    assert "0 waiting" in lines["queue"]
    assert "ok" in lines["duty sweep"]


def test_status_tells_that_the_books_do_not_agree_until_they_do(service, subject, ledger):
    ledger.reserve(subject, {"images": 3}).commit()
    change = "UPDATE earmark._private_balance SET committed = committed + 9 WHERE subject = %s AND resource = 'images'"
    with psycopg.connect(running_url(service.home), autocommit=True) as connection:
        connection.execute(change, (subject,))
    assert earmark(service, "verify").returncode == 3
    said = earmark(service, "status", columns=200).stdout
    assert re.search(r"check verify +1 thing does not agree +checked .* ago; `earmark verify` says what", said), said
    service.run("verify", "--repair", "--reason", "changed by hand")
    assert re.search(r"check verify +ok +checked ", earmark(service, "status", columns=200).stdout)


def test_a_large_file_is_uploaded_in_parts(service_of, tmp_path: Path) -> None:
    service = service_of(parts_over_bytes=5 * 2**20, part_bytes=5 * 2**20).start()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/large.png").write_bytes(large_picture())
    (tmp_path / "pictures/small.jpg").write_bytes(picture())
    done = service.run("upload", str(tmp_path / "pictures"), "--as", "alice", "--url", service.url)
    assert "2 files: 2 accepted" in done.stdout
    (large,) = [image for image in service.images() if image["filename"] == "large.png"]
    stored = service.home / "objects" / "images" / large["imageId"] / "original"
    assert stored.read_bytes() == (tmp_path / "pictures/large.png").read_bytes()
    assert not list((service.home / "objects/.parts").iterdir())
