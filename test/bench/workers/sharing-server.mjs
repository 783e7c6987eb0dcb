// Two bare HTTP servers on one port, shared in one of three ways: sharing.mjs POLICY. A line on standard input drains them.
import cluster from 'node:cluster';
import { createServer } from 'node:http';
import { createServer as createNetServer } from 'node:net';

const policy = process.env['POLICY'] ?? '';
const answer = String(cluster.worker?.id ?? 0);

if (cluster.isPrimary) {
  cluster.schedulingPolicy = policy === 'kernel' ? cluster.SCHED_NONE : cluster.SCHED_RR;
  const workers = [cluster.fork(), cluster.fork()];
  const told = (/** @type {string} */ event) =>
    Promise.all(workers.map((worker) => new Promise((resolve) => worker.once(event, resolve))));
  await told('message');
  /** @type {() => Promise<void>} */
  let shut = async () => {};
  if (policy === 'dealt out') {
    let turn = 0;
    let accepted = 0;
    const server = createNetServer({ pauseOnConnect: true, noDelay: true }, (socket) => {
      accepted += 1;
      workers[turn++ % workers.length]?.send('connection', socket);
    });
    server.listen(0, '127.0.0.1', () =>
      console.log(/** @type {import('node:net').AddressInfo} */ (server.address()).port),
    );
    shut = async () => {
      for (let quiet = 0; quiet < 2; ) {
        const before = accepted;
        await new Promise((resolve) => setImmediate(resolve));
        quiet = accepted > before ? 0 : quiet + 1;
      }
      server.close();
    };
  } else cluster.on('listening', (_, { port }) => workers.every((each) => each.isConnected()) && console.log(port));
  for (const worker of workers) worker.send('go');
  const before = process.cpuUsage();
  process.stdin.once('data', async () => {
    const { user, system } = process.cpuUsage(before);
    console.log(`cpu ${(user + system) / 1000}`);
    await shut();
    for (const worker of workers) worker.send('leave');
    await told('exit');
    process.exit();
  });
} else {
  const server = createServer((_, response) => response.end(answer));
  let open = 0;
  let leaving = false;
  // A server that does not listen has no end of its own.
  server.on('connection', (socket) => {
    open += 1;
    socket.once('close', () => {
      open -= 1;
      if (leaving && open === 0 && !server.listening) process.exit();
    });
  });
  process.on('message', (message, socket) => {
    if (message === 'go' && policy !== 'dealt out') server.listen(0, '127.0.0.1');
    if (message === 'connection' && socket) server.emit('connection', socket);
    if (message === 'leave') {
      leaving = true;
      if (server.listening) server.close(() => process.exit());
      else if (open === 0) process.exit();
    }
  });
  process.send?.('here');
}
