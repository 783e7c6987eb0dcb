// How two processes share a port, by node:cluster (kernel, round robin) and as the gateway does it: what docs/decisions/0023 rests on.
import { spawn } from 'node:child_process';
import { Agent, request } from 'node:http';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const SERVER = fileURLToPath(new URL('./sharing-server.mjs', import.meta.url));
const CONNECTIONS = 64;
const FRESH_MS = 2_000;

/** @param {number} port @param {Agent | false} agent @returns {Promise<string>} */
const ask = (port, agent) =>
  new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, agent }, (response) => {
      let text = '';
      response.on('data', (chunk) => {
        text += chunk;
      });
      response.on('end', () => resolve(text));
    });
    sent.on('error', reject);
    sent.end();
  });

/** The greater share of connections that are kept. @param {number} port @param {boolean} atOnce */
async function greaterShare(port, atOnce) {
  const agents = Array.from({ length: CONNECTIONS }, () => new Agent({ keepAlive: true }));
  /** @type {string[]} */
  let answers = [];
  if (atOnce) answers = await Promise.all(agents.map((agent) => ask(port, agent)));
  else for (const agent of agents) answers.push(await ask(port, agent));
  for (const agent of agents) agent.destroy();
  const ones = answers.filter((each) => each === '1').length;
  return Math.max(ones, CONNECTIONS - ones) / CONNECTIONS;
}

/** A connection a request, until nobody listens. @param {number} port @param {() => boolean} going */
async function fresh(port, going) {
  const told = { answered: 0, lost: 0 };
  const callers = Array.from({ length: 16 }, async () => {
    while (going()) {
      try {
        await ask(port, false);
        told.answered += 1;
      } catch (error) {
        if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ECONNREFUSED') return;
        told.lost += 1;
      }
    }
  });
  await Promise.all(callers);
  return told;
}

export async function sharing() {
  const rows = [];
  for (const policy of ['kernel', 'round robin', 'dealt out']) {
    const child = spawn(process.execPath, [SERVER], {
      env: { ...process.env, POLICY: policy },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const port = Number((await lines.next()).value);
    const atOnce = await greaterShare(port, true);
    const oneByOne = await greaterShare(port, false);
    const until = performance.now() + FRESH_MS;
    const { answered } = await fresh(port, () => performance.now() < until);
    const draining = fresh(port, () => true);
    await new Promise((resolve) => setTimeout(resolve, 300));
    child.stdin.write('drain\n');
    let cpu = '';
    for (let line = await lines.next(); !line.done; line = await lines.next()) {
      if (line.value.startsWith('cpu ')) cpu = line.value.slice(4);
    }
    const { lost } = await draining;
    rows.push({
      'shared by': policy,
      'greater share, 64 opened at once': `${Math.round(atOnce * 100)} %`,
      'one after another': `${Math.round(oneByOne * 100)} %`,
      'a connection each, 1/s': Math.round(answered / (FRESH_MS / 1000)),
      'CPU of the primary, µs each': Math.round((Number(cpu) * 1000) / (answered || 1)),
      'lost in a drain under load': lost,
    });
  }
  return rows;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.table(await sharing());
