import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLogger } from './log.ts';
import { createRedactor } from './redact.ts';
import type { AccessLine } from './request-telemetry.ts';

const text = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.constantFrom('', '"', '\\', 'a"b\\c', '\u2028', '\u007f'),
);
const number = fc.double({ min: 0, max: 1e6, noNaN: true });
const lines: fc.Arbitrary<AccessLine> = fc.record({
  requestId: text,
  traceId: fc.option(text),
  method: text,
  route: text,
  path: text,
  status: fc.integer({ min: 100, max: 999 }),
  tenant: text,
  key: text,
  code: fc.option(text),
  cache: text,
  waitMs: number,
  upstreamMs: fc.option(number),
  upstreamStatus: fc.option(fc.integer({ min: 100, max: 999 })),
  attempts: fc.nat(5),
  durationMs: number,
  bytes: fc.nat(),
  client: text,
  aborted: fc.boolean(),
  internal: fc.option(text),
});
const tenths = (ms: number) => Math.round(ms * 10) / 10;

test('whatever a request was, its line is JSON that says just that, in the order people read it', () => {
  const written: string[] = [];
  const destination = { write: (line: string) => void written.push(line) };
  const log = createLogger({ level: 'info', version: '1.2.3', redactor: createRedactor(), destination });
  fc.assert(
    fc.property(lines, (line) => {
      log.access(line);
      const { level, time, service, version, msg, ...said } = JSON.parse(written.pop()!) as Record<string, unknown>;
      expect([level, service, version, msg]).toEqual(['info', 'patchgate', '1.2.3', 'request']);
      expect(new Date(String(time)).toISOString()).toBe(time);
      const { requestId, method, route, status, tenant, key, cache, bytes, client } = line;
      expect(said).toEqual({
        ...{ requestId, method, route, path: said['path'], status, tenant, key, cache },
        waitMs: tenths(line.waitMs),
        upstreamMs: line.upstreamMs === null ? null : tenths(line.upstreamMs),
        durationMs: tenths(line.durationMs),
        ...{ bytes, client },
        ...(line.traceId !== null && { trace_id: line.traceId }),
        ...(line.upstreamStatus !== null && { upstreamStatus: line.upstreamStatus }),
        ...(line.attempts > 1 && { attempts: line.attempts }),
        ...(line.code !== null && { code: line.code }),
        ...(line.aborted && { aborted: true }),
        ...(line.internal !== null && { internal: line.internal }),
      });
      expect(Object.keys(said).slice(0, 13).join()).toBe(
        'requestId,method,route,path,status,tenant,key,cache,waitMs,upstreamMs,durationMs,bytes,client',
      );
    }),
    { numRuns: 2_000 },
  );
});
