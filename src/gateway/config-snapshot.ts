import { type Authenticated, authenticate } from '../auth/authenticate.ts';
import type { Settings } from '../config/model.ts';
import type { Handler, RequestContext } from '../context.ts';
import { clientAddressOf, schemeOf } from '../edge/client-address.ts';
import { whoami } from '../edge/whoami.ts';
import { announceQuota } from '../quota/fields.ts';
import { type AccountCredential, createCredentials, poolsOf } from './credentials.ts';
import type { Dependencies, SharedDependencies } from './dependencies.ts';
import { keyStoreOf } from './derive.ts';
import { createPipeline } from './pipeline.ts';

/** All that follows from one configuration. A reload draws a new one; requests in flight end with the one they began with. */
export interface ConfigSnapshot {
  readonly dependencies: Dependencies;
  readonly pipeline: Handler<RequestContext>;
  readonly whoami: Handler<RequestContext>;
  readonly clientAddress: ReturnType<typeof clientAddressOf>;
  readonly scheme: ReturnType<typeof schemeOf>;
  readonly credentials: readonly AccountCredential[];
  /** Requests, and work in the background, whose outcome is not there yet. What is streamed after that needs nothing of the generation. */
  inUse(): number;
}

/** @param onIdle nothing is in use any more, for now */
export function createSnapshot(
  lasting: SharedDependencies,
  settings: Settings,
  before: readonly AccountCredential[],
  onIdle: () => void,
): ConfigSnapshot {
  const credentials = createCredentials(lasting, settings, before);
  const parts: Dependencies = {
    ...lasting,
    settings,
    keys: keyStoreOf(settings),
    credentials: poolsOf(settings, credentials),
  };
  let inUse = 0;
  const leave = (): void => {
    inUse -= 1;
    if (inUse === 0) onIdle();
  };
  const counted =
    (handler: Handler<RequestContext>): Handler<RequestContext> =>
    (context) => {
      const outcome = handler(context);
      // What is answered at once was never in flight.
      if (outcome instanceof Promise) {
        inUse += 1;
        outcome.then(leave, leave);
      }
      return outcome;
    };
  const inBackground = (work: Promise<unknown>): void => {
    inUse += 1;
    work.catch((error: unknown) => lasting.log.error({ err: error }, 'work in the background failed')).finally(leave);
  };
  const own = announceQuota<RequestContext & Authenticated>(parts)(whoami(parts));
  return {
    dependencies: parts,
    pipeline: counted(createPipeline(parts, inBackground)),
    whoami: authenticate<RequestContext>(parts)(own),
    clientAddress: clientAddressOf(settings.listen.trustedProxies),
    scheme: schemeOf(settings.listen.trustedProxies),
    credentials,
    inUse: () => inUse,
  };
}
