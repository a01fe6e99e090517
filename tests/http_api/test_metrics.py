"""Metrics as Prometheus reads them, and the alert rules that rest on them."""

import re
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from earmark import Cause, metrics
from earmark.ledger import retrying
from earmark.observing import Operation
from http_api.harness import described

pytestmark = pytest.mark.anyio
ALERTS = Path(__file__).parents[2] / "docs/operations/alerts.yml"


@pytest.fixture(autouse=True)
def counted():
    metrics.count_operations()


class Scrape(dict):
    """Every sample by its name and labels; what is not there is 0."""

    def __init__(self, text):
        super().__init__()
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        for family in self.families.values():
            for sample in family.samples:
                self[sample.name, tuple(sorted(sample.labels.items()))] = sample.value

    def of(self, name, **labels):
        return self.get((name, tuple(sorted(labels.items()))), 0)


async def scraped(api):
    response = await api.client(None).get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Scrape(response.text)


async def increase(before, api):
    after = await scraped(api)
    return lambda name, **labels: after.of(name, **labels) - before.of(name, **labels)


async def test_the_flow_of_uploads_is_counted(api, alice, service):
    before = await scraped(api)
    done = await api.completed(alice)
    (other,) = await api.reserved(alice)
    for _ in range(2):
        assert (await alice.post(f"/api/images/{other['imageId']}/cancel")).status_code == 200
    await alice.delete(f"/api/images/{done}")
    await service.put("/api/admin/subjects/alice", json={"quotas": {"images": 1}})
    assert (await alice.post("/api/images/preupload", json=described())).status_code == 429
    await api.services.ledger.tally()

    grown = await increase(before, api)
    assert grown("earmark_reservations_granted_total") == 2
    assert grown("earmark_items_committed_total") == 1
    assert grown("earmark_items_refunded_total") == 1
    assert grown("earmark_items_rolled_back_total", cause="cancelled") == 1
    assert grown("earmark_give_back_seconds_count", cause="cancelled") == 1
    assert grown("earmark_give_back_seconds_bucket", cause="cancelled", le="60.0") == 1
    assert grown("earmark_denials_total") == 1
    assert grown("earmark_double_settlements_total", operation="image_roll_back", outcome="already_rolled_back") == 1
    assert grown("earmark_operation_seconds_count", operation="image_complete", outcome="completed") == 1
    labels = {"method": "POST", "route": "/api/images/preupload", "status": "429"}
    assert grown("earmark_http_request_seconds_count", **labels) == 1


async def test_what_is_open_is_told(api, alice):
    await api.reserved(alice)
    await api.queued(alice)
    scrape = await scraped(api)
    assert scrape.of("earmark_database_up") == 1
    assert -5 < scrape.of("earmark_clock_ahead_seconds") < 5
    assert scrape.of("earmark_holds_open") == 4
    assert scrape.of("earmark_holds_overdue_seconds") == 0
    assert scrape.of("earmark_images_open", state="reserved") == 1
    assert scrape.of("earmark_images_open", state="uploaded") == 1
    assert scrape.of("earmark_queue_waiting") == 1
    assert scrape.of("earmark_queue_oldest_waiting_seconds") > 0


async def test_what_a_check_found_is_told(api):
    await api.services.ledger.record_check("reconcile", 7)
    scrape = await scraped(api)
    assert scrape.of("earmark_drift", check="reconcile") == 7
    assert scrape.of("earmark_check_timestamp_seconds", check="reconcile") > 0


async def test_no_subject_and_no_address_is_in_a_metric(api, alice):
    image = await api.completed(alice)
    await alice.get(f"/api/images/{image}?a=secret")
    await alice.request("BREW", "/api/coffee-of-alice")
    text = (await api.client(None).get("/metrics")).text
    for word in ("alice", image, "secret", "BREW"):
        assert word not in text


async def test_without_its_database_the_process_still_tells_what_it_knows(api, monkeypatch):
    before = await scraped(api)
    monkeypatch.setattr(retrying, "RETRY_DELAYS", (0, 0))
    reservation = (await api.services.ledger.reserve("alice", {"images": 1})).id
    await api.services.uploads.pool.close()
    with pytest.raises(retrying.UNREACHABLE):
        await api.services.ledger.rollback(reservation, cause=Cause.PROCESSING_FAILED)

    grown = await increase(before, api)
    assert grown("earmark_rollbacks_retried_total") == 2
    assert grown("earmark_rollbacks_failed_total", cause="processing_failed") == 1
    scrape = await scraped(api)
    assert scrape.of("earmark_database_up") == 0
    assert "earmark_holds_open" not in scrape.families


def names(expression):
    """The metrics that a PromQL expression names."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"|\b(by|without)\s*\([^)]*\)", "", expression)
    return set(re.findall(r"\b(?:earmark|process)_\w+", bare)), re.findall(r"\{([^}]*)\}", expression)


async def test_every_alert_rests_on_metrics_that_exist(api, alice):
    await api.completed(alice)
    await api.services.ledger.record_check("verify", 0)
    with Operation("duty", duty="sweep"):
        pass
    with suppress(RuntimeError), Operation("duty", duty="sweep"):
        raise RuntimeError
    known = {name for name, _ in await scraped(api)}
    labelled = {(name, label) for name, labels in await scraped(api) for label, _ in labels}
    outcomes = {(name, dict(labels).get("outcome")) for name, labels in await scraped(api)}
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 10
    for rule in rules:
        found, _ = names(rule["expr"])
        assert found, rule
        assert found <= known, rule
        for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", rule["expr"]):
            for label in re.findall(r"(\w+)\s*[=!]", matchers):
                assert (name, label) in labelled, rule
            for outcome in re.findall(r'outcome="(\w+)"', matchers):
                assert (name, outcome) in outcomes, rule
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
