import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Completion, type LocalLease, LocalLeases } from './local-leases.ts';

/** A slot is held for a window and a little more from when its request ended. */
const HELD_MS = 60_100;

/** The same, kept in full and gone through from the start each time. */
class Model {
  readonly inFlight: LocalLease[] = [];
  readonly completed: { admittedAt: number; expiresAt: number; completion: Completion }[] = [];
  acknowledged = 0;

  isHeld = ({ completion, expiresAt }: Model['completed'][number], now: number) =>
    completion.kind !== 'refund' && expiresAt > now;
  /** How many from the first on are of no interest. */
  over = (now: number) => {
    const index = this.completed.findIndex(({ expiresAt }) => expiresAt > now);
    return index === -1 ? this.completed.length : index;
  };
}

const completions = fc.constantFrom<Completion[]>(
  { kind: 'response', admittedAt: 1, completedBefore: 2, freedBefore: 0, limit: 7, remaining: 4 },
  { kind: 'lost' },
  { kind: 'refund', tenant: 'billing', burst: 5 },
);
const steps = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('begin' as const), many: fc.constantFrom(1, 1, 1, 1_500) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('complete' as const),
      many: fc.constantFrom(1, 1, 1, 1_500),
      completion: completions,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('acknowledge' as const),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.constantFrom(0.25, 1, 700, 20_000.5, 61_000) }),
  },
);

test('local leases say what a full list of all completions would say, over any history', () => {
  fc.assert(
    fc.property(fc.array(steps, { maxLength: 60 }), (history) => {
      const leases = new LocalLeases();
      const model = new Model();
      let now = 1_000;
      for (const step of history) {
        if (step.kind === 'wait') now += step.ms;
        if (step.kind === 'begin') {
          for (let i = 0; i < step.many; i++) model.inFlight.push(leases.begin(now));
        }
        if (step.kind === 'complete') {
          for (const lease of model.inFlight.splice(0, step.many)) {
            leases.complete(lease, step.completion, now);
            // Only the first completion counts.
            leases.complete(lease, { kind: 'lost' }, now);
            const { admittedAt } = lease;
            model.completed.push({ admittedAt, expiresAt: now + HELD_MS, completion: step.completion });
          }
        }
        if (step.kind === 'acknowledge') {
          const unreported = model.completed.length - model.acknowledged;
          model.acknowledged += Math.floor(unreported * step.share);
          leases.acknowledge(model.acknowledged);
          // A late reply changes nothing.
          leases.acknowledge(model.acknowledged - 1);
        }
        const over = model.over(now);
        expect(leases.held(now)).toEqual({
          first: over + 1,
          heldForMs: model.completed
            .slice(over)
            .map((each) => (model.isHeld(each, now) ? Math.ceil(each.expiresAt - now) : -1)),
        });
        model.acknowledged = Math.max(model.acknowledged, over);
        expect(leases.lastNumber).toBe(model.completed.length);
        expect(leases.present).toBe(model.inFlight.length);
        expect(leases.counted).toBe(model.inFlight.length + model.completed.length - model.acknowledged);
        expect(leases.unreported(500)).toEqual({
          first: model.acknowledged + 1,
          completions: model.completed
            .slice(model.acknowledged, model.acknowledged + 500)
            .map(({ completion }) => completion),
        });
        const since = now - 700;
        const count = (list: readonly { admittedAt: number }[]) =>
          list.filter(({ admittedAt }) => admittedAt >= since).length;
        expect(leases.heldSince(since, now)).toBe(
          count(model.inFlight) + count(model.completed.filter((each) => model.isHeld(each, now))),
        );
      }
    }),
    { numRuns: 300 },
  );
});
