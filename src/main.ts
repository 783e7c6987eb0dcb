#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import type { Io } from './cli/io.ts';

/**
 * The process: picks the command, gives it the process's streams, and turns what it returns into the exit code:
 * 0 done, 1 refused or failed, 2 called wrongly. Commands are loaded when they are needed, which keeps the start short.
 */
const commands: Record<string, { does: string; load: () => Promise<(args: string[], io: Io) => Promise<number>> }> = {
  serve: { does: 'run the gateway', load: async () => (await import('./cli/serve.ts')).serve },
  check: {
    does: 'validate the configuration and prove its arithmetic',
    load: async () => (await import('./cli/check.ts')).check,
  },
  key: { does: 'create a tenant key, or hash one', load: async () => (await import('./cli/key.ts')).key },
  simulate: {
    does: 'run a stand-in for the Patchworks API',
    load: async () => (await import('./cli/simulate.ts')).simulate,
  },
  demo: {
    does: 'run simulator and gateway together, nothing needed',
    load: async () => (await import('./cli/demo.ts')).demo,
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
    'patchgate COMMAND --help tells the options of a command; patchgate --version the version.',
    '',
  ].join('\n');
}

async function main(args: string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === '--version' || name === '-v') {
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
    process.stderr.write(
      name === undefined
        ? usage()
        : `patchgate: unknown command "${name}"; known are ${Object.keys(commands).join(', ')}\n`,
    );
    return 2;
  }
  const run = await command.load();
  return run(rest, { stdout: process.stdout, stderr: process.stderr, stdin: process.stdin, env: process.env });
}

process.exitCode = await main(process.argv.slice(2));
