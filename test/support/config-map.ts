import { mkdir, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

let swaps = 0;

/**
 * Writes files into a volume as a kubelet does: into a new directory, a link to which is renamed over the one before, which
 * is then removed. The first time, also a link for each file.
 */
export async function writeConfigMap(volume: string, files: Readonly<Record<string, string>>): Promise<void> {
  const directory = `..2026_11_26_${swaps++}`;
  const before = await readlink(join(volume, '..data')).catch(() => null);
  await mkdir(join(volume, directory), { recursive: true });
  for (const [name, text] of Object.entries(files)) await writeFile(join(volume, directory, name), text);
  await symlink(directory, join(volume, '..data_tmp'));
  await rename(join(volume, '..data_tmp'), join(volume, '..data'));
  if (before === null) for (const name of Object.keys(files)) await symlink(`..data/${name}`, join(volume, name));
  else await rm(join(volume, before), { recursive: true });
}
