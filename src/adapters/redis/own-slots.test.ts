import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Ending, OwnSlots } from './own-slots.ts';

/** A slot is held for a window and a little more from when its request ended. */
const HELD_MS = 60_300;

/** The same, kept in full and gone through from the start each time. */
class Model {
  readonly inFlight: { admittedAt: number; slot: object }[] = [];
  readonly ended: { admittedAt: number; freeAt: number; ending: Ending }[] = [];
  acknowledged = 0;

  isHeld = ({ ending, freeAt }: Model['ended'][number], now: number) => ending[0] !== 'r' && freeAt > now;
  /** How many from the first on are of no interest. */
  over = (now: number) => {
    const index = this.ended.findIndex(({ freeAt }) => freeAt > now);
    return index === -1 ? this.ended.length : index;
  };
}

const endings: fc.Arbitrary<Ending> = fc.constantFrom<Ending[]>(['s', 1, 2, 3, 4, -1], ['x'], ['r', 'billing', 5]);
const steps = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('begin' as const), many: fc.constantFrom(1, 1, 1, 1_500) }) },
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant('end' as const), many: fc.constantFrom(1, 1, 1, 1_500), endings }),
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

test('say what a full list of all endings would say, over any history', () => {
  fc.assert(
    fc.property(fc.array(steps, { maxLength: 60 }), (history) => {
      const own = new OwnSlots();
      const model = new Model();
      let now = 1_000;
      for (const step of history) {
        if (step.kind === 'wait') now += step.ms;
        if (step.kind === 'begin') {
          for (let i = 0; i < step.many; i++) model.inFlight.push({ admittedAt: now, slot: own.begin(now) });
        }
        if (step.kind === 'end') {
          for (const { admittedAt, slot } of model.inFlight.splice(0, step.many)) {
            own.end(slot, step.endings, now);
            // Only the first word counts.
            own.end(slot, ['x'], now);
            model.ended.push({ admittedAt, freeAt: now + HELD_MS, ending: step.endings });
          }
        }
        if (step.kind === 'acknowledge') {
          const untold = model.ended.length - model.acknowledged;
          model.acknowledged += Math.floor(untold * step.share);
          own.acknowledge(model.acknowledged);
          // An answer that comes late says nothing new.
          own.acknowledge(model.acknowledged - 1);
        }
        const over = model.over(now);
        expect(own.held(now)).toEqual({
          first: over + 1,
          heldForMs: model.ended
            .slice(over)
            .map((each) => (model.isHeld(each, now) ? Math.ceil(each.freeAt - now) : -1)),
        });
        model.acknowledged = Math.max(model.acknowledged, over);
        expect(own.lastNumber).toBe(model.ended.length);
        expect(own.present).toBe(model.inFlight.length);
        expect(own.counted).toBe(model.inFlight.length + model.ended.length - model.acknowledged);
        expect(own.untold(500)).toEqual({
          first: model.acknowledged + 1,
          endings: model.ended.slice(model.acknowledged, model.acknowledged + 500).map(({ ending }) => ending),
        });
        const since = now - 700;
        const count = (list: readonly { admittedAt: number }[]) =>
          list.filter(({ admittedAt }) => admittedAt >= since).length;
        expect(own.heldSince(since, now)).toBe(
          count(model.inFlight) + count(model.ended.filter((each) => model.isHeld(each, now))),
        );
      }
    }),
    { numRuns: 300 },
  );
});
