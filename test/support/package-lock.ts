import { type Entry, installed, type Lock, type Manifest, nameAt } from '../../scripts/supply/lock.mjs';

const EXACT = /^\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?$/;
const SHA512 = /^sha512-[A-Za-z0-9+/]{86}==$/;

/**
 * Some registries say of fsevents that it has a script, as it was once published with one. The archive has none and works without:
 * it brings its program along. It comes by vite, for macOS alone.
 */
const WORKS_WITHOUT_ITS_SCRIPT = ['node_modules/fsevents'];

/** Problems of a lock file and its package.json; none if an installation is reproducible. */
export function problemsOf(lock: Lock, manifest: Manifest): string[] {
  const wanted = { ...manifest.dependencies, ...manifest.devDependencies };
  const loose = Object.entries(wanted).filter(([, version]) => !EXACT.test(version));
  return [
    ...loose.map(([name, version]) => `package.json: ${name} is asked for as ${version}, not as one version`),
    ...installed(lock).flatMap(([path, entry]) => problemsAt(path, entry, lock).map((problem) => `${path} ${problem}`)),
  ];
}

function problemsAt(path: string, entry: Entry, lock: Lock): string[] {
  const problems: string[] = [];
  if (!EXACT.test(entry.version ?? '')) problems.push(`has the version ${entry.version}`);
  // A bundled package has no hash of its own; its archive has one.
  if (entry.inBundle ? !holderHasHash(path, lock) : !SHA512.test(entry.integrity ?? ''))
    problems.push('has no SHA-512');
  // Without an address npm asks the registry it is set to. One that is there is of a machine, a git repository or a server.
  if (entry.resolved !== undefined || entry.link) problems.push(`comes from ${entry.resolved ?? 'a link'}`);
  if (entry.hasInstallScript && !WORKS_WITHOUT_ITS_SCRIPT.includes(path))
    problems.push('needs a script to be installed');
  return problems;
}

function holderHasHash(path: string, lock: Lock): boolean {
  const holder = path.slice(0, path.lastIndexOf('/node_modules/'));
  const entry = lock.packages[holder];
  if (entry?.inBundle) return holderHasHash(holder, lock);
  return SHA512.test(entry?.integrity ?? '');
}

/** The places of all packages that the gateway can load, found by following what they ask for, as Node looks for them. */
export function reachable(lock: Lock, names: readonly string[]): Set<string> {
  const found = new Set<string>();
  const follow = (from: string, name: string): void => {
    const path = placeOf(lock, from, name);
    if (path === null || found.has(path)) return;
    found.add(path);
    for (const each of askedFor(lock.packages[path] ?? {})) follow(path, each);
  };
  for (const name of names) follow('', name);
  return found;
}

/** An optional peer is not asked for: it is used if it happens to be there. */
function askedFor(entry: Entry): string[] {
  const peers = Object.keys(entry.peerDependencies ?? {});
  const needed = peers.filter((name) => !entry.peerDependenciesMeta?.[name]?.optional);
  return [...Object.keys({ ...entry.dependencies, ...entry.optionalDependencies }), ...needed];
}

function placeOf(lock: Lock, from: string, name: string): string | null {
  const path = from === '' ? `node_modules/${name}` : `${from}/node_modules/${name}`;
  if (lock.packages[path] !== undefined) return path;
  if (from === '') return null;
  const above = from.slice(0, from.length - `node_modules/${nameAt(from)}`.length).replace(/\/$/, '');
  return placeOf(lock, above, name);
}
