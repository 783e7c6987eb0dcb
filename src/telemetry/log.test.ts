import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import { finishedRequest } from '../../test/support/finished-request.ts';
import type { Span } from '../ports.ts';
import { Secret } from '../secret.ts';
import { createLogger, type LoggerOptions } from './log.ts';
import { createRedactor } from './redact.ts';

const CANARY = 'cnry-4f9A/x+7"q';
const UNKNOWN = 'pg_key-the-gateway-does-not-know';
const span: Span = { traceId: 'a'.repeat(32), headers: () => [], start: () => span, end: () => {} };

function logging(level = 'debug', more: Partial<LoggerOptions> = {}) {
  const lines: string[] = [];
  const redactor = createRedactor();
  redactor.add(CANARY);
  const destination = { write: (line: string) => void lines.push(line) };
  const log = createLogger({ level, access: null, version: '1.2.3', redactor, destination, ...more });
  return { log, redactor, lines, parsed: () => lines.map((line) => JSON.parse(line) as Record<string, unknown>) };
}

describe('a line', () => {
  it('is one JSON object that says when, how bad, which service and which version', () => {
    const { log, lines, parsed } = logging();
    log.warn({ account: 'main' }, 'held');
    expect(lines[0]?.endsWith('\n')).toBe(true);
    const [line] = parsed();
    expect(line).toMatchObject({ level: 'warn', service: 'patchgate', version: '1.2.3', account: 'main', msg: 'held' });
    expect(new Date(String(line?.['time'])).toISOString()).toBe(line?.['time']);
  });

  it('is left out below the level, which can be changed while running', () => {
    const { log, parsed } = logging('warn');
    log.info({}, 'one');
    log.access(finishedRequest());
    log.configure({ level: 'info', access: null });
    log.info({}, 'two');
    expect(parsed().map((line) => line['msg'])).toEqual(['two']);
  });

  it('of the audit trail is marked, and written at every level but silent', () => {
    const { log, parsed } = logging('info');
    log.configure({ level: 'error', access: null });
    log.audit('info', { actor: 'admin', password: CANARY }, `purged ${CANARY}`);
    log.configure({ level: 'silent', access: null });
    log.audit('error', {}, 'never');
    expect(parsed()).toMatchObject([
      { level: 'info', audit: true, actor: 'admin', password: '[secret]', msg: 'purged [secret]' },
    ]);
  });

  it('of a request is a warning for a 5xx, and there or not by log.access, whatever the level is', () => {
    const statuses = [200, 404, 503];
    const written = (level: string, access: LoggerOptions['access']) => {
      const { log, parsed } = logging(level, { access });
      for (const status of statuses) log.access(finishedRequest({ status }));
      return parsed().map(({ level: at, status }) => `${String(at)} ${String(status)}`);
    };
    const all = ['info 200', 'info 404', 'warn 503'];
    expect(written('info', null)).toEqual(all);
    expect(written('warn', null)).toEqual(['warn 503']);
    expect(written('error', null)).toEqual([]);
    expect(written('error', 'all')).toEqual(all);
    expect(written('error', 'errors')).toEqual(['info 404', 'warn 503']);
    expect(written('debug', 'off')).toEqual([]);
  });

  it('is text where standard output is a terminal, masked as ever', () => {
    const { log, lines } = logging('info', { isTerminal: true });
    log.warn({ account: 'main', text: CANARY }, 'held');
    expect(lines).toHaveLength(1);
    expect(stripVTControlCharacters(String(lines[0]))).toMatch(
      /^\[[\d:.]+\] WARN: held \{"account":"main","text":"\[secret\]"\}\n$/,
    );
  });

  it('is written whatever the fields are: cycles, depth, getters that throw', () => {
    const { log, parsed } = logging();
    const cycle: Record<string, unknown> = { n: 10n, when: new Date(0), f: () => 1 };
    cycle['self'] = cycle;
    let deep: unknown = 'bottom';
    for (let i = 0; i < 10_000; i++) deep = { deep };
    log.info({ cycle, deep, long: Array.from({ length: 5000 }, (_, i) => i) }, 'odd');
    log.info(Object.defineProperty({}, 'x', { enumerable: true, get: () => JSON.parse('{') }), 'thrown');
    const [odd, thrown] = parsed();
    expect(odd?.['cycle']).toEqual({ n: '10', when: '1970-01-01T00:00:00.000Z', self: '[circular]' });
    expect(odd?.['long']).toHaveLength(101);
    expect(thrown).toMatchObject({ msg: 'thrown', unloggable: 'SyntaxError' });
  });
});

describe('a secret known by value never comes out', () => {
  const error = () => {
    const inner = Object.assign(new Error(`refused ${CANARY}`), { config: { url: `https://u:${CANARY}@h/` } });
    const outer = new Error(`login failed with ${JSON.stringify(CANARY)}`, { cause: inner });
    return new AggregateError([outer, new Error(encodeURIComponent(CANARY))], CANARY);
  };
  const forms: Record<string, () => [Record<string, unknown>, string]> = {
    'in the message': () => [{}, `sent ${CANARY}`],
    'in a field': () => [{ body: CANARY }, ''],
    'in a nested field': () => [{ a: [{ b: { c: `x${CANARY}x` } }] }, ''],
    'as a name': () => [{ [CANARY]: 1, map: new Map([[CANARY, 1]]), set: new Set([CANARY]) }, ''],
    'in base64': () => [{ header: Buffer.from(`me:${CANARY}`).toString('base64') }, ''],
    'in hex': () => [{ dump: Buffer.from(CANARY).toString('hex') }, ''],
    'as bytes': () => [{ chunk: Buffer.from(CANARY), view: new TextEncoder().encode(CANARY) }, ''],
    'in an error with causes': () => [{ err: error() }, 'failed'],
    'in an error under another name': () => [{ reason: error(), list: [error()] }, 'failed'],
    'wrapped as a secret': () => [{ value: new Secret(CANARY) }, ''],
    'in quoted JSON': () => [{ answer: JSON.stringify({ token_: CANARY }) }, ''],
  };
  for (const [name, make] of Object.entries(forms)) {
    it(name, () => {
      const { log, lines, parsed } = logging();
      log.error(...make());
      const text = lines.join('');
      expect(parsed()).toHaveLength(1);
      const bytes = Buffer.from(CANARY);
      for (const form of [CANARY, JSON.stringify(CANARY).slice(1, -1), encodeURIComponent(CANARY), 'cnry-4f9A'])
        expect(text).not.toContain(form);
      for (const form of [bytes.toString('hex'), [...bytes].slice(0, 6).join(), bytes.toString('base64').slice(2, 14)])
        expect(text).not.toContain(form);
      expect(text).not.toContain(Buffer.from(`me:${CANARY}`).toString('base64'));
    });
  }

  it('also in access lines, and when it was added after the logger was made', () => {
    const { log, redactor, lines } = logging();
    redactor.addPassing('fresh-login-token');
    log.access(finishedRequest({ target: `/x/${encodeURIComponent(CANARY)}`, internal: 'got fresh-login-token' }));
    expect(lines.join('')).not.toMatch(/cnry|fresh-login/);
  });

  it('also where it lies across the end of a path that is cut', () => {
    const { log, redactor, parsed } = logging();
    redactor.add('fake-secret');
    log.access(finishedRequest({ target: `/${'x'.repeat(250)}fake-secret` }));
    expect(String(parsed()[0]?.['path'])).toBe(`/${'x'.repeat(250)}[secr`);
  });

  it('and what masking breaks is still a line that a collector can parse', () => {
    const { log, redactor, parsed } = logging();
    redactor.add('20417');
    redactor.add('"status"');
    log.access(finishedRequest({ bytes: 20417 }));
    const [line] = parsed();
    expect(String(line?.['line'])).toContain('[secret]');
    expect(JSON.stringify(line)).not.toContain('20417');
  });
});

describe('a secret that is not known by value', () => {
  it('is masked by the name of its field, at any depth and in any case', () => {
    const { log, lines, parsed } = logging();
    const headers = {
      Authorization: `Bearer ${UNKNOWN}`,
      'X-API-Key': UNKNOWN,
      'set-cookie': [UNKNOWN],
      accept: 'a/b',
    };
    log.error({ request: { options: { deeper: { headers } } }, password: UNKNOWN, access_token: UNKNOWN }, '');
    log.error({ apiKey: UNKNOWN, err: Object.assign(new Error('x'), { config: { headers } }) }, '');
    expect(lines.join('')).not.toContain(UNKNOWN);
    expect(lines.join('')).toContain('a/b');
    expect(parsed()).toHaveLength(2);
  });

  it('is masked in a flat list of headers', () => {
    const { log, lines } = logging();
    log.error({ rawHeaders: ['Host', 'h', 'authorization', UNKNOWN, 'x-api-key', UNKNOWN] }, '');
    expect(lines.join('')).not.toContain(UNKNOWN);
    expect(lines.join('')).toContain('"Host","h"');
  });

  it('is masked behind its scheme in a sentence', () => {
    const { log, lines } = logging();
    log.error({ err: new Error(`sent "authorization: Bearer ${UNKNOWN}"`) }, `with Basic ${UNKNOWN}`);
    expect(lines.join('')).not.toContain(UNKNOWN);
  });

  it('leaves the ids of credentials and keys readable', () => {
    const { log, parsed } = logging();
    log.info({ credential: 'primary', key: '2026-11', hasToken: true }, 'bearer of news');
    expect(parsed()[0]).toMatchObject({ credential: 'primary', key: '2026-11', hasToken: true, msg: 'bearer of news' });
  });
});

describe('an access line', () => {
  it('tells all of a request and nothing twice', () => {
    const { log, parsed } = logging('info');
    log.access(finishedRequest());
    const { time: _, ...line } = parsed()[0] ?? {};
    expect(line).toEqual({
      level: 'info',
      service: 'patchgate',
      version: '1.2.3',
      requestId: 'r-1',
      method: 'GET',
      route: '/api/v1/**',
      path: '/api/v1/flows',
      status: 200,
      tenant: 'billing',
      key: '2026-11',
      cache: 'miss',
      waitMs: 0,
      upstreamMs: 12.3,
      upstreamStatus: 200,
      durationMs: 14,
      bytes: 512,
      client: '10.0.0.1',
      msg: 'request',
    });
  });

  it('has the code and the cause of a rejection, the attempts of a retry, and the abort of a client disconnect', () => {
    const { log, parsed } = logging('info');
    log.access(finishedRequest({ code: 'upstream_timeout', internal: 'no headers', attempts: 2, aborted: true }));
    expect(parsed()[0]).toMatchObject({ code: 'upstream_timeout', internal: 'no headers', attempts: 2, aborted: true });
  });

  it('names its trace as OpenTelemetry wants it, so that collectors join the two', () => {
    const { log, parsed } = logging('info');
    log.access(finishedRequest({ trace: span }));
    expect(parsed()[0]).toMatchObject({ trace_id: 'a'.repeat(32) });
  });

  it('holds no path longer than 256 characters and no control character, whatever was sent', () => {
    const { log, lines, parsed } = logging('info');
    log.access(finishedRequest({ target: `/a\u009b31m\u001b[0m\u007f\r\n\u00e4${'x'.repeat(100_000)}` }));
    log.access(finishedRequest({ target: '/\u009b'.repeat(300) }));
    log.access(finishedRequest({ target: '/long'.repeat(300) }));
    for (const line of parsed()) expect(String(line['path']).length).toBeLessThanOrEqual(256);
    expect(String(parsed()[0]?.['path'])).toMatch(/^\/a%9b31m%1b\[0m%7f%0d%0a%e4x+$/);
    expect(lines.every((line) => !/[^\x20-\x7e]/.test(line.trimEnd()))).toBe(true);
  });
});
