import { type Clock, elapsed } from '../clock.ts';
import type { Settings } from '../config/settings.ts';
import type { Log, Meter, Tracer } from '../ports.ts';
import type { OpenTracer } from '../telemetry/tracing.ts';

/** The traces of a gateway. */
export interface Tracing {
  /** Null: there are none, and never will be. */
  readonly tracer: Tracer | null;
  /** Loads what traces need; to be awaited before the first request. */
  start(): Promise<void>;
  /** Sends what is left, if that can be done within {@link FLUSH_MS}. */
  stop(): Promise<void>;
}

/** Above what an export may take with all its attempts: nothing of it is left to keep the process alive. */
const FLUSH_MS = 3_500;

/** OpenTelemetry is loaded here, and only if spans have somewhere to go. */
export function openTracing(options: {
  readonly settings: Settings;
  readonly version: string;
  readonly clock: Clock;
  readonly meter: Meter;
  readonly log: Log;
}): Tracing {
  const { exporter } = options.settings.tracing;
  if (exporter === null) return { tracer: null, start: async () => {}, stop: async () => {} };
  const { clock, log } = options;
  let open: OpenTracer | null = null;
  return {
    tracer: { request: (headers) => open?.request(headers) ?? null },
    async start() {
      const { createTracer } = await import('../telemetry/tracing.ts');
      const headers = Object.fromEntries([...exporter.headers].map(([name, value]) => [name, value.reveal()]));
      open = createTracer({ ...options, ...exporter, headers });
    },
    async stop() {
      // Told by the exporter already.
      const stopped = open?.stop().catch(() => log.debug({}, 'spans were left behind'));
      open = null;
      await Promise.race([stopped, elapsed(clock, FLUSH_MS)]);
    },
  };
}
