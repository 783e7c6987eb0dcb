import { type ExportResult, ExportResultCode } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import {
  BatchSpanProcessor,
  type ReadableSpan,
  type SpanExporter,
  type SpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import type { Log, Meter } from '../ports.ts';

export interface SpanExportOptions {
  readonly endpoint: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly meter: Pick<Meter, 'spans'>;
  readonly log: Pick<Log, 'info' | 'warn'>;
}

/** Spans that have ended and are not delivered yet: some megabytes at most. Further spans are dropped and counted. */
export const MAX_PENDING = 2_048;
const BATCH = 512;
const BATCH_MS = 1_000;
/** The time of one export, its retries included. The end of the process waits for no more than one. */
export const EXPORT_TIMEOUT_MS = 3_000;

/** Keeps spans in a bounded queue, sends them in batches, and gives up when the collector does not take them in time. */
export function openExport(options: SpanExportOptions): SpanProcessor {
  const { endpoint: url, headers } = options;
  const otlp = new OTLPTraceExporter({ url, headers: { ...headers }, timeoutMillis: EXPORT_TIMEOUT_MS });
  // From zero on, or an alert on the first would not see it.
  for (const outcome of ['exported', 'failed', 'dropped'] as const) options.meter.spans(outcome, 0);
  const exporter = new WatchedExporter(otlp, options);
  const batches = new BatchSpanProcessor(exporter, {
    maxQueueSize: MAX_PENDING,
    maxExportBatchSize: BATCH,
    scheduledDelayMillis: BATCH_MS,
    exportTimeoutMillis: EXPORT_TIMEOUT_MS + 1_000,
  });
  return new BoundedProcessor(batches, exporter, options.meter);
}

/** Counts spans that are delivered and those that are not, and logs the change only: a line for each batch would be noise. */
class WatchedExporter implements SpanExporter {
  readonly #inner: SpanExporter;
  readonly #meter: SpanExportOptions['meter'];
  readonly #log: SpanExportOptions['log'];
  #failing = false;
  settled = 0;

  constructor(inner: SpanExporter, { meter, log }: SpanExportOptions) {
    this.#inner = inner;
    this.#meter = meter;
    this.#log = log;
  }

  export(spans: ReadableSpan[], done: (result: ExportResult) => void): void {
    this.#inner.export(spans, (result) => {
      this.settled += spans.length;
      const delivered = result.code === ExportResultCode.SUCCESS;
      this.#meter.spans(delivered ? 'exported' : 'failed', spans.length);
      if (delivered === this.#failing) this.#report(delivered, result.error);
      done(result);
    });
  }

  shutdown(): Promise<void> {
    return this.#inner.shutdown();
  }

  #report(delivered: boolean, error: Error | undefined): void {
    this.#failing = !delivered;
    if (delivered) this.#log.info({}, 'traces are delivered again');
    else this.#log.warn({ reason: error?.message }, 'traces cannot be delivered: spans are lost until they can');
  }
}

/** Counts the spans that the SDK's batches would drop uncounted. */
class BoundedProcessor implements SpanProcessor {
  readonly #batches: SpanProcessor;
  readonly #exporter: WatchedExporter;
  readonly #meter: SpanExportOptions['meter'];
  #taken = 0;

  constructor(batches: SpanProcessor, exporter: WatchedExporter, meter: SpanExportOptions['meter']) {
    this.#batches = batches;
    this.#exporter = exporter;
    this.#meter = meter;
  }

  onStart(): void {}

  onEnd(span: ReadableSpan): void {
    if (this.#taken - this.#exporter.settled >= MAX_PENDING) {
      this.#meter.spans('dropped', 1);
      return;
    }
    this.#taken += 1;
    this.#batches.onEnd(span);
  }

  forceFlush(): Promise<void> {
    return this.#batches.forceFlush();
  }

  shutdown(): Promise<void> {
    return this.#batches.shutdown();
  }
}
