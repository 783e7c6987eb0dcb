import { matches, type Pattern } from '../routing/pattern.ts';
import { denylistEntryFor, namesLiterally } from './denylist.ts';

/** Who is calling: what stands between authentication and everything else. */
export interface Tenant {
  readonly id: string;
  readonly account: string;
  readonly disabled: boolean;
  /** Null: all but the denied set. */
  readonly allow: readonly Pattern[] | null;
}

/** The key a tenant used: its id and expiry, never the key. */
export interface TenantKey {
  readonly id: string;
  readonly expiresAtMs: number | null;
}

/**
 * May the tenant call this? What no tenant should reach (see denied.ts) needs an `allow` that names it literally:
 * a wildcard that happens to cover it is not enough.
 */
export function isAllowed(tenant: Tenant, method: string, segments: readonly string[]): boolean {
  const denied = deniedOf(segments);
  if (tenant.allow === null) return denied === null;
  for (const pattern of tenant.allow) {
    if (!matches(pattern, method, segments)) continue;
    if (denied === null || namesLiterally(pattern, denied)) return true;
  }
  return false;
}

/** By the segments themselves, which routing makes once for a target that is asked for again. */
const judged = new WeakMap<readonly string[], readonly string[] | null>();

function deniedOf(segments: readonly string[]): readonly string[] | null {
  let denied = judged.get(segments);
  if (denied === undefined) {
    denied = denylistEntryFor(segments);
    judged.set(segments, denied);
  }
  return denied;
}
