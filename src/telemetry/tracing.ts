import { hostname } from 'node:os';
import {
  type Span as ApiSpan,
  type Tracer as ApiTracer,
  type Attributes,
  type Context,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  type TextMapGetter,
  TraceFlags,
  trace,
} from '@opentelemetry/api';
import { type ExportResult, ExportResultCode, W3CTraceContextPropagator } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import {
  BasicTracerProvider,
  BatchSpanProcessor,
  ParentBasedSampler,
  type SpanExporter,
  type SpanProcessor,
  TraceIdRatioBasedSampler,
} from '@opentelemetry/sdk-trace-base';
import type { Log, Meter, Span, SpanAttributes, SpanName, Tracer } from '../ports.ts';
import { methodLabel, OTHER } from './counters.ts';

interface TracingOptions {
  readonly endpoint: string;
  readonly headers: Readonly<Record<string, string>>;
  /** 0 to 1. */
  readonly sample: number;
  readonly serviceName: string;
  readonly version: string;
  readonly meter: Pick<Meter, 'spans'>;
  readonly log: Pick<Log, 'info' | 'warn'>;
}

export interface OpenTracer extends Tracer {
  /** Sends the spans that are left, in the time of one export at most; rejects if that fails. */
  stop(): Promise<void>;
}

/**
 * Spans by OpenTelemetry, sent by OTLP over HTTP. Only who is to trace imports this module: it loads 250 others, which
 * takes 80 ms. Nothing is registered with OpenTelemetry's globals, so that several gateways can live in one process, and no context is
 * kept in the background: a span travels with the request it belongs to.
 */
export function createTracer(options: TracingOptions): OpenTracer {
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({
      'service.name': options.serviceName,
      'service.version': options.version,
      'service.instance.id': hostname(),
    }),
    sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(options.sample) }),
    spanProcessors: [openExport(options)],
  });
  const tracer = provider.getTracer('patchgate', options.version);
  return {
    request(headers) {
      const context = propagator.extract(ROOT_CONTEXT, headers, getter);
      return new OpenSpan(tracer, tracer.startSpan('request', { kind: SpanKind.SERVER }, context), 'request');
    },
    stop: () => provider.shutdown(),
  };
}

/** Ignores what is malformed: a new trace begins then (W3C Trace Context, section 4.3). */
const propagator = new W3CTraceContextPropagator();

type Headers = Readonly<Record<string, string | string[] | undefined>>;
const getter: TextMapGetter<Headers> = {
  keys: (headers) => Object.keys(headers),
  get: (headers, name) => headers[name],
};

/** The words of OpenTelemetry's conventions where they have one: HTTP and database spans, both stable. */
const ATTRIBUTES: Readonly<Record<Exclude<keyof SpanAttributes, 'method' | 'origin' | 'route'>, string>> = {
  scheme: 'url.scheme',
  status: 'http.response.status_code',
  error: 'error.type',
  resends: 'http.request.resend_count',
  code: 'patchgate.code',
  tenant: 'patchgate.tenant',
  cache: 'patchgate.cache',
  waitSeconds: 'patchgate.quota.wait',
  decision: 'patchgate.quota.decision',
  account: 'patchgate.account',
  upstream: 'patchgate.upstream',
  credential: 'patchgate.credential',
};
type Named = keyof typeof ATTRIBUTES;

const redis = (name: string) => ({ name, kind: SpanKind.CLIENT, attributes: { 'db.system.name': 'redis' } });
const inside = (name: string) => ({ name, kind: SpanKind.INTERNAL, attributes: {} });

const WORKS: Readonly<Record<SpanName, { name: string; kind: SpanKind; attributes: Attributes }>> = {
  wait: inside('wait for a slot'),
  join: inside('wait for the same request'),
  refresh: inside('refresh'),
  credential: inside('wait for a credential'),
  send: { name: 'send', kind: SpanKind.CLIENT, attributes: {} },
  decide: redis('redis quota'),
  'cache lookup': redis('redis cache read'),
  'cache announce': redis('redis cache announce'),
  'idempotency begin': redis('redis idempotency begin'),
  invalidate: redis('redis cache invalidate'),
};

class OpenSpan implements Span {
  readonly #tracer: ApiTracer;
  readonly #span: ApiSpan;
  readonly #work: SpanName | 'request';

  constructor(tracer: ApiTracer, span: ApiSpan, work: SpanName | 'request') {
    this.#tracer = tracer;
    this.#span = span;
    this.#work = work;
  }

  get traceId(): string {
    return this.#span.spanContext().traceId;
  }

  headers(): string[] {
    const headers: string[] = [];
    propagator.inject(this.#context(), headers, { set: (list, name, value) => void list.push(name, value) });
    return headers;
  }

  start(work: SpanName, facts?: SpanAttributes, linked?: Span | null): Span {
    // Spans within it are not recorded either, and cost nothing.
    if (!this.#isSampled()) return this;
    const { name, kind, attributes } = WORKS[work];
    const links = linked instanceof OpenSpan ? [{ context: linked.#span.spanContext() }] : [];
    const child = this.#tracer.startSpan(name, { kind, attributes, links }, this.#context());
    const span = new OpenSpan(this.#tracer, child, work);
    if (facts !== undefined) span.#set(facts);
    return span;
  }

  end(facts?: SpanAttributes): void {
    if (!this.#isSampled()) return;
    if (facts !== undefined) this.#set(facts);
    this.#span.end();
  }

  #set(facts: SpanAttributes): void {
    const { method, route, origin, ...named } = facts;
    for (const [fact, value] of Object.entries(named)) {
      if (value !== '') this.#span.setAttribute(ATTRIBUTES[fact as Named], value);
    }
    if (method !== undefined) this.#setRequest(methodLabel(method), route ?? '');
    if (origin !== undefined) this.#span.setAttributes(addressOf(origin));
    const failed = this.#work === 'send' && facts.status !== undefined && facts.status >= 400;
    if (failed) this.#span.setAttribute('error.type', String(facts.status));
    if (failed || facts.error !== undefined) this.#span.setStatus({ code: SpanStatusCode.ERROR });
  }

  /** Named by the template: a name with a path in it would be one of its own for each record that is asked for. */
  #setRequest(method: string, route: string): void {
    const known = method === OTHER ? '_OTHER' : method;
    const name = method === OTHER ? 'HTTP' : method;
    this.#span.updateName(route === '' ? name : `${name} ${route}`);
    this.#span.setAttribute('http.request.method', known);
    if (route !== '') this.#span.setAttribute(this.#work === 'send' ? 'url.template' : 'http.route', route);
  }

  #isSampled(): boolean {
    return (this.#span.spanContext().traceFlags & TraceFlags.SAMPLED) !== 0;
  }

  #context(): Context {
    return trace.setSpan(ROOT_CONTEXT, this.#span);
  }
}

function addressOf(origin: string): Attributes {
  const { hostname: host, port, protocol } = new URL(origin);
  return { 'server.address': host, 'server.port': Number(port) || (protocol === 'https:' ? 443 : 80) };
}

/** Spans that have ended and are not delivered yet: some megabytes at most. Further spans are dropped and counted. */
export const MAX_PENDING = 2_048;
const BATCH = 512;
const BATCH_MS = 1_000;
/** The time of one export, its retries included. The end of the process waits for no more than one. */
const EXPORT_TIMEOUT_MS = 3_000;

/** Keeps spans in a bounded queue, sends them in batches, and gives up when the collector does not take them in time. */
function openExport({
  endpoint: url,
  headers,
  meter,
  log,
}: Pick<TracingOptions, 'endpoint' | 'headers' | 'meter' | 'log'>): SpanProcessor {
  const otlp = new OTLPTraceExporter({ url, headers: { ...headers }, timeoutMillis: EXPORT_TIMEOUT_MS });
  // From zero on, or an alert on the first would not see it.
  for (const outcome of ['exported', 'failed', 'dropped'] as const) meter.spans(outcome, 0);
  let pending = 0;
  let failing = false;
  const settled = (spans: number, { code, error }: ExportResult): void => {
    pending -= spans;
    const delivered = code === ExportResultCode.SUCCESS;
    meter.spans(delivered ? 'exported' : 'failed', spans);
    // The change only: a line for each batch would be noise.
    if (delivered && failing) log.info({}, 'traces are delivered again');
    if (!delivered && !failing)
      log.warn({ reason: error?.message }, 'traces cannot be delivered: spans are lost until they can');
    failing = !delivered;
  };
  const exporter: SpanExporter = {
    export: (spans, done) =>
      otlp.export(spans, (result) => {
        settled(spans.length, result);
        done(result);
      }),
    shutdown: () => otlp.shutdown(),
  };
  const batches = new BatchSpanProcessor(exporter, {
    maxQueueSize: MAX_PENDING,
    maxExportBatchSize: BATCH,
    scheduledDelayMillis: BATCH_MS,
    exportTimeoutMillis: EXPORT_TIMEOUT_MS + 1_000,
  });
  return {
    onStart() {},
    onEnd(span) {
      // The SDK's batches would drop it uncounted.
      if (pending >= MAX_PENDING) return meter.spans('dropped', 1);
      pending += 1;
      batches.onEnd(span);
    },
    forceFlush: () => batches.forceFlush(),
    shutdown: () => batches.shutdown(),
  };
}
