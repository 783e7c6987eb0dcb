import { expect, test } from 'vitest';
import { ASSUMED, extrapolate } from './scale/extrapolate.mjs';

const measured = { beatUs: 60, beatOwnUs: 60, decisionUs: 100, accountKib: 4, answerBytes: 1_800 };

test('the sum for 1,000 accounts: beats grow with the replicas, messages with their square, decisions with neither', () => {
  const ten = extrapolate(measured);
  const twenty = extrapolate(measured, { ...ASSUMED, replicas: 20 });
  expect([ten.beats, twenty.beats]).toEqual([20_000, 40_000]);
  expect(twenty.decisions).toBe(ten.decisions);
  expect(ten.decisions).toBeCloseTo(3_916.7, 0);
  expect(ten.cores.beats).toBeCloseTo(1.2);
  // 500 writes a second, each published once and acknowledged by all, to all subscribers and the five other nodes.
  expect([ten.messages, ten.deliveries]).toEqual([500 * 11, 500 * 11 * 15]);
  expect(twenty.deliveries).toBe(500 * 21 * 25);
  expect(ten.connections).toBe(70);
  const parts = Object.values(ten.cores).reduce((sum, each) => sum + each, 0);
  expect(ten.all).toBeCloseTo(parts);
  expect(ten.mastersNeeded).toBe(Math.ceil(parts / 0.6));
});
