import { type ProblemCode, problems } from '../problem.ts';

type ParsedLine =
  | { readonly kind: 'request'; readonly request: RecordedRequest }
  /** Another line of the gateway's log, or an empty one. */
  | { readonly kind: 'other' }
  | { readonly kind: 'unreadable'; readonly reason: string };

const OTHER: ParsedLine = { kind: 'other' };
/** Longer texts are cut by the gateway too. */
const MAX_CHARS = 256;
/** Names of tenants and accounts are printed. */
const NAME = /^[\w.-]{0,63}$/;

/** Reads a line of a gateway's log. Fields that a line of another version does not have count as absent. */
export function parseLine(line: string): ParsedLine {
  if (line.trim() === '') return OTHER;
  let fields: Record<string, unknown>;
  try {
    fields = JSON.parse(line) as Record<string, unknown>;
  } catch {
    return { kind: 'unreadable', reason: 'no JSON' };
  }
  if (typeof fields !== 'object' || fields === null || Array.isArray(fields))
    return { kind: 'unreadable', reason: 'no JSON object' };
  if (fields['msg'] !== 'request') return OTHER;
  const missing = faultOf(fields);
  return missing === null ? { kind: 'request', request: requestOf(fields) } : { kind: 'unreadable', reason: missing };
}

function faultOf(fields: Record<string, unknown>): string | null {
  const wanted = (name: string) => `no readable "${name}"`;
  for (const name of ['method', 'path', 'tenant', 'time']) {
    const value = fields[name];
    if (typeof value !== 'string' || value.length > MAX_CHARS) return wanted(name);
  }
  if (!String(fields['path']).startsWith('/')) return wanted('path');
  for (const name of ['tenant', 'account']) if (!NAME.test(String(fields[name] ?? ''))) return wanted(name);
  if (Number.isNaN(Date.parse(String(fields['time'])))) return wanted('time');
  for (const name of ['status', 'durationMs', 'waitMs']) if (numberOf(fields, name) === null) return wanted(name);
  const { code } = fields;
  return code === undefined || (typeof code === 'string' && Object.hasOwn(problems, code)) ? null : wanted('code');
}

/** A request of the past, from its access line. Times in milliseconds, dates in those of the epoch; '' for a text that is not there. */
export type RecordedRequest = Readonly<ReturnType<typeof requestOf>>;

function requestOf(fields: Record<string, unknown>) {
  const text = (name: string): string => {
    const value = fields[name];
    return typeof value === 'string' ? value.slice(0, MAX_CHARS) : '';
  };
  const number = (name: string): number => numberOf(fields, name) ?? 0;
  const endedAt = Date.parse(text('time'));
  const upstreamMs = numberOf(fields, 'upstreamMs');
  const attempts = numberOf(fields, 'attempts') ?? (upstreamMs === null ? 0 : 1);
  return {
    arrivedAt: endedAt - number('durationMs'),
    endedAt,
    method: text('method'),
    path: text('path'),
    route: text('route'),
    status: number('status'),
    tenant: text('tenant'),
    key: text('key'),
    client: text('client'),
    account: text('account'),
    queryDigest: text('queryDigest'),
    urgency: numberOf(fields, 'urgency'),
    preferWaitMs: numberOf(fields, 'preferWaitMs'),
    cache: text('cache'),
    bypassedByRequest: fields['bypassedByRequest'] === true,
    waitMs: number('waitMs'),
    durationMs: number('durationMs'),
    upstreamMs,
    upstreamStatus: numberOf(fields, 'upstreamStatus'),
    /** Requests to the upstream, those of a renewal in the background included. */
    sent: attempts + (fields['refreshed'] === true ? 1 : 0),
    bytes: number('bytes'),
    /** Null for a response. */
    code: (fields['code'] as ProblemCode | undefined) ?? null,
  };
}

/** Null for anything but a number from 0. */
function numberOf(fields: Record<string, unknown>, name: string): number | null {
  const value = fields[name];
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : null;
}
