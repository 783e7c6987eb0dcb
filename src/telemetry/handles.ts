import type { Catalogue } from './catalogue.ts';
import { cacheLabel, methodLabel, NONE, remember, statusLabel } from './labels.ts';

export type Handles = ReturnType<typeof handles>;

/**
 * Series by their labels, for what is counted at every request. A tenant that is not among `tenants` counts as `none`;
 * null: any is taken.
 */
export function handles(families: Catalogue, tenants: ReadonlySet<string> | null) {
  const known = (tenant: string) => (tenant !== '' && (tenants === null || tenants.has(tenant)) ? tenant : NONE);
  return {
    requests: remember((id: string) =>
      remember((path: string) =>
        remember((note: string) => {
          const labels = { tenant: known(id), route: path || NONE, cache: cacheLabel(note) };
          return {
            duration: families.requestSeconds.of(labels),
            counts: remember((method: string) =>
              remember((status: number) =>
                families.requests.of({ ...labels, method: methodLabel(method), status: statusLabel(status) }),
              ),
            ),
          };
        }),
      ),
    ),
    refusals: remember((id: string) => remember((code: string) => families.refusals.of({ tenant: known(id), code }))),
    attempts: remember((account: string) =>
      remember((upstream: string) =>
        remember((method: string) =>
          remember((status: number | string) =>
            families.attempts.of({
              account,
              upstream,
              method: methodLabel(method),
              status: statusLabel(status),
            }),
          ),
        ),
      ),
    ),
    attemptSeconds: remember((upstream: string) => families.attemptSeconds.of({ upstream })),
    saved: remember((id: string) => remember((by: string) => families.saved.of({ tenant: known(id), by }))),
    decisions: remember((account: string) =>
      remember((id: string) =>
        remember((decision: string) => families.decisions.of({ account, tenant: known(id), decision })),
      ),
    ),
    waitSeconds: remember((id: string) => families.waitSeconds.of({ tenant: known(id) })),
    cacheOperations: remember((tier: string) =>
      remember((outcome: string) => families.cacheOperations.of({ tier, outcome })),
    ),
  };
}
