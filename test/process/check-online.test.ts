import { describe, expect, test } from 'vitest';
import { FAKE_PASSWORD, FAKE_PRIMARY_KEY, FAKE_USER } from '../../src/simulator/options.ts';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { folder, patchgate } from '../support/process.ts';

const CANARY = 'canary-of-a-rejected-key';

async function online(credentials: object[], options: { origin?: string; limit?: number } = {}) {
  const simulator = await createSimulator({ switches: { limit: options.limit ?? 240 } });
  try {
    const origin = options.origin ?? simulator.url;
    const config = {
      accounts: { main: { credentials: credentials.map((each, i) => ({ id: `c${i}`, ...each })) } },
      upstreams: { core: { origin }, start: { origin: 'http://127.0.0.1:1' } },
      tenants: { billing: {} },
    };
    const text = JSON.stringify(config).replaceAll('LOGIN', `${simulator.url}/fabric/api/login`);
    await using files = await folder({ 'gateway.yaml': text });
    await using process = patchgate(['check', 'gateway.yaml', '--online'], { cwd: files.path });
    const { code } = await process.exited;
    const lines = process
      .stdout()
      .split('\n')
      .filter((line) => line.startsWith('online: ') || line.includes('advertises'));
    expect(process.stdout() + process.stderr()).not.toContain(CANARY);
    const said = lines.map((line) => line.replaceAll(origin, 'ORIGIN').replace(new URL(simulator.url).host, 'HOST'));
    return { code, said, arrivals: simulator.arrivals().map(({ method, target }) => `${method} ${target}`) };
  } finally {
    await simulator.close();
  }
}
const login = (password: string) => ({ login: { url: 'LOGIN', username: FAKE_USER, password } });

describe('check --online', () => {
  test('shows what Patchworks answers to each credential, by one request each', async () => {
    const { code, said, arrivals } = await online([{ apiKey: FAKE_PRIMARY_KEY }, login(FAKE_PASSWORD)]);
    expect(said.toSorted()).toEqual([
      expect.stringMatching(/^online: account main, credential c0: ORIGIN answered 200; limit 240 in 60 s, 23\d left$/),
      expect.stringMatching(/^online: account main, credential c1: ORIGIN answered 200; limit 240 in 60 s, 23\d left$/),
    ]);
    expect(code).toBe(0);
    expect(arrivals.filter((each) => each === 'GET /api/v1/flows?per_page=1')).toHaveLength(2);
  });

  test('fails for a rejected key and a rejected login, and names neither', async () => {
    const { code, said } = await online([{ apiKey: CANARY }, login(CANARY)]);
    expect(said).toEqual([
      'online: account main, credential c0: ORIGIN answered 401: the credential is rejected; no limit is advertised',
      expect.stringMatching(/^online: account main, credential c1: the login at HOST failed: rejected, status 4\d\d$/),
    ]);
    expect(code).toBe(1);
    expect((await online([{ apiKey: CANARY }])).code).toBe(1);
  });

  test('names a limit that is not the configured one', async () => {
    const { code, said } = await online([{ apiKey: FAKE_PRIMARY_KEY }], { limit: 120 });
    expect([code, said[1]]).toEqual([0, 'warning: accounts.main.quota.limit is 240, and Patchworks advertises 120']);
  });

  test('fails where no response comes', async () => {
    const { code, said } = await online([{ apiKey: FAKE_PRIMARY_KEY }], { origin: 'http://127.0.0.1:1' });
    expect([code, said]).toEqual([1, ['online: account main, credential c0: ORIGIN gave no response: unreachable']]);
  });
});
