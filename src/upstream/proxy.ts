import { Readable } from 'node:stream';
import type { Authenticated } from '../auth/authenticate.ts';
import type { Authorised } from '../auth/authorise.ts';
import type { Clock, MonotonicMs, Random } from '../clock.ts';
import {
  type ClientDisconnect,
  filterHeaders,
  type Handler,
  type HeaderList,
  LATE_ARRIVAL_MS,
  NEVER_DISCONNECTS,
  type Rejection,
  type Result,
  reject,
  respond,
} from '../context.ts';
import type { Meter, Span } from '../ports.ts';
import type { ProblemCode } from '../problem.ts';
import { parseAdvertisedLimit } from '../quota/headers.ts';
import type { QuotaStore, Slot } from '../quota/quota-store.ts';
import { retryAfterSeconds, type WithSlot } from '../quota/rate-limit.ts';
import type { WithPayload } from '../read-body.ts';
import type { Route, Routed } from '../routing/match-route.ts';
import { rewriteTarget } from '../routing/rewrite.ts';
import { rejectBreakerOpen, type WithUpstreamState } from './circuit-breaker.ts';
import type { WithPermit } from './concurrency-limit.ts';
import { type CredentialPools, type IssuedCredential, rejectUnavailable } from './credentials/pool.ts';
import { inboundHeaders, outboundHeaders } from './headers.ts';
import { createRetry, type RetryState } from './retry.ts';
import type { Transport, TransportFailed, TransportFailure, TransportResponse, TransportResult } from './transport.ts';

type ProxyContext = Routed &
  Authenticated &
  Authorised &
  WithUpstreamState<RetryState> &
  WithPayload &
  WithSlot &
  WithPermit;

interface ProxyOptions {
  readonly transport: Transport;
  readonly credentials: CredentialPools;
  readonly quotaStore: Pick<QuotaStore, 'view'>;
  /** Whether Patchworks receives the trace context. */
  readonly propagate: boolean;
  readonly clock: Clock;
  readonly random: Random;
  readonly meter: Meter;
}

/**
 * The last handler of the pipeline. After a 401 the request is sent again with another credential or a new token, as long as the body
 * is in memory: the upstream has not carried out the request, so this is safe for every method. Each attempt takes a slot, and waits
 * for it like the first. Without another credential there is nothing to wait for, so the request is rejected first.
 */
export function proxy(options: ProxyOptions): Handler<ProxyContext> {
  const { clock, meter, random } = options;
  const sendWithRetry = createRetry(options);
  return async (context) => {
    const { id: upstream } = context.route.upstream;
    const pool = options.credentials.of(context.route);
    const tried: IssuedCredential[] = [];
    let { slot, permit } = context.sending;
    let remainingWaitMs = Math.max(0, context.quota.waitUntil - clock.monotonic());
    for (;;) {
      const issued = await pool.issue(tried, context.trace);
      if (issued.kind === 'unavailable' || isAbandoned(context, tried.length)) {
        slot.refund();
        if (issued.kind === 'unavailable') return rejectUnavailable(issued);
        return reject('client_closed', { internal: 'client disconnected' });
      }
      const { credential } = issued;
      if (tried.length > 0) meter.upstreamRetry(upstream, 'credential');
      const sent = await sendWithRetry(context, slot, (attemptSlot, timeoutMs) =>
        sendAttempt(options, context, credential, attemptSlot, timeoutMs),
      );
      if (sent.kind === 'breaker_open') return rejectBreakerOpen(sent.retryAfterMs, random);
      if (sent.kind === 'failed') return rejectFailure(sent);
      if (sent.status !== 401) {
        pool.accepted(credential);
        permit.holdUntilClosed(sent.body);
        return passOn(options, context.route, credential, sent);
      }
      discard(sent);
      pool.rejected(credential);
      tried.push(credential);
      const other = await pool.issue(tried, context.trace);
      if (other.kind === 'unavailable') return rejectUnavailable(other);
      if (context.payload instanceof Readable)
        return reject('upstream_credentials_rejected', { detail: BODY_NOT_KEPT });
      const since = clock.monotonic();
      const acquired = await context.sending.reacquire(remainingWaitMs, disconnectOf(context));
      if (acquired.kind === 'rejection') return acquired;
      ({ slot, permit } = acquired);
      remainingWaitMs = Math.max(0, remainingWaitMs - (clock.monotonic() - since));
    }
  };
}

const BODY_NOT_KEPT =
  'Patchworks rejected a credential that was being replaced, and the body was too large to keep. Send the request again.';

/** A request that must complete continues with the next credential after its client has disconnected. */
function isAbandoned({ disconnect, completeAfterDisconnect }: ProxyContext, attempts: number): boolean {
  return disconnect.happened && !(completeAfterDisconnect === true && attempts > 0);
}

function disconnectOf({ disconnect, completeAfterDisconnect }: ProxyContext): ClientDisconnect {
  return completeAfterDisconnect === true ? NEVER_DISCONNECTS : disconnect;
}

async function sendAttempt(
  options: ProxyOptions,
  context: ProxyContext,
  credential: IssuedCredential,
  slot: Slot,
  timeoutMs: number,
): Promise<TransportResult> {
  const startedAt = options.clock.monotonic();
  const span = context.trace === null ? null : startSpan(context, credential, context.trace);
  // Now: the caller may disconnect, and its line be written, before the attempt ends.
  context.record.attempts += 1;
  const sent = await options.transport.send({
    origin: context.route.upstream.origin,
    method: context.method,
    target: sentTarget(context, credential),
    headers: outboundHeaders(
      context,
      credential.carrier === 'header' ? [credential.name, credential.value] : [],
      options.propagate ? (span?.headers() ?? null) : [],
    ),
    body: context.payload,
    timeoutMs,
    disconnect: disconnectOf(context),
  });
  span?.end(sent.kind === 'response' ? { status: sent.status } : { error: sent.reason });
  recordAttempt(options, context, slot, startedAt, sent);
  return sent;
}

/** Path and query at the upstream. Neither is logged: the query may hold a secret. */
function sentTarget({ target, route: { rewrite } }: ProxyContext, { carrier, name, value }: IssuedCredential): string {
  const rewritten = rewrite === null ? target : rewriteTarget(rewrite, target);
  if (carrier === 'header') return rewritten;
  const parameter = `${encodeURIComponent(name)}=${encodeURIComponent(value)}`;
  return `${rewritten}${rewritten.includes('?') ? '&' : '?'}${parameter}`;
}

function startSpan({ method, route, record }: ProxyContext, credential: IssuedCredential, trace: Span): Span {
  const { id, account, origin } = route.upstream;
  return trace.start('send', {
    ...{ method, route: route.template, upstream: id, account, origin, credential: credential.id },
    ...(record.attempts > 0 && { resends: record.attempts }),
  });
}

/** Ends the slot of an attempt, and writes the attempt into the access record and the metrics. */
function recordAttempt(
  { clock, meter }: ProxyOptions,
  { route: { upstream }, record, method }: ProxyContext,
  slot: Slot,
  startedAt: MonotonicMs,
  sent: TransportResult,
): void {
  const now = clock.monotonic();
  const tookMs = (sent.kind === 'response' ? sent.headersAt : now) - startedAt;
  record.upstreamMs = (record.upstreamMs ?? 0) + tookMs;
  if (sent.kind === 'response') {
    record.upstreamStatus = sent.status;
    const onInvalid = (header: string): void => meter.invalidUpstreamHeader(upstream.account, header);
    slot.complete(parseAdvertisedLimit({ status: sent.status, headers: sent.headers, now: clock.now(), onInvalid }));
  } else if (sent.mayBeSent) slot.lose((now + LATE_ARRIVAL_MS) as MonotonicMs);
  else slot.refund();
  const status = sent.kind === 'response' ? sent.status : sent.reason;
  meter.upstreamAttempt(upstream.account, upstream.id, method, status, tookMs / 1000);
}

function passOn(
  { quotaStore, random }: ProxyOptions,
  route: Route,
  credential: IssuedCredential,
  sent: TransportResponse,
): Result {
  if (sent.status === 429) {
    discard(sent);
    // The account is in cooldown by now.
    return reject('upstream_cooldown', {
      retryAfterSeconds: retryAfterSeconds(quotaStore.view(route.upstream.account).cooldownMs, random),
      internal: 'upstream answered 429',
    });
  }
  // A 204 has no length, and that of a 304 is from before its links are rewritten.
  const keepLength = !Buffer.isBuffer(sent.body) && sent.status !== 204 && sent.status !== 304;
  const headers = withoutUrl(inboundHeaders(sent.headers, keepLength, route.secretHeaders), credential);
  const response = respond(sent.status, headers, sent.body);
  return sent.endsWithConnection ? { ...response, endsWithConnection: true } : response;
}

/** A server that redirects repeats the URL that it was asked for, and with it a secret in the query. */
function withoutUrl(headers: HeaderList, { carrier, value: secret }: IssuedCredential): HeaderList {
  if (carrier === 'header') return headers;
  const forms = [secret, encodeURIComponent(secret)];
  return filterHeaders(headers, (_, value) => !forms.some((form) => value.includes(form)));
}

/** An unread body would keep its connection in use. */
function discard(sent: TransportResponse): void {
  if (sent.body instanceof Readable) sent.body.destroy();
}

const FAILURE_CODES: Readonly<Record<TransportFailure, ProblemCode>> = {
  unreachable: 'upstream_unreachable',
  timeout: 'upstream_timeout',
  protocol: 'upstream_protocol',
  body_too_large: 'body_too_large',
  body_broken: 'bad_request',
  body_timeout: 'upload_timeout',
  client_closed: 'client_closed',
};

function rejectFailure({ reason, internal }: TransportFailed): Rejection {
  const detail = reason === 'body_broken' && { detail: 'The request body broke off.' };
  return reject(FAILURE_CODES[reason], { ...detail, internal });
}
