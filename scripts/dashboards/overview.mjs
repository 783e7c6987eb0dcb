// Is it well, how much of the quota is used and by whom, who is refused and why, where time goes, what the cache saves.
import { dashboard } from './frame.mjs';
import { health } from './overview/health.mjs';
import { latency } from './overview/latency.mjs';
import { others, quota } from './overview/quota.mjs';
import { requests } from './overview/requests.mjs';
import { savings } from './overview/savings.mjs';

export function overview() {
  return dashboard({
    uid: 'patchgate-overview',
    title: 'patchgate / Overview',
    description: 'Is the gateway well, how much of the Patchworks quota is used, by whom, and who is refused.',
    variables: ['datasource', 'namespace', 'job', 'account', 'instance'],
    rows: [
      { title: 'Is it well?', panels: health },
      { title: 'Quota', panels: quota },
      { title: 'Requests and refusals', panels: requests },
      { title: 'Latency', panels: latency },
      { title: 'What the cache saves', panels: savings },
      { title: 'Others on the account, and the line', panels: others },
    ],
  });
}
