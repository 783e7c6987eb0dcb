import { Readable } from 'node:stream';
import { type Clock, elapsed, type MonotonicMs } from '../clock.ts';
import { headerOf } from '../context.ts';
import type { Decision } from '../quota/ledger.ts';
import type { Secret } from '../secret.ts';
import type { Transport, TransportResult } from './transport.ts';

export type LoginOutcome =
  | { readonly kind: 'token'; readonly token: string; readonly lifeMs: number }
  | {
      readonly kind: 'failed';
      readonly why: 'rejected' | 'unreachable' | 'throttled';
      readonly retryAfterMs: number;
      /** For the log: a status or an error, never the answer's body, which may repeat what was sent. */
      readonly internal: string;
    };

export interface LoginCallOptions {
  readonly url: string;
  readonly username: string;
  readonly usernameField: string;
  readonly password: Secret;
  readonly sender: Transport;
  readonly clock: Clock;
  /** A login is a request of the account like any other, as long as nobody has shown that it is not counted. */
  readonly charge: () => Decision | Promise<Decision>;
  /** Slack added where it is unknown whether the login still arrives. */
  readonly lateArrivalMs: number;
}

const TIMEOUT_MS = 15_000;
/** Those who wait for the login have slots already, so the account is not used up: one more comes soon, or not at all. */
const SLOT_WITHIN_MS = 2_000;
const LARGEST_ANSWER = 64 * 1024;
/** The life of a token whose answer does not tell: an hour, far less than the day Patchworks documents. */
const UNTOLD_LIFE_MS = 3_600_000;

const noLimits = { limit: null, remaining: null, throttled: null } as const;

/** `POST {username, password}` → `{token, expires_in}`, as the identity host of Patchworks has it. */
export async function callLogin(options: LoginCallOptions): Promise<LoginOutcome> {
  const decision = await slotFor(options);
  if (decision.kind === 'refused') {
    return {
      kind: 'failed',
      why: 'throttled',
      retryAfterMs: decision.retryAfterMs,
      internal: `no slot: ${decision.by}`,
    };
  }
  const url = new URL(options.url);
  const body = JSON.stringify({ [options.usernameField]: options.username, password: options.password.reveal() });
  const sent = await options.sender.send({
    origin: url.origin,
    method: 'POST',
    target: `${url.pathname}${url.search}`,
    headers: ['Accept', 'application/json', 'Content-Type', 'application/json'],
    body: Buffer.from(body),
    timeoutMs: TIMEOUT_MS,
    disconnect: null,
  });
  if (sent.kind === 'failed') {
    if (sent.mayHaveLeft) decision.slot.lose((options.clock.monotonic() + options.lateArrivalMs) as MonotonicMs);
    else decision.slot.refund();
    return { kind: 'failed', why: 'unreachable', retryAfterMs: 0, internal: `${sent.reason}: ${sent.internal}` };
  }
  // The identity host keeps counters of its own: what it says of limits is not about the account.
  decision.slot.settle(noLimits);
  const giveUp = options.clock.after(TIMEOUT_MS, () => {
    if (sent.body instanceof Readable) sent.body.destroy();
  });
  return read(sent).finally(giveUp);
}

async function slotFor({ charge, clock }: LoginCallOptions): Promise<Decision> {
  const until = clock.monotonic() + SLOT_WITHIN_MS;
  for (;;) {
    const decision = await charge();
    if (decision.kind === 'admitted' || clock.monotonic() + decision.retryAfterMs > until) return decision;
    await elapsed(clock, Math.max(1, decision.retryAfterMs));
  }
}

async function read(sent: Extract<TransportResult, { kind: 'answered' }>): Promise<LoginOutcome> {
  const text = await readText(sent.body);
  const failed = (why: 'rejected' | 'unreachable', internal: string, retryAfterMs = 0): LoginOutcome => ({
    kind: 'failed',
    why,
    retryAfterMs,
    internal,
  });
  if (sent.status === 429) {
    const seconds = Number(headerOf(sent.headers, 'retry-after') ?? '');
    return failed('unreachable', 'status 429', Number.isFinite(seconds) ? Math.min(seconds, 3600) * 1000 : 60_000);
  }
  if (sent.status >= 500) return failed('unreachable', `status ${sent.status}`);
  if (sent.status < 200 || sent.status >= 300) return failed('rejected', `status ${sent.status}`);
  if (text === null) return failed('unreachable', 'the answer broke off or is too large');
  const token = parseToken(text);
  return token ?? failed('rejected', 'the answer holds no token');
}

function parseToken(text: string): LoginOutcome | null {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof parsed !== 'object' || parsed === null || !('token' in parsed)) return null;
  const { token } = parsed;
  // A token goes into a header: anything but printable ASCII is no token.
  if (typeof token !== 'string' || !/^[\u0021-\u007e]+$/.test(token)) return null;
  const seconds = 'expires_in' in parsed ? parsed.expires_in : null;
  const lifeMs =
    typeof seconds === 'number' && seconds > 0 && Number.isFinite(seconds) ? seconds * 1000 : UNTOLD_LIFE_MS;
  return { kind: 'token', token, lifeMs };
}

async function readText(body: Buffer | Readable | null): Promise<string | null> {
  if (body === null) return '';
  if (!(body instanceof Readable)) return body.toString('utf8');
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of body) {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes > LARGEST_ANSWER) return null;
    }
  } catch {
    return null;
  }
  return Buffer.concat(chunks).toString('utf8');
}
