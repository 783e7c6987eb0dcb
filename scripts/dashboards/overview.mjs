// Health, use of the quota by tenant, rejections by code, latency by part, requests avoided by the cache.
import { dashboard } from './frame.mjs';
import { budgets } from './overview/budgets.mjs';
import { health } from './overview/health.mjs';
import { latency } from './overview/latency.mjs';
import { others, quota } from './overview/quota.mjs';
import { requests } from './overview/requests.mjs';
import { savings } from './overview/savings.mjs';

export function overview() {
  return dashboard({
    uid: 'patchgate-overview',
    title: 'patchgate / Overview',
    description: 'Health of the gateway, use of the Patchworks quota by tenant, and rejections.',
    variables: ['datasource', 'namespace', 'job', 'account', 'instance'],
    rows: [
      { title: 'Health', panels: health },
      { title: 'Quota', panels: quota },
      { title: 'Budgets', panels: budgets },
      { title: 'Requests and rejections', panels: requests },
      { title: 'Latency', panels: latency },
      { title: 'Cache', panels: savings },
      { title: 'External usage and queue', panels: others },
    ],
  });
}
