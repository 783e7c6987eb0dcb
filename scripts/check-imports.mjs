// Checks the import directions of the layout: main → cli → gateway → server, admin, adapters → domain → ground. No cycles, no barrels.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const src = fileURLToPath(new URL('../src', import.meta.url));

/**
 * The folders and libraries that a folder may import, besides itself and `ground`: context, problem, clock, secret, ports,
 * body-memory, read-body: they import only each other. A library is allowed in its own folder only.
 * @type {Record<string, { rooms: string[], libraries: string[] }>}
 */
const allowed = {
  ground: { rooms: [], libraries: [] },
  routing: { rooms: [], libraries: [] },
  auth: { rooms: ['routing'], libraries: ['jose', 'lru-cache'] },
  idempotency: { rooms: ['auth', 'routing'], libraries: [] },
  cache: { rooms: ['auth', 'routing', 'upstream'], libraries: ['lru-cache', 'structured-headers'] },
  quota: { rooms: ['auth', 'routing'], libraries: ['structured-headers'] },
  upstream: { rooms: ['auth', 'routing', 'quota'], libraries: [] },
  adapters: {
    rooms: ['routing', 'auth', 'idempotency', 'cache', 'quota', 'upstream'],
    libraries: ['ioredis', 'undici', 'lru-cache', 'rate-limiter-flexible', 'ipaddr.js', 'write-file-atomic', 'zod'],
  },
  telemetry: {
    // For the gauges.
    rooms: ['quota', 'upstream'],
    libraries: [
      'pino',
      'pino-pretty',
      'sonic-boom',
      'prom-client',
      ...['api', 'core', 'resources', 'sdk-trace-base', 'exporter-trace-otlp-http'].map(
        (name) => `@opentelemetry/${name}`,
      ),
    ],
  },
  server: { rooms: ['auth', 'quota'], libraries: ['hono', '@hono/node-server', 'ipaddr.js', 'lru-cache'] },
  // Both ports have the same listener.
  admin: { rooms: ['server', 'routing'], libraries: ['hono', '@hono/node-server'] },
  config: {
    rooms: ['routing', 'auth', 'cache', 'quota', 'upstream', 'telemetry'],
    libraries: ['zod', 'yaml', 'ipaddr.js', 'write-file-atomic', 'zod'],
  },
  reload: { rooms: ['config', 'admin'], libraries: [] },
  simulator: { rooms: ['routing'], libraries: ['hono', '@hono/node-server'] },
  gateway: {
    rooms: [
      ...['routing', 'auth', 'idempotency', 'cache', 'quota', 'upstream'],
      ...['adapters', 'telemetry', 'server', 'admin', 'config', 'reload'],
    ],
    libraries: [],
  },
  // The pipeline of the gateway, in virtual time.
  plan: { rooms: ['gateway', 'config', 'server', 'upstream', 'quota', 'auth', 'routing'], libraries: [] },
  cli: {
    rooms: ['plan', 'gateway', 'admin', 'config', 'reload', 'simulator', 'telemetry', 'quota', 'auth', 'routing'],
    libraries: [],
  },
  main: { rooms: ['cli'], libraries: [] },
};
const ground = new Set(['context', 'problem', 'clock', 'secret', 'ports', 'body-memory', 'read-body']);

/** @param {string} path */
const roomOf = (path) => {
  const [first = ''] = relative(src, path).split('/');
  const name = first.replace(/(\.test)?\.ts$/, '');
  return ground.has(name) ? 'ground' : name;
};

const files = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => join(src, name));

/** @type {string[]} */
const problems = [];
/** @type {Map<string, string[]>} */
const graph = new Map();
const IMPORT = /(?:^|\n)\s*(?:import|export)\s+(?:type\s+)?(?:[^'";]*?\s+from\s+)?'([^']+)'|import\(\s*'([^']+)'/g;

for (const file of files) {
  const name = relative(src, file);
  const text = readFileSync(file, 'utf8');
  const isTest = name.endsWith('.test.ts');
  const room = roomOf(file);
  const rule = allowed[room];
  if (!rule) {
    problems.push(`${name}: src/${room} is no room of the layout; add it to scripts/check-imports.mjs with a reason`);
    continue;
  }
  if (/(?:^|\n)export \* from/.test(text)) problems.push(`${name}: re-exports a whole module; import from its source`);
  const targets = [];
  for (const match of text.matchAll(IMPORT)) {
    const specifier = match[1] ?? match[2] ?? '';
    if (specifier.startsWith('.')) {
      const target = resolve(dirname(file), specifier);
      if (!isTest) targets.push(target);
      if (!target.startsWith(`${src}/`)) {
        if (!isTest && !target.endsWith('package.json'))
          problems.push(`${name}: imports ${specifier} from outside src`);
        continue;
      }
      const other = roomOf(target);
      if (isTest || other === room || other === 'ground' || rule.rooms.includes(other)) continue;
      problems.push(`${name}: ${room} must not import ${other} (${specifier})`);
    } else if (!specifier.startsWith('node:')) {
      const library = specifier
        .split('/')
        .slice(0, specifier.startsWith('@') ? 2 : 1)
        .join('/');
      if (!isTest && !rule.libraries.includes(library)) problems.push(`${name}: ${room} must not import ${library}`);
    }
  }
  if (!isTest) graph.set(file, targets);
}

/** @type {Map<string, 'open' | 'done'>} */
const state = new Map();
/** @param {string} file @param {string[]} trail */
function visit(file, trail) {
  if (state.get(file) === 'done') return;
  if (state.get(file) === 'open') {
    const cycle = [...trail.slice(trail.indexOf(file)), file].map((each) => relative(src, each));
    problems.push(`cycle: ${cycle.join(' → ')}`);
    return;
  }
  state.set(file, 'open');
  for (const target of graph.get(file) ?? []) visit(target, [...trail, file]);
  state.set(file, 'done');
}
for (const file of graph.keys()) visit(file, []);

for (const problem of problems) console.error(problem);
if (problems.length > 0) {
  console.error(`${problems.length} import problems`);
  process.exitCode = 1;
} else {
  console.log(`imports: ${files.length} files, directions hold, no cycles`);
}
