// What is asked, by whom, and what is refused.

import { CODE_COLOURS, STATUS_COLOURS, timeseries } from '../panels.mjs';
import { perMinute, rate } from '../queries.mjs';
import { TENANT_LINK } from './link.mjs';

export const requests = [
  timeseries({
    title: 'Requests by tenant',
    description: 'All requests, answered from cache or not, of all accounts. "none": no valid key.',
    unit: 'reqpm',
    width: 8,
    height: 8,
    stacked: 'sum',
    queries: [[perMinute(rate('http_requests_total'), 'tenant'), '{{tenant}}']],
    link: TENANT_LINK,
  }),
  timeseries({
    title: 'Answers by status',
    description:
      'As callers see them. 499: the caller left first. 5xx of Patchworks pass through unchanged; those of the gateway have a code beside.',
    unit: 'reqpm',
    width: 8,
    height: 8,
    stacked: 'sum',
    queries: [[perMinute(rate('http_requests_total'), 'status'), '{{status}}']],
    colours: STATUS_COLOURS,
  }),
  timeseries({
    title: 'Refusals by code',
    description:
      'What the gateway itself refused. docs/failure-modes.md says of each code who sees it, why, and what to do.',
    unit: 'reqpm',
    width: 8,
    height: 8,
    stacked: 'sum',
    columns: true,
    queries: [[perMinute(rate('rejections_total'), 'code'), '{{code}}']],
    colours: CODE_COLOURS,
  }),
];
