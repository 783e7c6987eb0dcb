#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { didYouMean, handleEarlySignals, type Io } from './cli/command-line.ts';

type Command = {
  does: string;
  load: () => Promise<(args: string[], io: Io) => Promise<number>>;
  /** Runs until a signal. An interrupted command of another kind has failed. */
  runs?: true;
};

/**
 * Starts a command and sets the exit code: 0 done, 1 failed, 2 wrong arguments. A command is loaded when it is needed, which
 * keeps the start short.
 */
const commands: Record<string, Command> = {
  serve: { does: 'run the gateway', load: async () => (await import('./cli/serve.ts')).serve, runs: true },
  check: {
    does: 'validate the configuration and show what each account can send',
    load: async () => (await import('./cli/check.ts')).check,
  },
  tenant: { does: 'add a tenant', load: async () => (await import('./cli/tenant.ts')).tenant },
  key: {
    does: 'create, revoke, list or hash tenant keys',
    load: async () => (await import('./cli/key.ts')).key,
  },
  plan: {
    does: 'predict from access logs what another configuration would have done',
    load: async () => (await import('./cli/plan.ts')).plan,
  },
  simulate: {
    does: 'run a stand-in for the Patchworks API',
    load: async () => (await import('./cli/simulate.ts')).simulate,
    runs: true,
  },
  demo: {
    does: 'run a gateway and a simulated Patchworks',
    load: async () => (await import('./cli/demo.ts')).demo,
    runs: true,
  },
};

function usage(): string {
  const lines = Object.entries(commands).map(([name, command]) => `  ${name.padEnd(10)}${command.does}`);
  return [
    'patchgate: one Patchworks account, shared by a team',
    '',
    'usage: patchgate COMMAND [options]',
    '',
    ...lines,
    '',
    'patchgate COMMAND --help shows the options of a command; patchgate version shows the version.',
    '',
  ].join('\n');
}

async function main(args: string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name !== undefined && ['version', '--version', '-V', '-v'].includes(name)) {
    const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
    process.stdout.write(`${version}\n`);
    return 0;
  }
  if (name === '--help' || name === '-h' || name === 'help') {
    process.stdout.write(usage());
    return 0;
  }
  const command = name === undefined || !Object.hasOwn(commands, name) ? undefined : commands[name];
  if (command === undefined) {
    const known = Object.keys(commands);
    const hint = didYouMean(name ?? '', known) ?? `commands: ${known.join(', ')}`;
    process.stderr.write(name === undefined ? usage() : `patchgate: unknown command "${name}"; ${hint}\n`);
    return 2;
  }
  if (command.runs) handleEarlySignals();
  const run = await command.load();
  return run(rest, { stdout: process.stdout, stderr: process.stderr, stdin: process.stdin, env: process.env });
}

process.exitCode = await main(process.argv.slice(2));
