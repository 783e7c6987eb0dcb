// The frame of all dashboards: variables, annotations of events, links to each other.
import {
  AnnotationQueryBuilder,
  DashboardBuilder,
  DashboardCursorSync,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  RowBuilder,
  VariableRefresh,
  VariableSort,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { SOURCE } from './panels.mjs';
import { DEPLOYMENT, metric, processMetric } from './queries.mjs';

/** @typedef {{ title: string, panels: import('./panels.mjs').Recipe[] }} Row */

const TAG = 'patchgate';
/** Matches replicas that start later too, unlike a list of the present ones. */
const EVERY = '.*';

/** The variables, with their first value. */
const VARIABLES = {
  datasource: () => new DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'),
  namespace: () =>
    many(
      'namespace',
      'Namespace',
      'label_values(patchgate_build_info, namespace)',
      'The namespace in Kubernetes; elsewhere there is none.',
    ),
  job: () =>
    many(
      'job',
      'Deployment',
      'label_values(patchgate_build_info{namespace=~"$namespace"}, job)',
      'Scrape job. If several deployments have an account of the same name, choose one of them.',
    ),
  account: () =>
    many(
      'account',
      'Account',
      `label_values(patchgate_quota_limit{${DEPLOYMENT}}, account)`,
      'Patchworks account. Requests and rejections are not divided by account: they are shown for all.',
    ),
  instance: () =>
    many(
      'instance',
      'Replica',
      `label_values(patchgate_build_info{${DEPLOYMENT}}, instance)`,
      'All: the gateway as a whole.',
    ),
  // A tenant without requests appears by its keys, and one whose keys never expire by its requests.
  tenant: () =>
    query(
      'tenant',
      'Tenant',
      `label_values({__name__=~"patchgate_http_requests_total|patchgate_tenant_key_expiry_timestamp_seconds",${DEPLOYMENT},tenant!~"none|other"}, tenant)`,
      'As named in tenants.yaml.',
    ),
};

/** @param {string} name @param {string} label @param {string} text @param {string} description */
function query(name, label, text, description) {
  return new QueryVariableBuilder(name)
    .label(label)
    .description(description)
    .datasource(SOURCE)
    .query({ qryType: 1, query: text, refId: `variable-${name}` })
    .definition(text)
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .sort(VariableSort.AlphabeticalAsc);
}

/** @param {string} name @param {string} label @param {string} text @param {string} description */
function many(name, label, text, description) {
  return query(name, label, text, description)
    .multi(true)
    .includeAll(true)
    .allValue(EVERY)
    .current({ selected: true, text: ['All'], value: ['$__all'] });
}

/**
 * Annotations at times that are the values of a metric, in milliseconds: no event between two scrapes is missed.
 * @param {string} name @param {string} colour @param {string} expression @param {string} text
 */
function marks(name, colour, expression, text) {
  return new AnnotationQueryBuilder()
    .name(name)
    .datasource(SOURCE)
    .enable(true)
    .iconColor(colour)
    .expr(`1000 * ${expression}`)
    .useValueForTime(true)
    .step('15s')
    .titleFormat(name)
    .textFormat(text);
}

function alerts() {
  return new AnnotationQueryBuilder()
    .name('Alerts')
    .datasource(SOURCE)
    .enable(true)
    .iconColor('red')
    .expr(`ALERTS{alertname=~"Patchgate.+",alertstate="firing",${DEPLOYMENT}}`)
    .step('15s')
    .titleFormat('{{alertname}}')
    .textFormat('{{severity}} {{account}} {{tenant}} {{instance}}');
}

/**
 * @param {{ uid: string, title: string, description: string, variables: (keyof typeof VARIABLES)[], rows: Row[] }} of
 * @returns {import('@grafana/grafana-foundation-sdk/dashboard').Dashboard}
 */
export function dashboard({ uid, title, description, variables, rows }) {
  const link = new DashboardLinkBuilder('patchgate')
    .type(DashboardLinkType.Dashboards)
    .tags([TAG])
    .asDropdown(false)
    .keepTime(true)
    .includeVars(true);
  const builder = new DashboardBuilder(title)
    .uid(uid)
    .description(description)
    .tags([TAG])
    .timezone('browser')
    .time({ from: 'now-1h', to: 'now' })
    .refresh('30s')
    .tooltip(DashboardCursorSync.Crosshair)
    .link(link)
    .annotations([
      marks('Configuration', 'blue', metric('config_last_success_timestamp_seconds'), 'loaded by {{instance}}'),
      marks('Replica started', 'purple', `(${processMetric('process_start_time_seconds')})`, '{{instance}}'),
      alerts(),
    ])
    .variables(variables.map((name) => VARIABLES[name]()));
  let id = 0;
  for (const row of rows) {
    id += 1;
    builder.withRow(new RowBuilder(row.title).id(id));
    for (const make of row.panels) {
      id += 1;
      const panel = make();
      panel.id(id);
      builder.withPanel(panel);
    }
  }
  return builder.build();
}
