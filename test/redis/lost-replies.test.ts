import { test } from 'vitest';
import { BILLING_KEY } from '../support/gateway.ts';
import { startGateway } from '../support/gateway-process.ts';
import { redisServer, until } from '../support/redis.ts';
import { redisProxy } from '../support/redis-proxy.ts';

// Found by the fuzzer (test/trust/fuzz.full.test.ts): every command got the reply of another one, and keyed writes were 503 for good.
test.each([
  ['is missing', ''],
  ['has lost its end, and swallows the next one', ':1x'],
])('a reply that %s costs its connection, and keyed writes go on', async (_, instead) => {
  await using redis = await redisServer();
  await using proxy = await redisProxy(redis.port);
  await using running = await startGateway({ redis: { url: proxy.url } });
  let turn = 0;
  const write = async (): Promise<number> => {
    const headers = { 'X-API-Key': BILLING_KEY, 'Idempotency-Key': `key-${++turn}`, Prefer: 'wait=10' };
    const response = await fetch(`${running.url}/api/v1/flows/1/start`, { method: 'POST', body: '{}', headers });
    await response.arrayBuffer();
    return response.status;
  };
  await until('a write succeeds', async () => (await write()) === 200);
  let altered = 0;
  proxy.alter((reply) => (altered++ === 0 ? instead : reply));
  await until('a reply is lost', async () => altered > 0);
  await until('ten writes in a row succeed', async () => {
    for (let i = 0; i < 10; i++) if ((await write()) !== 200) return false;
    return true;
  });
});
