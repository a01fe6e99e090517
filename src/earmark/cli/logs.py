"""Structured logs: every record of the standard `logging` module, as coloured lines or as JSON, through structlog."""

import logging
import sys
from datetime import UTC, datetime

import msgspec
import structlog
from structlog.types import Processor

_QUIET = (
    "procrastinate",
    "httpx",
    "httpcore",
    "botocore",
    "urllib3",
    "asyncio",
    "uvicorn",
    "psycopg.pool",
)

_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)  # a local may hold a secret
)


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """structlog's, but that a plain record, of which there is one per request, is written without its machinery."""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info or record.stack_info or record.args:
            return super().format(record)
        extra = {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD}
        told = {
            "event": record.msg,
            **extra,
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": datetime.fromtimestamp(record.created, UTC),
        }
        return msgspec.json.encode(told, enc_hook=str).decode()


def configure_logs(log_format: str, *, level: int = logging.INFO) -> None:
    """Sends all logs to standard error.

    Args:
        log_format: `console`, `json`, or `auto`: console on a terminal, JSON elsewhere.
        level: The lowest level shown.
    """
    json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
    ]
    renderer: list[Processor] = (
        [_TRACEBACKS, structlog.processors.JSONRenderer()]
        if json
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    formatter = _Formatter if json else structlog.stdlib.ProcessorFormatter
    handler.setFormatter(
        formatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    # No line names the file, thread or process it comes from: what nobody reads is not looked up for each of them.
    logging._srcfile = None  # noqa: SLF001 - as logging's own documentation says
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
