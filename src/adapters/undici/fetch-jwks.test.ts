import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { eventually } from '../../../test/support/gateway.ts';
import { ManualClock } from '../../../test/support/manual-clock.ts';
import type { ReadText } from '../../auth/key-set.ts';
import { createJwksReader } from './fetch-jwks.ts';

/** The result of a read from a server that answers like this. */
async function readFrom(
  listener: RequestListener,
  then: (arrived: () => number, clock: ManualClock, closing: AbortController) => Promise<void> = async () => {},
): Promise<{ readonly read: ReadText; readonly paths: string[]; readonly timers: number }> {
  const paths: string[] = [];
  const server = createServer((incoming, outgoing) => {
    paths.push(incoming.url ?? '');
    outgoing.on('error', () => {});
    listener(incoming, outgoing);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const clock = new ManualClock();
  const closing = new AbortController();
  const reader = createJwksReader({ url: `http://127.0.0.1:${port}/jwks`, ca: null, readToken: null, clock });
  const reading = reader(closing.signal);
  await then(() => paths.length, clock, closing);
  const read = await reading;
  server.closeAllConnections();
  server.close();
  return { read, paths, timers: clock.pending };
}

const LATE = { ok: false, reason: 'it was not read within 5 s' };

describe('a key set by URL', () => {
  test('is read whole, by one request', async () => {
    const { read, paths, timers } = await readFrom((_, outgoing) => outgoing.end('{"keys":[]}'));
    expect([read, paths, timers]).toEqual([{ ok: true, text: '{"keys":[]}' }, ['/jwks'], 0]);
  });

  test.each([301, 302, 303, 307, 308])('that is somewhere else (%d) is not looked for there', async (status) => {
    const { read, paths } = await readFrom((_, outgoing) => outgoing.writeHead(status, { Location: '/other' }).end());
    expect([read, paths]).toEqual([{ ok: false, reason: `the server answers with status ${status}` }, ['/jwks']]);
  });

  test.each([204, 401, 403, 404, 500, 503])('with status %d is none', async (status) => {
    const { read } = await readFrom((_, outgoing) => outgoing.writeHead(status).end());
    expect(read).toEqual({ ok: false, reason: `the server answers with status ${status}` });
  });

  test('of 10 MiB is given up after the first', async () => {
    const size = 10 * 1024 ** 2;
    for (const declared of [{ 'Content-Length': size }, {}]) {
      const { read } = await readFrom((_, outgoing) => outgoing.writeHead(200, declared).end(Buffer.alloc(size, ' ')));
      expect(read).toEqual({ ok: false, reason: 'it is larger than 1 MiB' });
    }
  });

  test('that breaks off is none', async () => {
    const { read } = await readFrom((_, outgoing) => {
      outgoing.writeHead(200, { 'Content-Length': 100 }).write('{"keys":');
      setImmediate(() => outgoing.destroy());
    });
    expect(read).toMatchObject({ ok: false });
    expect(read.ok ? '' : read.reason).toMatch(/^the server cannot be reached or breaks off \(\w+\)$/);
  });

  test.each([
    ['does not come', () => {}],
    ['drips', (outgoing: Parameters<RequestListener>[1]) => outgoing.writeHead(200).write('{')],
  ])('that %s is given up after 5 s', async (_name, answer) => {
    const { read, timers } = await readFrom(
      (_, outgoing) => void answer(outgoing),
      async (arrived, clock) => {
        await eventually(() => arrived() === 1, 'the request arrives');
        clock.advance(5_000);
      },
    );
    expect([read, timers]).toEqual([LATE, 0]);
  });

  test('is given up when the gateway closes', async () => {
    const { read } = await readFrom(
      () => {},
      async (arrived, _, closing) => {
        await eventually(() => arrived() === 1, 'the request arrives');
        closing.abort();
      },
    );
    expect(read).toEqual(LATE);
  });
});
