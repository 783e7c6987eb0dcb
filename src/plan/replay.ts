import { digestOf } from '../auth/tenant.ts';
import type { Settings, TenantSettings } from '../config/settings.ts';
import { AccessRecord, DisconnectSignal, type Handler, type RequestContext } from '../context.ts';
import { createConfigSnapshots } from '../gateway/config-snapshot.ts';
import { openDependencies } from '../gateway/open-dependencies.ts';
import { planOf } from '../gateway/quota-backend.ts';
import type { ProblemCode } from '../problem.ts';
import { BudgetCalendar } from '../quota/budgets.ts';
import { Secret } from '../secret.ts';
import type { Transport } from '../upstream/transport.ts';
import type { RecordedRequest } from './access-line.ts';
import { REORDER_MS } from './log-files.ts';
import { createModelUpstream, ResponseModel, TERMS_HEADER } from './model-upstream.ts';
import { type Comparison, SideUsage } from './usage.ts';
import { VirtualClock } from './virtual-clock.ts';

/** Requests whose arrival waits for the lines before it. */
const MAX_PENDING = 50_000;

/** Rejections for reasons that no line has, such as the body. They are repeated as they were. */
const REPEATED: ReadonlySet<ProblemCode> = new Set([
  ...(['bad_request', 'path_not_canonical', 'body_too_large', 'upload_timeout'] as const),
  ...(['idempotency_conflict', 'idempotency_mismatch', 'only_if_cached', 'flood'] as const),
]);

export interface PlanReport {
  /** Dates of the first arrival and the last end. */
  readonly from: string;
  readonly to: string;
  readonly tenants: Readonly<Record<string, Comparison>>;
  readonly accounts: Readonly<Record<string, Comparison>>;
}

/**
 * Sends the requests of the past through the pipeline of the gateway, at the times at which they arrived, to an upstream that takes
 * as long as it took. Time is virtual: a day takes seconds.
 *
 * @param requests in the order of their ends
 * @param onProgress called now and then
 * @returns null without any request of a tenant
 */
export async function replay(
  settings: Settings,
  requests: AsyncIterable<RecordedRequest>,
  onProgress: (replayed: number) => void = () => {},
): Promise<PlanReport | null> {
  let run: Replay | null = null;
  let count = 0;
  for await (const request of requests) {
    // Rejected before its tenant was known: no limit decides about it.
    if (request.tenant === '') continue;
    run ??= new Replay(settings, request.endedAt - REORDER_MS);
    await run.add(request);
    count += 1;
    if (count % 1_000 === 0) onProgress(count);
  }
  onProgress(count);
  return run === null ? null : run.finish();
}

class Replay {
  readonly #settings: Settings;
  readonly #clock: VirtualClock;
  readonly #pipeline: Handler<RequestContext>;
  readonly #model = new ResponseModel();
  readonly #recorded: SideUsage;
  readonly #predicted: SideUsage;
  /** Not arrived yet, and arrived without a result. */
  #pending = 0;
  #active = 0;
  #from = Number.POSITIVE_INFINITY;
  #to = 0;

  constructor(settings: Settings, startsAt: number) {
    this.#settings = settings;
    this.#clock = new VirtualClock(startsAt);
    const calendar = new BudgetCalendar(this.#clock);
    const quotas = planOf(settings);
    this.#recorded = new SideUsage(quotas, calendar);
    this.#predicted = new SideUsage(quotas, calendar);
    const transport = createModelUpstream({
      clock: this.#clock,
      maxEntryBytes: settings.cache.maxEntryBytes,
      onSent: ({ tenant, account, method, path }) => this.#predicted.sent(tenant, account, method, path),
    });
    this.#pipeline = openPipeline(replaySettings(settings), this.#clock, transport);
  }

  async add(request: RecordedRequest): Promise<void> {
    this.#from = Math.min(this.#from, request.arrivedAt);
    this.#to = Math.max(this.#to, request.endedAt);
    this.#pending += 1;
    this.#clock.at(request.arrivedAt, () => {
      this.#pending -= 1;
      this.#active += 1;
      void this.#arrive(request).finally(() => {
        this.#active -= 1;
      });
    });
    await this.#clock.moveTo(request.endedAt - REORDER_MS);
    while (this.#pending > MAX_PENDING) await this.#clock.moveTo(this.#clock.nextDue);
  }

  async finish(): Promise<PlanReport> {
    while (this.#pending + this.#active > 0) await this.#clock.moveTo(this.#clock.nextDue);
    const [recorded, predicted] = [this.#recorded, this.#predicted];
    const accounts = new Set([...this.#settings.accounts.keys(), ...recorded.accounts, ...predicted.accounts]);
    const compare = (names: Iterable<string>, of: (side: SideUsage, name: string) => Comparison['recorded']) =>
      Object.fromEntries(
        [...names].sort().map((name) => [name, { recorded: of(recorded, name), predicted: of(predicted, name) }]),
      );
    return {
      from: new Date(this.#from).toISOString(),
      to: new Date(this.#to).toISOString(),
      tenants: compare(new Set([...recorded.tenants, ...predicted.tenants]), (side, name) => side.tenantReport(name)),
      accounts: compare(accounts, (side, name) => side.accountReport(name)),
    };
  }

  async #arrive(request: RecordedRequest): Promise<void> {
    const { tenant, code, waitMs, method, path, sent } = request;
    const outcome = { code, waitMs };
    let predicted = outcome;
    let account = request.account;
    // A replay of an idempotent write, or an endpoint of the gateway itself: free, whatever the limits are.
    const isFree = code === null && sent === 0 && request.cache === 'none';
    if (!isFree && !(code !== null && REPEATED.has(code))) {
      const disconnect = new DisconnectSignal();
      const context = this.#contextOf(request, disconnect);
      const result = await this.#pipeline(context);
      disconnect.end();
      predicted = { code: result.kind === 'rejection' ? result.code : null, waitMs: context.record.waitMs };
      account = context.record.account;
    }
    const recordedAccount = request.account || account;
    this.#recorded.finished(tenant, recordedAccount, outcome);
    this.#recorded.sent(tenant, recordedAccount, method, path, sent);
    this.#predicted.finished(tenant, account, predicted);
  }

  #contextOf(request: RecordedRequest, disconnect: DisconnectSignal): RequestContext {
    const { method, path, queryDigest, tenant, key, client, urgency, preferWaitMs, code, durationMs } = request;
    const headers: Record<string, string> = {
      'x-api-key': keyOf(this.#settings, tenant, key),
      [TERMS_HEADER]: this.#model.termsOf(request),
    };
    if (urgency !== null) headers['priority'] = `u=${urgency}`;
    if (preferWaitMs !== null) headers['prefer'] = `wait=${Math.round(preferWaitMs / 1000)}`;
    if (request.bypassedByRequest) headers['cache-control'] = 'no-store';
    if (code === 'client_closed') this.#clock.after(durationMs, () => disconnect.leave());
    return {
      requestId: 'plan',
      method,
      // The digest stands for the query: equal ones are one cache entry.
      target: queryDigest === '' ? path : `${path}?${queryDigest}`,
      headers,
      rawHeaders: Object.entries(headers).flat(),
      body: null,
      clientAddress: client,
      certificateUris: [],
      baseUrl: 'http://plan',
      receivedAt: this.#clock.now(),
      startedAt: this.#clock.monotonic(),
      disconnect,
      lifetime: disconnect,
      record: new AccessRecord(),
      trace: null,
    };
  }
}

/** The gateway as it serves, but for its sockets: the clock and the upstream are the replay's. */
function openPipeline(settings: Settings, clock: VirtualClock, transport: Transport): Handler<RequestContext> {
  const { shared } = openDependencies({
    ...{ settings, clock, version: 'plan', random: () => 0.5 },
    logTo: { write: () => {} },
    current: () => snapshots.current(),
  });
  // They count in real time.
  const unlimited = { blockedForMs: () => 0, failed: () => {} };
  const parts = {
    ...shared,
    transport,
    floodLimit: unlimited,
    failedAuthLimit: { ...shared.failedAuthLimit, ...unlimited },
  };
  const metrics = new Proxy(shared.metrics, { get: () => () => {} });
  const snapshots = createConfigSnapshots({ ...parts, metrics }, settings);
  return snapshots.current().pipeline;
}

/**
 * The settings to replay with: all that decides about requests, in this process alone, without a secret, a log or a connection.
 * Each tenant has the keys of {@link keyOf}, and the credential of an account is its name.
 */
function replaySettings(settings: Settings): Settings {
  const accounts = [...settings.accounts].map(([id, account]) => {
    const credentials = account.credentials.map((each) => ({
      ...{ kind: 'apiKey' as const, id: each.id, apiKey: new Secret(id) },
    }));
    // Nothing is known of the minute before the log, and no response says it.
    return [id, { ...account, credentials, quota: { ...account.quota, coldStart: 'idle' as const } }] as const;
  });
  return {
    ...settings,
    redis: null,
    stateDir: null,
    accounts: new Map(accounts),
    tenants: new Map([...settings.tenants].map(([id, tenant]) => [id, withReplayKeys(tenant)])),
    identity: { issuers: new Map() },
    tracing: { exporter: null, propagate: false },
    log: { level: 'silent', access: 'off' },
    secrets: [],
  };
}

/** A key for each key and identity, with its limits, and one without any for those that are gone meanwhile. */
function withReplayKeys(tenant: TenantSettings): TenantSettings {
  const { id: name, keys, identities } = tenant;
  const terms = [
    ...keys,
    ...identities.map(({ id, allow, cidrs }) => ({ id, allow, cidrs, expiresAtMs: null })),
    { id: '', allow: null, cidrs: null, expiresAtMs: null },
  ];
  const replayed = terms.map(({ id, allow, cidrs, expiresAtMs }) => ({
    ...{ id, allow, cidrs, expiresAtMs },
    sha256: digestOf(`${name}/${id}`),
  }));
  return { ...tenant, keys: replayed, identities: [] };
}

/** The key with which a recorded request is replayed. Without a known key it has the permissions of its tenant. */
function keyOf(settings: Settings, tenant: string, key: string): string {
  const { keys = [], identities = [] } = settings.tenants.get(tenant) ?? {};
  const isKnown = [...keys, ...identities].some(({ id }) => id === key);
  return `${tenant}/${isKnown ? key : ''}`;
}
