import { dirname, resolve } from 'node:path';
import { createSecureContext } from 'node:tls';
import { type Chain, factsOf, mismatchOf, readAuthorities, readChain, readKey } from './certificates.ts';
import { listenSchema, type TlsInput } from './listen-schema.ts';
import type { TlsSettings } from './model.ts';
import { type Path, type Problem, type Source, showPath } from './source.ts';
import { type ReadFile, reasonOf } from './substitute.ts';

/** Before the key is known as a secret to all that writes. */
export type TlsMaterial = Omit<TlsSettings, 'key'> & { readonly key: string };

export interface ReadTls {
  readonly traffic: TlsMaterial | null;
  readonly admin: TlsMaterial | null;
  readonly problems: readonly Problem[];
}

/**
 * Reads what `listen` names, and sees whether it belongs together. By itself, so that what is wrong there is told together
 * with every mistake elsewhere.
 *
 * @param value gateway.yaml, filled in
 */
export async function readTls(value: unknown, source: Source, readFile: ReadFile): Promise<ReadTls> {
  const listen = listenSchema.safeParse((value as { listen?: unknown }).listen);
  if (!listen.success) return { traffic: null, admin: null, problems: [] };
  const problems: Problem[] = [];
  const of = (port: 'traffic' | 'admin') => {
    const { tls } = listen.data[port];
    if (tls === undefined) return null;
    const report = (option: string, message: string): void => {
      const path: Path = ['listen', port, 'tls', option];
      problems.push({ file: source.file, line: source.lineOf(path), path: showPath(path), message });
    };
    return read(tls, { source, readFile, report });
  };
  const [traffic, admin] = await Promise.all([of('traffic'), of('admin')]);
  return { traffic, admin, problems };
}

interface Reading {
  readonly source: Source;
  readonly readFile: ReadFile;
  readonly report: (option: string, message: string) => void;
}

async function read(tls: TlsInput, reading: Reading): Promise<TlsMaterial | null> {
  const { report } = reading;
  const clientAuth = tls.clientAuth ?? (tls.clientCaFile === undefined ? 'none' : 'required');
  const [chain, key, authorities] = await Promise.all([
    part(tls, 'certFile', readChain, reading),
    part(tls, 'keyFile', readKey, reading),
    part(tls, 'clientCaFile', readAuthorities, reading),
  ]);
  if (chain === null || key === null || (authorities === null && tls.clientCaFile !== undefined)) return null;
  const mismatch = mismatchOf(chain, key);
  if (mismatch !== null) {
    report('keyFile', mismatch);
    return null;
  }
  const material: TlsMaterial = {
    ...{ cert: chain.pem, key: key.pem, clientAuth, minVersion: tls.minVersion },
    clientCa: clientAuth === 'none' ? null : (authorities as Chain).pem,
    certificate: factsOf(chain),
  };
  const refused = refusalOf(material);
  if (refused !== null) report('certFile', refused);
  return material;
}

/** Null where the option is left out, and where something is wrong with its file, which is told then. */
async function part<T>(
  tls: TlsInput,
  option: 'certFile' | 'keyFile' | 'clientCaFile',
  readPart: (text: string) => ({ readonly ok: true } & T) | { readonly ok: false; readonly message: string },
  { source, readFile, report }: Reading,
): Promise<T | null> {
  const name = tls[option];
  if (name === undefined) return null;
  const path = resolve(dirname(source.file), name);
  let text: string;
  try {
    text = await readFile(path);
  } catch (error) {
    report(option, `cannot read the file ${path} (${reasonOf(error)})`);
    return null;
  }
  const made = readPart(text);
  if (made.ok) return made;
  report(option, `the file ${path}: ${made.message}`);
  return null;
}

/** What OpenSSL has against it: a key that is too short, a digest that is too weak. Its code alone, never its text. */
function refusalOf({ cert, key, clientCa, minVersion }: TlsMaterial): string | null {
  try {
    createSecureContext({ cert, key, minVersion, ...(clientCa !== null && { ca: clientCa }) });
    return null;
  } catch (error) {
    return `OpenSSL takes certificate and key for unsafe or unusable (${reasonOf(error)})`;
  }
}
