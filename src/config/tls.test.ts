import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Authority, authority, type Pair } from '../../test/support/certificate-authority.ts';
import { folder } from '../../test/support/process.ts';
import { loadSettings, renderProblems } from './load.ts';
import { redactedSettings } from './settings.ts';

let ca: Authority;
let good: Pair;
let other: Pair;
beforeAll(async () => {
  ca = await authority();
  good = await ca.issue('gate');
  other = await ca.issue('other');
});
afterAll(() => ca[Symbol.asyncDispose]());

const REST = {
  accounts: { main: { credentials: [{ id: 'primary', apiKey: 'fake-patchworks-key' }] } },
  tenants: { billing: { keys: [{ id: 'k1', sha256: 'a'.repeat(64) }] } },
};
const PATHS = { certFile: 'tls/tls.crt', keyFile: 'tls/tls.key' };

/** Each option is on its own line of gateway.yaml, so that problems have different lines. */
async function load(tls: object, files: Record<string, string>, more: object = {}) {
  await using home = await folder(files);
  const config = { listen: { traffic: { tls }, admin: {} }, ...REST, ...more };
  const loaded = await loadSettings({
    path: `${home.path}/gateway.yaml`,
    env: {},
    readFile: async (path) =>
      path.endsWith('gateway.yaml') ? JSON.stringify(config, null, 1) : readFile(path, 'utf8'),
  });
  return { loaded, home: home.path };
}

async function settingsOf(tls: object, files: Record<string, string>) {
  const { loaded } = await load(tls, files);
  if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
  return loaded;
}

async function problemsOf(tls: object, files: Record<string, string>, more: object = {}): Promise<string[]> {
  const { loaded, home } = await load(tls, files, more);
  if (loaded.ok) throw new Error('the configuration was accepted');
  const text = renderProblems(loaded.problems);
  for (const line of files['tls/tls.key']?.split('\n') ?? []) {
    if (line.length > 20 && !line.startsWith('-----')) expect(text).not.toContain(line);
  }
  return text.replaceAll(`${home}/`, '').split('\n').slice(0, -1);
}

const files = (cert: string, key: string, more: Record<string, string> = {}) => ({
  'tls/tls.crt': cert,
  'tls/tls.key': key,
  ...more,
});

describe('a port with TLS', () => {
  test('reads certificate and key beside gateway.yaml, asks for no client certificate, and speaks TLS 1.2', async () => {
    const { settings, warnings } = await settingsOf(PATHS, files(good.cert, good.key));
    const tls = settings.listen.traffic.tls!;
    expect(tls).toMatchObject({ cert: good.cert, clientAuth: 'none', clientCa: null, minVersion: 'TLSv1.2' });
    expect(tls.key.reveal()).toBe(good.key.trimEnd());
    expect(settings.listen.admin.tls).toBeNull();
    expect(tls.certificate.names).toEqual(['IP Address:127.0.0.1', 'DNS:localhost']);
    expect(Math.abs(tls.certificate.notAfterMs - Date.now() - 2 * 86_400_000)).toBeLessThan(60_000);
    expect(tls.certificate.fingerprint).toMatch(/^([0-9A-F]{2}:){31}[0-9A-F]{2}$/);
    expect(warnings).toEqual([]);
    expect(settings.secrets.map((each) => each.reveal())).toContain(good.key.trimEnd());
    expect(JSON.stringify(redactedSettings(settings))).not.toContain('-----BEGIN');
  });

  test('requires client certificates if an authority is named, unless clientAuth says otherwise', async () => {
    const all = files(good.cert, good.key, { 'tls/ca.crt': ca.cert });
    const modes = await Promise.all(
      [undefined, 'none', 'optional', 'required'].map(async (clientAuth) => {
        const { settings } = await settingsOf({ ...PATHS, clientCaFile: 'tls/ca.crt', clientAuth }, all);
        const { tls } = settings.listen.traffic;
        return [tls?.clientAuth, tls?.clientCa === ca.cert];
      }),
    );
    expect(modes).toEqual([
      ['required', true],
      ['none', false],
      ['optional', true],
      ['required', true],
    ]);
  });

  test('takes a chain in the order in which it is sent, and expires with the earliest certificate', async () => {
    const middle = await ca.intermediate('Fake middle');
    const leaf = await middle.issue('leaf', { days: 100 });
    const { settings } = await settingsOf(PATHS, files(leaf.cert + middle.cert + ca.cert, leaf.key));
    const { notAfterMs } = settings.listen.traffic.tls!.certificate;
    expect(Math.abs(notAfterMs - Date.now() - 2 * 86_400_000)).toBeLessThan(60_000);
    const swapped = await problemsOf(PATHS, files(leaf.cert + ca.cert + middle.cert, leaf.key));
    expect(swapped).toEqual([
      "gateway.yaml:5: listen.traffic.tls.certFile: the file tls/tls.crt: certificate 2 has not issued certificate 1: begin with the port's own, then its issuer, and so on",
    ]);
  });

  test('takes one file with certificate and key, and shows only the certificate', async () => {
    const both = `${good.key}${good.cert}`;
    const { settings } = await settingsOf(
      { certFile: 'tls/both.pem', keyFile: 'tls/both.pem' },
      { 'tls/both.pem': both },
    );
    expect(settings.listen.traffic.tls?.cert).toBe(good.cert);
  });

  test('starts with a certificate that has expired or names no host, with a warning', async () => {
    const expired = await ca.issue('late', { days: -3 });
    const nameless = await ca.issue('nameless', { names: '' });
    const warnings = async ({ cert, key }: Pair) => (await settingsOf(PATHS, files(cert, key))).warnings;
    expect(await warnings(expired)).toEqual([
      expect.stringMatching(
        /^listen\.traffic\.tls\.certFile: the certificate has expired on 20\d\d-.*Z: callers refuse it$/,
      ),
    ]);
    expect(await warnings(nameless)).toEqual([
      'listen.traffic.tls.certFile: the certificate names no host (subjectAltName): callers refuse it',
    ]);
  });
});

describe('is rejected with file, line and path, and without content of the files:', () => {
  const cases: readonly (readonly [what: string, () => Record<string, string>, problems: string[]])[] = [
    [
      'files that are not there',
      () => ({}),
      [
        '5: listen.traffic.tls.certFile: cannot read the file tls/tls.crt (no such file)',
        '6: listen.traffic.tls.keyFile: cannot read the file tls/tls.key (no such file)',
      ],
    ],
    [
      'a key of another certificate',
      () => files(good.cert, other.key),
      ['6: listen.traffic.tls.keyFile: is not the key of the certificate in certFile'],
    ],
    [
      'certificate and key swapped',
      () => files(good.key, good.cert),
      [
        '5: listen.traffic.tls.certFile: the file tls/tls.crt: holds no certificate in PEM',
        '6: listen.traffic.tls.keyFile: the file tls/tls.key: holds no private key in PEM',
      ],
    ],
    [
      'files that are not PEM',
      () => files('hello', 'hello'),
      [
        '5: listen.traffic.tls.certFile: the file tls/tls.crt: holds no certificate in PEM',
        '6: listen.traffic.tls.keyFile: the file tls/tls.key: holds no private key in PEM',
      ],
    ],
    [
      'damaged PEM',
      () => files(damaged(good.cert), damaged(good.key)),
      [
        '5: listen.traffic.tls.certFile: the file tls/tls.crt: certificate 1 cannot be read',
        '6: listen.traffic.tls.keyFile: the file tls/tls.key: holds a private key that cannot be read',
      ],
    ],
    [
      'a chain with the issuer first',
      () => files(ca.cert + good.cert, good.key),
      [
        "5: listen.traffic.tls.certFile: the file tls/tls.crt: certificate 2 has not issued certificate 1: begin with the port's own, then its issuer, and so on",
      ],
    ],
    [
      'the key of the issuer, whose certificate is second',
      () => files(good.cert + ca.cert, ca.key),
      ['6: listen.traffic.tls.keyFile: is not the key of the certificate in certFile'],
    ],
    [
      'two keys',
      () => files(good.cert, good.key + other.key),
      ['6: listen.traffic.tls.keyFile: the file tls/tls.key: holds several private keys'],
    ],
  ];
  test.each(cases)('%s', async (_, made, problems) => {
    expect(await problemsOf(PATHS, made())).toEqual(problems.map((each) => `gateway.yaml:${each}`));
  });

  test('a key with a passphrase, one that is too short, a certificate for clients', async () => {
    const encrypted = good.key.replaceAll('PRIVATE KEY', 'ENCRYPTED PRIVATE KEY');
    expect(await problemsOf(PATHS, files(good.cert, encrypted))).toEqual([
      'gateway.yaml:6: listen.traffic.tls.keyFile: the file tls/tls.key: is encrypted: store the key without a passphrase',
    ]);
    const short = await ca.issue('short', { newKey: ['rsa:512'] });
    expect(await problemsOf(PATHS, files(short.cert, short.key))).toEqual([
      'gateway.yaml:5: listen.traffic.tls.certFile: OpenSSL rejects the certificate or key as unsafe or unusable (ERR_SSL_EE_KEY_TOO_SMALL)',
    ]);
    const client = await ca.issue('client', { usage: 'clientAuth' });
    expect((await problemsOf(PATHS, files(client.cert, client.key)))[0]).toContain('is not a server certificate');
  });

  test('an authority that is not one, and a missing file', async () => {
    const asked = { ...PATHS, clientCaFile: 'tls/ca.crt' };
    expect(await problemsOf(asked, files(good.cert, good.key, { 'tls/ca.crt': ca.cert + good.cert }))).toEqual([
      'gateway.yaml:7: listen.traffic.tls.clientCaFile: the file tls/ca.crt: certificate 2 does not belong to a certificate authority',
    ]);
    expect(await problemsOf(asked, files(good.cert, good.key))).toEqual([
      'gateway.yaml:7: listen.traffic.tls.clientCaFile: cannot read the file tls/ca.crt (no such file)',
    ]);
  });

  test('client certificates without an authority, an old TLS version, and PEM in place of a path, with all other problems', async () => {
    const tls = { certFile: good.key, keyFile: 'k', clientAuth: 'required', minVersion: 'TLSv1.1' };
    const problems = await problemsOf(tls, { 'tls/tls.key': good.key }, { limits: { bdy: '1MiB' } });
    expect(problems.map((each) => each.replace(/^gateway\.yaml:\d+: /, '')).sort()).toEqual([
      'limits.bdy: unknown option; did you mean "body"?',
      'listen.traffic.tls.certFile: must be the path of a file, not its content',
      'listen.traffic.tls.minVersion: must be one of TLSv1.2, TLSv1.3',
    ]);
    expect(await problemsOf({ ...PATHS, clientAuth: 'required' }, files(good.cert, other.key))).toEqual([
      'gateway.yaml:7: listen.traffic.tls.clientAuth: needs clientCaFile: the authorities of client certificates',
    ]);
    const both = await problemsOf(PATHS, files(good.cert, other.key), { limits: { bdy: '1MiB' } });
    expect(both.length).toBe(2);
  });
});

// Each beginning was compared with all that follows: 15 s for a tenth of this.
test('a file of many beginnings is refused as soon as it is read', async () => {
  const many = '-----BEGIN CERTIFICATE-----\n'.repeat(150_000);
  expect(await problemsOf(PATHS, { 'tls/tls.crt': many, 'tls/tls.key': good.key })).toEqual([
    'gateway.yaml:5: listen.traffic.tls.certFile: the file tls/tls.crt: holds no certificate in PEM',
  ]);
});

/** The same PEM with changed bytes in the middle. */
function damaged(pem: string): string {
  const [head = '', ...rest] = pem.split('\n');
  return [head, ...rest.slice(0, -2).map((line) => line.replace(/^.{8}/, 'AAAAAAAA')), ...rest.slice(-2)].join('\n');
}
