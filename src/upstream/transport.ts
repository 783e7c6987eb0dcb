import type { Readable } from 'node:stream';
import type { MonotonicMs } from '../clock.ts';
import type { ClientDisconnect, HeaderList } from '../context.ts';

/** The port to the wire: one attempt, no policy. */
export interface Transport {
  send(request: OutboundRequest): Promise<TransportResult>;
  /** Ends idle connections, waits for none in use. */
  close(): Promise<void>;
}

export interface OutboundRequest {
  /** `https://host[:port]`, from configuration only: a caller can not choose where a request goes. */
  readonly origin: string;
  readonly method: string;
  /** Path and query as the caller sent them. */
  readonly target: string;
  readonly headers: HeaderList;
  readonly body: Buffer | Readable | null;
  /** From now to the headers of the answer, not counting time in which the caller still uploads; then between chunks. */
  readonly timeoutMs: number;
  /** Null for the gateway's own calls. */
  readonly disconnect: ClientDisconnect | null;
}

export type TransportResult =
  | {
      readonly kind: 'answered';
      readonly status: number;
      readonly headers: HeaderList;
      /** A Buffer where the whole body came along with the headers; null where there can be none. */
      readonly body: Buffer | Readable | null;
      readonly headersAt: MonotonicMs;
    }
  | {
      readonly kind: 'failed';
      readonly reason: TransportFailure;
      /** False only if no byte can have left: the one condition under which anything may be sent again. */
      readonly mayHaveLeft: boolean;
      /** For the log. */
      readonly internal: string;
    };

/**
 * `unreachable`: no connection. `timeout`: no answer in time. `protocol`: broken connection or not HTTP.
 * `client_closed`: the caller left. `body_too_large`, `body_broken`: the caller's body.
 */
export type TransportFailure =
  | 'unreachable'
  | 'timeout'
  | 'protocol'
  | 'client_closed'
  | 'body_too_large'
  | 'body_broken';
