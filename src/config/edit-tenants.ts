import { open, realpath, rm } from 'node:fs/promises';
import writeFileAtomic from 'write-file-atomic';
import { systemClock } from '../clock.ts';
import { type LoadOptions, loadSettings, locateTenants, renderProblems } from './load.ts';
import { createFileReaders, type ReadFile, reasonOf } from './read-file.ts';
import type { Edited } from './tenants-document.ts';

export type Written = { readonly ok: true; readonly file: string } | { readonly ok: false; readonly reason: string };

/** The file of the tenants as it is; '' if it is not there yet. */
export async function readTenants(options: LoadOptions): Promise<{ file: string; text: string } | { reason: string }> {
  const readFile = options.readFile ?? createFileReaders({ clock: systemClock })();
  const located = await locateTenants(options.path, options.env, readFile);
  if ('problems' in located) return { reason: renderProblems(located.problems) };
  const { file } = located;
  try {
    return { file, text: await readIfThere(file, readFile) };
  } catch (error) {
    return { reason: `${file} cannot be read: ${reasonOf(error)}` };
  }
}

/**
 * Edits the file of the tenants in place. It is replaced by rename, with its mode and owner, once the whole configuration is valid
 * with the new text. A change by another program meanwhile is noticed, and then nothing is written.
 */
export async function editTenants(options: LoadOptions, change: (text: string) => Edited): Promise<Written> {
  const found = await readTenants(options);
  if ('reason' in found) return { ok: false, reason: found.reason };
  const { file } = found;
  // Through symbolic links: they stay, and the file that they lead to is replaced.
  const target = await realpath(file).catch(() => file);
  const lock = `${target}.lock`;
  try {
    await (await open(lock, 'wx')).close();
  } catch (error) {
    return { ok: false, reason: whyLocked(error, file, lock) };
  }
  try {
    return await editLocked(options, file, target, change);
  } finally {
    await rm(lock, { force: true });
  }
}

async function editLocked(
  options: LoadOptions,
  file: string,
  target: string,
  change: (text: string) => Edited,
): Promise<Written> {
  const newReader = createFileReaders({ clock: systemClock });
  // After the lock: an edit that ended just before is part of it.
  const before = await readIfThere(target, newReader());
  const edited = change(before);
  if (!edited.ok) return { ok: false, reason: `${file}: ${edited.reason}` };
  const read = options.readFile ?? newReader();
  const readFile: ReadFile = async (path) => (path === file ? edited.text : read(path));
  const loaded = await loadSettings({ ...options, readFile });
  if (!loaded.ok) return { ok: false, reason: `${renderProblems(loaded.problems)}; ${file} is as it was` };
  if ((await readIfThere(target, newReader())) !== before) {
    return { ok: false, reason: `${file} was changed by another program meanwhile, and is as that left it: try again` };
  }
  try {
    await writeFileAtomic(target, edited.text);
    return { ok: true, file };
  } catch (error) {
    return { ok: false, reason: `${file} cannot be written: ${reasonOf(error)}` };
  }
}

async function readIfThere(path: string, readFile: ReadFile): Promise<string> {
  try {
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}

const READ_ONLY: ReadonlySet<unknown> = new Set(['EROFS', 'EACCES', 'EPERM']);

function whyLocked(error: unknown, file: string, lock: string): string {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'EEXIST') {
    return `another command is editing ${file}: try again; if none is running, one was broken off: remove ${lock}`;
  }
  const reason = `${file} cannot be written here (${reasonOf(error)})`;
  if (!READ_ONLY.has(code)) return reason;
  return `${reason}: a mounted ConfigMap or Secret is read-only. Run the command where the file is kept, or without --write`;
}
