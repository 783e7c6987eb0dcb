// Expiry of secrets and certificates, reloads, and TLS handshakes.
import { bars, states, timeseries } from '../panels.mjs';
import { metric, OF_ACCOUNT, sum } from '../queries.mjs';

const DAY = 86_400;
const WEEK = 7 * DAY;

export const secrets = [
  states({
    title: 'Credentials',
    description:
      'Whether each credential of the account works on all replicas, by its last use. Failing: the next one is used meanwhile; change the secret, or look at "Logins by outcome". All of an account failing: callers get 502.',
    unit: 'short',
    width: 5,
    height: 7,
    queries: [[`min by (account, credential) (${metric('credential_up', OF_ACCOUNT)})`, '{{account}} {{credential}}']],
    values: { 1: ['works', 'green'], 0: ['failing', 'red'] },
  }),
  bars({
    title: 'Login tokens until they expire',
    description:
      'A token is renewed when a fifth of its life is left. Longest over the replicas, each of which logs in for itself. Near 0: renewal fails, see beside.',
    unit: 'dtdurations',
    width: 5,
    height: 7,
    queries: [
      [
        `max by (account, credential) (${metric('credential_expiry_timestamp_seconds', OF_ACCOUNT)}) - time()`,
        '{{account}} {{credential}}',
      ],
    ],
    steps: [
      [null, 'red'],
      [300, 'orange'],
      [900, 'green'],
    ],
    noValue: 'no login',
  }),
  timeseries({
    title: 'Logins by outcome',
    description:
      'ok: a new token; each replica logs in for itself. rejected: wrong username or password, change the secret. throttled: the account had no slot for it. failed: no response, or 429; look in the log for "login failed".',
    unit: 'short',
    width: 5,
    height: 7,
    columns: true,
    stacked: 'sum',
    queries: [
      [
        sum(`increase(${metric('credential_refreshes_total', OF_ACCOUNT)}[$__rate_interval])`, 'credential, outcome'),
        '{{credential}} {{outcome}}',
      ],
    ],
    colours: {
      ...{ '.* ok': 'green', '.* rejected': 'red', '.* failed': 'dark-red', '.* throttled': 'orange' },
    },
  }),
  bars({
    title: 'Tenant keys, first to expire',
    description:
      'The ten keys that expire first, without those that expired more than a week ago. Notify the tenant in time: both keys work during the change (docs/operations.md).',
    unit: 'dtdurations',
    width: 5,
    height: 7,
    queries: [
      [
        `bottomk(10, (min by (tenant, key) (${metric('tenant_key_expiry_timestamp_seconds')}) > time() - ${WEEK}) - time())`,
        '{{tenant}} {{key}}',
      ],
    ],
    steps: [
      [null, 'red'],
      [WEEK, 'orange'],
      [2 * WEEK, 'green'],
    ],
    noValue: 'none expires',
  }),
  timeseries({
    title: 'Configuration reloads',
    description:
      'The first load counts too. refused: the files have a mistake, and the old configuration stays in force; the log names file, line and mistake.',
    unit: 'short',
    width: 4,
    height: 7,
    columns: true,
    stacked: 'sum',
    queries: [[sum(`increase(${metric('config_reloads_total')}[$__rate_interval])`, 'outcome'), '{{outcome}}']],
    colours: { ok: 'green', refused: 'red' },
  }),
  bars({
    title: 'Certificates until they expire',
    description:
      'Certificates of the ports that speak TLS, shortest over the replicas. Below two weeks: they were not renewed, or the new files do not reach a replica (docs/operations.md). At 0 callers reject the port.',
    unit: 'dtdurations',
    width: 8,
    height: 7,
    queries: [[`min by (port) (${metric('tls_certificate_expiry_timestamp_seconds')}) - time()`, '{{port}}']],
    steps: [
      [null, 'red'],
      [DAY, 'orange'],
      [2 * WEEK, 'green'],
    ],
    noValue: 'no TLS',
  }),
  timeseries({
    title: 'TLS handshakes',
    description:
      'By result. distrusted: callers do not know the authority of the certificate, or it has expired. certificate_missing, certificate_rejected: callers without a valid certificate of their own. plain: http:// in place of https://. timeout, client_closed: checks of a balancer, scans.',
    unit: 'short',
    width: 8,
    height: 7,
    columns: true,
    stacked: 'sum',
    queries: [
      [sum(`increase(${metric('tls_handshakes_total')}[$__rate_interval])`, 'port, outcome'), '{{port}} {{outcome}}'],
    ],
    colours: {
      '.* (ok|certified)': 'green',
      '.* (timeout|client_closed)': 'orange',
      '.* (distrusted|certificate_.*)': 'red',
    },
  }),
  timeseries({
    title: 'Rejected tokens of callers',
    description:
      'By issuer and reason (docs/identities.md). issuer none: it is not configured, or cannot be read from the token. keys_missing: 503, the keys of the issuer could not be read since the start. signature: a forgery, as a rule.',
    unit: 'short',
    width: 8,
    height: 7,
    columns: true,
    stacked: 'sum',
    queries: [
      [
        sum(`increase(${metric('token_rejections_total')}[$__rate_interval])`, 'issuer, reason'),
        '{{issuer}} {{reason}}',
      ],
    ],
  }),
];
