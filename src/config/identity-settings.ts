import { dirname, resolve } from 'node:path';
import { parseJwks } from '../auth/key-set.ts';
import { readAuthorities } from './certificates.ts';
import { type IssuerInput, identitySchema } from './identity-schema.ts';
import { type FileContent, type ReadFile, readOptionFile } from './read-file.ts';
import type { IssuerSettings, JwksSettings } from './settings.ts';
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
    if (jwks !== null) issuers.set(id, { ...input, id, jwks });
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
  if (url === null) {
    const path = at(file ?? '');
    const read = await readOptionFile('file', path, jwksIn, reading);
    return read === null ? null : { kind: 'file', path, jwks: read.text };
  }
  const authorities = caFile === null ? null : await readOptionFile('caFile', at(caFile), readAuthorities, reading);
  if (authorities === null && caFile !== null) return null;
  return { kind: 'url', url, ca: authorities?.pem ?? null, tokenFile: tokenFile === null ? null : at(tokenFile) };
}

function jwksIn(text: string): FileContent<{ readonly text: string }> {
  const parsed = parseJwks(text);
  return parsed.ok ? { ok: true, text } : { ok: false, message: parsed.reason };
}
