/** A webhook or callback of a flow: `/api/v1/{company}/{id}[/{prefix of an environment}]` on a host of its own. */
export interface Trigger {
  readonly kind: 'webhook' | 'callback';
  /** Below `/api/v1`, such as `acme/42` or `acme/42/dev`. */
  readonly path: string;
  /** The built-in credential; it never expires. */
  readonly signature: string;
  /** Id of a flow of the first account. It must be deployed and enabled. */
  readonly flow: number;
  /** Key of the header `X-HMAC-HASH`, hexadecimal SHA-256 over the body; default: the header is not read. */
  readonly hmacKey?: string;
  /** Default: 200 `{"message":"Flow initialised."}` of a webhook, and an array with the id of the run of a callback. */
  readonly answer?: { readonly status: number; readonly body: unknown };
}

export interface TriggerHost {
  /** Also its name in the record: limits are counted for the host. */
  readonly id: 'webhooks' | 'callbacks';
  readonly kind: Trigger['kind'];
  /** Requests a minute (subscription tier limits). */
  readonly limit: number;
}

export const TRIGGER_HOSTS: Readonly<Record<TriggerHost['id'], TriggerHost>> = {
  webhooks: { id: 'webhooks', kind: 'webhook', limit: 120 },
  callbacks: { id: 'callbacks', kind: 'callback', limit: 240 },
};

export const FAKE_TRIGGERS: readonly Trigger[] = [
  { kind: 'webhook', path: 'acme/41', signature: 'fake-signature-of-webhook-41', flow: 1 },
  { kind: 'callback', path: 'acme/42', signature: 'fake-signature-of-callback-42', flow: 2 },
];
