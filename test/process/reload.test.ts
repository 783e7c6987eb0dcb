import { execFileSync } from 'node:child_process';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  BILLING_KEY,
  type Config,
  configuration,
  eventually,
  READER_KEY,
  sha256,
  TENANTS,
} from '../support/gateway.ts';
import { type GatewayProcess, startGateway } from '../support/gateway-process.ts';
import { folder, patchgate } from '../support/process.ts';
import { until } from '../support/redis.ts';

const NEW_KEY = 'pgk_billing_fake-new-key';
const UNWATCHED = { reload: { watch: false } };
/** With this long a poll, every change that a test sees is a notification of the file system. */
const WATCHED = { reload: { poll: '1h' } };

const withKeys = (keys: readonly string[], more: Config = {}) => ({
  tenants: { billing: { ...TENANTS.billing, keys: keys.map((key) => ({ id: key.slice(-5), sha256: sha256(key) })) } },
  ...more,
});
const change = ({ simulator, write }: GatewayProcess, more: Config) =>
  write(JSON.stringify(configuration(simulator.url, more)));
const disconnect = ({ process }: GatewayProcess) => process.child.kill('SIGHUP');
/** Waits for loads that are good, or refused. */
const counts = (running: GatewayProcess, reloads: { ok: number; refused: number }) =>
  until(`reloads: ${JSON.stringify(reloads)}`, async () => {
    const now = await running.reloads();
    return now.ok === reloads.ok && now.refused === reloads.refused;
  });
/** All lines with a message, once the process has ended: it writes them in batches. */
async function logged({ process }: GatewayProcess, message: string): Promise<Record<string, unknown>[]> {
  process.child.kill('SIGINT');
  await process.exited;
  const lines = process.stdout().trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>).filter(({ msg }) => msg === message);
}

/** Requests from four callers until it is stopped. */
function load(running: GatewayProcess) {
  let going = true;
  const statuses: number[] = [];
  const callers = Array.from({ length: 4 }, async () => {
    while (going) statuses.push(await running.status(BILLING_KEY));
  });
  return {
    statuses,
    async stop() {
      going = false;
      await Promise.all(callers);
    },
  };
}

describe('SIGHUP', () => {
  test('takes over the edited file; refuses a bad one with its problems, counts it, and goes on with the old', async () => {
    await using running = await startGateway(UNWATCHED);
    expect([await running.status(BILLING_KEY), await running.status(NEW_KEY)]).toEqual([200, 401]);
    await change(running, withKeys([NEW_KEY], { ...UNWATCHED, log: { level: 'debug' } }));
    disconnect(running);
    await running.process.waitFor(/"msg":"configuration reloaded"/);
    expect([await running.status(BILLING_KEY), await running.status(NEW_KEY)]).toEqual([401, 200]);
    expect(await running.reloads()).toEqual({ ok: 2, refused: 0 });

    await running.write('acounts: {}\nlisten: { traffic: { port: 99999 } }\ntenants: {}\n');
    disconnect(running);
    const [line] = await running.process.waitFor(/\{.*"msg":"the new configuration is refused.*\}/);
    const { level, problems } = JSON.parse(line) as { level: string; problems: string[] };
    expect([level, problems.map((each) => each.split(': ').slice(0, 2).join(' ')).sort()]).toEqual([
      'error',
      ['gateway.yaml:1 accounts', 'gateway.yaml:1 acounts', 'gateway.yaml:2 listen.traffic.port'],
    ]);
    expect(await running.reloads()).toEqual({ ok: 2, refused: 1 });
    expect(await running.status(NEW_KEY)).toBe(200);
    running.process.child.kill('SIGINT');
    expect(await running.process.exited).toEqual({ code: 0, signal: null });
    expect(running.process.stderr()).toBe('');
  });

  test('ten times under load loses no request, and the last file counts', async () => {
    await using running = await startGateway(UNWATCHED);
    const { statuses, stop } = load(running);
    for (let i = 1; i <= 10; i++) {
      const before = statuses.length;
      await change(running, withKeys([BILLING_KEY], { ...UNWATCHED, drain: { delay: `${i}ms` } }));
      disconnect(running);
      await counts(running, { ok: i + 1, refused: 0 });
      await eventually(() => statuses.length > before + 4, 'requests go on');
    }
    await stop();
    expect(statuses.filter((each) => each !== 200 && each !== 429)).toEqual([]);
    expect(running.simulator.stats().accounts['main']!.greatestCountedIn60s).toBeLessThanOrEqual(235);
  });

  test('that comes while the process starts does not end it', async () => {
    await using files = await folder({ 'gateway.yaml': JSON.stringify(configuration('http://127.0.0.1:1')) });
    await using process = patchgate(['serve', '--config', 'gateway.yaml'], { cwd: files.path });
    const teasing = setInterval(
      () => process.child.kill(0) && process.stdout() !== '' && process.child.kill('SIGHUP'),
      5,
    );
    try {
      await process.waitFor(/"msg":"configuration reloaded"/);
    } finally {
      clearInterval(teasing);
    }
    process.child.kill('SIGINT');
    expect((await process.exited).code).toBe(0);
  });
});

describe('a change of the files is taken over by itself', () => {
  test('ten times under load, as Kubernetes does it: no request is lost, no bucket refilled, and each change loads once', async () => {
    const slow = { keys: TENANTS.reader.keys, quota: { rate: 0.5, burst: 5, maxWait: '0s' } };
    const tenants = { billing: TENANTS.billing, reader: slow };
    await using running = await startGateway({ ...WATCHED, tenants }, { configMap: true });
    for (let i = 0; i < 3; i++) expect(await running.status(READER_KEY)).toBe(200);
    const { statuses, stop } = load(running);
    for (let i = 1; i <= 10; i++) {
      const before = statuses.length;
      await change(running, { ...WATCHED, tenants, drain: { delay: `${i}ms` } });
      await counts(running, { ok: i + 1, refused: 0 });
      await eventually(() => statuses.length > before + 4, 'requests go on');
    }
    await stop();
    expect(statuses.filter((each) => each !== 200 && each !== 429)).toEqual([]);
    expect(running.simulator.stats().accounts['main']!.greatestCountedIn60s).toBeLessThanOrEqual(235);
    const whoami = await fetch(`${running.url}/_gateway/whoami`, { headers: { 'X-API-Key': READER_KEY } });
    expect(whoami.headers.get('x-ratelimit-remaining')).toBe('2');
    expect((await logged(running, 'configuration reloaded')).map(({ changed }) => changed)).toEqual(
      Array.from({ length: 10 }, (_, i) => [`drain.delay ${i === 0 ? '5s' : `${i}ms`} → ${i + 1}ms`]),
    );
  });

  test('a key is rotated with overlap: the old one, both, the new one', async () => {
    await using running = await startGateway({ ...WATCHED, ...withKeys([BILLING_KEY]) });
    const both = async () => [await running.status(BILLING_KEY), await running.status(NEW_KEY)];
    expect(await both()).toEqual([200, 401]);
    await change(running, { ...WATCHED, ...withKeys([BILLING_KEY, NEW_KEY]) });
    await counts(running, { ok: 2, refused: 0 });
    expect(await both()).toEqual([200, 200]);
    await change(running, { ...WATCHED, ...withKeys([NEW_KEY]) });
    await counts(running, { ok: 3, refused: 0 });
    expect(await both()).toEqual([401, 200]);
    expect((await logged(running, 'configuration reloaded')).map(({ changed }) => changed)).toEqual([
      ['tenants.billing.keys.w-key added'],
      ['tenants.billing.keys.tests removed'],
    ]);
    expect(running.process.stdout()).not.toMatch(/pgk_billing|[0-9a-f]{64}/);
  });

  test('a removed tenant is refused: 401, also on a connection that it kept', async () => {
    await using running = await startGateway(WATCHED);
    expect(await running.status(READER_KEY)).toBe(200);
    await change(running, { ...WATCHED, tenants: { billing: TENANTS.billing } });
    await eventually(async () => (await running.status(READER_KEY)) === 401, 'the tenant is refused');
    expect(await running.status(BILLING_KEY)).toBe(200);
  });

  test('a credential in a file of its own is changed with the file', async () => {
    const credentials = [{ id: 'primary', apiKey: '${file:secret}' }];
    const more = { ...WATCHED, accounts: { main: { quota: { burst: 200 }, credentials } } };
    await using running = await startGateway(more, { files: { secret: 'fake-patchworks-key-primary\n' } });
    running.simulator.credentials.revokeKey('primary');
    running.simulator.credentials.restoreKey('renewed', 'fake-patchworks-key-renewed');
    expect(await running.status(BILLING_KEY)).toBe(502);
    await writeFile(join(running.path, 'secret'), 'fake-patchworks-key-renewed\n');
    await counts(running, { ok: 2, refused: 0 });
    expect(await running.status(BILLING_KEY)).toBe(200);
    expect((await logged(running, 'configuration reloaded')).map(({ changed }) => changed)).toEqual([
      ['accounts.main.credentials.primary changed'],
    ]);
    expect(running.process.stdout()).not.toContain('fake-patchworks-key');
  });
});

describe('what is wrong with the files', () => {
  const SECRET = { id: 'primary', apiKey: '${file:secrets/key}' };
  const more = { ...WATCHED, accounts: { main: { quota: { burst: 200 }, credentials: [SECRET] } } };
  const wrongs: [string, (running: GatewayProcess, good: string) => Promise<unknown>, RegExp][] = [
    ['YAML cut in the middle', ({ write }, good) => write(good.slice(0, good.length / 2)), /gateway\.yaml:1/],
    ['an empty file', ({ write }) => write(''), /is empty/],
    [
      'a value that the schema forbids',
      ({ write }, good) => write(good.replace('"burst":200', '"burst":0')),
      /at least 1/,
    ],
    ['the file removed', ({ path }) => rm(join(path, 'gateway.yaml')), /cannot be read: no such file/],
    ['a secret removed', ({ path }) => rm(join(path, 'secrets/key')), /secrets\/key \(no such file\)/],
    ['a directory gone', ({ path }) => rename(join(path, 'secrets'), join(path, 'away')), /no such file/],
  ];

  test.each(wrongs)(
    '%s: refused once with the reason, the old stays, and right files are taken over',
    async (_, spoil, reason) => {
      await using running = await startGateway(more, { files: { 'secrets/key': 'fake-patchworks-key-primary' } });
      const good = JSON.stringify(configuration(running.simulator.url, more));
      const lastLoad = async () =>
        ((await (await fetch(`${running.adminUrl}/status`)).json()) as { lastLoad: unknown }).lastLoad;
      await spoil(running, good);
      await counts(running, { ok: 1, refused: 1 });
      expect(await running.status(BILLING_KEY)).toBe(200);
      expect(await lastLoad()).toMatchObject({
        outcome: 'refused',
        problems: expect.arrayContaining([expect.stringMatching(reason)]),
      });

      await mkdir(join(running.path, 'secrets'), { recursive: true });
      await writeFile(join(running.path, 'secrets/key'), 'fake-patchworks-key-primary');
      await running.write(good);
      await counts(running, { ok: 2, refused: 1 });
      expect(await lastLoad()).toMatchObject({ outcome: 'ok', problems: [] });
      const refusals = await logged(running, 'the new configuration is refused; the old one stays');
      expect(refusals.map(({ problems }) => problems)).toEqual([
        expect.arrayContaining([expect.stringMatching(reason)]),
      ]);
    },
  );
});

describe('a file that is no configuration stops neither a running gateway, nor its next reload, nor its end', () => {
  const FAST = { ...UNWATCHED, drain: { delay: '0ms', timeout: '5s' } };
  const refusal = async ({ adminUrl }: GatewayProcess): Promise<string[]> => {
    const response = await fetch(`${adminUrl}/reload`, { method: 'POST' });
    return ((await response.json()) as { problems: string[] }).problems;
  };
  const ended = async (running: GatewayProcess) => {
    running.process.child.kill('SIGTERM');
    expect(await running.process.exited).toEqual({ code: 0, signal: null });
    expect(running.process.stderr()).toBe('');
  };

  test('an alias of what it is a part of, in both files, and a thousand lists in lists', async () => {
    await using running = await startGateway(FAST);
    await running.write('x: &x [*x, *x]\n');
    const CYCLE = 'is an alias of what it is a part of';
    expect(await refusal(running)).toEqual([`gateway.yaml:1: ${CYCLE}`, `gateway.yaml:1: ${CYCLE}`]);
    const { tenants, ...rest } = configuration(running.simulator.url, FAST);
    await running.write(JSON.stringify({ ...rest, tenantsFile: 'others.yaml' }));
    await writeFile(join(running.path, 'others.yaml'), 'tenants:\n  a: &a { quota: *a }\n');
    expect(await refusal(running)).toEqual([`others.yaml:2: ${CYCLE}`]);
    await running.write('['.repeat(2_000));
    expect(await refusal(running)).toEqual(['gateway.yaml:1: is nested more than 50 levels deep']);
    expect(await running.status(BILLING_KEY)).toBe(200);
    await change(running, { ...FAST, log: { level: 'debug' } });
    disconnect(running);
    await counts(running, { ok: 2, refused: 3 });
    await ended(running);
  });

  test('a pipe, a device, and a secret that is the wrong file', async () => {
    await using running = await startGateway(FAST);
    execFileSync('mkfifo', [join(running.path, 'pipe')]);
    await writeFile(join(running.path, 'large'), 'x'.repeat(17_000));
    const withKey = (apiKey: string) => ({ ...FAST, accounts: { main: { credentials: [{ id: 'a', apiKey }] } } });
    const at = 'gateway.yaml:1: accounts.main.credentials[0].apiKey';
    for (const [file, reason] of [
      ['pipe', `cannot read the file ${join(running.path, 'pipe')} (is not a regular file)`],
      ['/dev/zero', 'cannot read the file /dev/zero (is not a regular file)'],
      ['large', 'must be at most 8KiB: is it the right file?'],
    ] as const) {
      await change(running, withKey(`\${file:${file}}`));
      expect(await refusal(running)).toEqual([`${at}: ${reason}`]);
    }
    expect(await running.status(BILLING_KEY)).toBe(200);
    await ended(running);
  });

  test('a file system that does not answer: a drain does not wait for the reload', async () => {
    const preload = new URL('../support/hung-file-preload.mjs', import.meta.url).href;
    await using running = await startGateway(FAST, {
      env: { NODE_OPTIONS: `--import=${preload}`, LOG_LEVEL: 'debug' },
    });
    await running.write('a: "${file:hung}"\n');
    const reload = fetch(`${running.adminUrl}/reload`, { method: 'POST' }).catch(() => null);
    expect(await running.status(BILLING_KEY)).toBe(200);
    await ended(running);
    await reload;
  });
});

describe('POST /reload', () => {
  const token = 'fake-admin-token-for-reload';
  const more = {
    ...UNWATCHED,
    listen: { traffic: { host: '127.0.0.1', port: 0 }, admin: { host: '127.0.0.1', port: 0, token } },
  };
  const bearer = { Authorization: `Bearer ${token}` };
  const post = (running: GatewayProcess, headers: Record<string, string> = bearer) =>
    fetch(`${running.adminUrl}/reload`, { method: 'POST', headers });
  const loads = async (running: GatewayProcess) =>
    /^patchgate_config_reloads_total{outcome="ok"} (\d+)$/m.exec(
      await (await fetch(`${running.adminUrl}/metrics`, { headers: bearer })).text(),
    )?.[1];

  test('answers what is in force now, what changed and what needs a restart', async () => {
    await using running = await startGateway(more);
    const tenants = { billing: TENANTS.billing };
    await change(running, { ...more, cache: { memory: '1MiB' }, limits: { body: '2MiB' }, tenants });
    const response = await post(running);
    const status = (await (await fetch(`${running.adminUrl}/status`, { headers: bearer })).json()) as Config;
    expect([response.status, await response.json()]).toEqual([
      200,
      {
        revision: status['revision'],
        changed: ['tenants.reader removed', 'tenants.disabled removed', 'limits.body 10MiB → 2MiB'],
        needsRestart: ['cache.memory'],
      },
    ]);
    expect(await (await post(running)).json()).toMatchObject({ changed: [], revision: status['revision'] });
  });

  test('by an operator, by a file and by a signal each leave one audit line: who, and what changed, without secrets', async () => {
    const tokens = [{ id: 'anna', token: 'fake-token-of-anna', role: 'operate' }];
    const guarded = { listen: { traffic: more.listen.traffic, admin: { ...more.listen.admin, tokens } }, ...WATCHED };
    await using running = await startGateway(guarded);
    const load = async (settings: Config, ask: () => unknown, expected: { ok: number; refused: number }) => {
      await change(running, { ...guarded, log: { level: 'error' }, ...settings });
      await ask();
      await until(`reloads: ${JSON.stringify(expected)}`, async () => {
        const text = await (await fetch(`${running.adminUrl}/metrics`, { headers: bearer })).text();
        const count = (outcome: string) =>
          Number(new RegExp(`^patchgate_config_reloads_total{outcome="${outcome}"} (\\d+)$`, 'm').exec(text)?.[1]);
        return count('ok') === expected.ok && count('refused') === expected.refused;
      });
    };
    await load({ limits: { failedAuth: 9 } }, () => {}, { ok: 2, refused: 0 });
    await load({ reload: { watch: false } }, () => {}, { ok: 3, refused: 0 });
    const quiet = { reload: { watch: false } };
    const asAnna = { Authorization: 'Bearer fake-token-of-anna' };
    await load({ ...quiet, limits: { body: '2MiB' } }, () => post(running, asAnna), { ok: 4, refused: 0 });
    await load({ ...quiet, limits: { bdy: '2MiB' } }, () => disconnect(running), { ok: 4, refused: 1 });
    expect((await post(running, { Authorization: 'Bearer fake-guess' })).status).toBe(401);
    running.process.child.kill('SIGINT');
    await running.process.exited;
    const lines = running.process.stdout().trimEnd().split('\n');
    const audited = lines.map((line) => JSON.parse(line) as Config).filter(({ audit }) => audit === true);
    const reload = { action: 'reload', target: 'configuration', outcome: 'ok' };
    expect(audited).toMatchObject([
      {
        ...reload,
        actor: 'file',
        address: null,
        changed: ['log.level info → error'],
        needsRestart: ['limits.failedAuth'],
      },
      { ...reload, actor: 'file', changed: ['reload.watch true → false', 'reload.poll 1h → 5s'] },
      { ...reload, actor: 'anna', address: '127.0.0.1', changed: ['limits.body 10MiB → 2MiB'] },
      { ...reload, actor: 'signal', outcome: 'refused', level: 'error', problems: [expect.stringContaining('bdy')] },
      { actor: 'unknown', action: 'reload', target: 'POST /reload', outcome: 'refused', code: 'unauthorized' },
    ]);
    expect(running.process.stdout()).not.toMatch(/fake-token-of-anna|fake-guess/);
  });

  test('of a bad configuration is 422 with all problems, and the old one stays', async () => {
    await using running = await startGateway(more);
    await change(running, { ...more, limits: { bdy: '1KiB', requestsPerSecond: 0 } });
    const response = await post(running);
    expect([response.status, response.headers.get('content-type')]).toEqual([422, 'application/problem+json']);
    expect(await response.json()).toMatchObject({
      code: 'config_refused',
      problems: [
        'gateway.yaml:1: limits.requestsPerSecond: must be at least 1',
        'gateway.yaml:1: limits.bdy: unknown option; did you mean "body"?',
      ],
    });
    expect(await running.status(BILLING_KEY)).toBe(200);
  });

  test('without the token, or from a page of another site, loads nothing', async () => {
    await using running = await startGateway(more);
    expect((await post(running, {})).status).toBe(401);
    expect((await post(running, { ...bearer, Origin: 'https://elsewhere.example' })).status).toBe(403);
    expect((await fetch(`${running.adminUrl}/reload`, { headers: bearer })).status).toBe(405);
    expect(await loads(running)).toBe('1');
  });
});
