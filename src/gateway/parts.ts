import type { MemoryCache } from '../adapters/memory/cache.ts';
import type { SharedLogins } from '../adapters/redis/logins.ts';
import type { FloodGuard, GuessGuard } from '../auth/guards.ts';
import type { KeyRing } from '../auth/keys.ts';
import type { CacheState } from '../cache/options.ts';
import type { Clock } from '../clock.ts';
import type { Settings } from '../config/model.ts';
import type { Ledger } from '../quota/ledger.ts';
import type { WaitingRoom } from '../quota/waiting.ts';
import type { ReplayStore } from '../replay/store.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Redactor } from '../telemetry/redact.ts';
import type { CredentialPool } from '../upstream/credentials.ts';
import type { Sender } from '../upstream/sender.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import type { State } from './state.ts';

/** What holds state, connections or counts: opened once by the composition root, it lives through every reload. */
export interface Lasting {
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly redactor: Redactor;
  readonly state: State;
  readonly ledger: Ledger;
  readonly room: WaitingRoom;
  readonly sender: Sender;
  readonly upstreams: Upstreams;
  readonly guesses: GuessGuard;
  readonly floods: FloodGuard;
  readonly memory: MemoryCache;
  readonly cache: CacheState;
  readonly replays: ReplayStore;
  /** Null: nobody shares them. */
  readonly logins: SharedLogins | null;
}

/** What a gateway is made of: what lasts, and what follows from the settings in force. */
export interface Parts extends Lasting {
  readonly settings: Settings;
  readonly keys: KeyRing;
  readonly credentials: ReadonlyMap<string, CredentialPool>;
}
