import { Readable } from 'node:stream';
import type { Authenticated } from '../auth/authenticate.ts';
import type { Authorised } from '../auth/authorise.ts';
import type { Clock, MonotonicMs } from '../clock.ts';
import {
  answer,
  type Handler,
  type HeaderList,
  type OnTerms,
  type Outcome,
  type Refusal,
  refuse,
} from '../exchange.ts';
import { type Log, type Meter, type Span, timed } from '../observe.ts';
import type { Decision, Slot, UpstreamLimit } from '../quota/ledger.ts';
import type { Admitted } from '../quota/quota.ts';
import type { Routed } from '../routing/route.ts';
import { refuseBroken } from './avoid-broken.ts';
import type { CredentialPool, Grant, Held } from './credentials.ts';
import type { Uploaded } from './payload.ts';
import { outboundHeaders } from './request-headers.ts';
import { createResend } from './resend.ts';
import { inboundHeaders } from './response-headers.ts';
import type { Sender, SendFailure, Sent } from './sender.ts';
import type { Seated } from './turns.ts';
import type { Upstreams } from './upstreams.ts';

export type Forwardable = Routed & Authenticated & Authorised & OnTerms & Uploaded & Admitted & Seated;

export interface ForwardOptions {
  readonly sender: Sender;
  readonly upstreams: Upstreams;
  /** By account. */
  readonly credentials: ReadonlyMap<string, CredentialPool>;
  /** Reads the limit fields of an answer, and counts those that cannot be read. */
  readonly limitOf: (account: string, status: number, headers: readonly string[]) => UpstreamLimit;
  readonly refuseQuota: (decision: Extract<Decision, { kind: 'refused' }>) => Refusal;
  /** For a request that upstream answered with 429: the account is held by now. */
  readonly refuseHeld: (account: string) => Refusal;
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

type Answered = Extract<Sent, { kind: 'answered' }>;

/**
 * The end of the stack: credential in, send, learn from the answer. Sent once; sent again only what {@link createResend} may
 * repeat, or after a 401, with another credential or a fresh token, and only if the body is still in memory. A 401 was not
 * carried out, so that is safe for every method. Each attempt is paid for.
 */
export function forward(options: ForwardOptions): Handler<Forwardable> {
  const { sender, credentials, clock, meter } = options;
  const resend = createResend(options);

  /** What an attempt has taught, before anyone goes on. */
  const learn = (exchange: Forwardable, slot: Slot, startedAt: MonotonicMs, span: Span | null, sent: Sent): Sent => {
    const { upstream } = exchange.route;
    span?.end(sent.kind === 'answered' ? { status: sent.status } : { error: sent.reason });
    const tookMs = (sent.kind === 'answered' ? sent.headersAt : clock.monotonic()) - startedAt;
    exchange.notes.attempts += 1;
    exchange.notes.upstreamMs = (exchange.notes.upstreamMs ?? 0) + tookMs;
    if (sent.kind === 'answered') {
      exchange.notes.upstreamStatus = sent.status;
      slot.settle(options.limitOf(upstream.account, sent.status, sent.headers));
    } else if (sent.mayHaveLeft) slot.lose((clock.monotonic() + options.lateArrivalMs) as MonotonicMs);
    else slot.refund();
    const status = sent.kind === 'answered' ? sent.status : sent.reason;
    meter.upstreamAttempt(upstream.account, upstream.id, exchange.method, status, tookMs / 1000);
    return sent;
  };

  const attempt = (exchange: Forwardable, held: Held, slot: Slot, timeoutMs: number): Promise<Sent> => {
    const startedAt = clock.monotonic();
    const connection = exchange.headers['connection'];
    const span = exchange.trace === null ? null : attemptOf(exchange, held, exchange.trace);
    return sender
      .send({
        origin: exchange.route.upstream.origin,
        method: exchange.method,
        target: exchange.target,
        headers: outboundHeaders({
          rawHeaders: exchange.rawHeaders,
          connection: typeof connection === 'string' ? connection : undefined,
          authorization: held.authorization,
          requestId: exchange.requestId,
          identity: exchange.route.rewriteLinks,
          trace: options.propagate ? (span?.headers() ?? null) : UNTRACED,
        }),
        body: exchange.payload,
        timeoutMs,
        hangUp: exchange.carryThrough === true ? null : exchange.hangUp,
      })
      .then((sent) => learn(exchange, slot, startedAt, span, sent));
  };

  return async (exchange) => {
    const pool = credentials.get(exchange.route.upstream.account);
    if (pool === undefined) throw new Error(`no credentials for account ${exchange.route.upstream.account}`);
    const tried: Held[] = [];
    let { slot } = exchange;
    for (;;) {
      const offered = pool.grant(tried);
      const grant = offered instanceof Promise ? await timed(exchange.trace, 'credential', offered) : offered;
      if (grant.kind === 'none') {
        slot.refund();
        return refuseGrant(grant);
      }
      // One that is to be carried through goes on with the next credential.
      if (exchange.hangUp.happened && !(exchange.carryThrough === true && tried.length > 0)) {
        slot.refund();
        return refuse('internal', { internal: 'caller left' });
      }
      const { held } = grant;
      const sent = await resend(exchange, slot, (paid, timeoutMs) => attempt(exchange, held, paid, timeoutMs));
      if (sent.kind === 'broken') return refuseBroken(sent.retryAfterMs, options.random);
      if (sent.kind === 'failed') return refuseFailure(sent.reason, sent.internal);
      if (sent.status !== 401) {
        pool.accepted(held);
        exchange.place.keepFor(sent.body);
        return passOn(sent, () => options.refuseHeld(exchange.route.upstream.account));
      }
      discard(sent);
      tried.push(held);
      pool.rejected(held);
      if (exchange.payload instanceof Readable) {
        return refuse('upstream_credentials_rejected', {
          detail:
            'Patchworks rejected a credential that was being replaced, and the body was too large to keep. Send the request again.',
        });
      }
      const again = await exchange.admitAgain();
      if (again.kind === 'refused') return options.refuseQuota(again);
      slot = again.slot;
      meter.upstreamRetry(exchange.route.upstream.id, 'credential');
    }
  };
}

const UNTRACED: HeaderList = [];

function attemptOf({ method, route, notes }: Forwardable, held: Held, trace: Span): Span {
  const { id, account, origin } = route.upstream;
  return trace.start('send', {
    ...{ method, route: route.template, upstream: id, account, origin, credential: held.credential },
    ...(notes.attempts > 0 && { resends: notes.attempts }),
  });
}

function passOn(sent: Answered, refuseHeld: () => Refusal): Outcome {
  if (sent.status === 429) {
    discard(sent);
    return refuseHeld();
  }
  const inMemory = Buffer.isBuffer(sent.body);
  return answer(sent.status, inboundHeaders(sent.headers, !inMemory), sent.body);
}

function refuseGrant(grant: Extract<Grant, { kind: 'none' }>): Refusal {
  const retryAfterSeconds = Math.max(1, Math.ceil(grant.retryAfterMs / 1000));
  switch (grant.why) {
    case 'rejected':
      return refuse('upstream_credentials_rejected', { retryAfterSeconds });
    case 'throttled':
      return refuse('account_quota', { retryAfterSeconds, internal: 'no slot for a login' });
    case 'unreachable':
      return refuse('upstream_unreachable', {
        detail: 'The gateway could not log in to Patchworks.',
        retryAfterSeconds,
        internal: 'login failed',
      });
  }
}

function refuseFailure(reason: SendFailure, internal: string): Refusal {
  switch (reason) {
    case 'unreachable':
      return refuse('upstream_unreachable', { internal });
    case 'timeout':
      return refuse('upstream_timeout', { internal });
    case 'protocol':
      return refuse('upstream_protocol', { internal });
    case 'body_too_large':
      return refuse('body_too_large', { internal });
    case 'body_broken':
      return refuse('bad_request', { detail: 'The request body broke off.', internal });
    case 'hung_up':
      return refuse('internal', { internal: 'caller left' });
  }
}

/** An answer nobody will read: its connection must not wait for it. */
function discard(sent: Answered): void {
  if (sent.body instanceof Readable) sent.body.destroy();
}
