import { ADMIN_HEADERS, adminProblem } from './problem-response.ts';

/** How a reload of the configuration ended. */
export type ReloadOutcome =
  | {
      readonly ok: true;
      readonly revision: string;
      /** Settings that changed, in words without secrets. */
      readonly changed: readonly string[];
      /** Changed options that keep their old value until a restart. */
      readonly needsRestart: readonly string[];
    }
  | {
      readonly ok: false;
      /** With file and line, without values; the first ones only. */
      readonly problems: readonly string[];
    };

/** The response to `POST /reload`. */
export function reloadResponse(outcome: ReloadOutcome): Response {
  if (!outcome.ok) return adminProblem('config_refused', {}, undefined, undefined, { problems: outcome.problems });
  const { revision, changed, needsRestart } = outcome;
  return new Response(`${JSON.stringify({ revision, changed, needsRestart })}\n`, {
    headers: { ...ADMIN_HEADERS, 'Content-Type': 'application/json' },
  });
}
