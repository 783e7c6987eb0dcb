import type { CredentialStatus, Use } from '../edge/status-document.ts';
import type { Usage } from '../telemetry/usage.ts';
import type { DrawnCredential } from './credentials.ts';

/** The credentials of an account, in order of preference. The first that does not rest is the one the next request goes with. */
export function credentialStatusOf(drawn: readonly DrawnCredential[], account: string): CredentialStatus[] {
  let found = false;
  return drawn
    .filter((each) => each.account === account)
    .map(({ settings: { id, kind }, credential }) => {
      const standing = credential.standing();
      const inUse = !found && standing.restsForMs === 0;
      found ||= inUse;
      return { id, kind, inUse, failing: credential.failing(), ...standing };
    });
}

const NOTHING: Usage = { requests: 0, refused: 0, saved: 0, reads: 0, hits: 0 };

export function useOf({ requests, refused, saved }: Usage = NOTHING): Use {
  return { requests, refused, saved };
}

export function sumOf(usages: readonly Usage[]): Usage {
  const sum = { ...NOTHING };
  for (const usage of usages) {
    sum.requests += usage.requests;
    sum.refused += usage.refused;
    sum.saved += usage.saved;
    sum.reads += usage.reads;
    sum.hits += usage.hits;
  }
  return sum;
}
