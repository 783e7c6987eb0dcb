// Budgets of accounts: how much is used, how fast, and by whom.

import { bars, timeseries } from '../panels.mjs';
import { budgetShare, burnRate, metric, newest, OF_ACCOUNT } from '../queries.mjs';
import { TENANT_LINK } from './link.mjs';

export const budgets = [
  bars({
    title: 'Budgets: used part',
    description:
      'Requests of the present day or month that count, as a part of the limit. At 100 % matching requests get 429 budget_exhausted until the reset. An alert fires at warnAt. "Budget use by tenant" shows the tenants.',
    unit: 'percentunit',
    max: 1,
    width: 6,
    height: 8,
    queries: [[budgetShare('budget', 'account', OF_ACCOUNT), '{{account}} {{budget}}']],
    steps: [
      [null, 'green'],
      [0.8, 'orange'],
      [1, 'red'],
    ],
    noValue: 'no budgets',
  }),
  timeseries({
    title: 'Burn rate of budgets',
    description:
      'Use in the last hour, as a multiple of the rate that would use the budget up exactly at its reset. Above 1 for long: the budget ends before its period. An alert fires when the average of the period says so too.',
    unit: 'short',
    width: 9,
    height: 8,
    queries: [[burnRate(), '{{account}} {{budget}}']],
    steps: [
      [null, 'transparent'],
      [1, 'red'],
    ],
    noValue: 'no budgets',
  }),
  timeseries({
    title: 'Budget use by tenant',
    description:
      'Requests of the present period that count, by tenant. A click leads to the tenant. A steep line is the tenant to talk to: give it a part (tenants.<id>.budgets).',
    unit: 'short',
    width: 9,
    height: 8,
    queries: [[newest(metric('tenant_budget_used'), 'tenant, budget'), '{{tenant}} {{budget}}']],
    calculations: ['lastNotNull'],
    link: TENANT_LINK,
    noValue: 'no budgets',
  }),
];
