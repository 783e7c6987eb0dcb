import { parseDocument } from 'yaml';

interface Step {
  readonly uses?: string;
  readonly run?: string;
  readonly with?: Readonly<Record<string, unknown>>;
}

export interface Job {
  readonly 'runs-on'?: string;
  readonly uses?: string;
  readonly needs?: string | readonly string[];
  readonly secrets?: unknown;
  readonly 'timeout-minutes'?: number;
  readonly permissions?: Readonly<Record<string, string>>;
  readonly steps?: readonly Step[];
  readonly strategy?: { readonly matrix?: Readonly<Record<string, readonly unknown[]>> };
}

export interface Workflow {
  readonly name: string;
  readonly on: Readonly<Record<string, unknown>>;
  readonly permissions?: unknown;
  readonly concurrency?: { readonly group: string };
  readonly jobs: Readonly<Record<string, Job>>;
}

/** Triggers that outsiders can fire, or that run their code with the rights of this repository. */
const OF_OTHERS = [
  'pull_request_target',
  'workflow_run',
  'issue_comment',
  'issues',
  'discussion',
  'discussion_comment',
  'fork',
];
/** CI has this long for the suite on two cores; nothing else takes longer. */
const LONGEST_MINUTES = 90;

export function read(text: string): Workflow {
  const document = parseDocument(text, { strict: true, uniqueKeys: true });
  if (document.errors.length > 0) throw new Error(String(document.errors[0]));
  return document.toJS() as Workflow;
}

export const stepsOf = ({ jobs }: Workflow): Step[] => Object.values(jobs).flatMap(({ steps = [] }) => steps);

/** Problems that give code or text of outsiders more rights. */
export function problemsOf(text: string): string[] {
  const workflow = read(text);
  const jobs = Object.entries(workflow.jobs);
  return [
    ...OF_OTHERS.filter((trigger) => trigger in workflow.on).map((trigger) => `is started by ${trigger}`),
    ...(isEmpty(workflow.permissions) ? [] : ['gives permissions to all jobs: each has to say its own']),
    ...(workflow.concurrency === undefined ? ['has no concurrency'] : []),
    ...unpinned(text),
    ...jobs.flatMap(([name, job]) => problemsOfJob(job).map((problem) => `job ${name} ${problem}`)),
  ];
}

/** Read from the text, as YAML forgets the comment that says which version a hash is. */
function unpinned(text: string): string[] {
  const used = [...text.matchAll(/^\s*(?:- )?["']?uses["']?:\s*(.*)$/gm)].map(([, action = '']) => action.trim());
  if (used.length !== text.match(/\buses\b["']?\s*:/g)?.length) return ['has a uses that could not be read'];
  return used
    .filter((action) => !/^\.\/\.github\/workflows\/[\w.-]+\.yaml$/.test(action))
    .filter((action) => !/^[\w.-]+(?:\/[\w.-]+)+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/.test(action))
    .map((action) => `uses ${action}, which is not a commit with its version beside it`);
}

function problemsOfJob(job: Job): string[] {
  const problems: string[] = [];
  if (job.permissions === undefined || typeof job.permissions === 'string')
    problems.push('does not say its permissions');
  if (job.secrets === 'inherit') problems.push('hands on all secrets');
  // A job that calls a workflow has the times of that one, and must have none of its own.
  if (job.uses === undefined && !((job['timeout-minutes'] ?? Infinity) <= LONGEST_MINUTES))
    problems.push('has no timeout');
  if (job.uses === undefined && !/-\d/.test(job['runs-on'] ?? '')) problems.push('runs on whatever is the latest');
  return [...problems, ...(job.steps ?? []).flatMap(problemsOfStep)];
}

function problemsOfStep({ uses = '', run = '', with: options = {} }: Step): string[] {
  const problems: string[] = [];
  // Put into a script, a branch called `$(…)` is run. In the environment it is a value.
  if (run.includes('${{')) problems.push(`writes an expression into a script: ${run.trim()}`);
  const dangerous = /\$\{\{[^}]*github\.(?:event\.(?!repository\.private\b)|head_ref)/;
  if (dangerous.test(JSON.stringify(options))) problems.push(`hands ${uses} what a stranger wrote`);
  if (uses.startsWith('actions/checkout@') && options['persist-credentials'] !== false) {
    problems.push('leaves the token in .git/config, for all that runs after it');
  }
  return problems;
}

function isEmpty(permissions: unknown): boolean {
  return typeof permissions === 'object' && permissions !== null && Object.keys(permissions).length === 0;
}
