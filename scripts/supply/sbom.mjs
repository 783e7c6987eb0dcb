// The software bill of materials of what the image installs, by npm, as CycloneDX. Asks no registry: all of it is in the lock file.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { production, readLock, readManifest } from './lock.mjs';

/**
 * npm is shown the project without its development dependencies, for `--omit=dev` leaves out too much: all that the root also
 * has for development, and all that a development dependency asks for as a peer (npm/cli#7909).
 * @returns {string} JSON
 */
export function sbom() {
  const { devDependencies: _, ...manifest } = readManifest();
  const lock = readLock();
  const { devDependencies: __, ...project } = lock.packages[''] ?? {};
  const packages = { '': project, ...Object.fromEntries(production(lock)) };

  const scratch = mkdtempSync(join(tmpdir(), 'patchgate-sbom-'));
  // npm calls the component as its folder is called.
  const folder = join(scratch, manifest.name);
  try {
    mkdirSync(folder);
    writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest));
    writeFileSync(join(folder, 'package-lock.json'), JSON.stringify({ ...lock, packages }));
    const args = ['sbom', '--package-lock-only', '--sbom-format=cyclonedx', '--sbom-type=application'];
    const { status, stdout, stderr, error } = spawnSync('npm', args, { cwd: folder, encoding: 'utf8' });
    if (status !== 0) throw new Error(`npm sbom: ${error ? String(error) : stderr}`);
    return stdout;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
