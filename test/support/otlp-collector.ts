import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

type Value = string | number | boolean;

/** A span as it came over the wire, flattened. */
export interface ReceivedSpan {
  readonly name: string;
  readonly kind: 'inside' | 'server' | 'client';
  readonly traceId: string;
  readonly spanId: string;
  /** Null for the first of a trace. */
  readonly parent: string | null;
  readonly state: string | null;
  readonly attributes: Readonly<Record<string, Value>>;
  readonly failed: boolean;
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
  readonly startMs: number;
  readonly tookMs: number;
  readonly resource: Readonly<Record<string, Value>>;
}

export interface Collector {
  readonly endpoint: string;
  /** All spans so far. */
  spans(): readonly ReceivedSpan[];
  /** Spans of one trace: the server's first, then by their start. */
  of(traceId: string): readonly ReceivedSpan[];
  readonly requests: readonly { readonly url: string; readonly headers: IncomingMessage['headers'] }[];
  /** Status of the next responses; null: no response. */
  status: number | null;
  [Symbol.asyncDispose](): Promise<void>;
}

interface Attribute {
  readonly key: string;
  readonly value: {
    readonly stringValue?: string;
    readonly intValue?: number | string;
    readonly doubleValue?: number;
    readonly boolValue?: boolean;
  };
}
interface Export {
  readonly resourceSpans: {
    readonly resource: { readonly attributes: Attribute[] };
    readonly scopeSpans: { readonly spans: Record<string, unknown>[] }[];
  }[];
}

/** Takes OTLP over HTTP, as JSON, as a collector does. */
export async function collector(): Promise<Collector> {
  const spans: ReceivedSpan[] = [];
  const requests: { url: string; headers: IncomingMessage['headers'] }[] = [];
  const take = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> => {
    const body = await text(incoming);
    requests.push({ url: incoming.url ?? '', headers: incoming.headers });
    if (made.status === null) return;
    if (made.status === 200) spans.push(...flattened(JSON.parse(body) as Export));
    outgoing.writeHead(made.status, { 'Content-Type': 'application/json' }).end('{}');
  };
  const server = createServer((incoming, outgoing) => void take(incoming, outgoing));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const made: Collector = {
    endpoint: `http://127.0.0.1:${port}/v1/traces`,
    spans: () => spans,
    of: (traceId) => spans.filter((each) => each.traceId === traceId).sort(asBegun),
    requests,
    status: 200,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return made;
}

/** Starts are whole milliseconds, and what is within another often begins in the same. */
function asBegun(a: ReceivedSpan, b: ReceivedSpan): number {
  return Number(b.kind === 'server') - Number(a.kind === 'server') || a.startMs - b.startMs;
}

const millis = (nanos: unknown): number => Number(BigInt(String(nanos)) / 1000n) / 1000;

const KINDS = { 1: 'inside', 2: 'server', 3: 'client' } as const;

function flattened({ resourceSpans }: Export): ReceivedSpan[] {
  return resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap((scope) =>
      scope.spans.map((span) => ({
        name: String(span['name']),
        kind: KINDS[span['kind'] as keyof typeof KINDS],
        traceId: String(span['traceId']),
        spanId: String(span['spanId']),
        parent: span['parentSpanId'] === undefined ? null : String(span['parentSpanId']),
        state: span['traceState'] === undefined ? null : String(span['traceState']),
        attributes: valuesOf(span['attributes'] as Attribute[]),
        failed: (span['status'] as { code: number }).code === 2,
        links: span['links'] as ReceivedSpan['links'],
        startMs: millis(span['startTimeUnixNano']),
        tookMs: millis(span['endTimeUnixNano']) - millis(span['startTimeUnixNano']),
        resource: valuesOf(resource.attributes),
      })),
    ),
  );
}

function valuesOf(attributes: readonly Attribute[]): Record<string, Value> {
  return Object.fromEntries(
    attributes.map(({ key, value }) => {
      const { stringValue, intValue, doubleValue, boolValue } = value;
      return [key, stringValue ?? (intValue === undefined ? (doubleValue ?? boolValue ?? '') : Number(intValue))];
    }),
  );
}
