import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { accessLine } from '../../test/support/access-lines.ts';
import { check } from './check.ts';
import { plan } from './plan.ts';

let directory = '';
const at = (name: string): string => join(directory, name);

const CONFIG = JSON.stringify({
  accounts: { main: { credentials: [{ id: 'p', apiKey: 'fake-key' }] } },
  tenants: { billing: { quota: { rate: 60, burst: 5, maxWait: '0s' } } },
});
const LINES = Array.from({ length: 20 }, (_, index) => accessLine({ endMs: index * 100 + 100, path: `/x/${index}` }));
const TEXT = `${LINES.join('\n')}\n`;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'patchgate-plan-'));
  await writeFile(at('new.yaml'), CONFIG);
  await writeFile(at('day.log'), TEXT);
});
afterAll(() => rm(directory, { recursive: true, force: true }));

async function run(args: string[], { stdin = '' as string | Buffer, isTerminal = false } = {}) {
  const stdout = new PassThrough();
  const stderr = Object.assign(new PassThrough(), { isTTY: isTerminal });
  const code = await plan(args, {
    stdout,
    stderr,
    stdin: Readable.from([Buffer.from(stdin)], { objectMode: false }),
    env: {},
  });
  const textOf = (stream: PassThrough): string => String(stream.read() ?? '');
  return { code, stdout: textOf(stdout), stderr: textOf(stderr) };
}

const usual = () => ['--config', at('new.yaml'), '--json'];

describe('logs', () => {
  test('are read as they are, compressed, in several files and from standard input, with one result', async () => {
    await writeFile(at('day.log.gz'), gzipSync(TEXT));
    // Two members, as rotated files that were joined.
    await writeFile(
      at('joined'),
      Buffer.concat([gzipSync(`${LINES.slice(0, 7).join('\n')}\n`), gzipSync(LINES.slice(7).join('\n'))]),
    );
    await writeFile(at('even.log'), LINES.filter((_, index) => index % 2 === 0).join('\n'));
    await writeFile(at('odd.log'), LINES.filter((_, index) => index % 2 === 1).join('\r\n'));
    const expected = await run(['--log', at('day.log'), ...usual()]);
    expect(expected.code, expected.stderr).toBe(0);
    const report = JSON.parse(expected.stdout);
    expect(report.tenants.billing.recorded).toMatchObject({ requests: 20, upstreamRequests: 20 });
    const ways: [string[], { stdin?: string | Buffer }][] = [
      [['--log', at('day.log.gz')], {}],
      [['--log', at('joined')], {}],
      [['--log', at('odd.log'), at('even.log')], {}],
      [['--log', at('odd.log'), '--log', at('even.log')], {}],
      [['--log', '-'], { stdin: TEXT }],
      [['--log', '-'], { stdin: gzipSync(TEXT) }],
    ];
    for (const [args, options] of ways) {
      const { stdout, stderr } = await run([...args, ...usual()], options);
      expect({ ...JSON.parse(stdout), stderr }, args.join(' ')).toEqual({ ...report, stderr: expected.stderr });
    }
  });

  test('may have lines that cannot be read: they are counted, and the first are named', async () => {
    const text = [
      ...LINES.slice(0, 3),
      '{"level":"info","msg":"listening"}',
      '',
      `{"msg":"request","path":"${'x'.repeat(300_000)}"}`,
      '[1]',
      accessLine({ endMs: 300, path: 'no-slash' }),
      accessLine({ endMs: 300, tenant: 'a\u001b[31mb' }),
      accessLine({ endMs: 300, code: 'no_such_code' }),
      accessLine({ endMs: 300, durationMs: -1 }),
      'Error: not JSON',
      LINES[3],
    ].join('\n');
    await writeFile(at('mixed.log'), text);
    const { code, stdout, stderr } = await run(['--log', at('mixed.log'), ...usual()]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout).lines).toMatchObject({ lines: 13, requests: 4, other: 2, unreadable: 7 });
    expect(stderr).toContain(
      [
        'warning: 7 lines could not be read, and their requests are missing:',
        `  ${at('mixed.log')}:6: longer than 64 KiB`,
        `  ${at('mixed.log')}:7: no JSON object`,
        `  ${at('mixed.log')}:8: no readable "path"`,
        `  ${at('mixed.log')}:9: no readable "tenant"`,
        `  ${at('mixed.log')}:10: no readable "code"`,
        '  and 2 more',
        '',
      ].join('\n'),
    );
    expect(stderr).not.toContain('\u001b');
  });

  test('of two replicas in one file, one after the other, are recognised', async () => {
    const later = accessLine({ endMs: 600_000 });
    await writeFile(at('glued.log'), [later, ...LINES].join('\n'));
    const { stdout } = await run(['--log', at('glued.log'), ...usual()]);
    expect(JSON.parse(stdout).lines).toMatchObject({ requests: 1, unreadable: 20 });
    expect(JSON.parse(stdout).lines.examples[0]).toMatchObject({
      line: 2,
      reason: expect.stringMatching(/^more than two minutes/),
    });
  });
});

test('the logs of two days may be named in any order', async () => {
  const day = (startMs: number) =>
    LINES.map((_, index) => accessLine({ endMs: startMs + index * 10_000, path: `/api/v1/scripts/${index}` })).join(
      '\n',
    );
  await writeFile(at('monday.log'), day(0));
  await writeFile(at('tuesday.log'), day(86_400_000));
  const { stdout } = await run(['--log', at('tuesday.log'), at('monday.log'), ...usual()]);
  expect(JSON.parse(stdout).tenants.billing.predicted).toMatchObject({ requests: 40, upstreamRequests: 40 });
});

describe('a mistake', () => {
  const failing = async (args: string[], options = {}) => {
    const { code, stdout, stderr } = await run(args, options);
    expect(stdout).toBe('');
    return `${code} ${stderr}`;
  };
  test.each([
    [['--config', 'x.yaml'], '2 patchgate plan: name the logs with --log FILE...; see patchgate plan --help\n'],
    [['--log', 'a', 'a'], '2 patchgate plan: a log is named twice: its requests would count twice\n'],
    [['--log', 'a', '--jsn'], "2 patchgate plan: Unknown option '--jsn'; did you mean --json?\n"],
  ])('in the arguments %j is one line', async (args, line) => {
    expect(await failing(args)).toBe(line);
  });

  test('in the configuration is reported as check reports it', async () => {
    await writeFile(at('bad.yaml'), 'accounts:\n  main:\n    quota: { limt: 5 }\ntenants: {}\n');
    const stderr = new PassThrough();
    await check([at('bad.yaml')], { stdout: new PassThrough(), stderr, stdin: Readable.from([]), env: {} });
    expect(await failing(['--log', at('day.log'), '-c', at('bad.yaml')])).toBe(`1 ${stderr.read()}`);
  });

  test('in a file names the file', async () => {
    const config = ['-c', at('new.yaml')];
    expect(await failing(['--log', at('day.log'), at('none.log'), ...config])).toMatch(
      /^1 patchgate plan: \S+none\.log cannot be read: ENOENT/,
    );
    expect(await failing(['--log', directory, ...config])).toMatch(/^1 patchgate plan: \S+ cannot be read: EISDIR/);
    await writeFile(at('cut.gz'), gzipSync(TEXT).subarray(0, 200));
    expect(await failing(['--log', at('cut.gz'), ...config])).toMatch(
      /^1 patchgate plan: \S+cut\.gz cannot be read: unexpected end of file/,
    );
  });

  test('that leaves no request says so', async () => {
    expect(await failing(['--log', '-', '-c', at('new.yaml')])).toMatch(
      /no request of a tenant in -: 0 lines, 0 of them about a request; is log.access all\?\n$/,
    );
  });
});

test('people get a table, and a bar on a terminal', async () => {
  const { stdout, stderr } = await run(['--log', at('day.log'), '-c', at('new.yaml')], { isTerminal: true });
  expect(stdout.split('\n').slice(0, 9)).toEqual([
    'requests from 2026-11-02T00:00:00.000Z to 2026-11-02T00:00:02.000Z',
    '',
    '                           recorded  predicted',
    'tenant billing',
    '  requests                       20         20',
    '  rejected: route_unknown         0         20',
    '  wait, p50                    0 ms       0 ms',
    '  wait, p95                    0 ms       0 ms',
    '  upstream requests              20          0',
  ]);
  expect(stderr).toMatch(/\r\[#{30}\] 100 %, 20 requests/);
  expect(stderr).toContain('\r\x1b[K');
});
