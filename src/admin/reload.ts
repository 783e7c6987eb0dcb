import { ADMIN_HEADERS, adminProblem } from './problem-response.ts';

/** What came of loading the configuration again. */
export type ReloadOutcome =
  | {
      readonly ok: true;
      readonly revision: string;
      /** What is in force now and was not before, in words without secrets. */
      readonly changed: readonly string[];
      /** Options that keep their old value until a restart. */
      readonly needsRestart: readonly string[];
    }
  | {
      readonly ok: false;
      /** With file and line, without values; no more than a person reads. */
      readonly problems: readonly string[];
    };

/** The answer to `POST /reload`. */
export function reloadAnswer(outcome: ReloadOutcome): Response {
  if (!outcome.ok) return adminProblem('config_refused', {}, undefined, undefined, { problems: outcome.problems });
  const { revision, changed, needsRestart } = outcome;
  return new Response(`${JSON.stringify({ revision, changed, needsRestart })}\n`, {
    headers: { ...ADMIN_HEADERS, 'Content-Type': 'application/json' },
  });
}
