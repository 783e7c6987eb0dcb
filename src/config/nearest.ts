/** Twice the longest name. */
const LONGEST = 64;

/** The name that was probably meant, or null: at most a third of it is mistyped. */
export function nearest(typed: string, known: readonly string[]): string | null {
  // The comparison takes time for each pair of characters, and a long text is no typing error.
  const near = (typed.length > LONGEST ? [] : known)
    .map((name) => ({ name, distance: editDistance(typed.toLowerCase(), name.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)[0];
  if (near === undefined) return null;
  const allowed = Math.max(near.name.length < 4 ? 1 : 2, Math.floor(near.name.length / 3));
  return near.distance <= allowed ? near.name : null;
}

/** Levenshtein, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, swap));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
