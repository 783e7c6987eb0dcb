import { dirname, resolve } from 'node:path';
import { createSecureContext } from 'node:tls';
import { parseJwks } from '../auth/key-set.ts';
import { Secret } from '../secret.ts';
import { type FileContent, readAuthorities, readChain, readKey, summaryOf } from './certificates.ts';
import { type IssuerInput, identitySchema } from './identity-schema.ts';
import { listenSchema, type TlsInput } from './listen-schema.ts';
import { type ReadFile, reasonOf } from './read-file.ts';
import type { IssuerSettings, JwksSettings, TlsSettings } from './settings.ts';
import type { Path, Problem, Source } from './yaml-source.ts';

export interface OptionFiles {
  readonly tls: { readonly traffic: TlsSettings | null; readonly admin: TlsSettings | null };
  readonly issuers: ReadonlyMap<string, IssuerSettings>;
  readonly problems: readonly Problem[];
}

/**
 * Reads the files that `listen` and `identity` name, and checks them. It runs before the validation of the whole, so that its
 * problems are reported together with all others.
 *
 * @param value gateway.yaml, interpolated
 */
export async function readOptionFiles(value: unknown, source: Source, readFile: ReadFile): Promise<OptionFiles> {
  const given = value as { listen?: unknown; identity?: unknown };
  const listen = listenSchema.safeParse(given.listen).data;
  const identity = identitySchema.safeParse(given.identity).data;
  const problems: Problem[] = [];
  const section = (...path: Path) => new SectionFiles(source, readFile, path, problems);
  const tlsOf = async (port: 'traffic' | 'admin') => {
    const tls = listen?.[port].tls ?? null;
    return tls === null ? null : readTls(tls, section('listen', port, 'tls'));
  };
  const [traffic, admin] = await Promise.all([tlsOf('traffic'), tlsOf('admin')]);
  const issuers = new Map<string, IssuerSettings>();
  for (const [id, input] of Object.entries(identity?.issuers ?? {})) {
    const jwks = await readJwks(input.jwks, section('identity', 'issuers', id, 'jwks'));
    if (jwks !== null) issuers.set(id, { ...input, id, jwks });
  }
  return { tls: { traffic, admin }, issuers, problems };
}

/** The files of one section. */
class SectionFiles {
  readonly #source: Source;
  readonly #readFile: ReadFile;
  readonly #section: Path;
  readonly #problems: Problem[];

  constructor(source: Source, readFile: ReadFile, section: Path, problems: Problem[]) {
    this.#source = source;
    this.#readFile = readFile;
    this.#section = section;
    this.#problems = problems;
  }

  report(option: string, message: string): void {
    this.#problems.push(this.#source.problem([...this.#section, option], message));
  }

  pathOf(name: string): string {
    return resolve(dirname(this.#source.file), name);
  }

  /** Null without a name; and, with a problem, if the file cannot be read or is wrong. */
  async read<T>(option: string, name: string | null, parse: (text: string) => FileContent<T>): Promise<T | null> {
    if (name === null) return null;
    const path = this.pathOf(name);
    let text: string;
    try {
      text = await this.#readFile(path);
    } catch (error) {
      this.report(option, `cannot read the file ${path} (${reasonOf(error)})`);
      return null;
    }
    const content = parse(text);
    if (content.ok) return content;
    this.report(option, `the file ${path}: ${content.message}`);
    return null;
  }
}

async function readTls(tls: TlsInput, files: SectionFiles): Promise<TlsSettings | null> {
  const [chain, key, authorities] = await Promise.all([
    files.read('certFile', tls.certFile, readChain),
    files.read('keyFile', tls.keyFile, readKey),
    files.read('clientCaFile', tls.clientCaFile, readAuthorities),
  ]);
  if (chain === null || key === null || (authorities === null && tls.clientCaFile !== null)) return null;
  if (!chain.certificates[0].checkPrivateKey(key.key)) {
    files.report('keyFile', 'is not the key of the certificate in certFile');
    return null;
  }
  const clientAuth = tls.clientAuth ?? (tls.clientCaFile === null ? 'none' : 'required');
  const settings: TlsSettings = {
    ...{ cert: chain.pem, key: new Secret(key.pem), clientAuth, minVersion: tls.minVersion },
    clientCa: clientAuth === 'none' ? null : (authorities?.pem ?? null),
    certificate: summaryOf(chain),
  };
  const rejected = rejectionOf(settings);
  if (rejected !== null) files.report('certFile', rejected);
  return settings;
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

async function readJwks(jwks: IssuerInput['jwks'], files: SectionFiles): Promise<JwksSettings | null> {
  const { url, file, caFile, tokenFile } = jwks;
  if (url === null) {
    const keys = await files.read('file', file, jwksIn);
    return keys === null ? null : { kind: 'file', path: files.pathOf(file ?? ''), jwks: keys.text };
  }
  const authorities = await files.read('caFile', caFile, readAuthorities);
  if (authorities === null && caFile !== null) return null;
  const token = tokenFile === null ? null : files.pathOf(tokenFile);
  return { kind: 'url', url, ca: authorities?.pem ?? null, tokenFile: token };
}

function jwksIn(text: string): FileContent<{ readonly text: string }> {
  const parsed = parseJwks(text);
  return parsed.ok ? { ok: true, text } : { ok: false, message: parsed.reason };
}
