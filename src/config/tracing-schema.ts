import { z } from 'zod';
import { doc, flag, headerSecret, httpUrl, optional, text } from './option-types.ts';

/** RFC 9110 section 5.6.2. */
const headerName = () =>
  z.string().regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/, { error: 'must be the name of a header field' });

export const tracingSchema = z
  .strictObject({
    endpoint: doc(optional(httpUrl()), {
      description:
        'Collector for spans, OTLP over HTTP as JSON, such as `http://otel-collector:4318/v1/traces`. Without it there are no spans, and OpenTelemetry is not loaded. The environment variables `OTEL_EXPORTER_OTLP_*` set what is not set here, such as a certificate.',
    }),
    headers: doc(z.record(headerName(), headerSecret(), { error: 'must be a map of header fields' }).default({}), {
      description: 'Headers for the collector, such as its key. Their values are secrets.',
    }),
    sample: doc(
      z
        .number({ error: 'must be a number from 0 to 1' })
        .min(0, { error: 'must be at least 0' })
        .max(1, { error: 'must be at most 1' })
        .default(0.1),
      {
        description:
          "Share of recorded requests, if the caller has not decided. The sampled flag of a caller's `traceparent` has priority.",
        unit: 'share from 0 to 1',
      },
    ),
    serviceName: doc(text().default('patchgate'), {
      description: 'Name of the gateway in traces (`service.name`).',
    }),
    propagate: doc(flag().default(false), {
      description:
        "true: Patchworks gets `traceparent` (the gateway's own span, if there is an endpoint) and the caller's `tracestate`. false: `traceparent`, `tracestate` and `baggage` are not sent. Without a `tracing` section they pass unchanged.",
    }),
  })
  .superRefine(({ endpoint, headers }, context) => {
    if (endpoint !== null || Object.keys(headers).length === 0) return;
    context.addIssue({ code: 'custom', path: ['headers'], message: 'needs an endpoint' });
  })
  .transform(({ endpoint, headers, sample, serviceName, propagate }) => ({
    /** Null: there are no spans. */
    exporter: endpoint === null ? null : { endpoint, headers: new Map(Object.entries(headers)), sample, serviceName },
    propagate,
  }));
