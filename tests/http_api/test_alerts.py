"""The alert rules, by Prometheus's own tool: each fires when its trouble is there, and none while all is well."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ALERTS = Path(__file__).parents[2] / "docs/operations/alerts.yml"
DAY = 24 * 60
WELL = {
    "earmark_database_up": "1+0x9000",
    "earmark_clock_ahead_seconds": "0+0x9000",
    "earmark_holds_overdue_seconds": "30+0x9000",
    'earmark_duty_done_timestamp_seconds{duty="sweep"}': "0+60x9000",
    "earmark_images_overdue_seconds": "0+0x9000",
    'earmark_duty_seconds_count{duty="prune_ledger",outcome="done"}': "0+1x9000",
    'earmark_duty_seconds_count{duty="prune_ledger",outcome="error"}': "3+0x9000",
    'earmark_drift{check="verify"}': "0+0x9000",
    'earmark_check_timestamp_seconds{check="verify"}': "0+60x9000",
    "earmark_rollbacks_failed_total": "3+0x9000",
    "earmark_items_set_aside": "0+0x9000",
    'earmark_items_rolled_back_total{cause="processing_failed"}': "0+1x9000",
    "earmark_items_committed_total": "0+100x9000",
    "earmark_queue_oldest_waiting_seconds": "20+0x9000",
    "earmark_images_to_remove": "7+0x9000",
    'earmark_http_request_seconds_count{status="200"}': "0+1000x9000",
    'earmark_http_request_seconds_count{status="503"}': "0+1x9000",
}
"""Series of two instances, a value a minute."""
TROUBLES: dict[str, tuple[dict[str, str | None], int]] = {
    "EarmarkDatabaseDown": ({"earmark_database_up": "0+0x9000"}, 2),
    "EarmarkHoldsOverdue": ({"earmark_holds_overdue_seconds": "601+0x9000"}, 6),
    "EarmarkSweepStopped": ({'earmark_duty_done_timestamp_seconds{duty="sweep"}': "0+0x9000"}, 8),
    "EarmarkImagesOverdue": ({"earmark_images_overdue_seconds": "601+0x9000"}, 6),
    "EarmarkClockWrong": ({"earmark_clock_ahead_seconds": "-31+0x9000"}, 6),
    "EarmarkDutyFails": (
        {
            'earmark_duty_seconds_count{duty="prune_ledger",outcome="done"}': "9+0x9000",
            'earmark_duty_seconds_count{duty="prune_ledger",outcome="error"}': "0+1x9000",
        },
        20,
    ),
    "EarmarkDrift": ({'earmark_drift{check="verify"}': "2+0x9000"}, 1),
    "EarmarkNotVerified": ({'earmark_check_timestamp_seconds{check="verify"}': "0+0x9000"}, 3 * DAY + 2),
    "EarmarkRollbacksFail": ({"earmark_rollbacks_failed_total": "0+1x9000"}, 5),
    "EarmarkItemsSetAside": ({"earmark_items_set_aside": "1+0x9000"}, 16),
    "EarmarkProcessingFails": ({'earmark_items_rolled_back_total{cause="processing_failed"}': "0+20x9000"}, 30),
    "EarmarkQueueStuck": ({"earmark_queue_oldest_waiting_seconds": "601+0x9000"}, 6),
    "EarmarkObjectsNotRemoved": ({"earmark_images_to_remove": "101+0x9000"}, 61),
    "EarmarkServerErrors": ({'earmark_http_request_seconds_count{status="503"}': "0+50x9000"}, 12),
}
"""The series that are otherwise, and after how many minutes the alert fires."""


def series(otherwise: dict[str, str | None]) -> list[dict[str, str]]:
    found = []
    for name, values in (WELL | otherwise).items():
        plain, _, labels = name.rstrip("}").partition("{")
        both = [f'{plain}{{{labels}{"," if labels else ""}instance="{one}"}}' for one in ("a", "b")]
        found += [{"series": one, "values": values} for one in both if values is not None]
    return found


def firing(rule: dict[str, Any]) -> dict[str, Any]:
    """How the alert looks: with its labels, and those of the figure where the rule keeps them."""
    annotations = rule["annotations"]
    labels = dict(rule["labels"])
    if "by (check)" in rule["expr"]:
        labels["check"] = "verify"
    if "by (duty)" in rule["expr"]:
        labels["duty"] = "prune_ledger"
    value = {"EarmarkDrift": "2", "EarmarkItemsSetAside": "1"}.get(rule["alert"], "")
    told = {
        name: text.replace("{{ $labels.check }}", "verify")
        .replace("{{ $labels.duty }}", "prune_ledger")
        .replace("{{ $value }}", value)
        for name, text in annotations.items()
    }
    return {"exp_labels": labels, "exp_annotations": told}


def test_every_alert_fires_in_its_trouble_and_no_other(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool found; it comes with Prometheus")
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert {rule["alert"] for rule in rules} == TROUBLES.keys()
    troubles: list[tuple[str, dict[str, str | None], int]] = [("", {}, 2 * 60)]
    troubles += [(alert, *trouble) for alert, trouble in TROUBLES.items()]
    troubles.append(("EarmarkSweepStopped", {'earmark_duty_done_timestamp_seconds{duty="sweep"}': None}, 2))
    tests = [
        {
            "name": alert or "all is well",
            "interval": "1m",
            "input_series": series(otherwise),
            "alert_rule_test": [
                {
                    "eval_time": f"{minutes}m",
                    "alertname": rule["alert"],
                    "exp_alerts": [firing(rule)] if rule["alert"] == alert else [],
                }
                for rule in rules
            ],
        }
        for alert, otherwise, minutes in troubles
    ]
    file = tmp_path / "alerts.test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}))
    for command in (["check", "rules", str(ALERTS)], ["test", "rules", str(file)]):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
