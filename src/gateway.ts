import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createMemoryCache } from './adapters/memory/cache.ts';
import { createMemoryLedger } from './adapters/memory/ledger.ts';
import { createUndiciSender } from './adapters/undici/sender.ts';
import { type Authenticated, authenticate } from './auth/authenticate.ts';
import { type Authorised, authorise } from './auth/authorise.ts';
import { createKeyRing, type KeyEntry, type KeyRing } from './auth/keys.ts';
import { cacheAnswers } from './cache/cache.ts';
import { createDrops } from './cache/drops.ts';
import { type Clock, systemClock } from './clock.ts';
import type { AccountSettings, Settings } from './config/model.ts';
import { redactedSettings } from './config/redacted.ts';
import { createAdminApp, createAdminServer } from './edge/admin.ts';
import { clientAddressOf } from './edge/client-address.ts';
import { closeServer, listen } from './edge/ports.ts';
import { createTraffic, type TrafficObserver } from './edge/traffic.ts';
import { whoami } from './edge/whoami.ts';
import { type Handler, type Received, refuse } from './exchange.ts';
import { announceQuota } from './quota/fields.ts';
import type { Ledger, LedgerPlan } from './quota/ledger.ts';
import { limitByQuota, refuseQuota, retryAfterSeconds } from './quota/quota.ts';
import { readUpstreamLimit } from './quota/upstream-limit.ts';
import { createWaitingRoom, type WaitingRoom } from './quota/waiting.ts';
import { findRoute, type Route, type Routed } from './routing/route.ts';
import { createLogger, type Logger } from './telemetry/logger.ts';
import { createMetrics, type Metrics } from './telemetry/metrics.ts';
import { createRedactor, type Redactor } from './telemetry/redact.ts';
import { apiKeyCredential, type CredentialPool, createCredentialPool } from './upstream/credentials.ts';
import { forward } from './upstream/forward.ts';
import { loginCredential } from './upstream/login.ts';
import { callLogin } from './upstream/login-call.ts';
import { readSmallBodies, type Uploaded } from './upstream/payload.ts';
import { leadLinksBack } from './upstream/rewrite.ts';
import type { Sender } from './upstream/sender.ts';

export interface GatewayOptions {
  readonly settings: Settings;
  readonly clock?: Clock;
  readonly random?: () => number;
  /** Where log lines go; default: standard output. */
  readonly logTo?: { write(line: string): void };
}

export type Started =
  | { readonly ok: true; readonly traffic: AddressInfo; readonly admin: AddressInfo }
  | { readonly ok: false; readonly reason: string };

export interface Gateway {
  readonly log: Logger;
  /** Binds both ports. */
  start(): Promise<Started>;
  /** Not ready at once; with the delay, goes on accepting for a while; finishes what is in flight; then closes. */
  drain(how: { readonly signal: string; readonly withDelay: boolean }): Promise<void>;
  /** Ends at once, whatever is in flight. */
  close(): Promise<void>;
}

/** How long after the gateway gave up on a request it may still arrive: what the kernel and a proxy may hold. */
const LATE_ARRIVAL_MS = 15_000;

/** The rules of a cache without room: nothing is stored, and Cache-Status says so. */
const NEVER_STORE: Settings['cache']['rules'] = [
  { match: { text: '* /**', method: null, segments: ['**'] }, store: false },
];

interface Parts {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly redactor: Redactor;
  readonly ledger: Ledger;
  readonly room: WaitingRoom;
  readonly sender: Sender;
  readonly keys: KeyRing;
  readonly credentials: ReadonlyMap<string, CredentialPool>;
}

/** The composition root: opens what the gateway stands on, draws the stack, and closes it all again. */
export function createGateway(options: GatewayOptions): Gateway {
  const { settings } = options;
  const clock = options.clock ?? systemClock;
  const random = options.random ?? Math.random;
  const version = packageVersion();
  const redactor = createRedactor();
  for (const secret of settings.secrets) redactor.add(secret.reveal());
  const log = createLogger({
    level: settings.log.level,
    version,
    redactor,
    ...(options.logTo && { destination: options.logTo }),
  });

  const metrics: Metrics = createMetrics({
    version,
    sources: {
      accounts: () =>
        [...settings.accounts.keys()].map((id) => ({ id, ...ledger.view(id), waiting: room.waiting(id) })),
      cache: () => store.size(),
      keyExpiries: () => keyExpiriesOf(settings),
    },
  });
  const ledger = createMemoryLedger({ clock, plan: planOf(settings), meter: metrics, log });
  const room = createWaitingRoom({ ledger, clock });
  const store = createMemoryCache({ maxBytes: settings.cache.memoryBytes, clock, meter: metrics });
  const sender = createUndiciSender({ clock });
  const base = { settings, clock, random, log, metrics, redactor, ledger, room, sender, keys: keyRingOf(settings) };
  const parts: Parts = { ...base, credentials: credentialPools(base) };
  const startedAt = clock.now();
  metrics.configLoaded('ok', startedAt / 1000);

  const proxy = drawStack(parts, store);
  const own: Handler<Received> = authenticate<Received>(parts)(
    announceQuota<Received & Authenticated>(parts)(whoami(parts)),
  );
  const traffic = createTraffic({
    clock,
    log,
    limits: settings.limits,
    bodyBytes: settings.limits.bodyBytes,
    clientAddress: clientAddressOf(settings.listen.trustedProxies),
    handler: () => proxy,
    whoami: () => own,
    observer: observerOf(parts),
  });

  let draining = false;
  const admin = createAdminServer(
    createAdminApp({
      token: settings.listen.admin.token,
      readiness: () => ({ ready: !draining, reasons: draining ? ['draining'] : [] }),
      metrics: async () => ({ contentType: metrics.contentType, text: await metrics.render() }),
      status: () => ({
        ...statusOf(parts),
        version,
        upSeconds: Math.round((clock.now() - startedAt) / 1000),
        draining,
        inFlight: traffic.inFlight(),
        cache: store.size(),
      }),
      config: () => redactedSettings(settings),
      log,
    }),
  );

  const close = async (): Promise<void> => {
    traffic.server.closeAllConnections();
    admin.closeAllConnections();
    await Promise.all([closeServer(traffic.server), closeServer(admin)]);
    for (const pool of parts.credentials.values()) pool.close();
    await sender.close();
    log.flush();
  };

  return {
    log,
    async start() {
      const onTraffic = await listen(traffic.server, settings.listen.traffic, 'traffic');
      if (!onTraffic.ok) return onTraffic;
      const onAdmin = await listen(admin, settings.listen.admin, 'admin');
      if (!onAdmin.ok) return onAdmin;
      const { revision, tenants, accounts } = settings;
      log.info(
        {
          traffic: onTraffic.address,
          admin: onAdmin.address,
          revision,
          tenants: tenants.size,
          accounts: accounts.size,
        },
        'listening',
      );
      return { ok: true, traffic: onTraffic.address, admin: onAdmin.address };
    },
    async drain({ signal, withDelay }) {
      draining = true;
      traffic.closeConnections();
      log.info({ signal, inFlight: traffic.inFlight() }, 'draining');
      if (withDelay) await elapsed(clock, settings.drain.delayMs);
      // Nobody waits for a slot of a replica that is going: another one may have it at once.
      room.close();
      const closed = closeServer(traffic.server);
      traffic.server.closeIdleConnections();
      const inTime = await Promise.race([
        Promise.all([closed, traffic.idle()]).then(() => true),
        elapsed(clock, settings.drain.timeoutMs).then(() => false),
      ]);
      const { log: logger } = parts;
      if (inTime) logger.info({}, 'drained');
      else logger.warn({ inFlight: traffic.inFlight() }, 'drain timed out: what is in flight is cut off');
      await close();
    },
    close,
  };
}

/**
 * The way of a request, from the outside in. The order is the design:
 *
 *     findRoute         one reading of the path, or 400: everything below decides by it
 *     authenticate      whose key
 *     announceQuota     the tenant's limit fields, on whatever comes from further in
 *     authorise         may this tenant call this; before the cache, or a withdrawn permission would still read
 *     leadLinksBack     above the cache, so that what is stored is the upstream's and no caller's Host gets into it
 *     cacheAnswers      before the quota: what is in memory costs nothing
 *     readSmallBodies   before the quota: a slow upload holds no slot
 *     limitByQuota      at the moment of sending, after a wait in order if there is no slot
 *     forward           credential in, send, learn from the answer
 */
function drawStack(parts: Parts, store: ReturnType<typeof createMemoryCache>): Handler<Received> {
  const { settings, clock, random, metrics, log, ledger } = parts;
  type Known = Routed & Authenticated;
  type Allowed = Known & Authorised;

  const send = forward({
    sender: parts.sender,
    credentials: parts.credentials,
    limitOf: (account, status, headers) =>
      readUpstreamLimit({
        status,
        headers,
        now: clock.now(),
        malformed: (field) => metrics.upstreamFieldMalformed(account, field),
      }),
    refuseQuota: (decision) => refuseQuota(decision, random),
    refuseHeld: (account) =>
      refuse('upstream_cooldown', {
        retryAfterSeconds: retryAfterSeconds(ledger.view(account).heldForMs, random),
        internal: 'upstream answered 429',
      }),
    lateArrivalMs: LATE_ARRIVAL_MS,
    clock,
    meter: metrics,
    log,
  });
  const quota = limitByQuota<Allowed & Uploaded>({
    ledger,
    room: parts.room,
    maxWaitMs: (tenant) => settings.tenants.get(tenant)?.quota.maxWaitMs ?? 0,
    meter: metrics,
    clock,
    random,
    lateArrivalMs: LATE_ARRIVAL_MS,
  })(send);
  const upload = readSmallBodies<Allowed>(settings.limits)(quota);
  const cache = cacheAnswers<Allowed>({
    ...settings.cache,
    rules: settings.cache.memoryBytes > 0 ? settings.cache.rules : NEVER_STORE,
    store,
    drops: createDrops(),
    clock,
    meter: metrics,
  })(upload);
  const links = leadLinksBack<Allowed>({ origins: originsOf(settings) })(cache);
  const permission = authorise<Known>()(links);
  const fields = announceQuota<Known>(parts)(permission);
  const key = authenticate<Routed>(parts)(fields);
  return findRoute(routesOf(settings))(key);
}

function routesOf(settings: Settings): Route[] {
  return settings.routes.map(({ match, upstream: id, rewriteLinks }) => {
    const upstream = settings.upstreams.get(id);
    if (upstream === undefined) throw new Error(`no upstream ${id}`);
    return { match, template: match.text.slice(match.text.indexOf(' ') + 1), upstream, rewriteLinks };
  });
}

function originsOf(settings: Settings): string[] {
  return [...new Set([...settings.upstreams.values()].map((upstream) => upstream.origin))];
}

function keyRingOf(settings: Settings): KeyRing {
  const entries = new Map<string, KeyEntry>();
  for (const { id, account, disabled, allow, keys } of settings.tenants.values()) {
    const tenant = { id, account, disabled, allow };
    for (const key of keys) entries.set(key.sha256, { id: key.id, expiresAtMs: key.expiresAtMs, tenant });
  }
  return createKeyRing(entries);
}

function planOf(settings: Settings): LedgerPlan {
  const accounts = new Map([...settings.accounts].map(([id, account]) => [id, account.quota]));
  const tenants = new Map([...accounts.keys()].map((id) => [id, new Map()]));
  for (const tenant of settings.tenants.values()) tenants.get(tenant.account)?.set(tenant.id, tenant.quota);
  return { accounts, tenants };
}

type Base = Omit<Parts, 'credentials'>;

function credentialPools(base: Base): Map<string, CredentialPool> {
  return new Map([...base.settings.accounts].map(([id, account]) => [id, credentialPool(base, account)]));
}

function credentialPool(
  { clock, log, metrics, redactor, ledger, sender }: Base,
  account: AccountSettings,
): CredentialPool {
  const credentials = account.credentials.map((credential) => {
    if (credential.kind === 'apiKey') return apiKeyCredential({ ...credential, clock, log });
    return loginCredential({
      id: credential.id,
      account: account.id,
      clock,
      log,
      meter: metrics,
      login: () =>
        callLogin({
          ...credential,
          sender,
          clock,
          charge: () => ledger.admit({ account: account.id, tenant: null }),
          lateArrivalMs: LATE_ARRIVAL_MS,
        }),
      onToken: (token) => redactor.addPassing(token),
    });
  });
  return createCredentialPool(credentials);
}

function observerOf({ metrics, log }: Parts): TrafficObserver {
  return {
    started: () => metrics.requestStarted(),
    finished: ({ exchange, status, code, bytes, aborted, durationMs, internal }) => {
      // Field by field: spreading the notes into both was a tenth of the time of a cached answer.
      const { method, target, notes } = exchange;
      const { tenant, route, cache } = notes;
      metrics.requestFinished({ tenant, route, method, status, cache, code, seconds: durationMs / 1000 });
      const mark = target.indexOf('?');
      log.access({
        requestId: exchange.requestId,
        method,
        route,
        path: mark === -1 ? target : target.slice(0, mark),
        status,
        tenant,
        key: notes.key,
        code,
        cache,
        waitMs: notes.waitMs,
        upstreamMs: notes.upstreamMs,
        upstreamStatus: notes.upstreamStatus,
        attempts: notes.attempts,
        durationMs,
        bytes,
        client: exchange.clientAddress,
        aborted,
        internal,
      });
    },
  };
}

function statusOf({ settings, ledger }: Parts): Record<string, unknown> {
  const accounts = Object.fromEntries(
    [...settings.accounts.keys()].map((id) => [
      id,
      {
        ...ledger.view(id),
        credentials: settings.accounts
          .get(id)
          ?.credentials.map((credential) => ({ id: credential.id, kind: credential.kind })),
      },
    ]),
  );
  const tenants = Object.fromEntries(
    [...settings.tenants.values()].map(({ id, account, disabled }) => [
      id,
      { account, disabled, quota: ledger.peek(account, id) },
    ]),
  );
  return { accounts, tenants, state: { kind: 'embedded', up: true }, revision: settings.revision };
}

function keyExpiriesOf(settings: Settings) {
  return [...settings.tenants.values()].flatMap((tenant) =>
    tenant.keys.flatMap(({ id, expiresAtMs }) =>
      expiresAtMs === null ? [] : [{ tenant: tenant.id, key: id, epochSeconds: expiresAtMs / 1000 }],
    ),
  );
}

function elapsed(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => {
    clock.after(ms, resolve);
  });
}

function packageVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  return String((JSON.parse(text) as { version: unknown }).version);
}
