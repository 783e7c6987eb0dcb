import { dirname, resolve } from 'node:path';
import { createSecureContext } from 'node:tls';
import { Secret } from '../secret.ts';
import { type Chain, mismatchOf, readAuthorities, readChain, readKey, summaryOf } from './certificates.ts';
import { listenSchema, type TlsInput } from './listen-schema.ts';
import { type FileContent, type ReadFile, readOptionFile, reasonOf } from './read-file.ts';
import type { TlsSettings } from './settings.ts';
import { type Path, type Problem, type Source, showPath } from './yaml-source.ts';

export interface TlsFiles {
  readonly traffic: TlsSettings | null;
  readonly admin: TlsSettings | null;
  readonly problems: readonly Problem[];
}

/**
 * Reads the files that `listen` names, and checks that they belong together. It runs before the validation of the whole, so
 * that its problems are reported together with all others.
 *
 * @param value gateway.yaml, interpolated
 */
export async function readTls(value: unknown, source: Source, readFile: ReadFile): Promise<TlsFiles> {
  const listen = listenSchema.safeParse((value as { listen?: unknown }).listen);
  if (!listen.success) return { traffic: null, admin: null, problems: [] };
  const problems: Problem[] = [];
  const of = (port: 'traffic' | 'admin') => {
    const { tls } = listen.data[port];
    if (tls === null) return null;
    const report = (option: string, message: string): void => {
      const path: Path = ['listen', port, 'tls', option];
      problems.push({ file: source.file, line: source.lineOf(path), path: showPath(path), message });
    };
    return read(tls, { source, readFile, report });
  };
  const [traffic, admin] = await Promise.all([of('traffic'), of('admin')]);
  return { traffic, admin, problems };
}

interface TlsReader {
  readonly source: Source;
  readonly readFile: ReadFile;
  readonly report: (option: string, message: string) => void;
}

async function read(tls: TlsInput, reading: TlsReader): Promise<TlsSettings | null> {
  const { report } = reading;
  const clientAuth = tls.clientAuth ?? (tls.clientCaFile === null ? 'none' : 'required');
  const [chain, key, authorities] = await Promise.all([
    part(tls, 'certFile', readChain, reading),
    part(tls, 'keyFile', readKey, reading),
    part(tls, 'clientCaFile', readAuthorities, reading),
  ]);
  if (chain === null || key === null || (authorities === null && tls.clientCaFile !== null)) return null;
  const mismatch = mismatchOf(chain, key);
  if (mismatch !== null) {
    report('keyFile', mismatch);
    return null;
  }
  const material: TlsSettings = {
    ...{ cert: chain.pem, key: new Secret(key.pem), clientAuth, minVersion: tls.minVersion },
    clientCa: clientAuth === 'none' ? null : (authorities as Chain).pem,
    certificate: summaryOf(chain),
  };
  const rejected = rejectionOf(material);
  if (rejected !== null) report('certFile', rejected);
  return material;
}

/** Returns null without the option, and if the file is wrong. */
async function part<T>(
  tls: TlsInput,
  option: 'certFile' | 'keyFile' | 'clientCaFile',
  parse: (text: string) => FileContent<T>,
  reading: TlsReader,
): Promise<T | null> {
  const name = tls[option];
  return name === null ? null : readOptionFile(option, resolve(dirname(reading.source.file), name), parse, reading);
}

/** The code of OpenSSL's objection, such as a short key or a weak digest. Its message may quote the file. */
function rejectionOf({ cert, key, clientCa, minVersion }: TlsSettings): string | null {
  try {
    createSecureContext({ cert, key: key.reveal(), minVersion, ...(clientCa !== null && { ca: clientCa }) });
    return null;
  } catch (error) {
    return `OpenSSL rejects the certificate or key as unsafe or unusable (${reasonOf(error)})`;
  }
}
