import { Counter, type Registry } from 'prom-client';
import { PREFIX } from './catalogue.ts';

export interface ExpositionOptions {
  readonly registry: Registry;
  /** Told once when a family can not be read, and not again before it could. */
  readonly onUnreadable: (family: string, error: unknown) => void;
}

/**
 * The exposition text, family by family. The registry's own `metrics()` gives nothing at all when one family can not be
 * read: whoever is on call would lose every figure over a fault in one of them.
 */
export function exposition({ registry, onUnreadable }: ExpositionOptions): {
  readonly render: () => Promise<string>;
  /** For {@link mergeSnapshots}. */
  readonly snapshot: () => Promise<string>;
} {
  const unreadable = new Set<string>();
  const name = `${PREFIX}metrics_unreadable_total`;
  const failures = new Counter({
    name,
    help: 'Times a family of metrics was left out because it could not be read; the log names it.',
    registers: [registry],
  });

  const read = async <T>(family: string, get: () => Promise<T>): Promise<T | null> => {
    try {
      const got = await get();
      unreadable.delete(family);
      return got;
    } catch (error) {
      failures.inc();
      if (!unreadable.has(family)) onUnreadable(family, error);
      unreadable.add(family);
      return null;
    }
  };
  const all = async <T>(get: (family: string) => Promise<T>): Promise<T[]> => {
    const families = registry.getMetricsAsArray().map((each) => each.name);
    const others = families.filter((family) => family !== name);
    const got = await Promise.all(others.map((family) => read(family, () => get(family))));
    // The last to be read, so that it tells of this very scrape.
    got.push(await get(name));
    return got.filter((each) => each !== null);
  };

  return {
    render: async () => {
      const texts = await all((family) => registry.getSingleMetricAsString(family));
      return `${texts.join('\n\n')}\n`;
    },
    snapshot: async () => JSON.stringify(await all(async (family) => registry.getSingleMetric(family)?.get())),
  };
}
