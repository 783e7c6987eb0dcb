import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { AccountStatus, BudgetStatus, Frame } from '../status/document.ts';
import { alertsOf } from './browser/alerts.js';
import { bytes, duration, percent, roughly } from './browser/format.js';
import { eventReader } from './browser/frames.js';
import { sparklinesOf } from './browser/sparkline.js';

describe('numbers', () => {
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

  it('a share is 0 % or 100 % only if it is exactly that', () => {
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

describe('the sparkline', () => {
  const plane = { width: 100, height: 100, from: 0, to: 100, top: 100, gapMs: 10 };
  const sample = (at: number, own: number, external = 0, cooldown = false) => ({ at, own, external, cooldown });

  it('runs from the first sample to the last, and what others use stands on top', () => {
    const { own, external } = sparklinesOf([sample(0, 10), sample(10, 20, 30)], plane);
    expect(own).toBe('M0 100L0 90L10 80L10 100Z');
    expect(external).toBe('M0 90L10 50L10 80L0 90Z');
  });

  it('has a gap without samples, and stays within the chart', () => {
    const { own } = sparklinesOf([sample(-5, 9), sample(0, 10), sample(50, 20), sample(60, 900)], plane);
    expect(own).toBe('M0 100L0 90L0 100ZM50 100L50 80L60 0L60 100Z');
  });

  it('marks cooldowns from their first sample to the next', () => {
    const { cooldown } = sparklinesOf(
      [sample(0, 1), sample(10, 1, 0, true), sample(20, 1, 0, true), sample(30, 1)],
      plane,
    );
    expect(cooldown).toEqual([
      { x: 10, width: 10 },
      { x: 20, width: 10 },
    ]);
  });

  it('is nothing without samples', () => {
    expect(sparklinesOf([], plane)).toMatchObject({ own: '', external: '', cooldown: [] });
  });
});

describe('what needs attention', () => {
  const key = {
    id: 'primary',
    kind: 'apiKey',
    named: false,
    inUse: true,
    backoffMs: 0,
    reason: null,
    expiresInMs: null,
    failing: false,
  } as const;
  const spare = { ...key, id: 'spare', inUse: false };
  const account: AccountStatus = {
    ...{ limit: 240, advertisedLimit: 240, ceiling: 235, slotsInUse: 10, externalUsage: 0, cooldownMs: 0 },
    ...{ waiting: 0, replicas: 2, budgets: {} },
    credentials: [key, spare],
  };
  const none = { requests: 0, refused: 0, wouldReject: 0, saved: 0 };
  const noKeys = { count: 0, first: [] };
  const status: Frame['status'] = {
    ...{ version: '1', deployment: '', replica: 'a', runbookBaseUrl: null, now: '', upSeconds: 1, draining: false },
    ...{ inFlight: 0, revision: 'r', needsRestart: [] },
    ...{ unattributed: none, recentSeconds: 1, issuers: {}, blocked: { count: 0, addresses: [] } },
    keys: { expired: noKeys, ending: noKeys, unused: noKeys },
    accounts: { main: account },
    upstreams: { core: { breaker: 'closed', breakerTenant: null, openForMs: 0, inFlight: 0, waiting: 0 } },
    cache: { entries: 0, bytes: 0, maxBytes: 1, inTouch: { main: true }, recent: { reads: 0, hits: 0 } },
    state: { kind: 'redis', up: true, fallback: false, problem: null, eviction: null },
    lastLoad: { outcome: 'ok', at: '', problems: [] },
  };
  const tenants: Frame['tenants'] = { count: 0, busiest: [], rest: { ...none, waiting: 0 } };
  const tell = (more: Partial<Frame['status']>) =>
    alertsOf({ status: { ...status, ...more }, tenants }).map(({ level, text }) => `${level} ${text}`);
  const ofMain = (more: Partial<AccountStatus>) => tell({ accounts: { main: { ...account, ...more } } });
  const half: BudgetStatus = {
    ...{ per: 'month', timeZone: 'UTC', limit: 100, used: 50, left: 50, warnAt: 80, projected: 60 },
    ...{ resets: '', resetsInMs: 9, endsInMs: null },
  };
  const ofBudget = (more: Partial<BudgetStatus>) => ofMain({ budgets: { starts: { ...half, ...more } } });
  const ofBlocked = (more: object) => {
    const address = {
      port: 'traffic',
      address: '192.0.2.1',
      forMs: 9,
      isTrustedProxy: false,
      sendsForwardedFor: false,
    } as const;
    return tell({ blocked: { count: 1, addresses: [{ ...address, ...more }] } });
  };
  const open = { breaker: 'open', breakerTenant: null, openForMs: 9, inFlight: 0, waiting: 0 } as const;
  const resting = { ...key, inUse: false, backoffMs: 9, reason: 'rejected' } as const;

  it('is nothing where all is well', () => {
    expect(tell({})).toEqual(['good Nothing. All is well.']);
    expect(ofBudget({})).toEqual(['good Nothing. All is well.']);
  });

  it.each([
    ['a cooldown', ofMain({ cooldownMs: 1 }), /^bad main: in cooldown/],
    ['the ceiling', ofMain({ slotsInUse: 224 }), /^warn main: the ceiling is nearly reached/],
    ['a lower limit', ofMain({ advertisedLimit: 120 }), /^warn main: Patchworks advertises a lower limit/],
    ['a budget that is used up', ofBudget({ left: 0, endsInMs: 0 }), /^bad main: the budget starts is used up; /],
    [
      'a budget that ends early',
      ofBudget({ endsInMs: 9 }),
      /^warn main: the budget starts is used up before its reset/,
    ],
    ['a budget near its end', ofBudget({ used: 80, left: 20 }), /^warn main: the budget starts is nearly used up/],
    ['external usage', ofMain({ externalUsage: 3 }), /^warn main: external usage/],
    [
      'a spare in use',
      ofMain({ credentials: [resting, { ...spare, inUse: true }] }),
      /^warn .*primary is not used .*rejected.*spare/,
    ],
    [
      'the only credential of a route',
      ofMain({
        credentials: [
          { ...resting, named: true },
          { ...spare, inUse: true },
        ],
      }),
      /^bad main: credential primary is rejected. Every request of the routes that name it fails/,
    ],
    ['no credential', ofMain({ credentials: [resting] }), /^bad main: no credential works/],
    [
      'a token not renewed',
      ofMain({ credentials: [{ ...key, reason: 'unreachable' }] }),
      /^warn .*could not be renewed/,
    ],
    ['a key that failed', ofMain({ credentials: [{ ...key, failing: true }] }), /^warn .*primary failed/],
    [
      'Redis gone',
      tell({ state: { kind: 'redis', up: false, fallback: true, problem: null, eviction: null } }),
      /^bad Redis.*share/,
    ],
    [
      'Redis gone, closed',
      tell({ state: { kind: 'redis', up: false, fallback: false, problem: null, eviction: null } }),
      /^bad Redis/,
    ],
    [
      'Redis that refuses',
      tell({ state: { ...status.state, up: false, problem: { code: 'NOPERM', reason: 'NOPERM no' } } }),
      /^bad Redis cannot be used \(NOPERM no\)/,
    ],
    [
      'a file of counts that cannot be written',
      tell({ state: { ...status.state, kind: 'embedded', problem: { code: 'ENOSPC', reason: 'no space left' } } }),
      /^bad The counts of budgets cannot be written \(no space left\)/,
    ],
    [
      'a Redis that removes keys',
      tell({ state: { ...status.state, eviction: { policy: 'allkeys-lru', removes: true } } }),
      /^warn Redis removes keys .*allkeys-lru.*noeviction/,
    ],
    ['an open breaker', tell({ upstreams: { core: open } }), /^bad core: the circuit breaker is open,/],
    [
      'an open breaker for one tenant',
      tell({ upstreams: { core: { ...open, breakerTenant: 'billing' } } }),
      /^bad core: the circuit breaker is open for billing,/,
    ],
    ['a blocked address', ofBlocked({}), /^warn 192\.0\.2\.1 is blocked at the traffic port.*listen\.trustedProxies/],
    ['a blocked address that forwards', ofBlocked({ sendsForwardedFor: true }), /^bad .*seems to be a proxy/],
    ['a blocked proxy', ofBlocked({ isTrustedProxy: true }), /^warn .*valid ones still pass/],
    ['a reload refused', tell({ lastLoad: { outcome: 'refused', at: '', problems: [] } }), /^bad The last reload/],
    ['a restart needed', tell({ needsRestart: ['redis'] }), /^warn .*restart.*redis/],
    [
      'keys that have expired',
      tell({ keys: { ...status.keys, expired: { count: 7, first: ['billing/a', 'billing/b'] } } }),
      /^warn Keys that have expired, and are still configured: billing\/a, billing\/b and 5 more, see \/status\.$/,
    ],
    [
      'keys that expire soon',
      tell({ keys: { ...status.keys, ending: { count: 1, first: ['billing/a'] } } }),
      /^warn Keys that expire within 14 days: billing\/a\.$/,
    ],
    [
      'keys that are not used',
      tell({ keys: { ...status.keys, unused: { count: 1, first: ['billing/a'] } } }),
      /^warn Keys that were not used for 30 days: billing\/a\.$/,
    ],
    ['draining', tell({ draining: true }), /^warn This replica is draining/],
    [
      'missing invalidations',
      tell({ cache: { ...status.cache, inTouch: { main: false } } }),
      /^warn main: invalidations/,
    ],
  ])('%s', (_what, told, expected) => {
    expect(told).toHaveLength(1);
    expect(told[0]).toMatch(expected);
  });

  it('has numbers beside the text, and leads to a runbook that exists', () => {
    const [near] = alertsOf({
      status: { ...status, accounts: { main: { ...account, slotsInUse: 230, waiting: 7 } } },
      tenants,
    });
    expect(near).toMatchObject({ detail: '230 of 235 a minute are used, 7 wait.', runbook: 'patchgateceilingnear' });
    const unattributed = { ...none, requests: 40, refused: 37 };
    const [unknown] = alertsOf({ status: { ...status, unattributed, recentSeconds: 300 }, tenants });
    expect(unknown).toMatchObject({ level: 'warn', detail: '37 in 5 min.' });
    const headings = readFileSync('docs/operations.md', 'utf8')
      .match(/^### Patchgate\w+$/gm)
      ?.map((each) => each.slice(4).toLowerCase());
    const named = [...readFileSync('src/admin/ui/browser/alerts.js', 'utf8').matchAll(/'(patchgate[a-z]+)'/g)];
    expect(named.length).toBeGreaterThan(10);
    for (const [, name] of named) expect(headings).toContain(name);
  });

  it('the worst comes first', () => {
    expect(
      tell({ draining: true, accounts: { main: { ...account, cooldownMs: 9 } } }).map((each) => each.split(' ')[0]),
    ).toEqual(['bad', 'warn']);
  });
});
