import { deepEqual } from '../config/deep-equal.ts';
import type { Settings } from '../config/model.ts';
import type { LedgerPlan } from '../quota/ledger.ts';
import { type ConfigSnapshot, createSnapshot } from './config-snapshot.ts';
import type { AccountCredential } from './credentials.ts';
import type { SharedDependencies } from './dependencies.ts';
import { planOf } from './derive.ts';

export interface ConfigSnapshots {
  /** The one in force. */
  current(): ConfigSnapshot;
  /** Puts settings in force for all requests from now on. If it throws, nothing has changed. */
  replace(settings: Settings): void;
  /** Resolves when no outcome is missing any more, also of writes that are carried through without their caller. */
  idle(): Promise<void>;
  /** Ends the credentials of all. */
  close(): void;
}

/**
 * The configuration in force, and older ones as long as requests go by them. Tenants, accounts and credentials that a
 * reload took away are let go when the last request is done that may still ask for them.
 */
export function createConfigSnapshots(lasting: SharedDependencies, first: Settings): ConfigSnapshots {
  const { ledger, metrics, redactor, log, room, upstreams } = lasting;
  let plan: LedgerPlan = planOf(first);
  const draw = (settings: Settings, before: readonly AccountCredential[]): ConfigSnapshot =>
    createSnapshot(lasting, settings, before, () => {
      letGo();
      if (!inUse()) for (const resolve of whenIdle.splice(0)) resolve();
    });
  const whenIdle: (() => void)[] = [];
  const inUse = (): boolean => [current, ...older].some((each) => each.inUse() > 0);
  let current = draw(first, []);
  let older: readonly ConfigSnapshot[] = [];

  const configure = (next: LedgerPlan): void => {
    if (deepEqual(next, plan)) return;
    plan = next;
    ledger.configure(next);
    // Who waits was told a time that may no longer hold.
    room.reconsider();
  };
  const letGo = (): void => {
    if (older.length === 0) return;
    const done = older.filter((each) => each.inUse() === 0);
    if (done.length === 0) return;
    older = older.filter((each) => !done.includes(each));
    const kept = new Set([current, ...older].flatMap(({ credentials }) => credentials));
    for (const each of new Set(done.flatMap(({ credentials }) => credentials))) {
      if (kept.has(each)) continue;
      each.credential.close();
      if (!nameIsUsed(current, each)) metrics.credentialGone(each.account, each.settings.id);
    }
    configure(planOf(current.dependencies.settings, settingsOf(older)));
  };

  return {
    current: () => current,
    replace(settings) {
      // First of all: what is drawn may already log.
      for (const secret of settings.secrets) redactor.add(secret.reveal());
      const next = draw(settings, current.credentials);
      const stillUsed = [...older, current];
      // The ledger comes first: nobody may ask it for a tenant it does not know.
      configure(planOf(settings, settingsOf(stillUsed)));
      upstreams.configure(settings.upstreams);
      older = stillUsed;
      current = next;
      // What is not sent yet is not sent any more for a tenant that may not call.
      room.dismiss();
      log.setLevel(settings.log.level);
      metrics.keepTenants(new Set(settings.tenants.keys()));
      letGo();
    },
    idle: () => (inUse() ? new Promise((resolve) => whenIdle.push(resolve)) : Promise.resolve()),
    close() {
      for (const { credentials } of [current, ...older]) for (const { credential } of credentials) credential.close();
    },
  };
}

function settingsOf(generations: readonly ConfigSnapshot[]): Settings[] {
  return generations.map(({ dependencies: parts }) => parts.settings);
}

function nameIsUsed({ credentials }: ConfigSnapshot, gone: AccountCredential): boolean {
  return credentials.some(({ account, settings }) => account === gone.account && settings.id === gone.settings.id);
}
