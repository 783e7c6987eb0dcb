// Requests by tenant, responses by status, rejections by code.

import { CODE_COLOURS, STATUS_COLOURS, timeseries } from '../panels.mjs';
import { perMinute, rate } from '../queries.mjs';
import { TENANT_LINK } from './link.mjs';

export const requests = [
  timeseries({
    title: 'Requests by tenant',
    description: 'All requests, cached or not, of all accounts. "none" are requests without a valid key.',
    unit: 'reqpm',
    width: 8,
    height: 8,
    stacked: 'sum',
    queries: [[perMinute(rate('http_requests_total'), 'tenant'), '{{tenant}}']],
    link: TENANT_LINK,
  }),
  timeseries({
    title: 'Responses by status',
    description:
      'Responses as callers see them. 499: the caller disconnected first. 5xx of Patchworks pass through unchanged; those of the gateway have a code in the panel beside.',
    unit: 'reqpm',
    width: 8,
    height: 8,
    stacked: 'sum',
    queries: [[perMinute(rate('http_requests_total'), 'status'), '{{status}}']],
    colours: STATUS_COLOURS,
  }),
  timeseries({
    title: 'Rejections by code',
    description:
      'Requests that the gateway itself rejected. docs/failure-modes.md has the cause of each code, and what to do.',
    unit: 'reqpm',
    width: 8,
    height: 8,
    stacked: 'sum',
    columns: true,
    queries: [[perMinute(rate('rejections_total'), 'code'), '{{code}}']],
    colours: CODE_COLOURS,
  }),
];
