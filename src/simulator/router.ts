import type { Clock } from '../clock.ts';
import { type Pattern, parsePattern } from '../routing/pattern.ts';
import type { Credentials, Identity } from './credentials.ts';
import type { Dataset } from './dataset.ts';
import type { Operations } from './operations.ts';
import type { Result } from './result.ts';
import type { Runs } from './runs.ts';
import type { Switches } from './switches.ts';

/** A request after authentication and throttle, as a handler receives it. */
export interface Call {
  readonly segments: readonly string[];
  /** Without the `?`. */
  readonly rawQuery: string;
  readonly body: Buffer;
  /** The start of links, such as `http://core…`. */
  readonly base: string;
  readonly account: string;
  /** Null on a route without authentication. */
  readonly identity: Identity | null;
  readonly data: Dataset;
  readonly runs: Runs;
  readonly switches: Switches;
  readonly clock: Clock;
  readonly operations: Operations;
  readonly credentials: Credentials;
}

export type RouteHandler = (call: Call) => Result;

/** Handlers by method and path: `GET /api/v1/flows/*`. */
export type Routes = Readonly<Record<string, RouteHandler>>;

export interface SimulatedRoute {
  /** open: neither authenticated nor counted. login: counted with a switch. */
  readonly access: 'credential' | 'login' | 'open';
  readonly handle: RouteHandler;
}

export type Found =
  | { readonly kind: 'found'; readonly route: SimulatedRoute }
  | { readonly kind: 'method'; readonly allow: readonly string[] }
  | { readonly kind: 'unknown' };

interface Node {
  readonly children: Map<string, Node>;
  readonly routes: Map<string, SimulatedRoute>;
}

const newNode = (): Node => ({ children: new Map(), routes: new Map() });

/** A tree of path segments: benchmarks use the simulator as upstream, and it has some ninety routes. */
export class Router {
  readonly #root = newNode();

  add(routes: Routes, access: SimulatedRoute['access']): void {
    for (const [match, handle] of Object.entries(routes)) {
      const parsed = parsePattern(match);
      if (!parsed.ok) throw new TypeError(parsed.reason);
      const { method, segments }: Pattern = parsed.pattern;
      let node = this.#root;
      for (const segment of segments) {
        const child = node.children.get(segment) ?? newNode();
        node.children.set(segment, child);
        node = child;
      }
      node.routes.set(method ?? '*', { access, handle });
    }
  }

  find(method: string, segments: readonly string[]): Found {
    const ends: Node[] = [];
    collect(this.#root, segments, 0, ends);
    const wanted = method === 'HEAD' ? 'GET' : method;
    for (const { routes } of ends) {
      const route = routes.get(wanted);
      if (route !== undefined) return { kind: 'found', route };
    }
    if (ends.length === 0) return { kind: 'unknown' };
    const methods = new Set(ends.flatMap(({ routes }) => [...routes.keys()]));
    if (methods.has('GET')) methods.add('HEAD');
    return { kind: 'method', allow: [...methods].sort() };
  }
}

/** Literal segments before `*`. */
function collect(node: Node, segments: readonly string[], at: number, ends: Node[]): void {
  const segment = segments[at];
  if (segment === undefined) {
    if (node.routes.size > 0) ends.push(node);
    return;
  }
  const literal = node.children.get(segment);
  if (literal !== undefined) collect(literal, segments, at + 1, ends);
  const any = node.children.get('*');
  if (any !== undefined && any !== literal) collect(any, segments, at + 1, ends);
}
