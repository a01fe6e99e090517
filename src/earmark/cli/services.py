"""Puts the parts together, each opened before those that need it and closed after them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import replace
from datetime import timedelta
from functools import partial

import httpx
import msgspec
from prometheus_client import disable_created_metrics
from psycopg.types.json import set_json_loads

from earmark import faults, metrics, tracing
from earmark.cli.token import open_sign_in, secret_of
from earmark.config import Settings
from earmark.http_api.answers import Answers, Connection
from earmark.http_api.services import Services
from earmark.ledger import AsyncLedger
from earmark.ledger.service_pool import ServicePool
from earmark.ledger.session import configure_session
from earmark.uploads.flow import Uploads
from earmark.uploads.inspection import check_allowed_types
from earmark.uploads.job import ImageJobs
from earmark.uploads.outside import TIMEOUT_SECONDS, Jobs, ProcessorJobs, QStashJobs
from earmark.uploads.process_pool import ImagePool
from earmark.uploads.processing import Processor, load_processor
from earmark.uploads.queue_app import queue_app
from earmark.uploads.storage import LocalStorage, open_storage
from earmark.worker import bookkeeper, job_rescuer, pruner, sweeper
from earmark.worker.bookkeeper import tally_once, verify_when_due
from earmark.worker.duties import Duty, run_duties
from earmark.worker.job_loop import run_jobs
from earmark.worker.sweeper import abort_forgotten_parts_once, sweep_once

ABANDONED_INTERVAL_SECONDS = 60.0
CONNECTION_SECONDS = 10
"""How long a call waits for one of the pool's connections."""
LOCK_SECONDS = 4
"""How long it waits for a lock, unless the database or the role has a `lock_timeout` of its own; whoever is not the
first to wait does so twice, for his turn and for the lock."""
MANY_ROWS_SECONDS, ALL_BOOKS_SECONDS = 300.0, 6 * 3600.0
"""How long a statement may take that is about so much."""
_LOCK_TIMEOUT = "SELECT set_config('lock_timeout', %s, false) WHERE current_setting('lock_timeout') = '0'"


@asynccontextmanager
async def open_services(settings: Settings, database_url: str) -> AsyncIterator[Services]:
    """The parts that API and worker share; what they do is counted, and traced where that is configured."""
    faults.arm(settings.fault)
    check_allowed_types(settings.allowed_types)
    disable_created_metrics()  # type: ignore[no-untyped-call] # they double what is scraped, and nobody reads them
    metrics.count_operations()
    tracing.export_where_configured()
    secret = secret_of(settings)
    pool = ServicePool(
        database_url,
        min_size=2,
        max_size=settings.database_connections,
        open=False,
        kwargs={"autocommit": True},
        timeout=CONNECTION_SECONDS,
        configure=_configure,
    )
    async with open_sign_in(settings) as sign_in, pool:
        ledger = AsyncLedger(pool)
        public_url = settings.public_url or ""
        storage = open_storage(settings.storage_url, home=settings.home, secret=secret, public_url=public_url)
        uploads = Uploads(ledger=ledger, pool=pool, storage=storage, queue=queue_app(database_url), settings=settings)
        services = Services(
            uploads=uploads,
            ledger=ledger,
            storage=storage,
            sign_in=sign_in,
            settings=settings,
            answers=Answers(pool),
        )
        async with aclosing(uploads.failed_rollbacks):
            if settings.processing != "webhook":
                yield services
                return
            with closing(ImagePool(settings.processes, settings.inspection_timeout_seconds)) as images:
                jobs = ImageJobs(uploads, images, load_processor(settings.processor), requeues=False)
                yield replace(services, jobs=jobs)


async def _configure(connection: Connection) -> None:
    """With the parser of JSON that is here for the API anyhow: every answer of the ledger carries some.

    Whoever waits for a lock that somebody keeps gives up before those do who wait for his connection: one subject's
    lock is not to hold up the others.
    """
    set_json_loads(msgspec.json.decode, connection)
    await configure_session(connection)
    await connection.execute(_LOCK_TIMEOUT, (f"{LOCK_SECONDS}s",))


async def run_worker(services: Services, processor: Processor, keep_database: Callable[[], None] | None = None) -> None:
    """Processes images and looks after what is overdue, until cancelled.

    Args:
        services: The shared parts.
        processor: What processing does.
        keep_database: Called every second, off the event loop: starts the embedded database if it has died.
    """
    settings, uploads = services.settings, services.uploads
    pool = ImagePool(settings.processes, settings.inspection_timeout_seconds)
    client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS)
    jobs = _jobs(uploads, ImageJobs(uploads, pool, processor), client)
    duties = [
        Duty("sweep", settings.sweep_interval_seconds, lambda: sweep_once(uploads)),
        _long("tally", settings.tally_interval_seconds, lambda: tally_once(services.ledger)),
        Duty("rescue_jobs", job_rescuer.INTERVAL_SECONDS, lambda: job_rescuer.rescue_once(uploads)),
        _long("prune_deliveries", pruner.INTERVAL_SECONDS, lambda: pruner.prune_deliveries_once(uploads)),
        _long("prune_ledger", pruner.INTERVAL_SECONDS, lambda: pruner.prune_ledger_once(services.ledger)),
        _long("prune_answers", pruner.INTERVAL_SECONDS, lambda: _prune_answers(services)),
    ]
    if settings.verify_interval_seconds:
        every = timedelta(seconds=settings.verify_interval_seconds)
        verify = partial(verify_when_due, services.ledger, every)
        duties.append(Duty("verify", bookkeeper.LOOK_SECONDS, verify, answer_seconds=ALL_BOOKS_SECONDS))
    if keep_database is not None:
        duties.append(Duty("keep_database", 1.0, lambda: _keep(keep_database), is_noted=False))
    storage = services.storage
    if isinstance(storage, LocalStorage):
        duties.append(
            Duty("remove_abandoned", ABANDONED_INTERVAL_SECONDS, lambda: _remove_abandoned(storage, settings))
        )
    else:
        duties.append(
            Duty(
                "abort_forgotten_parts",
                sweeper.FORGOTTEN_PARTS_INTERVAL_SECONDS,
                lambda: abort_forgotten_parts_once(uploads),
            )
        )
    try:
        async with client, uploads.queue.open_async(), asyncio.TaskGroup() as group:
            group.create_task(run_duties(duties, uploads.note_duty))
            group.create_task(run_jobs(uploads.queue, jobs, processes=settings.processes))
    finally:
        pool.close()


def _jobs(uploads: Uploads, own: ImageJobs, client: httpx.AsyncClient) -> Jobs:
    match uploads.settings.processing:
        case "webhook":
            return QStashJobs(uploads, client)
        case "external":
            return ProcessorJobs(own, uploads, client)
        case "worker":
            return own


def _long(name: str, interval_seconds: float, run_once: Callable[[], Awaitable[Mapping[str, object]]]) -> Duty:
    return Duty(name, interval_seconds, run_once, answer_seconds=MANY_ROWS_SECONDS)


async def _prune_answers(services: Services) -> dict[str, object]:
    removed = await services.answers.prune(timedelta(seconds=services.settings.answer_retention_seconds))
    return {"answers": removed} if removed else {}


async def _keep(database: Callable[[], None]) -> dict[str, object]:
    await asyncio.to_thread(database)
    return {}


async def _remove_abandoned(storage: LocalStorage, settings: Settings) -> dict[str, object]:
    removed = await storage.remove_abandoned(timedelta(seconds=settings.upload_hold_seconds))
    return {"files": removed} if removed else {}
