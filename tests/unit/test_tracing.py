"""Spans: one per operation, with ids and without secrets, in the trace that the request belongs to."""

import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from earmark import Cause, tracing
from earmark.observing import Operation

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def exporter():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)  # it can be set once in a process
    return exporter


@pytest.fixture
def spans(exporter):
    exporter.clear()
    stop = tracing.trace_operations()
    yield exporter.get_finished_spans
    stop()


def test_what_the_ledger_does_is_traced(ledger, spans):
    with trace.get_tracer("app").start_as_current_span("the caller's own") as own:
        reservation = ledger.reserve("user-1", {"images": 1}, key="a key").id
        ledger.rollback(reservation, cause=Cause.UPLOAD_FAILED, reason="a reason")
    reserve, rollback, _ = spans()
    assert (reserve.name, rollback.name) == ("earmark.reserve", "earmark.rollback")
    assert reserve.attributes == {
        "earmark.subject": "user-1",
        "earmark.reservation": str(reservation),
        "earmark.outcome": "granted",
    }
    assert rollback.attributes["earmark.cause"] == "upload_failed"
    assert reserve.parent.span_id == rollback.parent.span_id == own.get_span_context().span_id


def test_a_request_goes_on_with_its_trace(spans):
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "authorization": "Bearer secret"}
    with Operation("http_request", headers=headers, method="GET") as request, Operation("commit"):
        request.ended("200", route="/api/usage", subject=None)
    inner, outer = spans()
    assert f"{outer.context.trace_id:032x}" == f"{inner.context.trace_id:032x}" == TRACE
    assert inner.parent.span_id == outer.context.span_id
    assert outer.kind is trace.SpanKind.SERVER
    assert "secret" not in outer.to_json()
    assert "earmark.subject" not in outer.attributes


def test_an_error_is_told_by_its_kind_only(spans):
    with pytest.raises(ValueError, match="hunter2"), Operation("commit"):
        raise ValueError("the password is hunter2")
    (span,) = spans()
    assert (span.status.status_code, span.status.description) == (trace.StatusCode.ERROR, "ValueError")
    assert "hunter2" not in span.to_json()


def test_nothing_is_exported_unless_it_is_asked_for(monkeypatch):
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert not tracing.export_where_configured()


def test_without_opentelemetry_nothing_is_missed():
    """As where the extra is not installed: the endpoint alone does nothing, and does no harm."""
    code = """
import os, sys
class Hidden:
    def find_spec(self, name, *_):
        if name.split(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
from earmark import tracing
from earmark.observing import Operation
print(tracing.export_where_configured())
with Operation("reserve"):
    pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_spans_are_sent_to_the_endpoint(tmp_path):
    """A process of its own, whose provider is the exporting one, against a collector that takes what it gets."""
    code = """
import http.server, os, threading
got = []
class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        got.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
from earmark import tracing
from earmark.observing import Operation
assert tracing.export_where_configured() and tracing.export_where_configured()
with Operation("reserve", subject="user-1"):
    pass
from opentelemetry import trace
trace.get_tracer_provider().shutdown()
server.shutdown()
(path, body), = got
print(path, body.count(b"earmark.reserve"), b"user-1" in body)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout == "/v1/traces 1 True\n", done.stderr
