import { type Authenticated, authenticate } from '../auth/authenticate.ts';
import type { Settings } from '../config/model.ts';
import { clientAddressOf, schemeOf } from '../edge/client-address.ts';
import { whoami } from '../edge/whoami.ts';
import type { Handler, Received } from '../exchange.ts';
import { announceQuota } from '../quota/fields.ts';
import { type DrawnCredential, drawCredentials, poolsOf } from './credentials.ts';
import { keyRingOf } from './derive.ts';
import type { Lasting, Parts } from './parts.ts';
import { drawStack } from './stack.ts';

/** All that follows from one configuration. A reload draws a new one; requests in flight end with the one they began with. */
export interface Generation {
  readonly parts: Parts;
  readonly proxy: Handler<Received>;
  readonly whoami: Handler<Received>;
  readonly clientAddress: ReturnType<typeof clientAddressOf>;
  readonly scheme: ReturnType<typeof schemeOf>;
  readonly credentials: readonly DrawnCredential[];
  /** Requests, and work in the background, whose outcome is not there yet. What is streamed after that needs nothing of the generation. */
  inUse(): number;
}

/** @param onIdle nothing is in use any more, for now */
export function drawGeneration(
  lasting: Lasting,
  settings: Settings,
  before: readonly DrawnCredential[],
  onIdle: () => void,
): Generation {
  const credentials = drawCredentials(lasting, settings, before);
  const parts: Parts = {
    ...lasting,
    settings,
    keys: keyRingOf(settings),
    credentials: poolsOf(settings, credentials),
  };
  let inUse = 0;
  const leave = (): void => {
    inUse -= 1;
    if (inUse === 0) onIdle();
  };
  const counted =
    (handler: Handler<Received>): Handler<Received> =>
    (exchange) => {
      const outcome = handler(exchange);
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
  const own = announceQuota<Received & Authenticated>(parts)(whoami(parts));
  return {
    parts,
    proxy: counted(drawStack(parts, inBackground)),
    whoami: authenticate<Received>(parts)(own),
    clientAddress: clientAddressOf(settings.listen.trustedProxies),
    scheme: schemeOf(settings.listen.trustedProxies),
    credentials,
    inUse: () => inUse,
  };
}
