// Reads the lock file: which packages there are, and which of them the gateway needs to run.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/**
 * The fields that npm writes for a package (lockfileVersion 3) and that are used here.
 * @typedef {{
 *   version?: string, license?: string, integrity?: string, resolved?: string, link?: boolean, inBundle?: boolean,
 *   dev?: boolean, optional?: boolean, os?: string[], hasInstallScript?: boolean,
 *   dependencies?: Record<string, string>, optionalDependencies?: Record<string, string>,
 *   peerDependencies?: Record<string, string>, peerDependenciesMeta?: Record<string, { optional?: boolean }>,
 *   devDependencies?: Record<string, string>,
 * }} Entry
 * @typedef {{ lockfileVersion: number, packages: Record<string, Entry> }} Lock
 * @typedef {{ name: string, version: string, dependencies: Record<string, string>, devDependencies: Record<string, string> }} Manifest
 */

const inRoot = (/** @type {string} */ path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const json = (/** @type {string} */ path) => JSON.parse(readFileSync(inRoot(path), 'utf8'));

/** @returns {Lock} */
export const readLock = () => json('package-lock.json');
/** @returns {Manifest} */
export const readManifest = () => json('package.json');

/** `node_modules/a/node_modules/@b/c` is `@b/c`. @param {string} path */
export const nameAt = (path) => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);

/** All but the project itself, by path. @param {Lock} lock */
export const installed = (lock) => Object.entries(lock.packages).filter(([path]) => path !== '');

/** The packages that `npm ci --omit=dev` installs, by npm's own marks. @param {Lock} lock */
export const production = (lock) => installed(lock).filter(([, entry]) => entry.dev !== true);
