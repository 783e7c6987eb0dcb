import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import type { MonotonicMs } from '../clock.ts';
import { isRetryable, retryDelayMs } from './retry-policy.ts';
import type { TransportFailure, TransportResult } from './transport.ts';

const answered = (status: number, headers: string[] = []): TransportResult => {
  return { kind: 'answered', status, headers, body: null, headersAt: 0 as MonotonicMs };
};
const failed = (reason: TransportFailure, mayHaveLeft: boolean): TransportResult => {
  return { kind: 'failed', reason, mayHaveLeft, internal: '' };
};
const WRITES = ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'get'];
const READS = ['GET', 'HEAD'];
const repeated = (methods: readonly string[], sent: TransportResult, payload: Buffer | Readable | null = null) =>
  methods.filter((method) => isRetryable({ method, payload }, sent));

describe('what is sent again', () => {
  test('of any method only what can not have left; a write that may have left never, whatever came of it', () => {
    expect(repeated([...WRITES, ...READS], failed('unreachable', false))).toEqual([...WRITES, ...READS]);
    const REASONS = ['unreachable', 'timeout', 'protocol', 'client_closed', 'body_too_large', 'body_broken'] as const;
    for (const reason of REASONS) expect(repeated(WRITES, failed(reason, true)), reason).toEqual([]);
    for (let status = 200; status < 600; status += 1) expect(repeated(WRITES, answered(status))).toEqual([]);
  });

  test('of reads what lost its connection, and 502, 503 and 504: neither a 429 nor a 500', () => {
    expect(repeated(READS, failed('protocol', true))).toEqual(READS);
    const statuses = Array.from({ length: 400 }, (_, i) => 200 + i);
    expect(statuses.filter((status) => repeated(READS, answered(status)).length > 0)).toEqual([502, 503, 504]);
  });

  test('not what used up its time, left or not, and not what failed for its caller', () => {
    for (const reason of ['timeout', 'client_closed', 'body_too_large', 'body_broken'] as const) {
      for (const left of [true, false]) expect(repeated([...READS, ...WRITES], failed(reason, left))).toEqual([]);
    }
  });

  test('not a body that is not in memory', () => {
    expect(repeated(['POST'], failed('unreachable', false), Buffer.from('{}'))).toEqual(['POST']);
    expect(repeated(['POST', 'GET'], failed('unreachable', false), Readable.from(['{}']))).toEqual([]);
  });
});

describe('the pause before it', () => {
  test('is anything up to a bound that doubles, and a second at most', () => {
    const lost = failed('protocol', true);
    expect([0, 1, 2, 9].map((repeats) => retryDelayMs(repeats, lost, () => 0.5))).toEqual([50, 100, 200, 500]);
    expect(retryDelayMs(0, lost, () => 0)).toBe(0);
  });

  test('is what upstream asks for, where that is longer; a date is too long', () => {
    const asked = (value: string) => retryDelayMs(0, answered(503, ['Retry-After', value]), () => 0.5);
    expect([asked('2'), asked('0'), asked('soon'), asked('Wed, 21 Oct 2026 07:28:00 GMT')]).toEqual([
      2_000,
      50,
      Number.POSITIVE_INFINITY,
      Number.POSITIVE_INFINITY,
    ]);
  });
});
