// The surroundings of the gateway: replicas, shared state, Patchworks, credentials, configuration, cache tiers, process.
import { dashboard } from './frame.mjs';
import { cache } from './infrastructure/cache.mjs';
import { upstream } from './infrastructure/patchworks.mjs';
import { processes } from './infrastructure/processes.mjs';
import { redis, running } from './infrastructure/replicas.mjs';
import { secrets } from './infrastructure/secrets.mjs';

export function infrastructure() {
  return dashboard({
    uid: 'patchgate-infrastructure',
    title: 'patchgate / Infrastructure',
    description: 'Replicas, Redis, Patchworks, credentials and keys, configuration, cache tiers, processes.',
    variables: ['datasource', 'namespace', 'job', 'account', 'instance'],
    rows: [
      { title: 'Replicas', panels: running },
      { title: 'Redis', panels: redis },
      { title: 'Patchworks', panels: upstream },
      { title: 'Credentials, keys, certificates, configuration', panels: secrets },
      { title: 'Cache and idempotency', panels: cache },
      { title: 'Processes', panels: processes },
    ],
  });
}
