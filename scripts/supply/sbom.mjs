// The software bill of materials of the image's packages, by npm, as CycloneDX. It uses the lock file and no registry.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { production, readLock, readManifest } from './lock.mjs';

/**
 * npm gets the project without its development dependencies, because `--omit=dev` leaves out too much: packages that the root also
 * needs for development, and peers of development dependencies (npm/cli#7909).
 * @returns {string} JSON
 */
export function sbom() {
  const { devDependencies: _, ...manifest } = readManifest();
  const lock = readLock();
  const { devDependencies: __, ...project } = lock.packages[''] ?? {};
  const packages = { '': project, ...Object.fromEntries(production(lock)) };

  const scratch = mkdtempSync(join(tmpdir(), 'patchgate-sbom-'));
  // npm names the component after its directory.
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
