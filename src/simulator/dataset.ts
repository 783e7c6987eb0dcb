import { type Item, makeItem, SIZES } from './items.ts';
import { seededRandom } from './latency.ts';

/** Bounds the memory of a long benchmark. The oldest created items are removed first; the initial items stay. */
const MAX_ITEMS = 10_000;
const FIRST_CREATED = 100_001;

interface Collection {
  readonly items: Map<number, Item>;
  version: number;
}

/** The data of the routes: generated from a seed, changed by writes. */
export class Dataset {
  readonly #collections = new Map<string, Collection>();
  #nextId = FIRST_CREATED - 1;

  constructor(seed: number) {
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

  /** Grows with each write to the collection: a rendered list is valid for one version. */
  versionOf(collection: string): number {
    return this.#collections.get(collection)?.version ?? 0;
  }

  all(collection: string): Item[] {
    return [...(this.#collections.get(collection)?.items.values() ?? [])];
  }

  get(collection: string, id: string | number): Item | undefined {
    return this.#collections.get(collection)?.items.get(Number(id));
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
