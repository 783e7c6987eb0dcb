import { describe, expect, it } from 'vitest';
import type { AccountStatus, Frame } from '../status/document.ts';
import { findingsOf } from './browser/alerts.js';
import { bytes, duration, percent, roughly } from './browser/format.js';
import { eventReader } from './browser/frames.js';
import { curvesOf } from './browser/sparkline.js';

describe('words', () => {
  it.each([
    [0, '0 s'],
    [400, '1 s'],
    [59_000, '59 s'],
    [61_000, '1 min 1 s'],
    [3_600_000, '1 h'],
    [26 * 3_600_000, '1 d 2 h'],
  ])('%d ms are %s', (ms, text) => expect(duration(ms)).toBe(text));

  it.each([
    [275_000, '5 min'],
    [89_000, '89 s'],
    [5 * 3_600_000, '5 h'],
    [50 * 3_600_000, '2 d'],
  ])('%d ms are about %s', (ms, text) => expect(roughly(ms)).toBe(text));

  it('neither all nor nothing is said of what is not', () => {
    expect([
      percent(1, 1000),
      percent(999, 1000),
      percent(0, 10),
      percent(10, 10),
      percent(1, 3),
      percent(0, 0),
    ]).toEqual(['< 1 %', '> 99 %', '0 %', '100 %', '33 %', '–']);
  });

  it('sizes', () => {
    expect([bytes(900), bytes(1536), bytes(128 * 2 ** 20), bytes(5 * 2 ** 30)]).toEqual([
      '900 B',
      '1.5 KiB',
      '128 MiB',
      '5.0 GiB',
    ]);
  });
});

it('events are read whole, in whatever pieces they arrive', () => {
  const text = 'data: {"a":1}\n\nevent: restart\ndata:\n\ndata: {"b":"ä"}\n\n';
  for (let size = 1; size <= text.length; size++) {
    const read: string[] = [];
    const reader = eventReader((event: string, data: string) => void read.push(`${event} ${data}`));
    for (let at = 0; at < text.length; at += size) reader(text.slice(at, at + size));
    expect(read).toEqual(['message {"a":1}', 'restart ', 'message {"b":"ä"}']);
  }
});

describe('the curve', () => {
  const plane = { width: 100, height: 100, from: 0, to: 100, top: 100, gapMs: 10 };
  const sample = (at: number, own: number, foreign = 0, held = false) => ({ at, own, foreign, held });

  it('runs from the first sample to the last, and what others use stands on top', () => {
    const { own, foreign } = curvesOf([sample(0, 10), sample(10, 20, 30)], plane);
    expect(own).toBe('M0 100L0 90L10 80L10 100Z');
    expect(foreign).toBe('M0 90L10 50L10 80L0 90Z');
  });

  it('is broken where nobody sampled, and does not leave the picture', () => {
    const { own } = curvesOf([sample(-5, 9), sample(0, 10), sample(50, 20), sample(60, 900)], plane);
    expect(own).toBe('M0 100L0 90L0 100ZM50 100L50 80L60 0L60 100Z');
  });

  it('shows from when to when the account was held', () => {
    const { held } = curvesOf([sample(0, 1), sample(10, 1, 0, true), sample(20, 1, 0, true), sample(30, 1)], plane);
    expect(held).toEqual([
      { x: 10, width: 10 },
      { x: 20, width: 10 },
    ]);
  });

  it('is nothing without samples', () => {
    expect(curvesOf([], plane)).toMatchObject({ own: '', foreign: '', held: [] });
  });
});

describe('what needs attention', () => {
  const key = {
    id: 'primary',
    kind: 'apiKey',
    inUse: true,
    backoffMs: 0,
    reason: null,
    expiresInMs: null,
    failing: false,
  } as const;
  const spare = { ...key, id: 'spare', inUse: false };
  const account: AccountStatus = {
    ...{ limit: 240, ceiling: 235, slotsInUse: 10, externalUsage: 0, cooldownMs: 0, waiting: 0, replicas: 2 },
    credentials: [key, spare],
  };
  const none = { requests: 0, refused: 0, saved: 0 };
  const status: Frame['status'] = {
    ...{ version: '1', now: '', upSeconds: 1, draining: false, inFlight: 0, revision: 'r', needsRestart: [] },
    ...{ unattributed: none, recentSeconds: 1 },
    accounts: { main: account },
    upstreams: { core: { breaker: 'closed', openForMs: 0, inFlight: 0, waiting: 0 } },
    cache: { entries: 0, bytes: 0, maxBytes: 1, inTouch: { main: true }, recent: { reads: 0, hits: 0 } },
    state: { kind: 'redis', up: true, fallback: false },
    lastLoad: { outcome: 'ok', at: '', problems: [] },
  };
  const tenants: Frame['tenants'] = { count: 0, busiest: [], rest: { ...none, waiting: 0 } };
  const tell = (more: Partial<Frame['status']>) =>
    findingsOf({ status: { ...status, ...more }, tenants }).map(({ level, text }) => `${level} ${text}`);
  const ofMain = (more: Partial<AccountStatus>) => tell({ accounts: { main: { ...account, ...more } } });
  const open = { breaker: 'open', openForMs: 9, inFlight: 0, waiting: 0 } as const;
  const resting = { ...key, inUse: false, backoffMs: 9, reason: 'rejected' } as const;

  it('is nothing where all is well', () => expect(tell({})).toEqual(['good Nothing. All is well.']));

  it.each([
    ['a hold', ofMain({ cooldownMs: 1 }), /^bad main: on hold/],
    ['the ceiling', ofMain({ slotsInUse: 224 }), /^warn main: the ceiling is nearly reached/],
    ['others', ofMain({ externalUsage: 3 }), /^warn main: someone else/],
    [
      'a spare in use',
      ofMain({ credentials: [resting, { ...spare, inUse: true }] }),
      /^warn .*primary is out .*rejected.*spare/,
    ],
    ['no credential', ofMain({ credentials: [resting] }), /^bad main: no credential works/],
    [
      'a token not renewed',
      ofMain({ credentials: [{ ...key, reason: 'unreachable' }] }),
      /^warn .*could not be renewed/,
    ],
    ['a key that failed', ofMain({ credentials: [{ ...key, failing: true }] }), /^warn .*primary failed/],
    ['Redis gone', tell({ state: { kind: 'redis', up: false, fallback: true } }), /^bad Redis.*share/],
    ['Redis gone, closed', tell({ state: { kind: 'redis', up: false, fallback: false } }), /^bad Redis/],
    ['an upstream left alone', tell({ upstreams: { core: open } }), /^bad core: too much of it failed/],
    ['a reload refused', tell({ lastLoad: { outcome: 'refused', at: '', problems: [] } }), /^bad The last reload/],
    ['a restart needed', tell({ needsRestart: ['redis'] }), /^warn .*restart.*redis/],
    ['draining', tell({ draining: true }), /^warn This replica is draining/],
    ['writes unheard', tell({ cache: { ...status.cache, inTouch: { main: false } } }), /^warn main: writes/],
  ])('%s', (_what, told, expected) => {
    expect(told).toHaveLength(1);
    expect(told[0]).toMatch(expected);
  });

  it('the worst comes first', () => {
    expect(
      tell({ draining: true, accounts: { main: { ...account, cooldownMs: 9 } } }).map((each) => each.split(' ')[0]),
    ).toEqual(['bad', 'warn']);
  });
});
