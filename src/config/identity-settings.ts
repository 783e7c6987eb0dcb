import { dirname, resolve } from 'node:path';
import { MAX_JWKS_BYTES, parseJwks } from '../auth/jwks.ts';
import { readAuthorities } from './certificates.ts';
import { type IssuerInput, identitySchema, type TenantIdentityInput } from './identity-schema.ts';
import { type ReadFile, reasonOf } from './read-file.ts';
import type { IdentitySettings, IssuerSettings, JwksSettings } from './settings.ts';
import { type Path, type Problem, type Source, showPath } from './yaml-source.ts';

export interface IssuerFiles {
  readonly issuers: ReadonlyMap<string, IssuerSettings>;
  readonly problems: readonly Problem[];
}

/**
 * The issuers, with the files that they name. It runs before the validation of the whole, so that its problems are reported
 * together with all others.
 *
 * @param value gateway.yaml, interpolated
 */
export async function readIssuers(value: unknown, source: Source, readFile: ReadFile): Promise<IssuerFiles> {
  const identity = identitySchema.safeParse((value as { identity?: unknown }).identity);
  const problems: Problem[] = [];
  const issuers = new Map<string, IssuerSettings>();
  for (const [id, input] of Object.entries(identity.data?.issuers ?? {})) {
    const report = (option: string, message: string): void => {
      const path: Path = ['identity', 'issuers', id, 'jwks', option];
      problems.push({ file: source.file, line: source.lineOf(path), path: showPath(path), message });
    };
    const jwks = await jwksOf(input.jwks, { source, readFile, report });
    if (jwks !== null) issuers.set(id, issuerOf(id, input, jwks));
  }
  return { issuers, problems };
}

interface Reading {
  readonly source: Source;
  readonly readFile: ReadFile;
  readonly report: (option: string, message: string) => void;
}

/** Returns null and reports a problem if a file is wrong. */
async function jwksOf(input: IssuerInput['jwks'], reading: Reading): Promise<JwksSettings | null> {
  const at = (name: string) => resolve(dirname(reading.source.file), name);
  const { url, file, caFile, tokenFile } = input;
  if (url === undefined) {
    const jwks = await read('file', at(file ?? ''), reading, (text) => {
      if (Buffer.byteLength(text) > MAX_JWKS_BYTES) return `is larger than ${MAX_JWKS_BYTES / 1024 ** 2} MiB`;
      const parsed = parseJwks(text);
      return parsed.ok ? null : parsed.reason;
    });
    return jwks === null ? null : { kind: 'file', path: at(file ?? ''), jwks };
  }
  let ca: string | null = null;
  if (caFile !== undefined) {
    ca = await read('caFile', at(caFile), reading, (text) => {
      const authorities = readAuthorities(text);
      return authorities.ok ? null : authorities.message;
    });
    if (ca === null) return null;
  }
  return { kind: 'url', url, ca, tokenFile: tokenFile === undefined ? null : at(tokenFile) };
}

async function read(
  option: string,
  path: string,
  { readFile, report }: Reading,
  faultOf: (text: string) => string | null,
): Promise<string | null> {
  let text: string;
  try {
    text = await readFile(path);
  } catch (error) {
    report(option, `cannot read the file ${path} (${reasonOf(error)})`);
    return null;
  }
  const fault = faultOf(text);
  if (fault === null) return text;
  report(option, `the file ${path}: ${fault}`);
  return null;
}

function issuerOf(id: string, input: IssuerInput, jwks: JwksSettings): IssuerSettings {
  const { issuer, audience, algorithms, clockTolerance: clockToleranceMs } = input;
  return { id, issuer, audiences: [audience].flat(), algorithms, clockToleranceMs, jwks };
}

/** An identity with its name: `ISSUER:SUBJECT`, `ISSUER:claim=value,…`, or the URI, if it has none of its own. */
export function identityOf({ id, issuer = '', subject, claims, certificate }: TenantIdentityInput): IdentitySettings {
  if (certificate !== undefined) return { kind: 'certificate', id: id ?? certificate, uri: certificate };
  const all = new Map([...(subject === undefined ? [] : [['sub', subject] as const]), ...Object.entries(claims ?? {})]);
  const named = Object.entries(claims ?? {}).map(([claim, value]) => `${claim}=${value}`);
  const name = [...(subject === undefined ? [] : [subject]), ...named].join(',');
  return { kind: 'token', id: id ?? `${issuer}:${name}`, issuer, claims: all };
}
