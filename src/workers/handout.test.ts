import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Handout, MOST_WAITING, type Taker } from './handout.ts';

const server = createServer({ pauseOnConnect: true });
const sockets: Socket[] = [];
beforeEach(async () => {
  if (!server.listening) await once(server.listen(0, '127.0.0.1'), 'listening');
});
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  server.close();
});

async function accepted(): Promise<Socket> {
  const { port } = server.address() as AddressInfo;
  const caller = connect(port, '127.0.0.1');
  const [socket] = (await once(server, 'connection')) as [Socket];
  sockets.push(caller, socket);
  return socket;
}

const taker = () => {
  const given: Socket[] = [];
  return { given, give: (socket: Socket) => void given.push(socket) } satisfies Taker & { given: Socket[] };
};

test('connections go to each in turn, and not to one that has not taken its last', async () => {
  const handout = new Handout(() => {});
  const [one, two] = [taker(), taker()];
  const all = await Promise.all(Array.from({ length: 5 }, accepted));
  for (const socket of all) handout.accept(socket);
  handout.join(one);
  handout.join(two);
  expect([one.given, two.given]).toEqual([[all[0]], [all[1]]]);
  for (let i = 0; i < 3; i++) handout.took(two);
  expect([one.given.length, two.given.length]).toEqual([1, 4]);
});

test('what a worker was given and did not take before it ended goes to another, before others', async () => {
  const handout = new Handout(() => {});
  const [one, two] = [taker(), taker()];
  const [first, second] = [await accepted(), await accepted()];
  handout.join(one);
  handout.accept(first!);
  handout.accept(second!);
  handout.part(one);
  handout.join(two);
  expect(two.given).toEqual([first]);
  handout.took(two);
  expect(first!.destroyed).toBe(true);
  expect(two.given).toEqual([first, second]);
  let isIdle = false;
  void handout.idle().then(() => {
    isIdle = true;
  });
  await Promise.resolve();
  expect(isIdle).toBe(false);
  handout.took(two);
  await handout.idle();
});

test('what nobody takes waits up to a bound, and is cut off above it', async () => {
  let refused = 0;
  const handout = new Handout(() => {
    refused += 1;
  });
  const waiting = await accepted();
  for (let i = 0; i < MOST_WAITING; i++) handout.accept(waiting);
  const late = await accepted();
  handout.accept(late);
  expect([refused, late.destroyed, waiting.destroyed]).toEqual([1, true, false]);
});
