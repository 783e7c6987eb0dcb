import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { eventually } from '../../../test/support/gateway.ts';
import { ManualClock } from '../../../test/support/manual-clock.ts';
import type { EpochMs } from '../../clock.ts';
import type { Log } from '../../ports.ts';
import type { Charge } from '../../quota/budgets.ts';
import { createBudgetFile } from './budget-file.ts';

let directory: string;
let path: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'patchgate-budgets-'));
  path = join(directory, 'budgets.json');
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const START: Charge = {
  ...{ label: '2026-11', field: 'operations', limit: 40, budget: 'operations', scope: 'account' as const },
  resetsAt: Date.parse('2026-12-01T00:00:00Z') as EpochMs,
};

function open(clock = new ManualClock(Date.parse('2026-11-30T12:00:00Z'))) {
  const lines: string[] = [];
  const log = new Proxy({}, { get: () => (_: unknown, line: string) => void lines.push(line) }) as Log;
  const file = createBudgetFile({ directory, clock, log });
  return { clock, file, lines, used: () => file.countsOf('main').used('2026-11', 'operations') };
}

const written = async () => JSON.parse(await readFile(path, 'utf8')) as unknown;
const counts = (used: number) => ({ version: 1, accounts: { main: { '2026-11': { operations: used } } } });

describe('the file of counts', () => {
  test('has each change less than a second later, and all at the end', async () => {
    const { file, clock } = open();
    expect(await file.open()).toEqual({ ok: true });
    for (let i = 0; i < 3; i++) file.countsOf('main').charge([START]);
    clock.advance(400);
    await eventually(async () => JSON.stringify(await written()) === JSON.stringify(counts(3)), 'it is written');
    file.countsOf('main').charge([START]);
    file.countsOf('main').refund([START]);
    file.countsOf('main').charge([START]);
    await file.close();
    expect(await written()).toEqual(counts(4));
    expect(clock.pending).toBe(0);
    // No half-written file is left.
    expect(await readdir(directory)).toEqual(['budgets.json']);
  });

  test('is what the next process begins with', async () => {
    const first = open();
    await first.file.open();
    first.file.countsOf('main').charge([START]);
    await first.file.close();
    const second = open();
    await second.file.open();
    expect(second.used()).toBe(1);
    second.file.countsOf('main').charge([START]);
    await second.file.close();
    expect(await written()).toEqual(counts(2));
  });

  test('writes nothing while nothing changes', async () => {
    const { file, clock } = open();
    await file.open();
    expect(clock.pending).toBe(0);
    await rm(path);
    await file.close();
    expect(await readdir(directory)).toEqual([]);
  });

  test('forgets periods that are long over', async () => {
    await writeFile(path, JSON.stringify({ version: 1, accounts: { main: { '2025-01': { operations: 9 } } } }));
    const { file } = open();
    expect(await file.open()).toEqual({ ok: true });
    expect(await written()).toEqual({ version: 1, accounts: { main: {} } });
  });

  test.each([
    ['', 'it is empty'],
    ['{"version":1,"accou', 'it is not JSON'],
    ['{}', 'it has no counts of version 1'],
    ['{"version":2,"accounts":{}}', 'it has no counts of version 1'],
    ['{"version":1,"accounts":[]}', 'it has no counts of version 1'],
    ['{"version":1,"accounts":{"main":7}}', 'the counts of account main are missing'],
    ['{"version":1,"accounts":{"main":{"soon":{}}}}', '"soon" of account main is no period'],
    ['{"version":1,"accounts":{"main":{"2026-11":{"operations":-1}}}}', '"operations" of 2026-11 is no count'],
    ['{"version":1,"accounts":{"main":{"2026-11":{"operations":"4"}}}}', '"operations" of 2026-11 is no count'],
  ])('that is damaged is an error with what to do, and stays as it is: %j', async (text, damage) => {
    await writeFile(path, text);
    const { file } = open();
    expect(await file.open()).toEqual({
      ok: false,
      reason: `${path} is damaged: ${damage}. Restore the file, or remove it to begin at 0 on purpose: more than a budget may be sent then`,
    });
    file.countsOf('main').charge([START]);
    await file.close();
    expect(await readFile(path, 'utf8')).toBe(text);
  });

  test('in a directory that is not there keeps the gateway from starting, and says what to do', async () => {
    await rm(directory, { recursive: true });
    expect(await open().file.open()).toMatchObject({
      ok: false,
      reason: expect.stringMatching(/^stateDir: ENOENT.*: create .*, and let the gateway write to it$/),
    });
  });

  test('that cannot be written for a while is written when it can be again', async () => {
    const { file, clock, lines } = open();
    await file.open();
    await rm(directory, { recursive: true });
    file.countsOf('main').charge([START]);
    clock.advance(400);
    await eventually(() => file.fault() !== null, 'the write fails');
    expect(file.fault()).toMatchObject({ code: 'ENOENT' });
    await mkdir(directory);
    await eventually(() => clock.pending === 1, 'it is to be tried again');
    clock.advance(1_000);
    await eventually(() => file.fault() === null, 'it is written');
    expect(await written()).toEqual(counts(1));
    expect(lines.slice(-2)).toEqual([
      'the counts of budgets cannot be written: a restart would lose them',
      'the counts of budgets are written again',
    ]);
  });
});
