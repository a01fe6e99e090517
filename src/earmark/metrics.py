"""Metrics for Prometheus: what this process did, and what the database says of all of them.

The figures of the process come from the operations it carries out. With several processes behind one address, set
PROMETHEUS_MULTIPROC_DIR for them to an empty folder: each then answers for all. The figures of the database are the
same wherever they are asked for; take their maximum over instances, not their sum.
"""

import functools
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from earmark.extras import needs
from earmark.model import Cause, Health, Tally
from earmark.observing import Finish, Operation, observe

with needs("server"):
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.multiprocess import MultiProcessCollector
    from prometheus_client.process_collector import ProcessCollector
    from prometheus_client.utils import floatToGoString

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
GIVE_BACK_BUCKETS: Sequence[float | None] = (1, 5, 15, 60, 300, 900, 3600, 21_600, 86_400, None)
"""As `tally.sql` sorts them, in seconds; None: longer."""
_SETTLING = frozenset({"commit", "rollback", "refund", "image_complete", "image_roll_back"})

_registry = CollectorRegistry()
if MULTIPROCESS not in os.environ:
    ProcessCollector(registry=_registry)

OPERATIONS = Histogram(
    "earmark_operation_seconds",
    "Operations of this process, how they ended (error: with an exception), and how long they took.",
    ["operation", "outcome"],
    buckets=_SECONDS,
    registry=_registry,
)
DENIALS = Counter("earmark_denials_total", "Reservations refused for want of quota.", registry=_registry)
DOUBLE_SETTLEMENTS = Counter(
    "earmark_double_settlements_total",
    "Attempts to settle what was settled before; they changed nothing.",
    ["operation", "outcome"],
    registry=_registry,
)
ROLLBACKS_RETRIED = Counter(
    "earmark_rollbacks_retried_total",
    "Attempts of a rollback that found the database out of reach and were repeated.",
    registry=_registry,
)
ROLLBACKS_FAILED = Counter(
    "earmark_rollbacks_failed_total",
    "Rollbacks given up because the database stayed out of reach; their quota returns at its deadline.",
    ["cause"],
    registry=_registry,
)
REQUESTS = Histogram(
    "earmark_http_request_seconds",
    "HTTP requests, and how long their answer took.",
    ["method", "route", "status"],
    buckets=_SECONDS,
    registry=_registry,
)
DUTIES = Histogram(
    "earmark_duty_seconds",
    "Runs of the worker's duties, whether they were done or failed, and how long they took.",
    ["duty", "outcome"],
    buckets=_SECONDS,
    registry=_registry,
)
DUTY_DONE_AT = Gauge(
    "earmark_duty_done_timestamp_seconds",
    "When the worker last did this duty without an error.",
    ["duty"],
    multiprocess_mode="mostrecent",
    registry=_registry,
)
for _cause in Cause:
    ROLLBACKS_FAILED.labels(_cause.value)  # there from the beginning, so that the first one is seen as an increase


def count_operations() -> None:
    """Counts every operation of this process from now on; calling it again changes nothing."""
    observe(_count)


def exposition(families: Iterable[Metric] = ()) -> bytes:
    """All metrics in Prometheus' text format: of this process, or of all that share its folder, and these besides."""
    registry = _registry
    if MULTIPROCESS in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry) + generate_latest(_Snapshot(families))


def database_up(*, up: bool) -> Metric:
    """Whether the database answers."""
    return GaugeMetricFamily("earmark_database_up", "Whether the database answered this scrape.", value=up)


def clock_ahead(seconds: float) -> Metric:
    """How this process's clock differs from the database's."""
    return GaugeMetricFamily(
        "earmark_clock_ahead_seconds",
        "By how much this process's clock is ahead of the database's; below 0, behind it.",
        value=seconds,
    )


def of_queue(waiting: int, working: int, oldest_waiting_seconds: float) -> Iterator[Metric]:
    """What the processing queue says."""
    yield GaugeMetricFamily("earmark_queue_waiting", "Jobs that no worker has started on.", value=waiting)
    yield GaugeMetricFamily("earmark_queue_working", "Jobs that a worker is on.", value=working)
    yield GaugeMetricFamily(
        "earmark_queue_oldest_waiting_seconds",
        "How long the oldest waiting job could have been started on.",
        value=oldest_waiting_seconds,
    )


def of_database(health: Health) -> Iterator[Metric]:
    """What the database says."""
    tallies: dict[str, list[Tally]] = defaultdict(list)
    for tally in health.tallies:
        tallies[tally.metric].append(tally)
    for name, metric, help_ in (
        ("earmark_reservations_granted", "granted", "Reservations granted."),
        ("earmark_items_committed", "committed", "Items whose use was committed."),
        ("earmark_items_refunded", "refunded", "Items whose committed use was given back."),
        ("earmark_adjustments", "adjusted", "Adjustments, each counted at every level of its tree."),
    ):
        yield CounterMetricFamily(name, help_, value=sum(tally.value for tally in tallies[metric]))
    rolled_back = CounterMetricFamily("earmark_items_rolled_back", "Items given back, by cause.", labels=["cause"])
    counts = {tally.cause: tally.value for tally in tallies["rolled_back"]}
    for cause in Cause:
        rolled_back.add_metric([cause], counts.get(cause, 0))
    yield rolled_back
    yield _give_back(tallies)

    images = GaugeMetricFamily("earmark_images_open", "Images on their way, by state.", labels=["state"])
    for state in ("reserved", "uploading", "uploaded", "processing"):
        images.add_metric([state], health.images.get(state, 0))
    yield images
    for name, help_, value in (
        ("earmark_holds_open", "Holds that are neither committed nor rolled back.", health.holds),
        ("earmark_holds_overdue", "Open holds past their deadline.", health.holds_overdue),
        ("earmark_holds_overdue_seconds", "How long the oldest of them is overdue.", health.holds_overdue_seconds),
        ("earmark_items_set_aside", "Overdue items that the sweeper could not roll back.", health.set_aside),
        ("earmark_images_overdue", "Open images past their stage's deadline.", health.images_overdue),
        ("earmark_images_overdue_seconds", "How long the oldest of them is overdue.", health.images_overdue_seconds),
        ("earmark_images_to_remove", "Images whose objects are still to be removed.", health.images_to_remove),
    ):
        yield GaugeMetricFamily(name, help_, value=value)

    drift = GaugeMetricFamily("earmark_drift", "What a check of the books last found; 0 is well.", labels=["check"])
    checked = GaugeMetricFamily("earmark_check_timestamp_seconds", "When that check was.", labels=["check"])
    for check in health.checks:
        drift.add_metric([check.name], check.findings)
        checked.add_metric([check.name], check.at.timestamp())
    yield from (drift, checked)


def _give_back(tallies: dict[str, list[Tally]]) -> Metric:
    family = HistogramMetricFamily(
        "earmark_give_back_seconds", "From the reservation of an item until it was rolled back.", labels=["cause"]
    )
    sums = {tally.cause: tally.value for tally in tallies["give_back_seconds"]}
    counts = {(tally.cause, tally.le): tally.value for tally in tallies["give_back"]}
    for cause in Cause:
        totals = accumulate(counts.get((cause.value, le), 0) for le in GIVE_BACK_BUCKETS)
        names = [_named(le) for le in GIVE_BACK_BUCKETS]
        family.add_metric([cause], list(zip(names, totals, strict=True)), sums.get(cause, 0))
    return family


def _named(le: float | None) -> str:
    return str(floatToGoString(math.inf if le is None else le))  # type: ignore[no-untyped-call]


class _Snapshot(CollectorRegistry):
    def __init__(self, families: Iterable[Metric]) -> None:
        super().__init__()
        self._families = tuple(families)

    def collect(self) -> Iterator[Metric]:
        yield from self._families


@functools.cache
def _labelled(metric: Histogram, *labels: object) -> Histogram:
    """The child of a metric: finding it again costs the library more than counting does."""
    return metric.labels(*labels)


def _count(_: Operation) -> Finish:
    return _finish


def _finish(operation: Operation) -> None:
    outcome = operation.outcome or ("error" if operation.error is not None else "done")
    ids = operation.ids
    if operation.name == "http_request":
        _labelled(REQUESTS, ids["method"], ids.get("route") or "", outcome).observe(operation.seconds)
        return
    if operation.name == "duty":
        DUTIES.labels(ids["duty"], outcome).observe(operation.seconds)
        if operation.error is None:
            DUTY_DONE_AT.labels(ids["duty"]).set_to_current_time()
        return
    if operation.name == "rollback_retried":
        ROLLBACKS_RETRIED.inc()
        return
    if operation.name == "rollback_failed":
        ROLLBACKS_FAILED.labels(str(ids["cause"])).inc()
        return
    _labelled(OPERATIONS, operation.name, outcome).observe(operation.seconds)
    if outcome == "denied" and operation.name in {"reserve", "images_reserve"}:
        DENIALS.inc()
    if outcome.startswith("already_") and operation.name in _SETTLING:
        DOUBLE_SETTLEMENTS.labels(operation.name, outcome).inc()
