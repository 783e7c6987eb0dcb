import type { Clock } from '../clock.ts';
import { headerOf } from '../context.ts';
import type { OutboundRequest, Transport, TransportFailure, TransportResult } from '../upstream/transport.ts';
import type { RecordedRequest } from './access-line.ts';

/** How the model responds to a request; it travels with the request, in a header. */
interface Terms {
  readonly tenant: string;
  /** As the caller sent it: the route may have rewritten it since. */
  readonly path: string;
  readonly tookMs: number;
  readonly status: number;
  readonly failure: TransportFailure | null;
  readonly bytes: number;
}

export const TERMS_HEADER = 'plan-terms';

/** No timeout of an upstream is longer. */
const NEVER_MS = 1e9;
/** For a route of which no response is known. */
const FIRST_GUESS_MS = 300;
const GUESSED_BYTES = 2_048;
/** The latest responses of a route weigh most. */
const SMOOTHING = 0.1;
/** Routes are templates, but a log may be a wrong file. */
const MAX_ROUTES = 1_000;

/** Derives the terms of each request from its line; those of a request that was not sent, from others of its route. */
export class ResponseModel {
  readonly #meanMs = new Map<string, number>();

  /** In the form of {@link TERMS_HEADER}. */
  termsOf(request: RecordedRequest): string {
    const { tenant, path, code, upstreamStatus, bytes } = request;
    const terms: Terms = {
      tenant,
      path,
      tookMs: this.#tookMs(request),
      status: statusOf(upstreamStatus),
      failure: FAILURES[code ?? ''] ?? null,
      bytes: code === null ? bytes : GUESSED_BYTES,
    };
    return JSON.stringify(terms);
  }

  #tookMs({ route, upstreamMs, sent, code, durationMs, waitMs }: RecordedRequest): number {
    const known = this.#meanMs.get(route);
    if (code === 'upstream_timeout') return NEVER_MS;
    if (upstreamMs === null) {
      const guessedMs = known ?? FIRST_GUESS_MS;
      // It was under way, and its caller did not wait for the end.
      return code === 'client_closed' && sent > 0 ? Math.max(guessedMs, durationMs - waitMs) : guessedMs;
    }
    const tookMs = upstreamMs / Math.max(1, sent);
    if (known !== undefined || this.#meanMs.size < MAX_ROUTES)
      this.#meanMs.set(route, known === undefined ? tookMs : known + SMOOTHING * (tookMs - known));
    return tookMs;
  }
}

const FAILURES: Readonly<Record<string, TransportFailure>> = {
  upstream_timeout: 'timeout',
  upstream_unreachable: 'unreachable',
  upstream_protocol: 'protocol',
};

/** A 401 and a 429 are about the account at that time, not about the request. */
function statusOf(recorded: number | null): number {
  return recorded === null || recorded === 401 || recorded === 429 ? 200 : recorded;
}

/** @param onSent called for each request */
export function createModelUpstream(options: {
  readonly clock: Clock;
  /** A larger response is not cached, however large it is. */
  readonly maxEntryBytes: number;
  readonly onSent: (sent: {
    readonly tenant: string;
    readonly account: string;
    readonly method: string;
    readonly path: string;
  }) => void;
}): Transport {
  const { clock } = options;
  // All bodies share it.
  const zeros = Buffer.alloc(options.maxEntryBytes + 1);
  const responseTo = ({ headers, method }: OutboundRequest, { status, bytes }: Terms): TransportResult => {
    const isConditional = headerOf(headers, 'if-none-match') !== undefined;
    const known = status === 304 && !isConditional ? 200 : status;
    const body = method === 'HEAD' || known === 204 || known === 304 ? null : zeros.subarray(0, bytes);
    return {
      kind: 'response',
      status: known,
      headers: [...HEADERS],
      body,
      endsWithConnection: false,
      headersAt: clock.monotonic(),
    };
  };
  return {
    send(request) {
      const terms = JSON.parse(headerOf(request.headers, TERMS_HEADER) ?? '{}') as Terms;
      // The credential of an account is its name.
      const account = headerOf(request.headers, 'authorization') ?? '';
      options.onSent({ ...terms, account, method: request.method });
      return new Promise((resolve) => {
        let stopListening = (): void => {};
        const end = (result: TransportResult): void => {
          cancel();
          stopListening();
          resolve(result);
        };
        const inTime = terms.tookMs < request.timeoutMs;
        const cancel = clock.after(Math.min(terms.tookMs, request.timeoutMs), () => {
          const reason = inTime ? terms.failure : 'timeout';
          end(reason === null ? responseTo(request, terms) : failed(reason));
        });
        stopListening = request.disconnect?.onDisconnect(() => end(failed('client_closed'))) ?? stopListening;
      });
    },
    close: async () => {},
  };
}

function failed(reason: TransportFailure): TransportResult {
  return { kind: 'failed', reason, mayBeSent: reason !== 'unreachable', internal: 'as recorded' };
}

/** As Patchworks: cached only where a rule says so. The tag saves the digest of a body without content. */
const HEADERS = ['Content-Type', 'application/octet-stream', 'Cache-Control', 'no-cache, private', 'ETag', '"plan"'];
