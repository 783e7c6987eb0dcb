import { expect, test } from 'vitest';
import { ManualClock } from '../../../../test/support/manual-clock.ts';
import { createBackoff } from './connector.ts';

test('a server that accepts each connection, and refuses every command, is tried twice a second at most', () => {
  const clock = new ManualClock();
  const backoff = createBackoff(clock);
  const pauses = Array.from({ length: 12 }, () => {
    const pauseMs = backoff.nextMs();
    clock.advance(pauseMs);
    backoff.connected();
    clock.advance(20);
    return pauseMs;
  });
  expect(pauses[0]).toBeLessThanOrEqual(50);
  for (const pauseMs of pauses.slice(5)) expect(pauseMs).toBeGreaterThanOrEqual(375);
  for (const pauseMs of pauses) expect(pauseMs).toBeLessThanOrEqual(500);
});

test('after a connection that was of use, the first attempt comes at once', () => {
  const clock = new ManualClock();
  const backoff = createBackoff(clock);
  for (let i = 0; i < 8; i++) backoff.nextMs();
  backoff.connected();
  clock.advance(5_000);
  expect(backoff.nextMs()).toBeLessThanOrEqual(50);
});
