// Runs the helm of the lock file, the one that the tests render the chart with: node scripts/helm.mjs package helm/patchgate
import { spawnSync } from 'node:child_process';
import { withTools } from './tools.mjs';

const { status } = spawnSync('helm', process.argv.slice(2), { env: withTools(['helm']), stdio: 'inherit' });
process.exitCode = status ?? 1;
