import type { Readable } from 'node:stream';
import type { MonotonicMs } from '../clock.ts';
import type { ClientDisconnect, HeaderList, ProxyResponse } from '../context.ts';

/** The port to the network: one attempt, no policy. */
export interface Transport {
  send(request: OutboundRequest): Promise<TransportResult>;
  /** Closes idle connections and waits for those in use. */
  close(): Promise<void>;
}

export interface OutboundRequest {
  /** `https://host[:port]`, always from the configuration: a caller cannot choose where a request goes. */
  readonly origin: string;
  readonly method: string;
  /** Path and query as the caller sent them. */
  readonly target: string;
  readonly headers: HeaderList;
  readonly body: Buffer | Readable | null;
  /** From now until the whole body is sent, from then until the headers of the response, then between chunks. */
  readonly timeoutMs: number;
  readonly disconnect: ClientDisconnect;
}

export type TransportResult = TransportResponse | TransportFailed;

/** The body is a Buffer where the whole of it arrived with the headers, and null where there can be none. */
export interface TransportResponse extends ProxyResponse {
  readonly endsWithConnection: boolean;
  readonly headersAt: MonotonicMs;
}

export interface TransportFailed {
  readonly kind: 'failed';
  readonly reason: TransportFailure;
  /** False only if no byte was sent: then even a write may be sent again. */
  readonly mayBeSent: boolean;
  /** For the log. */
  readonly internal: string;
}

/**
 * `unreachable`: no connection. `timeout`: no response in time. `protocol`: broken connection or not HTTP.
 * `client_closed`: the client disconnected. `body_too_large`, `body_broken`, `body_timeout`: the caller's body.
 */
export type TransportFailure =
  | 'unreachable'
  | 'timeout'
  | 'protocol'
  | 'client_closed'
  | 'body_too_large'
  | 'body_broken'
  | 'body_timeout';
