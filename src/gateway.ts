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
import type { Settings } from './config/model.ts';
import type { Handler, Received } from './exchange.ts';
import { announceQuota } from './quota/fields.ts';
import { limitByQuota } from './quota/quota.ts';
import { findRoute, type Route, type Routed } from './routing/route.ts';
import { forward } from './upstream/forward.ts';
import { readSmallBodies, type Uploaded } from './upstream/payload.ts';
import { leadLinksBack } from './upstream/rewrite.ts';

/** How long after the gateway gave up on a request it may still arrive upstream: what the kernel and a proxy may hold. */
const LATE_ARRIVAL_MS = 15_000;
