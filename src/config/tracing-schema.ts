import { z } from 'zod';
import { doc, flag, httpUrl, text } from './fields.ts';

/** Names that a header field may have (RFC 9110 section 5.6.2). */
const headerName = () =>
  z.string().regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/, { error: 'must be the name of a header field' });

export const tracingSchema = z
  .strictObject({
    endpoint: doc(httpUrl().optional(), {
      description:
        'Where spans are sent, OTLP over HTTP as JSON, such as `http://otel-collector:4318/v1/traces`. Left out: there are none, and nothing of OpenTelemetry is loaded. The environment variables `OTEL_EXPORTER_OTLP_*` fill in what is not given here, such as a certificate.',
    }),
    headers: doc(
      z
        .record(
          headerName(),
          z
            .string({ error: 'must be a text' })
            .min(1, { error: 'must not be empty' })
            .regex(/^[\t\x20-\x7e]*$/, { error: 'must be printable ASCII' }),
          { error: 'must be a map of header fields' },
        )
        .default({}),
      { description: 'Sent along with them, such as the key of a collector. Their values are secrets.', shown: '{}' },
    ),
    sample: doc(
      z
        .number({ error: 'must be a number from 0 to 1' })
        .min(0, { error: 'must be at least 0' })
        .max(1, { error: 'must be at most 1' })
        .default(0.1),
      {
        description:
          'Share of the requests that are recorded, where the caller has not decided: one whose `traceparent` says sampled is recorded, one whose says not is not.',
        unit: 'share from 0 to 1',
        shown: '0.1',
      },
    ),
    serviceName: doc(text().default('patchgate'), {
      description: 'What the gateway calls itself in the traces (`service.name`).',
      shown: 'patchgate',
    }),
    propagate: doc(flag().default(false), {
      description:
        "true: Patchworks gets `traceparent`, of the gateway's own span where there is an endpoint, and the caller's `tracestate`. false: `traceparent`, `tracestate` and `baggage` end at the gateway. Without a `tracing` section they pass as they come.",
      shown: 'false',
    }),
  })
  .superRefine(({ endpoint, headers }, context) => {
    if (endpoint !== undefined || Object.keys(headers).length === 0) return;
    context.addIssue({ code: 'custom', path: ['headers'], message: 'is of use only with an endpoint' });
  });
