import type { FloodGuard, GuessGuard } from '../auth/guards.ts';
import type { KeyRing } from '../auth/keys.ts';
import type { Clock } from '../clock.ts';
import type { Settings } from '../config/model.ts';
import type { Ledger } from '../quota/ledger.ts';
import type { WaitingRoom } from '../quota/waiting.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Redactor } from '../telemetry/redact.ts';
import type { CredentialPool } from '../upstream/credentials.ts';
import type { Sender } from '../upstream/sender.ts';
import type { State } from './state.ts';

/** What a gateway is made of; opened by the composition root, handed to whoever builds on it. */
export interface Parts {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly redactor: Redactor;
  readonly state: State;
  readonly ledger: Ledger;
  readonly room: WaitingRoom;
  readonly sender: Sender;
  readonly keys: KeyRing;
  readonly guesses: GuessGuard;
  readonly floods: FloodGuard;
  readonly credentials: ReadonlyMap<string, CredentialPool>;
}
