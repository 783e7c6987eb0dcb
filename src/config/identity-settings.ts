import { dirname, resolve } from 'node:path';
import { parseJwks } from '../auth/jwks.ts';
import { readAuthorities } from './certificates.ts';
import { type IssuerInput, identitySchema, type TenantIdentityInput } from './identity-schema.ts';
import { type FileContent, type ReadFile, readOptionFile } from './read-file.ts';
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
  const { url, file = '', caFile, tokenFile } = input;
  if (url === undefined) {
    const read = await readOptionFile('file', at(file), jwksIn, reading);
    return read === null ? null : { kind: 'file', path: at(file), jwks: read.text };
  }
  const authorities =
    caFile === undefined ? null : await readOptionFile('caFile', at(caFile), readAuthorities, reading);
  if (authorities === null && caFile !== undefined) return null;
  return { kind: 'url', url, ca: authorities?.pem ?? null, tokenFile: tokenFile === undefined ? null : at(tokenFile) };
}

function jwksIn(text: string): FileContent<{ readonly text: string }> {
  const parsed = parseJwks(text);
  return parsed.ok ? { ok: true, text } : { ok: false, message: parsed.reason };
}

function issuerOf(id: string, input: IssuerInput, jwks: JwksSettings): IssuerSettings {
  const { issuer, audience, algorithms, clockTolerance: clockToleranceMs } = input;
  return { id, issuer, audiences: [audience].flat(), algorithms, clockToleranceMs, jwks };
}

/** An identity with its name: `ISSUER:SUBJECT`, `ISSUER:claim=value,…`, or the URI, if it has none of its own. */
export function identityOf(input: TenantIdentityInput): IdentitySettings {
  const { id, issuer = '', subject, claims, certificate } = input;
  const narrowed = { allow: input.allow ?? null, cidrs: input.cidrs ?? null };
  if (certificate !== undefined) return { ...narrowed, kind: 'certificate', id: id ?? certificate, uri: certificate };
  const all = new Map([...(subject === undefined ? [] : [['sub', subject] as const]), ...Object.entries(claims ?? {})]);
  const named = Object.entries(claims ?? {}).map(([claim, value]) => `${claim}=${value}`);
  const name = [...(subject === undefined ? [] : [subject]), ...named].join(',');
  return { ...narrowed, kind: 'token', id: id ?? `${issuer}:${name}`, issuer, claims: all };
}
