import { createHash } from 'node:crypto';
import { loadSettings, renderProblems } from '../config/load.ts';
import { createGateway } from '../gateway/gateway.ts';
import { createSimulator } from '../simulator/simulator.ts';
import { type Io, readOptions, say } from './command-line.ts';
import { untilStopped } from './serve.ts';

const HELP = `usage: patchgate demo [--port 8080] [--admin-port 9090]

Runs a simulated Patchworks and a gateway with embedded state and three tenants, until Ctrl-C.
`;

/** As the API server of a Kubernetes cluster names a caller. */
const WORKER = 'system:serviceaccount:demo:worker';
const TENANTS = { billing: 'demo-key-billing', reporting: 'demo-key-reporting' };

/** `patchgate demo`: everything on loopback; it needs no configuration and keeps nothing. */
export async function demo(args: string[], io: Io): Promise<number> {
  const options = readOptions('demo', args, { port: { type: 'string' }, 'admin-port': { type: 'string' } }, HELP, io);
  if (!options.ok) return options.code;
  const ports = { port: options.values.port ?? '8080', adminPort: options.values['admin-port'] ?? '9090' };
  const simulator = await createSimulator({ port: 0 });
  try {
    return await runGateway(simulator.url, ports, io);
  } finally {
    await simulator.close();
  }
}

async function runGateway(upstream: string, ports: { port: string; adminPort: string }, io: Io): Promise<number> {
  const loaded = await loadSettings({
    path: 'demo.yaml',
    env: io.env,
    readFile: async () => configuration(upstream, ports),
  });
  if (!loaded.ok) {
    say(io.stderr, renderProblems(loaded.problems));
    return 1;
  }
  const gateway = createGateway({ settings: loaded.settings });
  const starting = gateway.start();
  const stopped = untilStopped(gateway, starting);
  const started = await starting;
  if (!started.ok) {
    say(io.stderr, `patchgate demo: ${started.reason}; choose others with --port and --admin-port`);
    await gateway.close();
    return 1;
  }
  say(
    io.stdout,
    whatToTry(`http://127.0.0.1:${started.traffic.port}`, `http://127.0.0.1:${started.admin.port}`, upstream),
  );
  await stopped;
  say(io.stdout, 'stopped: nothing was kept');
  return 0;
}

/** A configuration as it could be in gateway.yaml. */
function configuration(upstream: string, ports: { port: string; adminPort: string }): string {
  const keyOf = (key: string) => createHash('sha256').update(key).digest('hex');
  return JSON.stringify({
    listen: {
      traffic: { host: '127.0.0.1', port: Number(ports.port) },
      admin: { host: '127.0.0.1', port: Number(ports.adminPort) },
    },
    accounts: { main: { credentials: [{ id: 'primary', apiKey: 'fake-patchworks-key-primary' }] } },
    upstreams: { core: { origin: upstream }, start: { origin: upstream } },
    routes: [
      { match: 'POST /api/v1/flows/*/start/**', upstream: 'start' },
      { match: '* /api/v1/**', upstream: 'core' },
    ],
    // Access lines would hide the text that tells the user what to try.
    log: { level: 'warn' },
    identity: {
      issuers: {
        simulator: { issuer: upstream, audience: 'patchgate', jwks: { url: `${upstream}/_simulator/jwks` } },
      },
    },
    tenants: {
      billing: { keys: [{ id: 'demo', sha256: keyOf(TENANTS.billing) }] },
      reporting: {
        keys: [{ id: 'demo', sha256: keyOf(TENANTS.reporting) }],
        allow: ['GET /api/v1/**'],
        // Rejects at once, to show a 429; by default a request waits up to 5 s for a slot.
        quota: { rate: 30, burst: 5, maxWait: '0s' },
      },
      worker: { identities: [{ issuer: 'simulator', subject: WORKER }] },
    },
  });
}

function whatToTry(traffic: string, admin: string, upstream: string): string {
  return `
patchgate demo: a gateway with three tenants, in front of a simulated Patchworks

  gateway   ${traffic}
  admin     ${admin}   a page for browsers; /metrics /status /config /livez /readyz
  upstream  ${upstream}   (the simulator; your services never call it)

  tenant billing    key ${TENANTS.billing}      may call everything but logins, keys and users
  tenant reporting  key ${TENANTS.reporting}    may only read, 30 a minute
  tenant worker     no key: tokens of an issuer, as pods in Kubernetes have them

Six things to try:

  1. A list of flows; then again: the second response comes from the cache (Cache-Status, Age)
     curl -si '${traffic}/api/v1/flows?per_page=2' -H 'Authorization: Bearer ${TENANTS.billing}'

  2. Start a flow; the key may also be sent as Patchworks clients do, bare
     curl -si -X POST ${traffic}/api/v1/flows/1/start -H 'Authorization: ${TENANTS.billing}'

  3. The same by a tenant that may only read: 403
     curl -si -X POST ${traffic}/api/v1/flows/1/start -H 'X-API-Key: ${TENANTS.reporting}'

  4. Use up the reader's burst of 5: 429 with Retry-After and the rate limit headers
     for i in 1 2 3 4 5 6 7; do curl -so /dev/null -w '%{http_code}\\n' ${traffic}/api/v1/flow-runs -H 'X-API-Key: ${TENANTS.reporting}'; done

  5. Show the tenant of a key, its permissions and what is left of its quota
     curl -s ${traffic}/_gateway/whoami -H 'X-API-Key: ${TENANTS.reporting}'

  6. The same by a token, which the simulator issues for five minutes; Kubernetes writes it to a file of the pod
     curl -s ${traffic}/_gateway/whoami -H "Authorization: Bearer $(curl -s ${upstream}/_simulator/tokens -d '{"subject":"${WORKER}","lifetime":300}' | grep -o 'eyJ[^"]*')"

Ctrl-C stops the demo.
`;
}
