import type { ClaimValue, IssuerTerms } from '../auth/verify-token.ts';
import type { CacheRule } from '../cache/options.ts';
import type { ProblemOptions } from '../problem.ts';
import type { AccountQuota, TenantQuota } from '../quota/quota-store.ts';
import type { Pattern } from '../routing/pattern.ts';
import { Secret } from '../secret.ts';
import type { UpstreamRules } from '../upstream/upstreams.ts';

/**
 * The configuration as the program reads it: validated, with defaults, with units in the names. schema.ts has the YAML
 * shape, and build.ts turns one into the other.
 */
export interface Settings {
  readonly listen: {
    readonly traffic: { readonly host: string; readonly port: number; readonly tls: TlsSettings | null };
    readonly admin: {
      readonly host: string;
      readonly port: number;
      /** An `operate` token named `admin`. */
      readonly token: Secret | null;
      /** Without any token, and without `token`, none is needed. */
      readonly tokens: readonly AdminTokenSettings[];
      /** The name of this deployment, for people; '' without one. */
      readonly name: string;
      /** Without a slash at its end; null: the page links to no runbook. */
      readonly runbookBaseUrl: string | null;
      readonly tls: TlsSettings | null;
    };
    /** CIDRs whose X-Forwarded-For and X-Forwarded-Proto count. */
    readonly trustedProxies: readonly string[];
  };
  /** Null: embedded state, this process alone. */
  readonly redis: RedisSettings | null;
  /** Where embedded state keeps the counts of budgets; null: nowhere. */
  readonly stateDir: string | null;
  readonly accounts: ReadonlyMap<string, AccountSettings>;
  readonly upstreams: ReadonlyMap<string, UpstreamSettings>;
  /** First match wins. */
  readonly routes: readonly RouteSettings[];
  readonly cache: CacheSettings;
  /** For writes with an Idempotency-Key. */
  readonly idempotency: { readonly ttlMs: number; readonly maxResponseBytes: number; readonly memoryBytes: number };
  readonly limits: {
    readonly bodyBytes: number;
    /** Smaller bodies are read before they are sent, so that they can be sent again after a 401. */
    readonly bufferedBodyBytes: number;
    /** Memory for all bodies of this process. */
    readonly bufferedTotalBytes: number;
    readonly headersBytes: number;
    /** Failed authentications from one address in 60 s. */
    readonly failedAuth: number;
    /** All requests of one tenant in a second. */
    readonly requestsPerSecond: number;
    readonly headersTimeoutMs: number;
    /** A response or upload without progress for this long is cut. */
    readonly stallTimeoutMs: number;
    readonly idleTimeoutMs: number;
  };
  readonly drain: { readonly delayMs: number; readonly timeoutMs: number };
  readonly reload: { readonly watch: boolean; readonly pollMs: number };
  readonly tracing: TracingSettings;
  /** `access` null: the lines that the level admits. */
  readonly log: { readonly level: LogLevel; readonly access: AccessLog | null };
  readonly problems: ProblemOptions;
  readonly identity: { readonly issuers: ReadonlyMap<string, IssuerSettings> };
  readonly tenants: ReadonlyMap<string, TenantSettings>;
  /** All secrets of the configuration, for redaction by value. */
  readonly secrets: readonly Secret[];
  /** Short digest of the files' content; changes when they do. No secret can be derived from it. */
  readonly revision: string;
}

export interface AdminTokenSettings {
  readonly id: string;
  readonly token: Secret;
  readonly role: 'metrics' | 'read' | 'operate';
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

export interface TracingSettings {
  /** Null: there are no spans. */
  readonly exporter: {
    readonly endpoint: string;
    readonly headers: ReadonlyMap<string, Secret>;
    /** 0 to 1; a share of the requests whose caller has not decided. */
    readonly sample: number;
    readonly serviceName: string;
  } | null;
  /** The upstream receives trace headers: the gateway's span with an exporter, the caller's headers without. */
  readonly propagate: boolean;
}

export interface RedisSettings {
  readonly servers:
    | { readonly kind: 'alone'; readonly host: string; readonly port: number; readonly db: number }
    | { readonly kind: 'sentinel'; readonly sentinels: readonly HostAndPort[]; readonly name: string }
    | { readonly kind: 'cluster'; readonly nodes: readonly HostAndPort[] };
  readonly username: string | null;
  readonly password: Secret | null;
  readonly sentinelPassword: Secret | null;
  /** Null: no TLS. */
  readonly tls: {
    readonly ca: string | null;
    readonly cert: string | null;
    readonly key: Secret | null;
    readonly servername: string | null;
  } | null;
  readonly prefix: string;
  readonly onOutage: 'local' | 'closed';
  /** Deadline of every command. */
  readonly timeoutMs: number;
  /** How long the other replicas leave a silent replica its share. */
  readonly replicaGraceMs: number;
}

export interface HostAndPort {
  readonly host: string;
  readonly port: number;
}

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

export type AccessLog = 'all' | 'errors' | 'off';

export interface AccountSettings {
  readonly id: string;
  readonly quota: AccountQuota;
  /** In order of preference; never empty. */
  readonly credentials: readonly CredentialSettings[];
}

export type CredentialSettings =
  | { readonly kind: 'apiKey'; readonly id: string; readonly apiKey: Secret }
  | FixedCredentialSettings
  | {
      readonly kind: 'login';
      readonly id: string;
      readonly url: string;
      readonly username: string;
      readonly password: Secret;
      /** Name of the JSON field that carries the username: `username`, or `email` for the older form. */
      readonly usernameField: string;
    };

/** A secret in a header or query parameter of any name. */
export interface FixedCredentialSettings {
  readonly kind: 'header' | 'query';
  readonly id: string;
  readonly name: string;
  readonly value: Secret;
}

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

export interface RouteSettings {
  readonly match: Pattern;
  readonly upstream: string;
  /** Rewrite links on an upstream origin to the gateway's base, in bodies and Location. */
  readonly rewriteLinks: boolean;
  /** The beginning of the path at the upstream, in place of the literal beginning of the match; null: the path as it is. */
  readonly rewrite: string | null;
  /** Id of the only credential that is used; null: any of the upstream's account. */
  readonly credential: string | null;
}

export interface CacheSettings {
  readonly memoryBytes: number;
  readonly maxEntryBytes: number;
  /** Responses are stored in Redis too. */
  readonly shared: boolean;
  /** Longest use of a response while invalidations by other replicas cannot arrive. */
  readonly maxDisconnectedAgeMs: number;
  /** First match wins. */
  readonly rules: readonly CacheRule[];
  readonly invalidate: readonly { readonly after: Pattern; readonly drop: readonly string[] }[];
}

export interface TenantSettings {
  readonly id: string;
  /** Without duplicates, and never empty. */
  readonly accounts: readonly string[];
  readonly disabled: boolean;
  readonly keys: readonly TenantKeySettings[];
  readonly identities: readonly IdentitySettings[];
  /** Null: all but the denied set. */
  readonly allow: readonly Pattern[] | null;
  /** It holds in each account on its own: see tenant-accounts.ts. Null: as the account has it. */
  readonly quota: Omit<TenantQuota, 'rate' | 'burst'> & { readonly rate: number | null; readonly burst: number | null };
  /** Requests in flight at each upstream; null: half of what the upstream allows. */
  readonly maxInFlight: number | null;
  /** `observe`: its rate, budgets and `allow` are evaluated and counted, not enforced. */
  readonly enforcement: 'enforce' | 'observe';
}

export interface TenantKeySettings {
  readonly id: string;
  /** Lower-case hex of the SHA-256 of the key. */
  readonly sha256: string;
  readonly expiresAtMs: number | null;
  /** Narrows the tenant's permissions; null: all of them. */
  readonly allow: readonly Pattern[] | null;
  /** Addresses of callers that may use it; null: any. */
  readonly cidrs: readonly string[] | null;
}

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

/** A caller without a key. */
export type IdentitySettings = Pick<TenantKeySettings, 'id' | 'allow' | 'cidrs'> &
  (TokenIdentitySettings | { readonly kind: 'certificate'; readonly uri: string });

interface TokenIdentitySettings {
  readonly kind: 'token';
  /** Name of the issuer. */
  readonly issuer: string;
  /** A token must have all of them; the subject is `sub`. */
  readonly claims: ReadonlyMap<string, ClaimValue>;
}

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
