import fc from 'fast-check';
import { expect, test } from 'vitest';
import { finishedRequest } from '../../test/support/finished-request.ts';
import type { Span } from '../ports.ts';
import { problems } from '../problem.ts';
import { createLogger } from './log.ts';
import { createRedactor } from './redact.ts';

const text = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.constantFrom('', '"', '\\', 'a"b\\c', '\u2028', '\u007f'),
);
const number = fc.double({ min: 0, max: 1e6, noNaN: true });
const codes = Object.keys(problems) as (keyof typeof problems)[];
const spanOf = (traceId: string): Span => ({ traceId, headers: () => [], start: () => spanOf(traceId), end: () => {} });
const requests = fc.record({
  requestId: text,
  trace: fc.option(text.map(spanOf)),
  method: text,
  route: text,
  target: text,
  status: fc.integer({ min: 100, max: 999 }),
  tenant: text,
  key: text,
  code: fc.option(fc.constantFrom(...codes)),
  account: fc.constantFrom('', 'main'),
  queryDigest: fc.constantFrom('', '0a1b2c3d'),
  urgency: fc.option(fc.nat(7)),
  preferredWaitMs: fc.option(fc.nat(30_000)),
  bypassedByRequest: fc.boolean(),
  refreshed: fc.boolean(),
  cache: fc.constantFrom('hit', 'stale', 'miss', 'collapsed', 'bypass', 'none'),
  waitMs: number,
  upstreamMs: fc.option(number),
  upstreamStatus: fc.option(fc.integer({ min: 100, max: 999 })),
  attempts: fc.nat(5),
  durationMs: number,
  bytes: fc.nat(),
  clientAddress: text,
  aborted: fc.boolean(),
  internal: fc.option(text),
});
const tenths = (ms: number) => Math.round(ms * 10) / 10;

test('whatever a request was, its line is JSON that says just that, in the order people read it', () => {
  const written: string[] = [];
  const destination = { write: (line: string) => void written.push(line) };
  const log = createLogger({ level: 'info', access: null, version: '1.2.3', redactor: createRedactor(), destination });
  fc.assert(
    fc.property(requests, (request) => {
      log.access(finishedRequest(request));
      const { level, time, service, version, msg, ...said } = JSON.parse(written.pop()!) as Record<string, unknown>;
      expect([level, service, version, msg]).toEqual([
        request.status >= 500 ? 'warn' : 'info',
        ...['patchgate', '1.2.3', 'request'],
      ]);
      expect(new Date(String(time)).toISOString()).toBe(time);
      const { requestId, method, route, status, tenant, key, cache, bytes, clientAddress: client } = request;
      expect(said).toEqual({
        ...{ requestId, method, route, path: said['path'], status, tenant, key, cache },
        waitMs: tenths(request.waitMs),
        upstreamMs: request.upstreamMs === null ? null : tenths(request.upstreamMs),
        durationMs: tenths(request.durationMs),
        ...{ bytes, client },
        ...(request.trace !== null && { trace_id: request.trace.traceId }),
        ...(request.upstreamStatus !== null && { upstreamStatus: request.upstreamStatus }),
        ...(request.account !== '' && { account: request.account }),
        ...(request.queryDigest !== '' && { queryDigest: request.queryDigest }),
        ...(request.urgency !== null && { urgency: request.urgency }),
        ...(request.preferredWaitMs !== null && { preferWaitMs: request.preferredWaitMs }),
        ...(request.bypassedByRequest && cache === 'bypass' && { bypassedByRequest: true }),
        ...(request.refreshed && { refreshed: true }),
        ...(request.attempts > (request.upstreamMs === null ? 0 : 1) && { attempts: request.attempts }),
        ...(request.code !== null && { code: request.code }),
        ...(request.aborted && { aborted: true }),
        ...(request.internal !== null && { internal: request.internal }),
      });
      expect(Object.keys(said).slice(0, 13).join()).toBe(
        'requestId,method,route,path,status,tenant,key,cache,waitMs,upstreamMs,durationMs,bytes,client',
      );
    }),
    { numRuns: 2_000 },
  );
});
