import type { AccountQuota, TenantQuota } from '../quota/quota-store.ts';
import type { Pattern } from '../routing/pattern.ts';
import type { Secret } from '../secret.ts';
import type { UpstreamRules } from '../upstream/upstreams.ts';

/**
 * The configuration as the program reads it: loaded, validated, defaults filled in, units in the names.
 * The YAML shape is in schema.ts; load.ts turns one into the other.
 */
export interface Settings {
  readonly listen: {
    readonly traffic: { readonly host: string; readonly port: number; readonly tls: TlsSettings | null };
    readonly admin: {
      readonly host: string;
      readonly port: number;
      /** Bearer on all but /livez and /readyz. */
      readonly token: Secret | null;
      readonly tls: TlsSettings | null;
    };
    /** CIDRs whose X-Forwarded-For and X-Forwarded-Proto count. */
    readonly trustedProxies: readonly string[];
  };
  /** Null: embedded state, this process alone. */
  readonly redis: RedisSettings | null;
  readonly accounts: ReadonlyMap<string, AccountSettings>;
  readonly upstreams: ReadonlyMap<string, UpstreamSettings>;
  /** First match wins. */
  readonly routes: readonly RouteSettings[];
  readonly cache: CacheSettings;
  /** Of writes with an Idempotency-Key. */
  readonly idempotency: { readonly ttlMs: number; readonly maxResponseBytes: number; readonly memoryBytes: number };
  readonly limits: {
    readonly bodyBytes: number;
    /** Bodies up to this size are read before they are sent, so that they can be sent again after a 401. */
    readonly bufferedBodyBytes: number;
    readonly headersBytes: number;
    /** Keys that open nothing, from one address in 60 s. */
    readonly failedAuth: number;
    /** Requests of one tenant in a second, of all kinds. */
    readonly requestsPerSecond: number;
    readonly headersTimeoutMs: number;
    readonly idleTimeoutMs: number;
  };
  readonly drain: { readonly delayMs: number; readonly timeoutMs: number };
  readonly reload: { readonly watch: boolean; readonly pollMs: number };
  readonly tracing: TracingSettings;
  readonly log: { readonly level: LogLevel };
  readonly tenants: ReadonlyMap<string, TenantSettings>;
  /** Every secret the load has seen, for redaction by value. */
  readonly secrets: readonly Secret[];
  /** Short digest of the files' content; changes when they do. No secret can be derived from it. */
  readonly revision: string;
}

/** Of a port; what is read from files is read already, and belongs together. */
export interface TlsSettings {
  /** PEM: the port's own, then those that vouch for it. */
  readonly cert: string;
  /** PEM. */
  readonly key: Secret;
  readonly clientAuth: 'none' | 'optional' | 'required';
  /** PEM; null where nobody is asked for a certificate. */
  readonly clientCa: string | null;
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3';
  readonly certificate: CertificateFacts;
}

/** What a certificate says of itself. */
export interface CertificateFacts {
  /** Hosts it is for, as in `DNS:gate.example.test`; the first of them. */
  readonly names: readonly string[];
  readonly notBeforeMs: number;
  /** Of the one in its chain that ends first. */
  readonly notAfterMs: number;
  /** SHA-256, as browsers and openssl show it. */
  readonly fingerprint: string;
}

export interface TracingSettings {
  /** Null: there are no spans. */
  readonly exporter: {
    readonly endpoint: string;
    readonly headers: ReadonlyMap<string, Secret>;
    /** 0 to 1, of requests whose caller has not decided. */
    readonly sample: number;
    readonly serviceName: string;
  } | null;
  /** The upstream hears of the trace: of our span where there is an exporter, else what the caller sent. */
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
  /** How long a silent replica's share is left to it. */
  readonly replicaGraceMs: number;
}

export interface HostAndPort {
  readonly host: string;
  readonly port: number;
}

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

export interface AccountSettings {
  readonly id: string;
  readonly quota: AccountQuota;
  /** In order of preference; never empty. */
  readonly credentials: readonly CredentialSettings[];
}

export type CredentialSettings =
  | { readonly kind: 'apiKey'; readonly id: string; readonly apiKey: Secret }
  | {
      readonly kind: 'login';
      readonly id: string;
      readonly url: string;
      readonly username: string;
      readonly password: Secret;
      /** Name of the JSON field that carries the username: `username`, or `email` for the older form. */
      readonly usernameField: string;
    };

export interface UpstreamSettings extends UpstreamRules {
  readonly id: string;
  readonly account: string;
  /** `https://host[:port]`, no path. */
  readonly origin: string;
  /** From sending to the headers of the answer, and between two chunks of a body. */
  readonly timeoutMs: number;
}

export interface RouteSettings {
  readonly match: Pattern;
  readonly upstream: string;
  /** Rewrite links on an upstream origin to the gateway's base, in bodies and Location. */
  readonly rewriteLinks: boolean;
}

export interface CacheSettings {
  readonly memoryBytes: number;
  readonly maxEntryBytes: number;
  /** Answers are kept in Redis too. */
  readonly shared: boolean;
  /** How long an answer is served while writes through other replicas are unheard of. */
  readonly maxDisconnectedAgeMs: number;
  /** First match wins. */
  readonly rules: readonly CacheRule[];
  readonly invalidate: readonly { readonly after: Pattern; readonly drop: readonly string[] }[];
}

export type CacheRule =
  | { readonly match: Pattern; readonly store: false }
  | {
      readonly match: Pattern;
      readonly store: true;
      readonly ttlMs: number;
      readonly staleWhileRevalidateMs: number;
      readonly staleIfErrorMs: number;
      readonly staleIfThrottledMs: number;
      /** Lower case. */
      readonly vary: readonly string[];
      readonly tags: readonly string[];
    };

export interface TenantSettings {
  readonly id: string;
  readonly account: string;
  readonly disabled: boolean;
  readonly keys: readonly TenantKeySettings[];
  /** Null: all but the denied set. */
  readonly allow: readonly Pattern[] | null;
  readonly quota: TenantQuota;
}

export interface TenantKeySettings {
  readonly id: string;
  /** Lower-case hex of the SHA-256 of the key. */
  readonly sha256: string;
  readonly expiresAtMs: number | null;
}
