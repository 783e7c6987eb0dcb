import { Counter, Histogram, type Registry } from 'prom-client';
import { OTHER } from './labels.ts';

/** Values of a family's labels; each must come from a bounded set. */
export type Labels = Readonly<Record<string, string>>;

export interface FamilyOptions {
  readonly name: string;
  readonly help: string;
  readonly labels: readonly string[];
  readonly registry: Registry;
  /** Most series the family may have before new ones are counted together; see {@link SeriesTable}. */
  readonly limit: number;
}

/** A series of a counter. Counting is one addition. */
export interface Tally {
  readonly labels: Labels;
  value: number;
}

/** A series of a histogram. */
export interface Distribution {
  readonly labels: Labels;
  observe(value: number): void;
}

/**
 * A counter whose series are kept here and given to prom-client when Prometheus asks: its own look-up builds and checks a
 * string of all labels at every increment, which a request would pay for some eight times.
 */
export class TallyCounter extends Counter {
  readonly #series: SeriesTable<Tally>;
  readonly #fromZero: () => readonly Labels[];

  /** @param options.fromZero series that are there before the first thing is counted, read at each scrape */
  constructor(options: FamilyOptions & { readonly fromZero: () => readonly Labels[] }) {
    super(configurationOf(options));
    this.#series = new SeriesTable(options, (labels) => ({ labels, value: 0 }));
    this.#fromZero = options.fromZero;
  }

  of(labels: Labels): Tally {
    return this.#series.of(labels);
  }

  all(): Iterable<Tally> {
    return this.#series.all();
  }

  forget(gone: (labels: Labels) => boolean): void {
    this.#series.forget(gone);
  }

  override async get() {
    for (const labels of this.#fromZero()) this.of(labels);
    const values = [...this.#series.all()].map(({ labels, value }) => ({ labels, value }));
    return { ...(await super.get()), values };
  }
}

export class TallyHistogram extends Histogram {
  readonly #options: FamilyOptions;
  readonly #series: SeriesTable<Buckets>;

  constructor(options: FamilyOptions & { readonly buckets: readonly number[] }) {
    super({ ...configurationOf(options), buckets: [...options.buckets] });
    this.#options = options;
    this.#series = new SeriesTable(options, (labels) => new Buckets(labels, options.buckets));
  }

  of(labels: Labels): Distribution {
    return this.#series.of(labels);
  }

  forget(gone: (labels: Labels) => boolean): void {
    this.#series.forget(gone);
  }

  /**
   * What the superclass and the registry take the samples from; prom-client 15 leaves it out of its types. `get()` makes
   * its answer of it.
   */
  async getForPromString() {
    const { name, help } = this.#options;
    const values = [...this.#series.all()].flatMap((series) => series.samples(name));
    return { name, help, type: 'histogram', aggregator: 'sum', values };
  }
}

class Buckets implements Distribution {
  readonly labels: Labels;
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  #sum = 0;

  constructor(labels: Labels, bounds: readonly number[]) {
    this.labels = labels;
    this.#bounds = bounds;
    // The last is for what is above all bounds.
    this.#counts = new Array<number>(bounds.length + 1).fill(0);
  }

  observe(value: number): void {
    // A clock's fault must not make the sum NaN for ever.
    if (!(value >= 0)) return;
    const bounds = this.#bounds;
    let i = 0;
    while (i < bounds.length && value > (bounds[i] as number)) i += 1;
    this.#counts[i] = (this.#counts[i] as number) + 1;
    this.#sum += value;
  }

  /** In prom-client's shape: labels that samples share are written out once. */
  samples(name: string) {
    const sharedLabels = this.labels;
    let count = 0;
    const buckets = this.#counts.map((each, i) => {
      count += each;
      return { metricName: `${name}_bucket`, labels: { le: this.#bounds[i] ?? '+Inf' }, sharedLabels, value: count };
    });
    return [
      ...buckets,
      { metricName: `${name}_sum`, labels: {}, sharedLabels, value: this.#sum },
      { metricName: `${name}_count`, labels: {}, sharedLabels, value: count },
    ];
  }
}

/**
 * The series of a family by their labels. Their number is bounded whatever the labels are: from the limit on, new ones are
 * counted with tenant="other"; and should those be too many too, all together.
 */
class SeriesTable<Series extends { readonly labels: Labels }> {
  readonly #options: FamilyOptions;
  readonly #make: (labels: Labels) => Series;
  readonly #byLabels = new Map<string, Series>();

  constructor(options: FamilyOptions, make: (labels: Labels) => Series) {
    this.#options = options;
    this.#make = make;
    // A family without labels has its series from the start, at zero.
    if (options.labels.length === 0) this.of({});
  }

  of(labels: Labels): Series {
    const { limit, labels: names } = this.#options;
    const anyTenant = () => (names.includes('tenant') ? { ...labels, tenant: OTHER } : labels);
    const anything = () => Object.fromEntries(names.map((name) => [name, OTHER]));
    return (
      this.#find(labels, limit) ?? this.#find(anyTenant(), limit * 2) ?? (this.#find(anything(), Infinity) as Series)
    );
  }

  all(): Iterable<Series> {
    return this.#byLabels.values();
  }

  forget(gone: (labels: Labels) => boolean): void {
    for (const [key, { labels }] of this.#byLabels) if (gone(labels)) this.#byLabels.delete(key);
  }

  #find(labels: Labels, limit: number): Series | undefined {
    const key = this.#options.labels.map((name) => labels[name]).join('\n');
    const known = this.#byLabels.get(key);
    if (known !== undefined || this.#byLabels.size >= limit) return known;
    const series = this.#make(labels);
    this.#byLabels.set(key, series);
    return series;
  }
}

function configurationOf({ name, help, labels, registry }: FamilyOptions) {
  return { name, help, labelNames: [...labels], registers: [registry] };
}
