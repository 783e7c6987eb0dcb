import { Counter, type Registry } from 'prom-client';
import { PREFIX } from './catalogue.ts';

export interface ExpositionOptions {
  readonly registry: Registry;
  /** Told once when a family can not be read, and not again before it could. */
  readonly onUnreadable: (family: string, error: unknown) => void;
}

/**
 * The exposition text, family by family. The registry's own `metrics()` gives nothing at all when one family cannot be
 * read: whoever is on call would lose every figure over a fault in one of them.
 */
export function exposition({ registry, onUnreadable }: ExpositionOptions): { readonly render: () => Promise<string> } {
  const unreadable = new Set<string>();
  const name = `${PREFIX}metrics_unreadable_total`;
  const failures = new Counter({
    name,
    help: 'Times a family of metrics was left out because it could not be read; the log names it.',
    registers: [registry],
  });

  const read = async (family: string): Promise<string | null> => {
    try {
      const text = await registry.getSingleMetricAsString(family);
      unreadable.delete(family);
      return text;
    } catch (error) {
      failures.inc();
      if (!unreadable.has(family)) onUnreadable(family, error);
      unreadable.add(family);
      return null;
    }
  };
  return {
    async render() {
      const families = registry.getMetricsAsArray().map((each) => each.name);
      const texts = await Promise.all(families.filter((family) => family !== name).map(read));
      // The last to be read, so that it tells of this very scrape.
      texts.push(await registry.getSingleMetricAsString(name));
      return `${texts.filter((text) => text !== null).join('\n\n')}\n`;
    },
  };
}
