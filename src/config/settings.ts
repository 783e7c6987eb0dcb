import type { IssuerTerms } from '../auth/identity-store.ts';
import type { AccountQuota } from '../quota/quota-store.ts';
import type { Pattern } from '../routing/pattern.ts';
import { Secret } from '../secret.ts';
import type { UpstreamRules } from '../upstream/upstreams.ts';
import type { GatewayInput } from './schema.ts';
import type { TenantInput } from './tenant-schema.ts';

type Listen = GatewayInput['listen'];
type Ports = 'traffic' | 'admin';

/**
 * The configuration as the program reads it: validated, with defaults, with units in the names. The schemas say what each
 * setting is, and build.ts adds what needs several options or files. Null is an option that is not set.
 */
export interface Settings
  extends Readonly<
    Pick<
      GatewayInput,
      'redis' | 'stateDir' | 'cache' | 'idempotency' | 'limits' | 'drain' | 'reload' | 'tracing' | 'log' | 'problems'
    >
  > {
  readonly listen: { readonly [Port in Ports]: Omit<Listen[Port], 'tls'> & { readonly tls: TlsSettings | null } } & {
    /** CIDRs whose X-Forwarded-For and X-Forwarded-Proto count. */
    readonly trustedProxies: readonly string[];
  };
  readonly accounts: ReadonlyMap<string, AccountSettings>;
  readonly upstreams: ReadonlyMap<string, UpstreamSettings>;
  /** First match wins. */
  readonly routes: readonly RouteSettings[];
  readonly identity: { readonly issuers: ReadonlyMap<string, IssuerSettings> };
  readonly tenants: ReadonlyMap<string, TenantSettings>;
  /** All secrets of the configuration, for redaction by value. */
  readonly secrets: readonly Secret[];
  /** Short digest of the files' content; changes when they do. No secret can be derived from it. */
  readonly revision: string;
}

/** TLS of a port. The files were read, and certificate and key belong together. */
export interface TlsSettings {
  /** PEM: the port's own certificate, then its issuers. */
  readonly cert: string;
  /** PEM. */
  readonly key: Secret;
  readonly clientAuth: 'none' | 'optional' | 'required';
  /** PEM; null: callers are not asked for a certificate. */
  readonly clientCa: string | null;
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3';
  readonly certificate: CertificateSummary;
}

export interface CertificateSummary {
  /** Its hosts, such as `DNS:gate.example.test`; the first 20. */
  readonly names: readonly string[];
  readonly notBeforeMs: number;
  /** The earliest end in its chain. */
  readonly notAfterMs: number;
  /** SHA-256, as browsers and openssl show it. */
  readonly fingerprint: string;
}

export interface AccountSettings {
  readonly id: string;
  readonly quota: AccountQuota;
  /** In order of preference; never empty. */
  readonly credentials: readonly CredentialSettings[];
}

export type CredentialSettings = Readonly<GatewayInput['accounts'][string]['credentials'][number]>;
/** A secret in a header or query parameter of any name. */
export type FixedCredentialSettings = Extract<CredentialSettings, { kind: 'header' | 'query' }>;

export function isFixed(credential: CredentialSettings): credential is FixedCredentialSettings {
  return credential.kind === 'header' || credential.kind === 'query';
}

export interface UpstreamSettings extends UpstreamRules {
  readonly id: string;
  readonly account: string;
  /** `https://host[:port]`, no path. */
  readonly origin: string;
  /** From sending to the response headers, and between two chunks of a body. */
  readonly timeoutMs: number;
}

export type RouteSettings = Readonly<NonNullable<GatewayInput['routes']>[number]>;

export interface TenantSettings extends Omit<Readonly<TenantInput>, 'account' | 'keys' | 'allow'> {
  readonly id: string;
  /** Without duplicates, and never empty. */
  readonly accounts: string[];
  readonly keys: readonly TenantKeySettings[];
  /** Null: all but the denied set. */
  readonly allow: readonly Pattern[] | null;
}

type TenantKeySettings = Omit<Readonly<TenantInput['keys'][number]>, 'allow'> & {
  /** Narrows the tenant's permissions; null: all of them. */
  readonly allow: readonly Pattern[] | null;
};

/** A caller without a key. */
export type IdentitySettings = Readonly<TenantInput['identities'][number]>;

export interface IssuerSettings extends IssuerTerms {
  readonly jwks: JwksSettings;
}

export type JwksSettings =
  | {
      readonly kind: 'url';
      readonly url: string;
      /** PEM; null: the authorities of the system. */
      readonly ca: string | null;
      /** Path of a file with a bearer token. */
      readonly tokenFile: string | null;
    }
  /** The file was read: its content is a valid JSON Web Key Set. */
  | { readonly kind: 'file'; readonly path: string; readonly jwks: string };

/** The settings in force as GET /config shows them, without secrets. */
export function redactedSettings(settings: Settings): unknown {
  const { secrets: _, ...shown } = settings;
  const plain = (value: unknown): unknown => {
    if (value instanceof Map) return Object.fromEntries([...value].map(([key, each]) => [key, plain(each)]));
    if (Array.isArray(value)) return value.map(plain);
    // PEM is long and unreadable, and a misplaced private key must not be shown.
    if (typeof value === 'string' && value.startsWith('-----BEGIN ')) return '[PEM]';
    if (typeof value !== 'object' || value === null) return value;
    // A Secret gives a mask; patterns are shown as they were written.
    if ('toJSON' in value && typeof value.toJSON === 'function') return value.toJSON();
    if ('segments' in value && 'text' in value) return value.text;
    return Object.fromEntries(
      Object.entries(value).map(([key, each]) => [
        key,
        key === 'sha256'
          ? `${String(each).slice(0, 8)}…`
          : key === 'jwks' && typeof each === 'string'
            ? '[JWKS]'
            : plain(each),
      ]),
    );
  };
  return plain(shown);
}

/** Compares settings by value. Node's `isDeepStrictEqual` ignores private fields: all secrets would be equal. */
export function deepEqual(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (a instanceof Secret || b instanceof Secret) {
    return a instanceof Secret && b instanceof Secret && a.reveal() === b.reveal();
  }
  if (a instanceof Map && b instanceof Map) {
    return a.size === b.size && [...a].every(([key, value]) => b.has(key) && deepEqual(value, b.get(key)));
  }
  const [left, right] = [a as Record<string, unknown>, b as Record<string, unknown>];
  const keys = Object.keys(left);
  return (
    Array.isArray(a) === Array.isArray(b) &&
    keys.length === Object.keys(right).length &&
    keys.every((key) => Object.hasOwn(right, key) && deepEqual(left[key], right[key]))
  );
}
