"""Structured logs: every record of the standard `logging` module, as coloured lines or as JSON, through structlog."""

import logging
import sys

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

_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)  # a local may hold a secret
)


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
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
