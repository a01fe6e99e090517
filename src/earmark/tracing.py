"""OpenTelemetry spans of every operation: with the extra `otel`; without it, nothing here costs anything.

A span carries the ids of what it is about and how it ended: subject, reservation, image, attempt, cause. Never a token,
key, link, file name or content. HTTP requests go on with the trace that their `traceparent` names.
"""

import importlib.util
import os
from collections.abc import Callable
from contextlib import AbstractContextManager

from earmark.extras import needs
from earmark.observing import Finish, Operation, observe

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def is_installed() -> bool:
    """Whether the extra `otel` is there."""
    try:
        return importlib.util.find_spec("opentelemetry.sdk") is not None
    except ModuleNotFoundError:
        return False


def trace_operations() -> Callable[[], None]:
    """Makes a span of every operation of this process, with whatever tracer provider is set; returns what stops it.

    Raises:
        MissingExtra: OpenTelemetry is not installed.
    """
    with needs("otel"):
        import opentelemetry.trace  # noqa: F401, PLC0415 - fails here, and not in the middle of an operation

    return observe(_span)


def export_where_configured() -> bool:
    """Traces, and sends the spans where OTEL_EXPORTER_OTLP_ENDPOINT says, by OTLP over HTTP; whether it does.

    Without the variable or the extra nothing is done; a tracer provider that is set already is left as it is.
    """
    if not any(os.environ.get(name) for name in _ENDPOINTS) or not is_installed():
        return False
    from opentelemetry import trace  # noqa: PLC0415 - only where it is wanted
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        provider = TracerProvider(
            resource=Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", "earmark")})
        )
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    trace_operations()
    return True


def _span(operation: Operation) -> Finish:
    from opentelemetry import propagate, trace  # noqa: PLC0415 - only where it is installed

    tracer = trace.get_tracer("earmark")
    request = operation.headers is not None
    context = propagate.extract(operation.headers) if operation.headers is not None else None
    kind = trace.SpanKind.SERVER if request else trace.SpanKind.INTERNAL
    block: AbstractContextManager[trace.Span] = tracer.start_as_current_span(
        f"earmark.{operation.name}", context=context, kind=kind, record_exception=False, set_status_on_exception=False
    )
    span = block.__enter__()

    def finish(operation: Operation) -> None:
        for name, value in operation.ids.items():
            if value is not None:
                span.set_attribute(f"earmark.{name}", str(value))
        if operation.outcome is not None:
            span.set_attribute("earmark.outcome", operation.outcome)
        if operation.error is not None:
            # The message of a database error may quote what was sent: its kind must do.
            span.set_status(trace.Status(trace.StatusCode.ERROR, type(operation.error).__name__))
        block.__exit__(None, None, None)

    return finish
