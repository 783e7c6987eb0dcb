import type { BlockingLimit } from '../adapters/abuse-limits.ts';
import type { MemoryCache } from '../adapters/memory/cache.ts';
import type { FloodLimit, KeyStore, UnknownKeyLog } from '../auth/authenticate.ts';
import type { IdentityStore } from '../auth/identity-store.ts';
import type { KeyUses } from '../auth/key-use.ts';
import type { AddressRanges } from '../auth/tenant.ts';
import type { BodyMemory } from '../body-memory.ts';
import type { Clock, Random } from '../clock.ts';
import type { Settings } from '../config/settings.ts';
import type { AdmissionQueue } from '../quota/admission-queue.ts';
import type { Budget } from '../quota/budgets.ts';
import type { QuotaStore } from '../quota/quota-store.ts';
import type { AddressWarnings } from '../server/line-limit.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Redactor } from '../telemetry/redact.ts';
import type { CredentialPools } from '../upstream/credentials/pool.ts';
import type { Transport } from '../upstream/transport.ts';
import type { UpstreamState, Upstreams } from '../upstream/upstreams.ts';
import type { CacheBackend } from './cache-backend.ts';
import type { QuotaBackend } from './quota-backend.ts';

/** The parts that hold state, connections or counts. The composition root opens them once; reloads keep them. */
export interface SharedDependencies {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly redactor: Redactor;
  readonly state: QuotaBackend;
  readonly quotaStore: QuotaStore;
  readonly admissionQueue: AdmissionQueue;
  /** Predicts for observed tenants. */
  readonly observedQueue: AdmissionQueue;
  readonly transport: Transport;
  readonly upstreams: Upstreams;
  readonly failedAuthLimit: BlockingLimit;
  readonly addressWarnings: AddressWarnings;
  readonly floodLimit: FloodLimit;
  readonly keyUses: KeyUses;
  readonly unknownKey: UnknownKeyLog;
  readonly memory: MemoryCache;
  readonly bodyMemory: BodyMemory;
  readonly cache: CacheBackend;
}

/** Everything a pipeline is built from: the shared dependencies, and the parts that the settings in force define. */
export interface Dependencies extends SharedDependencies {
  readonly settings: Settings;
  readonly trustedProxies: AddressRanges;
  readonly keys: KeyStore;
  readonly identities: IdentityStore;
  readonly credentials: CredentialPools;
  readonly upstreamStates: ReadonlyMap<string, UpstreamState>;
  readonly budgets: (account: string) => ReadonlyMap<string, Budget> | undefined;
}
