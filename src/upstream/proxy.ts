import { Readable } from 'node:stream';
import type { Authenticated } from '../auth/authenticate.ts';
import type { Authorised } from '../auth/authorise.ts';
import type { Clock, MonotonicMs } from '../clock.ts';
import {
  type Handler,
  type HeaderList,
  type Rejection,
  type Result,
  reject,
  respond,
  type WithWaitTerms,
} from '../context.ts';
import type { Log, Meter, Span } from '../ports.ts';
import type { Decision, Slot, UpstreamLimit } from '../quota/ledger.ts';
import type { Admitted } from '../quota/quota.ts';
import type { Routed } from '../routing/match-route.ts';
import { rejectBreakerOpen } from './avoid-broken.ts';
import type { WithPermit } from './concurrency-limit.ts';
import type { CredentialPool, CredentialValue, Grant } from './credentials/pool.ts';
import type { WithPayload } from './request-body.ts';
import { outboundHeaders } from './request-headers.ts';
import { inboundHeaders } from './response-headers.ts';
import { createRetry } from './retry.ts';
import type { Transport, TransportFailure, TransportResult } from './transport.ts';
import type { Upstreams } from './upstreams.ts';

export type ProxyContext = Routed & Authenticated & Authorised & WithWaitTerms & WithPayload & Admitted & WithPermit;

export interface ProxyOptions {
  readonly sender: Transport;
  readonly upstreams: Upstreams;
  /** By account. */
  readonly credentials: ReadonlyMap<string, CredentialPool>;
  /** Reads the limit fields of an answer, and counts those that cannot be read. */
  readonly limitOf: (account: string, status: number, headers: readonly string[]) => UpstreamLimit;
  readonly refuseQuota: (decision: Extract<Decision, { kind: 'refused' }>) => Rejection;
  /** For a request that upstream answered with 429: the account is held by now. */
  readonly refuseHeld: (account: string) => Rejection;
  /** How long after we gave up a request may still arrive upstream. */
  readonly lateArrivalMs: number;
  /** Patchworks may hear of the trace. */
  readonly propagate: boolean;
  readonly clock: Clock;
  /** 0 ≤ x < 1. */
  readonly random: () => number;
  readonly meter: Meter;
  readonly log: Log;
}

type Answered = Extract<TransportResult, { kind: 'answered' }>;

/**
 * The end of the stack: credential in, send, learn from the answer. Sent once; sent again only what {@link createRetry} may
 * repeat, or after a 401, with another credential or a fresh token, and only if the body is still in memory. A 401 was not
 * carried out, so that is safe for every method. Each attempt is paid for.
 */
export function proxy(options: ProxyOptions): Handler<ProxyContext> {
  const { sender, credentials, clock, meter } = options;
  const resend = createRetry(options);

  const attempt = async (
    context: ProxyContext,
    value: CredentialValue,
    slot: Slot,
    timeoutMs: number,
  ): Promise<TransportResult> => {
    const startedAt = clock.monotonic();
    const connection = context.headers['connection'];
    const span = context.trace === null ? null : attemptOf(context, value, context.trace);
    const sent = await sender.send({
      origin: context.route.upstream.origin,
      method: context.method,
      target: context.target,
      headers: outboundHeaders({
        rawHeaders: context.rawHeaders,
        connection: typeof connection === 'string' ? connection : undefined,
        authorization: value.authorization,
        requestId: context.requestId,
        identity: context.route.rewriteLinks,
        trace: options.propagate ? (span?.headers() ?? null) : UNTRACED,
      }),
      body: context.payload,
      timeoutMs,
      disconnect: context.completeAfterDisconnect === true ? null : context.disconnect,
    });
    span?.end(sent.kind === 'answered' ? { status: sent.status } : { error: sent.reason });
    recordAttempt(options, context, slot, startedAt, sent);
    return sent;
  };

  return async (context) => {
    const pool = credentials.get(context.route.upstream.account);
    if (pool === undefined) throw new Error(`no credentials for account ${context.route.upstream.account}`);
    const tried: CredentialValue[] = [];
    let { slot } = context;
    for (;;) {
      const grant = await pool.grant(tried, context.trace);
      if (grant.kind === 'none') {
        slot.refund();
        return refuseGrant(grant);
      }
      // One that is to be carried through goes on with the next credential.
      if (context.disconnect.happened && !(context.completeAfterDisconnect === true && tried.length > 0)) {
        slot.refund();
        return reject('client_closed', { internal: 'caller left' });
      }
      const { value } = grant;
      const sent = await resend(context, slot, (paid, timeoutMs) => attempt(context, value, paid, timeoutMs));
      if (sent.kind === 'broken') return rejectBreakerOpen(sent.retryAfterMs, options.random);
      if (sent.kind === 'failed') return refuseFailure(sent.reason, sent.internal);
      if (sent.status !== 401) {
        pool.accepted(value);
        context.permit.holdUntilClosed(sent.body);
        return passOn(sent, () => options.refuseHeld(context.route.upstream.account));
      }
      discard(sent);
      tried.push(value);
      pool.rejected(value);
      if (context.payload instanceof Readable) {
        return reject('upstream_credentials_rejected', {
          detail:
            'Patchworks rejected a credential that was being replaced, and the body was too large to keep. Send the request again.',
        });
      }
      const again = await context.admitAgain();
      if (again.kind === 'refused') return options.refuseQuota(again);
      slot = again.slot;
      meter.upstreamRetry(context.route.upstream.id, 'credential');
    }
  };
}

const UNTRACED: HeaderList = [];

/** What the attempt shows: for the slot, the access line and the metrics. */
function recordAttempt(
  { clock, meter, limitOf, lateArrivalMs }: ProxyOptions,
  { route: { upstream }, record, method }: ProxyContext,
  slot: Slot,
  startedAt: MonotonicMs,
  sent: TransportResult,
): void {
  const tookMs = (sent.kind === 'answered' ? sent.headersAt : clock.monotonic()) - startedAt;
  record.attempts += 1;
  record.upstreamMs = (record.upstreamMs ?? 0) + tookMs;
  if (sent.kind === 'answered') {
    record.upstreamStatus = sent.status;
    slot.settle(limitOf(upstream.account, sent.status, sent.headers));
  } else if (sent.mayHaveLeft) slot.lose((clock.monotonic() + lateArrivalMs) as MonotonicMs);
  else slot.refund();
  const status = sent.kind === 'answered' ? sent.status : sent.reason;
  meter.upstreamAttempt(upstream.account, upstream.id, method, status, tookMs / 1000);
}

function attemptOf({ method, route, record }: ProxyContext, value: CredentialValue, trace: Span): Span {
  const { id, account, origin } = route.upstream;
  return trace.start('send', {
    ...{ method, route: route.template, upstream: id, account, origin, credential: value.credential },
    ...(record.attempts > 0 && { resends: record.attempts }),
  });
}

function passOn(sent: Answered, refuseHeld: () => Rejection): Result {
  if (sent.status === 429) {
    discard(sent);
    return refuseHeld();
  }
  const inMemory = Buffer.isBuffer(sent.body);
  return respond(sent.status, inboundHeaders(sent.headers, !inMemory), sent.body);
}

function refuseGrant(grant: Extract<Grant, { kind: 'none' }>): Rejection {
  const retryAfterSeconds = Math.max(1, Math.ceil(grant.retryAfterMs / 1000));
  switch (grant.why) {
    case 'rejected':
      return reject('upstream_credentials_rejected', { retryAfterSeconds });
    case 'throttled':
      return reject('account_quota', { retryAfterSeconds, internal: 'no slot for a login' });
    case 'unreachable':
      return reject('upstream_unreachable', {
        detail: 'The gateway could not log in to Patchworks.',
        retryAfterSeconds,
        internal: 'login failed',
      });
  }
}

function refuseFailure(reason: TransportFailure, internal: string): Rejection {
  switch (reason) {
    case 'unreachable':
      return reject('upstream_unreachable', { internal });
    case 'timeout':
      return reject('upstream_timeout', { internal });
    case 'protocol':
      return reject('upstream_protocol', { internal });
    case 'body_too_large':
      return reject('body_too_large', { internal });
    case 'body_broken':
      return reject('bad_request', { detail: 'The request body broke off.', internal });
    case 'client_closed':
      return reject('client_closed', { internal: 'caller left' });
  }
}

/** An answer nobody will read: its connection must not wait for it. */
function discard(sent: Answered): void {
  if (sent.body instanceof Readable) sent.body.destroy();
}
