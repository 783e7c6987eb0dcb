import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFile, symlink } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { ecKey, ISSUER, jwksServer } from '../support/issuer.ts';
import { folder, patchgate } from '../support/process.ts';

const GOOD = JSON.stringify({
  listen: { traffic: { host: '127.0.0.1', port: 0 }, admin: { host: '127.0.0.1', port: 0 } },
  accounts: { main: { credentials: [{ id: 'p', apiKey: '${KEY:-fake}' }] } },
  tenants: { billing: {} },
});

async function outcome(args: string[], options: Parameters<typeof patchgate>[1] = {}) {
  await using process = patchgate(args, options);
  const { code } = await process.exited;
  return { code, stdout: process.stdout(), stderr: process.stderr() };
}

describe('a mistake on the command line is one clear line and exit 2', () => {
  test.each([
    [['sevre'], 'patchgate: unknown command "sevre"; did you mean serve?\n'],
    [['install'], 'patchgate: unknown command "install"; commands: serve, check, '],
    [['serve', '--confg', 'x'], "patchgate serve: Unknown option '--confg'; did you mean --config?\n"],
    [['serve', '--workers=2'], "patchgate serve: Unknown option '--workers'; see patchgate serve --help\n"],
    [['check', 'a.yaml', 'b.yaml'], 'patchgate check: give one file; see patchgate check --help\n'],
    [['check', 'a.yaml', '-c', 'b.yaml'], 'patchgate check: give one file; see patchgate check --help\n'],
    [['serve', 'x.yaml'], "patchgate serve: Unexpected argument 'x.yaml'; see patchgate serve --help\n"],
    [
      ['check', '--config'],
      "patchgate check: Option '-c, --config <value>' argument missing; see patchgate check --help\n",
    ],
    [['simulate', '--port', 'x'], 'patchgate simulate: --port must be a number from 0 to 65535\n'],
    [['simulate', '--triggers', 'x'], 'patchgate simulate: --triggers must be a number from 0 to 65534\n'],
    [['simulate', '--limit', '0'], 'patchgate simulate: --limit must be a whole number from 1\n'],
    [['simulate', '--tier', 'trial'], 'patchgate simulate: --tier must be one of growth, professional, enterprise\n'],
    [['simulate', '--operations', '1.5'], 'patchgate simulate: --operations must be a whole number from 0\n'],
    [['key', 'create', 'No Good'], 'patchgate key: a tenant name must have lower-case letters'],
    [['key', 'create', 'x', '--expires', 'soon'], 'patchgate key: --expires must be a duration such as 24h or 180d\n'],
    [['demo', '--prot', '1'], "patchgate demo: Unknown option '--prot'; did you mean --port?\n"],
  ])('%j', async (args, line) => {
    const { code, stdout, stderr } = await outcome(args);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr.startsWith(line), stderr).toBe(true);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });
});

test.each([
  ['--help'],
  ['serve --help'],
  ['check --help'],
  ['key --help'],
  ['plan --help'],
  ['tenant --help'],
  ['simulate --help'],
  ['demo --help'],
  ['--version'],
  ['-V'],
  ['version'],
])('%s answers and exits 0', async (line) => {
  const { code, stdout, stderr } = await outcome(line.split(' '));
  expect([code, stderr]).toEqual([0, '']);
  expect(stdout.length).toBeGreaterThan(3);
});

test('the command in a clone runs what was built, and without a build says how to build', async () => {
  await using files = await folder({});
  const run = (at: string) =>
    new Promise<[number | undefined, string, string]>((resolve) =>
      execFile(`${at}/patchgate`, ['version'], { cwd: tmpdir() }, (error, out, err) =>
        resolve([error === null ? 0 : Number(error.code), out, err]),
      ),
    );
  const root = fileURLToPath(new URL('../..', import.meta.url));
  expect(await run(root)).toEqual([0, expect.stringMatching(/^\d+\.\d+\.\d+\n$/), '']);
  await using path = await folder({});
  await symlink(`${root}/patchgate`, `${path.path}/patchgate`);
  expect(await run(path.path)).toEqual(await run(root));
  await copyFile(`${root}/patchgate`, `${files.path}/patchgate`);
  const [code, out, err] = await run(files.path);
  expect([code, out, err.trim().split('\n').length]).toEqual([1, '', 1]);
  expect(err).toContain(`patchgate is not built yet: run "npm ci && npm run build" in ${files.path}`);
});

describe('serve and check with a wrong configuration', () => {
  test.each(['serve', 'check'])('%s prints every problem, starts nothing, exits 1', async (command) => {
    await using files = await folder({
      'gateway.yaml':
        'acounts: {}\nlimits: { body: 10 }\nlisten: { traffic: { port: 99999 } }\ntenants: { a: { quota: { rate: -1 } } }\n',
    });
    const { code, stdout, stderr } = await outcome([command, '--config', 'gateway.yaml'], { cwd: files.path });
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr.split('\n')).toEqual([
      'gateway.yaml:1: accounts: is required',
      'gateway.yaml:1: acounts: unknown option; did you mean "accounts"?',
      'gateway.yaml:2: limits.body: must be a size such as 64KiB or 10MiB',
      'gateway.yaml:3: listen.traffic.port: must be at most 65535',
      'gateway.yaml:4: tenants.a.quota.rate: must be above 0',
      '5 problems in the configuration; nothing was started',
      '',
    ]);
  });

  test('an unreadable secret file is named, with the reason', async () => {
    await using files = await folder({ 'gateway.yaml': GOOD.replace('${KEY:-fake}', '${file:/nowhere/secret}') });
    const { code, stderr } = await outcome(['serve', '--config', 'gateway.yaml'], { cwd: files.path });
    expect(code).toBe(1);
    expect(stderr).toContain(
      'accounts.main.credentials[0].apiKey: cannot read the file /nowhere/secret (no such file)',
    );
  });

  test('a missing file is one line', async () => {
    const { code, stderr } = await outcome(['serve']);
    expect([code, stderr]).toEqual([
      1,
      'config/gateway.yaml: cannot be read: no such file\n1 problem in the configuration; nothing was started\n',
    ]);
  });
});

describe('a port in use', () => {
  test.each(['traffic', 'admin'])('%s: one clear line, exit 1', async (which) => {
    const other = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => other.once('listening', resolve));
    try {
      const { port } = other.address() as { port: number };
      const config = JSON.parse(GOOD);
      config.listen[which].port = port;
      await using files = await folder({ 'gateway.yaml': JSON.stringify(config) });
      const { code, stderr } = await outcome(['serve', '--config', 'gateway.yaml'], { cwd: files.path });
      expect([code, stderr]).toEqual([
        1,
        `patchgate serve: the ${which} port 127.0.0.1:${port} is in use by another process\n`,
      ]);
      const simulated = await outcome(['simulate', '--port', String(port)]);
      expect([simulated.code, simulated.stderr]).toEqual([
        1,
        `patchgate simulate: the port 127.0.0.1:${port} is in use by another process\n`,
      ]);
    } finally {
      other.close();
    }
  });
});

describe('check', () => {
  test('prints what each account can send at most, and exits 0', async () => {
    await using files = await folder({ 'gateway.yaml': GOOD });
    const { code, stdout } = await outcome(['check', '--config', 'gateway.yaml'], { cwd: files.path });
    expect(code).toBe(0);
    expect(stdout).toContain('account main\n  at most 235 requests in any 60 s');
    expect(stdout).toContain('warning: tenants.billing has neither key nor identity');
    expect(stdout).toMatch(/\nok: gateway\.yaml\n$/);
    for (const file of [['gateway.yaml'], ['-c', 'gateway.yaml']]) {
      expect(await outcome(['check', ...file], { cwd: files.path })).toEqual({ code, stdout, stderr: '' });
    }
  });
});

describe('the issuers that check prints', () => {
  const checked = async (url: string) => {
    const issuers = { cluster: { issuer: ISSUER, audience: 'patchgate', jwks: { url } } };
    const tenants = { billing: { identities: [{ issuer: 'cluster', subject: 'a' }] } };
    const text = JSON.stringify({ ...JSON.parse(GOOD), identity: { issuers }, tenants });
    await using files = await folder({ 'gateway.yaml': text });
    return await outcome(['check', 'gateway.yaml'], { cwd: files.path });
  };

  test('have the number of their keys, or the reason why they cannot be read, which is a warning', async () => {
    await using server = await jwksServer();
    server.publish(ecKey('a'), ecKey('b'));
    const { code, stdout } = await checked(server.url);
    expect(code).toBe(0);
    expect(stdout).toContain(
      `\nissuer cluster: ${ISSUER} for patchgate, RS256, ES256\n  identities of tenants: 1\n  keys from ${server.url}: 2\n`,
    );
    server.answer((_, outgoing) => outgoing.writeHead(403).end());
    const refused = await checked(server.url);
    expect(refused.code).toBe(0);
    expect(refused.stdout).toContain(
      `warning: identity.issuers.cluster.jwks: ${server.url}: the server answers with status 403;`,
    );
  });
});

describe('the limits that check prints', () => {
  const limitsWith = async (more: Record<string, unknown>) => {
    await using files = await folder({ 'gateway.yaml': JSON.stringify({ ...JSON.parse(GOOD), ...more }) });
    const { code, stdout } = await outcome(['check', '--config', 'gateway.yaml'], { cwd: files.path });
    expect(code).toBe(0);
    return stdout.split('\n').filter((line) => line.startsWith(' ') || line.startsWith('account'));
  };

  test('has a line for each account and tenant', async () => {
    expect(
      await limitsWith({
        redis: { url: 'redis://127.0.0.1:1' },
        tenants: {
          billing: { quota: { rate: 100, weight: 2, reserved: 60 } },
          gone: { disabled: true, quota: { reserved: 50 } },
          reports: { quota: { rate: 30, burst: 5 } },
          sync: {},
        },
      }),
    ).toEqual([
      'account main',
      '  at most 235 requests in any 60 s, whatever the latency, retries and logins included:',
      '    a slot is held from admission until 60 s after the response, and at most 235 are held at once',
      '  Patchworks allows 240: 5 are left for others on the account',
      '  at most 60 at once after a pause, then one every 255 ms',
      '  with responses after 0.2 s it sends up to 233.8 a minute, after 5 s 216.6',
      '  tenant billing: 100 a minute, 20 at once, 60 a minute reserved; 100 when all compete (weight 2)',
      '  tenant gone: disabled',
      '  tenant reports: 30 a minute, 5 at once; 30 when all compete (weight 1)',
      '  tenant sync: 235 a minute, 60 at once; 105 when all compete (weight 1)',
      '  reserved together 60 of 235; 175 are left to share',
      "  the tenants' own rates together are 365, more than the ceiling: at times they compete",
      '  without Redis each replica goes on with an equal share a minute: 235 with 1, 117 with 2, 78 with 3, 47 with 5',
    ]);
  });

  test('has what budgets allow a day, beside the parts of tenants', async () => {
    const match = ['POST /api/v1/flows/*/start/**'];
    const accounts = {
      main: {
        credentials: [{ id: 'primary', apiKey: 'fake' }],
        budgets: {
          operations: { match, limit: 150_000 },
          hourly: { match, limit: 2_400, per: 'day', timeZone: 'Europe/London' },
        },
      },
    };
    const tenants = {
      billing: { budgets: { operations: 93_000 } },
      sync: { budgets: { operations: 62_000 } },
      other: {},
    };
    const lines = await limitsWith({ accounts, tenants, redis: { url: 'redis://127.0.0.1:1' } });
    expect(lines.slice(-9, -1)).toEqual([
      '  budget operations: 150000 a month (UTC) of POST /api/v1/flows/*/start/**',
      '    that is 4838.7 a day, or 3.4 a minute all day; at the ceiling it is used up after 10.6 hours',
      '    tenant billing: 93000 a month, 3000 a day',
      '    tenant sync: 62000 a month, 2000 a day',
      '    the parts of tenants together are 155000 of 150000; the others use what is left',
      '  budget hourly: 2400 a day (Europe/London) of POST /api/v1/flows/*/start/**',
      '    that is 2400 a day, or 1.7 a minute all day; at the ceiling it is used up after 0.2 hours',
      '    no tenant has a part of its own',
    ]);
  });

  test('names the effect of a Redis outage, or the limit of embedded state', async () => {
    const closed = await limitsWith({ redis: { url: 'redis://127.0.0.1:1', onOutage: 'closed' } });
    expect(closed.at(-1)).toBe('  without Redis nothing is sent');
    expect((await limitsWith({})).at(-1)).toMatch(/^ {2}state is embedded: this holds for one process/);
  });
});

describe('key', () => {
  test('hash prints the digest of a key', async () => {
    const { code, stdout } = await outcome(['key', 'hash'], { stdin: 'fake-key\n' });
    expect([code, stdout]).toEqual([0, `${createHash('sha256').update('fake-key').digest('hex')}\n`]);
  });

  test('hash rejects an empty input and two keys', async () => {
    for (const stdin of ['', 'two words\n']) {
      const { code, stderr } = await outcome(['key', 'hash'], { stdin });
      expect([code, stderr.split('\n').length]).toEqual([2, 2]);
    }
  });
});
