import { Readable } from 'node:stream';
import { type Clock, elapsed, type MonotonicMs } from '../../clock.ts';
import { headerOf, LATE_ARRIVAL_MS, NEVER_DISCONNECTS } from '../../context.ts';
import type { Decision } from '../../quota/quota-store.ts';
import { collectBody } from '../../read-body.ts';
import type { Secret } from '../../secret.ts';
import type { Transport, TransportResponse } from '../transport.ts';
import type { UnavailableReason } from './pool.ts';

export type LoginResult = { readonly kind: 'token'; readonly token: string; readonly lifeMs: number } | FailedLogin;

export interface FailedLogin {
  readonly kind: 'failed';
  /** `rejected`: the identity host rejected the password. `throttled`: the account had no slot, and nothing was sent. */
  readonly reason: UnavailableReason;
  readonly retryAfterMs: number;
  /** For the log: a status or an error, never the body of the response, which may repeat the password. */
  readonly internal: string;
}

interface LoginRequestOptions {
  readonly url: string;
  readonly username: string;
  readonly usernameField: string;
  readonly password: Secret;
  readonly transport: Transport;
  readonly clock: Clock;
  /** Asks for a slot. Patchworks is not known to leave logins uncounted, so each takes one. */
  readonly charge: () => Promise<Decision>;
}

const TIMEOUT_MS = 15_000;
/** The requests that wait for this login have slots, so the account is not used up: one more slot comes soon, or not at all. */
const SLOT_WITHIN_MS = 2_000;
const LARGEST_RESPONSE_BYTES = 64 * 1024;
/** Patchworks' tokens have less than 2 KiB. A larger one would not fit into the headers that servers accept. */
export const MAX_TOKEN_BYTES = 8 * 1024;
/** The life of a token whose response names none: an hour, far less than the day that Patchworks documents. */
const DEFAULT_LIFE_MS = 3_600_000;
/** A shorter life would make logins of all requests, and a longer one outlives any rotation. The upstream's 401 decides anyway. */
const MIN_LIFE_MS = 60_000;
const MAX_LIFE_MS = 7 * 24 * 3_600_000;

const noLimits = { limit: null, remaining: null, throttled: null } as const;

/** `POST {username, password}` → `{token, expires_in}`, as the identity host of Patchworks defines it. Never throws. */
export async function requestLogin(options: LoginRequestOptions): Promise<LoginResult> {
  const decision = await slotFor(options);
  if (decision.kind === 'rejected') return failed('throttled', `no slot: ${decision.by}`, decision.retryAfterMs);
  const url = new URL(options.url);
  const body = JSON.stringify({ [options.usernameField]: options.username, password: options.password.reveal() });
  const sent = await options.transport.send({
    origin: url.origin,
    method: 'POST',
    target: `${url.pathname}${url.search}`,
    headers: ['Accept', 'application/json', 'Content-Type', 'application/json'],
    body: Buffer.from(body),
    timeoutMs: TIMEOUT_MS,
    disconnect: NEVER_DISCONNECTS,
  });
  if (sent.kind === 'failed') {
    if (sent.mayBeSent) decision.slot.lose((options.clock.monotonic() + LATE_ARRIVAL_MS) as MonotonicMs);
    else decision.slot.refund();
    return failed('unreachable', `${sent.reason}: ${sent.internal}`);
  }
  // The identity host has limits of its own: its headers say nothing about the account's.
  decision.slot.complete(noLimits);
  const giveUp = options.clock.after(TIMEOUT_MS, () => {
    if (sent.body instanceof Readable) sent.body.destroy();
  });
  return read(sent).finally(giveUp);
}

async function slotFor({ charge, clock }: LoginRequestOptions): Promise<Decision> {
  const until = clock.monotonic() + SLOT_WITHIN_MS;
  for (;;) {
    const decision = await charge();
    if (decision.kind === 'admitted' || clock.monotonic() + decision.retryAfterMs > until) return decision;
    await elapsed(clock, Math.max(1, decision.retryAfterMs));
  }
}

async function read(sent: TransportResponse): Promise<LoginResult> {
  const text = await readText(sent.body);
  if (sent.status === 429) {
    const seconds = Number(headerOf(sent.headers, 'retry-after') ?? '');
    return failed('unreachable', 'status 429', Number.isFinite(seconds) ? Math.min(seconds, 3600) * 1000 : 60_000);
  }
  if (sent.status >= 500) return failed('unreachable', `status ${sent.status}`);
  if (sent.status < 200 || sent.status >= 300) return failed('rejected', `status ${sent.status}`);
  if (text === null) return failed('unreachable', 'the response broke off or is too large');
  const parsed = parseToken(text);
  return typeof parsed === 'string' ? failed('rejected', parsed) : parsed;
}

function failed(reason: UnavailableReason, internal: string, retryAfterMs = 0): FailedLogin {
  return { kind: 'failed', reason, retryAfterMs, internal };
}

/** A string is the reason why there is no token. */
function parseToken(text: string): LoginResult | string {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return 'the response is not JSON';
  }
  if (typeof parsed !== 'object' || parsed === null || !('token' in parsed)) return 'the response has no token';
  const { token } = parsed;
  // A token goes into a header: anything but printable ASCII is no token.
  if (typeof token !== 'string' || !/^[\u0021-\u007e]+$/.test(token)) return 'the token is not visible ASCII';
  if (token.length > MAX_TOKEN_BYTES) return `the token is larger than ${MAX_TOKEN_BYTES} bytes`;
  return { kind: 'token', token, lifeMs: lifeMsOf('expires_in' in parsed ? parsed.expires_in : null) };
}

function lifeMsOf(seconds: unknown): number {
  if (typeof seconds !== 'number') return DEFAULT_LIFE_MS;
  return Math.min(Math.max(seconds * 1000, MIN_LIFE_MS), MAX_LIFE_MS);
}

async function readText(body: Buffer | Readable | null): Promise<string | null> {
  if (!(body instanceof Readable)) return body?.toString('utf8') ?? '';
  const read = await collectBody(body, { limitBytes: LARGEST_RESPONSE_BYTES, hasRoom: () => true });
  if (read.kind === 'complete') return read.body.toString('utf8');
  body.destroy();
  return null;
}
