import { createHash, timingSafeEqual } from 'node:crypto';
import type { Secret } from '../secret.ts';
import type { Holder, Role } from './status/document.ts';

const ROLES: readonly Role[] = ['metrics', 'read', 'operate'];

export interface AdminToken {
  readonly id: string;
  readonly token: Secret;
  readonly role: Role;
}

/** Where no token is configured: the port listens on loopback by default. */
const ANYONE: Holder = { id: 'anonymous', role: 'operate' };

export function mayDo({ role }: Holder, needed: Role): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(needed);
}

/** Finds the holder of the token in a value of `Authorization`. Without tokens every caller may do everything. */
export function createAccess(tokens: readonly AdminToken[]): (authorization: string | undefined) => Holder | null {
  if (tokens.length === 0) return () => ANYONE;
  // A request without a token would match an empty one.
  if (tokens.some(({ token }) => token.reveal() === '')) throw new Error('an admin token is empty');
  const known = tokens.map(({ id, role, token }) => ({ holder: { id, role }, digest: digestOf(token.reveal()) }));
  return (authorization) => {
    const given = /^bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];
    if (given === undefined) return null;
    const digest = digestOf(given);
    // Digests of all tokens are compared, so that the duration depends on neither length, content nor place of the token.
    const [found] = known.filter((each) => timingSafeEqual(each.digest, digest));
    return found?.holder ?? null;
  };
}

function digestOf(value: string): Buffer {
  return createHash('sha256').update(value).digest();
}
