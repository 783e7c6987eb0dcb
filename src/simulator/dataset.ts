import type { Clock } from '../clock.ts';
import { type Item, makeItem, SIZES } from './items.ts';
import { seededRandom } from './latency.ts';
import type { Result } from './result.ts';

/** Bounds the memory of a long benchmark. The oldest created items are removed first; the initial items stay. */
const MAX_ITEMS = 10_000;
const FIRST_CREATED = 100_001;

const MAX_RENDERED = 500;

interface Collection {
  readonly items: Map<number, Item>;
  version: number;
}

/** How long items of some collections exist after their creation. */
interface Retention {
  readonly clock: Clock;
  /** In milliseconds. */
  readonly of: Readonly<Record<string, () => number>>;
}

/** The data of the routes: generated from a seed, changed by writes. */
export class Dataset {
  readonly #collections = new Map<string, Collection>();
  readonly #rendered = new Map<string, { readonly version: number; readonly result: Result }>();
  readonly #retention: Retention | null;
  #nextId = FIRST_CREATED - 1;

  constructor(seed: number, retention: Retention | null = null) {
    this.#retention = retention;
    const random = seededRandom(seed);
    for (const [name, size] of Object.entries(SIZES)) {
      const items = new Map<number, Item>();
      for (let id = 1; id <= size; id++) items.set(id, makeItem(name, id, random));
      this.#collections.set(name, { items, version: 0 });
    }
  }

  has(collection: string): boolean {
    return this.#collections.has(collection);
  }

  /** A page as it was rendered, until a write to the collection. @param key all that it depends on; null for one that is always made */
  rendered(key: string | null, collection: string, render: () => Result): Result {
    const version = this.#collections.get(collection)?.version ?? 0;
    const known = key === null ? undefined : this.#rendered.get(key);
    if (known?.version === version) return known.result;
    const fresh = render();
    const result = fresh.kind === 'json' ? { ...fresh, json: Buffer.from(fresh.json) } : fresh;
    if (this.#rendered.size >= MAX_RENDERED) this.#rendered.clear();
    if (key !== null) this.#rendered.set(key, { version, result });
    return result;
  }

  all(collection: string): Item[] {
    const items = [...(this.#collections.get(collection)?.items.values() ?? [])];
    return this.expires(collection) ? items.filter((item) => !this.#isOver(collection, item)) : items;
  }

  get(collection: string, id: string | number): Item | undefined {
    const item = this.#collections.get(collection)?.items.get(Number(id));
    return item === undefined || this.#isOver(collection, item) ? undefined : item;
  }

  /** Whether items of the collection disappear with time. */
  expires(collection: string): boolean {
    return this.#retention?.of[collection] !== undefined;
  }

  /** The initial items stay: tests would lose them as the year goes on. */
  #isOver(collection: string, { id, created_at }: Item): boolean {
    const keptMs = this.#retention?.of[collection]?.();
    if (keptMs === undefined || id < FIRST_CREATED) return false;
    return (this.#retention?.clock.now() ?? 0) - Date.parse(String(created_at)) > keptMs;
  }

  create(collection: string, fields: Record<string, unknown>): Item {
    const { items } = this.#touch(collection);
    this.#nextId += 1;
    const item = { ...fields, id: this.#nextId };
    items.set(item.id, item);
    if (items.size > MAX_ITEMS) {
      for (const oldest of items.keys()) {
        if (oldest < FIRST_CREATED) continue;
        items.delete(oldest);
        break;
      }
    }
    return item;
  }

  update(collection: string, id: string | number, fields: Record<string, unknown>): Item | undefined {
    const item = this.get(collection, id);
    if (item === undefined) return undefined;
    const updated = { ...item, ...fields, id: item.id };
    this.#touch(collection).items.set(item.id, updated);
    return updated;
  }

  remove(collection: string, id: string | number): boolean {
    return this.get(collection, id) !== undefined && this.#touch(collection).items.delete(Number(id));
  }

  #touch(collection: string): Collection {
    const known = this.#collections.get(collection);
    if (known === undefined) throw new TypeError(`there is no collection ${collection}`);
    known.version += 1;
    return known;
  }
}
