import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { loadSettings, renderProblems } from './load.ts';
import { redactedSettings } from './settings.ts';

const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const JWKS = JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'a' }] });
const cluster = {
  issuer: 'https://issuer.example.test',
  audience: 'patchgate',
  jwks: { url: 'https://issuer.example.test/jwks' },
};
const KEY = { id: 'k1', sha256: 'a'.repeat(64) };

interface Parts {
  readonly issuers?: Record<string, object>;
  /** Identities by tenant. */
  readonly tenants?: Record<string, readonly object[]>;
  readonly files?: Record<string, string>;
}

const load = ({ issuers = { cluster }, tenants = {}, files = {} }: Parts) =>
  loadSettings({
    path: '/etc/gateway.yaml',
    env: {},
    readFile: async (path) => {
      if (path !== '/etc/gateway.yaml') {
        const text = files[path.replace('/etc/', '')];
        if (text === undefined) throw Object.assign(new Error('missing'), { code: 'ENOENT' });
        return text;
      }
      return JSON.stringify({
        accounts: { main: { credentials: [{ id: 'primary', apiKey: 'fake-patchworks-key' }] } },
        identity: { issuers },
        tenants: {
          billing: { keys: [KEY] },
          ...Object.fromEntries(Object.entries(tenants).map(([id, identities]) => [id, { identities }])),
        },
      });
    },
  });

async function problemsOf(parts: Parts): Promise<string[]> {
  const loaded = await load(parts);
  if (loaded.ok) throw new Error('the configuration was accepted');
  return renderProblems(loaded.problems)
    .split('\n')
    .slice(0, -1)
    .map((line) => line.replace(/^gateway\.yaml:\d+: |^\/etc\/gateway\.yaml:\d+: /, ''));
}

async function settingsOf(parts: Parts) {
  const loaded = await load(parts);
  if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
  return loaded;
}

const of = (claims: object) => ({ issuer: 'cluster', claims });
const subject = (name: string) => ({ issuer: 'cluster', subject: name });

describe('an issuer', () => {
  test('has RS256 and ES256, and 30 s for clocks, by default', async () => {
    const { settings } = await settingsOf({});
    expect(settings.identity.issuers.get('cluster')).toEqual({
      ...{ id: 'cluster', issuer: cluster.issuer, audiences: ['patchgate'], algorithms: ['RS256', 'ES256'] },
      clockToleranceMs: 30_000,
      jwks: { kind: 'url', url: cluster.jwks.url, ca: null, tokenFile: null },
    });
  });

  test('by a file has its keys in the settings, and GET /config shows the path alone', async () => {
    const { settings } = await settingsOf({
      issuers: { cluster: { ...cluster, jwks: { file: 'jwks.json' } } },
      files: { 'jwks.json': JWKS },
    });
    expect(settings.identity.issuers.get('cluster')?.jwks).toEqual({
      kind: 'file',
      path: '/etc/jwks.json',
      jwks: JWKS,
    });
    expect(JSON.stringify(redactedSettings(settings))).toContain('"path":"/etc/jwks.json","jwks":"[JWKS]"');
  });

  test.each([
    ['algorithms[0]: must be one of RS256', { algorithms: ['HS256'] }],
    ['algorithms[1]: must be one of RS256', { algorithms: ['RS256', 'none'] }],
    ['algorithms: must hold at least one algorithm', { algorithms: [] }],
    ['audience: is required', { audience: undefined }],
    ['audience: must hold at least one audience', { audience: [] }],
    ['audience: must not be empty', { audience: '' }],
    ['issuer: is required', { issuer: undefined }],
    ['clockTolerance: must be from 0ms to 5m', { clockTolerance: '6m' }],
    ['jwks: needs either a url or a file', { jwks: {} }],
    ['jwks: needs either a url or a file', { jwks: { url: cluster.jwks.url, file: 'jwks.json' } }],
    ['jwks.tokenFile: needs a url', { jwks: { file: 'jwks.json', tokenFile: 'token' } }],
    ['jwks.caFile: needs a url', { jwks: { file: 'jwks.json', caFile: 'ca.crt' } }],
    ['jwks.url: must be an https URL', { jwks: { url: 'http://issuer.example.test/jwks' } }],
    ['jwks.url: must be an https URL', { jwks: { url: 'https://user:password@issuer.example.test/jwks' } }],
    ['jwks.url: must be an https URL', { jwks: { url: 'file:///etc/jwks.json' } }],
    ['jwks.file: cannot read the file /etc/none.json (no such file)', { jwks: { file: 'none.json' } }],
    ['jwks.file: the file /etc/html: is no JSON', { jwks: { file: 'html' } }],
    ['jwks.file: the file /etc/large: is larger than 1 MiB', { jwks: { file: 'large' } }],
    ['jwks.caFile: the file /etc/html: holds no certificate in PEM', { jwks: { ...cluster.jwks, caFile: 'html' } }],
  ])('is refused: %s', async (problem, more) => {
    const files = { 'jwks.json': JWKS, html: '<html>', large: `${JWKS}${' '.repeat(2 * 1024 ** 2)}` };
    const [first = ''] = await problemsOf({ issuers: { cluster: { ...cluster, ...more } }, files });
    expect(first.replace('identity.issuers.cluster.', '')).toMatch(problem.slice(0, 12));
    expect(first).toContain(problem);
  });

  test('is refused where another one has the same claim', async () => {
    const problems = await problemsOf({ issuers: { cluster, second: cluster } });
    expect(problems).toEqual(['identity.issuers.second.issuer: is the issuer "cluster" as well']);
  });
});

describe('an identity', () => {
  test('is named by what it is, unless it has a name', async () => {
    const identities = [
      subject('system:serviceaccount:a:b'),
      of({ repository: 'team/a', protected: true }),
      { id: 'own', ...of({ repository: 'team/b' }) },
    ];
    const { settings, warnings } = await settingsOf({ tenants: { a: identities } });
    expect(settings.tenants.get('a')?.identities.map(({ id }) => id)).toEqual([
      'cluster:system:serviceaccount:a:b',
      'cluster:repository=team/a,protected=true',
      'own',
    ]);
    expect(warnings.filter((each) => each.includes('no caller'))).toEqual([]);
  });

  test.each([
    ['needs an issuer with a subject or claims, or a certificate', {}],
    ['needs a subject or claims: every token of the issuer would be accepted', { issuer: 'cluster' }],
    ['needs a subject or claims: every token of the issuer would be accepted', of({})],
    ['claims.iss: must identify a caller', of({ iss: 'https://issuer.example.test' })],
    ['claims.aud: must identify a caller', of({ aud: 'patchgate' })],
    ['claims.sub: is there as subject', { ...subject('a'), claims: { sub: 'b' } }],
    ['claims.groups: must be', of({ groups: ['a'] })],
    ['claims: must be at most 8 claims', of(Object.fromEntries([...'abcdefghi'].map((each) => [each, 1])))],
    ['issuer: there is no such issuer in identity.issuers; known are cluster', { issuer: 'other', subject: 'a' }],
    ['certificate: cannot be together with issuer', { ...subject('a'), certificate: 'spiffe://a/b' }],
    ['certificate: must be a URI', { certificate: 'worker' }],
    ['certificate: must be a URI', { certificate: 'spiffe://a/b, URI:spiffe://a/c' }],
    ['certificate: needs client certificates on the traffic port', { certificate: 'spiffe://a/b' }],
  ])('is refused: %s', async (problem, identity) => {
    const [first = ''] = await problemsOf({ tenants: { a: [identity] } });
    expect(first).toContain('tenants.a.identities[0]');
    expect(first).toContain(problem);
  });

  test.each<[string, object, object]>([
    ['the same subject', subject('x'), subject('x')],
    ['the subject as a claim', subject('x'), of({ sub: 'x' })],
    ['the same claims in another order', of({ a: 1, b: 2 }), of({ b: 2, a: 1 })],
    ['claims of which the other has a part', of({ a: 1 }), of({ b: 2, a: 1 })],
    ['a part of the claims of the other', of({ c: 1, b: 2, a: 1 }), of({ c: 1 })],
    ['a subject, and one with more claims', { ...subject('x'), claims: { a: 1 } }, subject('x')],
  ])('of two tenants is refused where it is %s', async (_name, one, two) => {
    const problems = await problemsOf({ tenants: { a: [one], b: [two] } });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(/^tenants\.[ab]\.identities\[0\]: is an identity of "[ab]" as well/);
  });

  test('of two tenants is accepted where no token shows both', async () => {
    const texts = { a: [of({ a: 1 })], b: [of({ a: '1' })], c: [of({ b: 1 })], d: [of({ a: 2, b: 2 })] };
    expect((await settingsOf({ tenants: texts })).settings.tenants.size).toBe(5);
  });

  test('of one tenant may be wider than another one, and is refused twice', async () => {
    await settingsOf({ tenants: { a: [of({ a: 1 }), of({ a: 1, b: 2 })] } });
    const problems = await problemsOf({ tenants: { a: [subject('x'), { id: 'again', ...subject('x') }] } });
    expect(problems).toEqual(['tenants.a.identities[1]: is there twice']);
    const ids = await problemsOf({
      tenants: {
        a: [
          { id: 'n', ...subject('x') },
          { id: 'n', ...subject('y') },
        ],
      },
    });
    expect(ids).toEqual(['tenants.a.identities[1].id: the id n is there twice']);
  });

  test('of ten thousand tenants is checked in a moment', async () => {
    const tenants = Object.fromEntries(
      Array.from({ length: 10_000 }, (_, i) => [`t${i}`, [of({ org: 'a', repository: `r${i}` })]]),
    );
    expect((await settingsOf({ tenants })).settings.tenants.size).toBe(10_001);
  });
});
