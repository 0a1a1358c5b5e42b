"""A program instrumented with the OpenTelemetry SDK for Python, told what to do line by line.

In: {"do": "everything", "exporters": [{"name", "protocol", "compression"}], "http": URL, "grpc": ADDR}
    {"do": "one", "env": {...}, "protocol": "...", "span": NAME}
    {"do": "steady", "protocols": [...], "http": URL, "grpc": ADDR, "spans": N}
Out: one JSON object for each record that the SDK handed to its exporter, then {"done": ...}.

What it prints comes from the SDK's own objects, never from encoded bytes: it is what an application believes it has sent.
"""

import base64
import json
import logging
import os
import sys
import threading
import time

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.metrics import Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, Counter, Histogram, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

ODD = {
    "text": "grüße, 世界 \U0001f680 \"quoted\" \\ \n\t end",
    "empty": "",
    "a key, with = odd `ticks`": "ключ",
    "int": 42,
    "int.big": 2**53 + 1,
    "int.max": 2**63 - 1,
    "int.min": -(2**63),
    "double": 0.1,
    "double.whole": 3.0,
    "double.tiny": 5e-324,
    "double.zero": -0.0,
    "double.nan": float("nan"),
    "double.inf": float("inf"),
    "double.minus": float("-inf"),
    "yes": True,
    "no": False,
    "texts": ["a", "", "ü"],
    "ints": [1, 2**60, -1],
    "doubles": [1.5, float("nan")],
    "bools": [True, False],
    "none": [],
}
DEEP = {"map": {"list": [1, "two", 3.5, None, {"x": b"\x00\xff"}], "empty": {}}, "bytes": b"\x00\x01\xfe", "null": None}


WRITING = threading.Lock()


def out(**fields):
    with WRITING:
        sys.stdout.write(json.dumps(fields, ensure_ascii=True) + "\n")
        sys.stdout.flush()


def any_value(value):
    """The value as an OTLP `AnyValue`."""
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": repr(value)}
    if isinstance(value, (bytes, bytearray)):
        return {"bytesValue": base64.b64encode(value).decode()}
    if hasattr(value, "items"):
        return {"kvlistValue": {str(k): any_value(v) for k, v in value.items()}}
    return {"arrayValue": [any_value(v) for v in value]}


def attributes(of):
    return {k: any_value(v) for k, v in (of or {}).items()}


def trace_id(n):
    return f"{n:032x}" if n else ""


def span_id(n):
    return f"{n:016x}" if n else ""


def flags(parent):
    """What the SDK says of a parent in `flags`: that it knows whether it is remote, and whether it is."""
    return 0x100 | (0x200 if parent is not None and parent.is_remote else 0)


def scope(of):
    return {"name": of.name, "version": of.version or "", "attributes": attributes(of.attributes), "schemaUrl": of.schema_url or ""}


def span_fact(exporter, s):
    context = s.get_span_context()
    out(
        signal="spans", exporter=exporter, traceId=trace_id(context.trace_id), spanId=span_id(context.span_id),
        parentSpanId=span_id(s.parent.span_id if s.parent else 0), traceState=context.trace_state.to_header(),
        flags=flags(s.parent), name=s.name, kind=s.kind.value + 1, start=str(s.start_time), end=str(s.end_time),
        attributes=attributes(s.attributes), droppedAttributes=s.dropped_attributes,
        droppedEvents=s.dropped_events, droppedLinks=s.dropped_links,
        status={"code": s.status.status_code.value, "message": s.status.description or ""},
        events=[{"time": str(e.timestamp), "name": e.name, "attributes": attributes(e.attributes)} for e in s.events],
        links=[
            {"traceId": trace_id(link.context.trace_id), "spanId": span_id(link.context.span_id),
             "flags": flags(link.context), "attributes": attributes(link.attributes)}
            for link in s.links
        ],
        resource=attributes(s.resource.attributes), resourceSchema=s.resource.schema_url,
        scope=scope(s.instrumentation_scope),
    )


def log_fact(exporter, readable):
    r = readable.log_record
    out(
        signal="logs", exporter=exporter, time=str(r.timestamp or 0), observed=str(r.observed_timestamp or 0),
        severity=r.severity_number.value if r.severity_number else 0, severityText=r.severity_text or "",
        eventName=r.event_name or "", body=any_value(r.body), attributes=attributes(r.attributes),
        traceId=trace_id(r.trace_id), spanId=span_id(r.span_id), flags=int(r.trace_flags or 0),
        resource=attributes(readable.resource.attributes), scope=scope(readable.instrumentation_scope),
    )


def number(value):
    return {"intValue": str(value)} if isinstance(value, int) else {"doubleValue": repr(value)}


TYPES = {"Gauge": "gauge", "Sum": "sum", "Histogram": "histogram", "ExponentialHistogram": "exponential_histogram"}


def point_facts(exporter, data):
    for of_resource in data.resource_metrics:
        for of_scope in of_resource.scope_metrics:
            for metric in of_scope.metrics:
                about = metric.data
                for p in about.data_points:
                    fact = dict(
                        signal="metrics", exporter=exporter, name=metric.name, unit=metric.unit or "",
                        description=metric.description or "", type=TYPES[type(about).__name__],
                        temporality=int(getattr(about, "aggregation_temporality", 0)),
                        monotonic=bool(getattr(about, "is_monotonic", False)),
                        time=str(p.time_unix_nano), start=str(p.start_time_unix_nano or 0),
                        attributes=attributes(p.attributes), resource=attributes(of_resource.resource.attributes),
                        scope=scope(of_scope.scope),
                        exemplars=[
                            {"time": str(e.time_unix_nano), "value": number(e.value), "traceId": trace_id(e.trace_id),
                             "spanId": span_id(e.span_id), "attributes": attributes(e.filtered_attributes)}
                            for e in p.exemplars
                        ],
                    )
                    if hasattr(p, "value"):
                        fact["value"] = number(p.value)
                    else:
                        fact |= {"count": str(p.count), "sum": repr(float(p.sum)), "min": repr(float(p.min)), "max": repr(float(p.max))}
                    if hasattr(p, "explicit_bounds"):
                        fact |= {"bounds": [repr(float(b)) for b in p.explicit_bounds], "counts": [str(c) for c in p.bucket_counts]}
                    if hasattr(p, "scale"):
                        fact |= {
                            "scale": p.scale, "zeroCount": str(p.zero_count),
                            "positive": {"offset": p.positive.offset, "counts": [str(c) for c in p.positive.bucket_counts]},
                            "negative": {"offset": p.negative.offset, "counts": [str(c) for c in p.negative.bucket_counts]},
                        }
                    out(**fact)


class Telling:
    """Hands everything on to an exporter and, once it was accepted, tells what it was."""

    def __init__(self, exporter, ok, tell):
        self.exporter, self.ok, self.tell = exporter, ok, tell

    def export(self, batch, **more):
        result = self.exporter.export(batch, **more)
        if result != self.ok:
            out(failed=str(result))
        self.tell(batch)
        return result

    def shutdown(self, *args, **more):
        return self.exporter.shutdown(*args, **more)

    def force_flush(self, timeout_millis=10_000):
        return True


class TellingSpans(Telling, SpanExporter):
    pass


class TellingLogs(Telling, LogRecordExporter):
    pass


class TellingMetrics(Telling, MetricExporter):
    def __init__(self, exporter, ok, tell, temporality):
        MetricExporter.__init__(self, preferred_temporality=temporality)
        Telling.__init__(self, exporter, ok, tell)


def exporters(of, http, grpc):
    if of["protocol"] == "grpc":
        from grpc import Compression as Grpc

        how = {"endpoint": f"http://{grpc}", "insecure": True, "compression": Grpc.Gzip if of["compression"] == "gzip" else Grpc.NoCompression}
        return GrpcSpans(**how), GrpcLogs(**how), GrpcMetrics(**how)
    how = {"compression": Compression.Gzip if of["compression"] == "gzip" else Compression.NoCompression}
    return (
        HttpSpans(endpoint=f"{http}/v1/traces", **how),
        HttpLogs(endpoint=f"{http}/v1/logs", **how),
        HttpMetrics(endpoint=f"{http}/v1/metrics", **how),
    )


def spans(provider):
    tracer = provider.get_tracer("prism.clients", "1.2.3", schema_url="https://opentelemetry.io/schemas/1.30.0", attributes={"lib": "test"})
    ids = RandomIdGenerator()
    state = TraceState([("vendor", "abc"), ("tenant@vendor", "x y")])
    remote = SpanContext(ids.generate_trace_id(), ids.generate_span_id(), True, TraceFlags(1), state)
    context = trace.set_span_in_context(trace.NonRecordingSpan(remote))
    with tracer.start_as_current_span("GET /grüße/{id} ✓", context=context, kind=SpanKind.SERVER, attributes=ODD) as root:
        links = [Link(remote, {"why": "because", "n": 2**53 + 1}), Link(root.get_span_context())]
        with tracer.start_as_current_span("child", kind=SpanKind.CLIENT, links=links) as child:
            child.add_event("with attributes", {"text": "ünï", "list": [1, 2]}, timestamp=time.time_ns() - 7)
            child.add_event("bare")
            child.record_exception(ValueError("it broke: ✗"))
            child.set_status(Status(StatusCode.ERROR, "it broke: ✗"))
        with tracer.start_as_current_span("ok", kind=SpanKind.PRODUCER) as ok:
            ok.set_status(StatusCode.OK)
    limited = tracer.start_span("more than the limits", kind=SpanKind.CONSUMER, start_time=time.time_ns() - 1_000_000_007)
    limited.set_attributes({f"key {i}": i for i in range(30)})
    for i in range(9):
        limited.add_event(f"event {i}")
        limited.add_link(remote, {"i": i})
    limited.end(time.time_ns() - 1_000_000_007)
    return root.get_span_context()


def logs(provider, within):
    logger = provider.get_logger("prism.clients.logs", "4.5", attributes={"lib": "test"})
    context = trace.set_span_in_context(trace.NonRecordingSpan(within))
    now = time.time_ns()
    bodies = ["text: ünï \U0001f680", "", 2**53 + 1, 1.5, float("nan"), True, b"\x00\xff", [1, "two", [3.5]], DEEP]
    for i, body in enumerate(bodies):
        logger.emit(LogRecord(
            timestamp=now + i, observed_timestamp=now + 1_000 + i, context=context if i % 2 else None,
            severity_number=SeverityNumber(1 + i * 2), severity_text=f"S{i}", body=body,
            attributes={**ODD, **DEEP, "test.id": f"body {i}"}, event_name="an.event" if i == 3 else None,
        ))
    logger.emit(LogRecord(observed_timestamp=now, attributes={"test.id": "bare"}, body="no time, no severity"))


def metrics(provider, within):
    meter = provider.get_meter("prism.clients.metrics", "6.7", attributes={"lib": "test"})
    context = trace.set_span_in_context(trace.NonRecordingSpan(within))
    requests = meter.create_counter("requests", "1", "how many, с юникодом")
    requests.add(2**53 + 1, {"point": "big", "list": [1, 2]}, context=context)
    requests.add(3, {"point": "small", "yes": True})
    meter.create_counter("seconds", "s").add(0.25, {"point": "double"}, context=context)
    meter.create_up_down_counter("queue").add(-7, {"point": "down"})
    gauge = meter.create_gauge("temperature", "Cel")
    gauge.set(21, {"point": "int"})
    gauge.set(-0.0, {"point": "zero"})
    histogram = meter.create_histogram("duration", "ms", "explicit", explicit_bucket_boundaries_advisory=[1.0, 5.5, 100.0])
    for value in [0.5, 5.5, 7.25, 1e6]:
        histogram.record(value, {"point": "h"}, context=context)
    exponential = meter.create_histogram("size", "By", "exponential")
    for value in [0, 1, 1.5, 1024, 1e-9, 1e12]:
        exponential.record(value, {"point": "e"}, context=context)
    meter.create_observable_counter("observed", [lambda _: [Observation(17, {"point": "o"})]])
    # This SDK takes no value that is not finite; that for JavaScript does.
    meter.create_observable_gauge("watched", [lambda _: [Observation(1.75, {"point": "w"})]])


def everything(command):
    for of in command["exporters"]:
        name = of["name"]
        to_spans, to_logs, to_metrics = exporters(of, command["http"], command["grpc"])
        resource = Resource({"service.name": "clients-python", "exporter": name, "ünï": "ж", "count": 7, "list": ["a", "b"]}, "https://opentelemetry.io/schemas/1.31.0")
        limits = SpanLimits(max_span_attributes=24, max_events=4, max_links=5)
        tracers = TracerProvider(resource=resource, span_limits=limits)
        tracers.add_span_processor(BatchSpanProcessor(TellingSpans(to_spans, SpanExportResult.SUCCESS, lambda batch, n=name: [span_fact(n, s) for s in batch])))
        within = spans(tracers)
        loggers = LoggerProvider(resource=resource)
        loggers.add_log_record_processor(BatchLogRecordProcessor(TellingLogs(to_logs, LogRecordExportResult.SUCCESS, lambda batch, n=name: [log_fact(n, r) for r in batch])))
        logs(loggers, within)
        delta = AggregationTemporality.DELTA
        temporality = {Counter: delta, ObservableCounter: delta, Histogram: delta} if of["compression"] == "gzip" else None
        telling = TellingMetrics(to_metrics, MetricExportResult.SUCCESS, lambda data, n=name: point_facts(n, data), temporality)
        meters = MeterProvider(
            [PeriodicExportingMetricReader(telling, export_interval_millis=3_600_000)], resource,
            exemplar_filter=AlwaysOnExemplarFilter(),
            views=[View(instrument_name="size", aggregation=ExponentialBucketHistogramAggregation()), View(instrument_name="requests", attribute_keys={"point"})],
        )
        metrics(meters, within)
        for provider in [tracers, loggers, meters]:
            provider.shutdown()
    out(done="everything")


def one_span(exporter, name, provider=TracerProvider(resource=Resource({"service.name": "clients-python"}))):
    span = provider.get_tracer("one").start_span(name)
    span.end()
    return exporter.export([span]) == SpanExportResult.SUCCESS


def one(command):
    """Everything that is said in the environment, nothing in the program."""
    os.environ.update(command["env"])
    exporter = GrpcSpans() if command["protocol"] == "grpc" else HttpSpans()
    success = one_span(exporter, command["span"])
    exporter.shutdown()
    for name in command["env"]:
        del os.environ[name]
    out(done="one", success=success)


def steady(command):
    """One span an export, through every protocol at once."""

    def through(protocol):
        if protocol == "grpc":
            exporter = GrpcSpans(endpoint=f"http://{command['grpc']}", insecure=True, timeout=60)
        else:
            exporter = HttpSpans(endpoint=f"{command['http']}/v1/traces", timeout=60)
        for i in range(command["spans"]):
            name = f"{protocol} {i}"
            out(protocol=protocol, span=name, exports=1 if one_span(exporter, name) else 0)
        exporter.shutdown()

    threads = [threading.Thread(target=through, args=[protocol]) for protocol in command["protocols"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    out(done="steady")


# What exporters say of failures goes to standard error, which the tests show where one fails.
logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
logging.getLogger("opentelemetry.attributes").setLevel(logging.ERROR)
for line in sys.stdin:
    command = json.loads(line)
    {"everything": everything, "one": one, "steady": steady}[command["do"]](command)
