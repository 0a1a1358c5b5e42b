// A program instrumented with the OpenTelemetry SDK for JavaScript, told what to do line by line: the same commands and the
// same facts as `../python/client.py`. What it prints comes from the SDK's own objects, never from encoded bytes.

import { createInterface } from 'node:readline';
import { ROOT_CONTEXT, SpanKind, SpanStatusCode, TraceFlags, ValueType, createTraceState, trace } from '@opentelemetry/api';
import { SeverityNumber } from '@opentelemetry/api-logs';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { AggregationTemporality, AggregationType, DataPointType, MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { OTLPTraceExporter as JsonSpans } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtoSpans } from '@opentelemetry/exporter-trace-otlp-proto';
import { OTLPTraceExporter as GrpcSpans } from '@opentelemetry/exporter-trace-otlp-grpc';
import { OTLPLogExporter as JsonLogs } from '@opentelemetry/exporter-logs-otlp-http';
import { OTLPLogExporter as ProtoLogs } from '@opentelemetry/exporter-logs-otlp-proto';
import { OTLPLogExporter as GrpcLogs } from '@opentelemetry/exporter-logs-otlp-grpc';
import { OTLPMetricExporter as JsonMetrics } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPMetricExporter as ProtoMetrics } from '@opentelemetry/exporter-metrics-otlp-proto';
import { OTLPMetricExporter as GrpcMetrics } from '@opentelemetry/exporter-metrics-otlp-grpc';

const ODD = {
  text: 'grüße, 世界 \u{1f680} "quoted" \\ \n\t end',
  empty: '',
  'a key, with = odd `ticks`': 'ключ',
  int: 42,
  'int.big': Number.MAX_SAFE_INTEGER,
  'int.min': Number.MIN_SAFE_INTEGER,
  double: 0.1,
  'double.tiny': 5e-324,
  'double.nan': NaN,
  'double.inf': Infinity,
  'double.minus': -Infinity,
  yes: true,
  no: false,
  texts: ['a', '', 'ü'],
  ints: [1, -1, 4294967296],
  doubles: [1.5, 2.5],
  bools: [true, false],
  none: [],
};
const DEEP = { map: { list: [1, 'two', 3.5, null, { x: new Uint8Array([0, 255]) }], empty: {} }, bytes: new Uint8Array([0, 1, 254]) };

const out = fact => process.stdout.write(JSON.stringify(fact) + '\n');
const nanos = ([seconds, rest]) => (BigInt(seconds) * 1_000_000_000n + BigInt(rest)).toString();
const double = n => (Object.is(n, -0) ? '-0.0' : String(n));

/** The value as an OTLP `AnyValue`. JSON has no NaN and no infinity: the JSON exporters send null for them. */
function anyValue(value, json) {
  if (typeof value === 'string') return { stringValue: value };
  if (typeof value === 'boolean') return { boolValue: value };
  if (typeof value === 'number') {
    if (Number.isInteger(value)) return { intValue: BigInt(value).toString() };
    return json && !Number.isFinite(value) ? {} : { doubleValue: double(value) };
  }
  if (value instanceof Uint8Array) return { bytesValue: Buffer.from(value).toString('base64') };
  if (Array.isArray(value)) return { arrayValue: value.map(v => anyValue(v, json)) };
  if (value && typeof value === 'object') return { kvlistValue: attributes(value, json) };
  return {};
}
const attributes = (of, json) => Object.fromEntries(Object.entries(of ?? {}).map(([k, v]) => [k, anyValue(v, json)]));
const flags = (context, remote) => (context.traceFlags & 0xff) | 0x100 | (remote ? 0x200 : 0);
const scope = (s, json) => ({ name: s.name, version: s.version ?? '', attributes: attributes(s.attributes, json), schemaUrl: s.schemaUrl ?? '' });

function spanFact(of, s) {
  const context = s.spanContext();
  const json = of.protocol === 'json';
  out({
    signal: 'spans', exporter: of.name, traceId: context.traceId, spanId: context.spanId, parentSpanId: s.parentSpanContext?.spanId ?? '',
    traceState: context.traceState?.serialize() ?? '', flags: flags(context, s.parentSpanContext?.isRemote), name: s.name, kind: s.kind + 1,
    start: nanos(s.startTime), end: nanos(s.endTime), attributes: attributes(s.attributes, json),
    droppedAttributes: s.droppedAttributesCount, droppedEvents: s.droppedEventsCount, droppedLinks: s.droppedLinksCount,
    status: { code: s.status.code, message: s.status.message ?? '' },
    events: s.events.map(e => ({ time: nanos(e.time), name: e.name, attributes: attributes(e.attributes, json) })),
    links: s.links.map(l => ({
      traceId: l.context.traceId, spanId: l.context.spanId, traceState: l.context.traceState?.serialize() ?? '',
      flags: flags(l.context, l.context.isRemote), attributes: attributes(l.attributes, json),
    })),
    resource: attributes(s.resource.attributes, json), resourceSchema: s.resource.schemaUrl ?? '', scope: scope(s.instrumentationScope, json),
  });
}

function logFact(of, r) {
  const json = of.protocol === 'json';
  out({
    signal: 'logs', exporter: of.name, time: nanos(r.hrTime), observed: nanos(r.hrTimeObserved), severity: r.severityNumber ?? 0,
    severityText: r.severityText ?? '', eventName: r.eventName ?? '', body: anyValue(r.body, json), attributes: attributes(r.attributes, json),
    traceId: r.spanContext?.traceId ?? '', spanId: r.spanContext?.spanId ?? '', flags: r.spanContext?.traceFlags ?? 0,
    resource: attributes(r.resource.attributes, json), scope: scope(r.instrumentationScope, json),
  });
}

const TYPES = { [DataPointType.GAUGE]: 'gauge', [DataPointType.SUM]: 'sum', [DataPointType.HISTOGRAM]: 'histogram', [DataPointType.EXPONENTIAL_HISTOGRAM]: 'exponential_histogram' };

function pointFacts(of, data) {
  const json = of.protocol === 'json';
  for (const { scope: s, metrics } of data.scopeMetrics) {
    for (const m of metrics) {
      const type = TYPES[m.dataPointType];
      for (const p of m.dataPoints) {
        const fact = {
          signal: 'metrics', exporter: of.name, name: m.descriptor.name, unit: m.descriptor.unit, description: m.descriptor.description, type,
          // The API counts from 0, the protocol from 1; gauges have none.
          temporality: type === 'gauge' ? 0 : m.aggregationTemporality + 1, monotonic: m.isMonotonic ?? false,
          time: nanos(p.endTime), start: nanos(p.startTime), attributes: attributes(p.attributes, json),
          resource: attributes(data.resource.attributes, json), scope: scope(s, json), exemplars: [],
        };
        const v = p.value;
        if (typeof v === 'number') {
          fact.value = m.descriptor.valueType === ValueType.INT ? { intValue: String(v) } : { doubleValue: double(v) };
        } else {
          Object.assign(fact, { count: String(v.count), sum: double(v.sum), min: double(v.min), max: double(v.max) });
          if (v.buckets) Object.assign(fact, { bounds: v.buckets.boundaries.map(double), counts: v.buckets.counts.map(String) });
          else {
            const buckets = b => ({ offset: b.offset, counts: b.bucketCounts.map(String) });
            Object.assign(fact, { scale: v.scale, zeroCount: String(v.zeroCount), positive: buckets(v.positive), negative: buckets(v.negative) });
          }
        }
        out(fact);
      }
    }
  }
}

/** Hands everything on to an exporter, and tells what it was. */
function telling(exporter, tell) {
  return {
    export: (batch, done) => exporter.export(batch, result => {
      if (result.code !== 0) out({ failed: String(result.error) });
      tell(batch);
      done(result);
    }),
    shutdown: () => exporter.shutdown(),
    forceFlush: () => exporter.forceFlush?.() ?? Promise.resolve(),
    selectAggregationTemporality: type => exporter.selectAggregationTemporality(type),
    selectAggregation: type => exporter.selectAggregation(type),
  };
}

const CLASSES = { json: [JsonSpans, JsonLogs, JsonMetrics], http: [ProtoSpans, ProtoLogs, ProtoMetrics], grpc: [GrpcSpans, GrpcLogs, GrpcMetrics] };

function exporters({ protocol, compression }, http, grpc) {
  const [Spans, Logs, Metrics] = CLASSES[protocol];
  const to = path => ({ url: protocol === 'grpc' ? `http://${grpc}` : `${http}/v1/${path}`, compression });
  const temporalityPreference = compression === 'gzip' ? AggregationTemporality.DELTA : AggregationTemporality.CUMULATIVE;
  return [new Spans(to('traces')), new Logs(to('logs')), new Metrics({ ...to('metrics'), temporalityPreference })];
}

const hex = digits => Array.from({ length: digits }, () => '123456789abcdef'[Math.floor(Math.random() * 15)]).join('');

function spans(provider) {
  const tracer = provider.getTracer('prism.clients', '1.2.3', { schemaUrl: 'https://opentelemetry.io/schemas/1.30.0' });
  const remote = { traceId: hex(32), spanId: hex(16), traceFlags: TraceFlags.SAMPLED, isRemote: true, traceState: createTraceState('vendor=abc,tenant@vendor=x y') };
  const root = tracer.startSpan('GET /grüße/{id} ✓', { kind: SpanKind.SERVER, attributes: ODD }, trace.setSpanContext(ROOT_CONTEXT, remote));
  const within = trace.setSpan(ROOT_CONTEXT, root);
  const links = [{ context: remote, attributes: { why: 'because', n: 2 ** 40 } }, { context: root.spanContext() }];
  const child = tracer.startSpan('child', { kind: SpanKind.CLIENT, links }, within);
  child.addEvent('with attributes', { text: 'ünï', list: [1, 2] }, [Math.floor(Date.now() / 1000), 7]);
  child.addEvent('bare');
  child.recordException(new TypeError('it broke: ✗'));
  child.setStatus({ code: SpanStatusCode.ERROR, message: 'it broke: ✗' });
  child.end();
  const ok = tracer.startSpan('ok', { kind: SpanKind.PRODUCER }, within);
  ok.setStatus({ code: SpanStatusCode.OK });
  ok.end();
  root.end();
  const at = [Math.floor(Date.now() / 1000) - 1, 999_999_999];
  const limited = tracer.startSpan('more than the limits', { kind: SpanKind.CONSUMER, startTime: at }, ROOT_CONTEXT);
  for (let i = 0; i < 30; i++) limited.setAttribute(`key ${i}`, i);
  for (let i = 0; i < 9; i++) limited.addEvent(`event ${i}`).addLink({ context: remote, attributes: { i } });
  limited.end(at);
  return within;
}

function logs(provider, within) {
  const logger = provider.getLogger('prism.clients.logs', '4.5');
  const seconds = Math.floor(Date.now() / 1000);
  const bodies = ['text: ünï \u{1f680}', '', 2 ** 50, 1.5, true, new Uint8Array([0, 255]), [1, 'two', [3.5]], DEEP];
  bodies.forEach((body, i) => logger.emit({
    timestamp: [seconds, i], observedTimestamp: [seconds, 1000 + i], context: i % 2 ? within : ROOT_CONTEXT, severityNumber: 1 + i * 2,
    severityText: `S${i}`, body, attributes: { ...ODD, ...DEEP, 'test.id': `body ${i}` }, eventName: i === 3 ? 'an.event' : undefined,
  }));
  logger.emit({ body: 'no time, no severity', attributes: { 'test.id': 'bare' }, severityNumber: SeverityNumber.UNSPECIFIED, context: ROOT_CONTEXT });
}

function metrics(provider, json) {
  const meter = provider.getMeter('prism.clients.metrics', '6.7');
  const int = { valueType: ValueType.INT };
  const requests = meter.createCounter('requests', { ...int, unit: '1', description: 'how many, с юникодом' });
  requests.add(Number.MAX_SAFE_INTEGER, { point: 'big', list: [1, 2] });
  requests.add(3, { point: 'small', yes: true });
  meter.createCounter('seconds', { unit: 's' }).add(0.25, { point: 'double' });
  meter.createUpDownCounter('queue', int).add(-7, { point: 'down' });
  const gauge = meter.createGauge('temperature', { unit: 'Cel' });
  gauge.record(-2.5, { point: 'double' });
  gauge.record(21, { point: 'whole' });
  const odd = json ? {} : { nan: NaN, inf: Infinity, minus: -Infinity };
  meter.createObservableGauge('watched').addCallback(r => {
    r.observe(1.75, { point: 'w' });
    for (const [point, value] of Object.entries(odd)) r.observe(value, { point });
  });
  meter.createObservableCounter('observed', int).addCallback(r => r.observe(17, { point: 'o' }));
  const histogram = meter.createHistogram('duration', { unit: 'ms', description: 'explicit', advice: { explicitBucketBoundaries: [1, 5.5, 100] } });
  for (const value of [0.5, 5.5, 7.25, 1e6]) histogram.record(value, { point: 'h' });
  const exponential = meter.createHistogram('size', { unit: 'By', description: 'exponential' });
  for (const value of [0, 1, 1.5, 1024, 1e-9, 1e12]) exponential.record(value, { point: 'e' });
}

async function everything({ exporters: all, http, grpc }) {
  for (const of of all) {
    const [toSpans, toLogs, toMetrics] = exporters(of, http, grpc);
    const attributes = { 'service.name': 'clients-node', exporter: of.name, 'ünï': 'ж', count: 7, list: ['a', 'b'] };
    const resource = resourceFromAttributes(attributes, { schemaUrl: 'https://opentelemetry.io/schemas/1.31.0' });
    const spanProcessors = [new BatchSpanProcessor({ exporter: telling(toSpans, batch => batch.forEach(s => spanFact(of, s))) })];
    const tracers = new TracerProvider({ resource, spanLimits: { attributeCountLimit: 24, eventCountLimit: 4, linkCountLimit: 5 }, spanProcessors });
    const within = spans(tracers);
    const processors = [new BatchLogRecordProcessor({ exporter: telling(toLogs, batch => batch.forEach(r => logFact(of, r))) })];
    const loggers = new LoggerProvider({ resource, processors });
    logs(loggers, within);
    const readers = [new PeriodicExportingMetricReader({ exporter: telling(toMetrics, data => pointFacts(of, data)), exportIntervalMillis: 3_600_000 })];
    const views = [{ instrumentName: 'size', aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM } }];
    const meters = new MeterProvider({ resource, readers, views });
    metrics(meters, of.protocol === 'json');
    for (const provider of [tracers, loggers, meters]) await provider.shutdown();
  }
  out({ done: 'everything' });
}

function madeSpan(name) {
  let finished;
  const spanProcessors = [{ onStart() {}, onEnd: span => { finished = span; }, shutdown: async () => {}, forceFlush: async () => {} }];
  const provider = new TracerProvider({ resource: resourceFromAttributes({ 'service.name': 'clients-node' }), spanProcessors });
  provider.getTracer('one').startSpan(name, {}, ROOT_CONTEXT).end();
  return finished;
}

const exported = (exporter, span) => new Promise(done => exporter.export([span], result => done(result.code === 0)));

/** Everything that is said in the environment, nothing in the program. */
async function one({ env, protocol, span }) {
  Object.assign(process.env, env);
  const exporter = new CLASSES[protocol][0]();
  const success = await exported(exporter, madeSpan(span));
  await exporter.shutdown();
  for (const name of Object.keys(env)) delete process.env[name];
  out({ done: 'one', success });
}

/** One span an export, through every protocol at once. */
async function steady({ protocols, http, grpc, spans: count }) {
  const through = async protocol => {
    const url = protocol === 'grpc' ? `http://${grpc}` : `${http}/v1/traces`;
    const exporter = new CLASSES[protocol][0]({ url, timeoutMillis: 60_000 });
    for (let i = 0; i < count; i++) {
      const span = madeSpan(`${protocol} ${i}`);
      let exports = 1;
      // The gRPC exporter of this SDK never tries again itself, so that its application does.
      while (!(await exported(exporter, span)) && exports < 100) {
        exports += 1;
        await new Promise(done => setTimeout(done, 200));
      }
      out({ protocol, span: span.name, exports });
    }
    await exporter.shutdown();
  };
  await Promise.all(protocols.map(through));
  out({ done: 'steady' });
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  await { everything, one, steady }[command.do](command);
}
