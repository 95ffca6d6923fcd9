// What an edit changes, as hunks of whole lines: the difference of two texts, the difference while one of them is still being
// written, and where hunks are after somebody typed elsewhere. No dependency on VS Code.

import { DIFF_LINES_MAX, DIFF_STEPS_MAX } from "./limits";

/** Lines `[at, at + removed.length)` of the old text became `added`, which begins at line `newAt` of the new text. */
export interface Hunk {
  at: number;
  newAt: number;
  removed: string[];
  added: string[];
}

/** The lines of a text, without their ends. A text that ends with a line break has an empty last line. */
export function toLines(text: string): string[] {
  return text.split(/\r\n|\n|\r/);
}

/**
 * Pairs of equal lines (old, new), rising in both: the longest such sequence, after Myers, "An O(ND) Difference Algorithm"
 * (1986). Where that would take too long, only what both texts have in common at the beginning and the end.
 */
export function matches(a: string[], b: string[]): [number, number][] {
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const pairs: [number, number][] = [];
  for (let i = 0; i < head; i++) pairs.push([i, i]);
  const middle = myers(a.slice(head, a.length - tail), b.slice(head, b.length - tail));
  for (const [i, j] of middle) pairs.push([i + head, j + head]);
  for (let i = tail; i > 0; i--) pairs.push([a.length - i, b.length - i]);
  return pairs;
}

function myers(a: string[], b: string[]): [number, number][] {
  const [n, m] = [a.length, b.length];
  if (n === 0 || m === 0 || n > DIFF_LINES_MAX || m > DIFF_LINES_MAX) return [];
  // Furthest x on diagonal k stands at v[middle + k]. trace[d] is the part of v that round d reads, from diagonal -d-1 on.
  const rounds = Math.min(n + m, Math.floor(Math.sqrt(DIFF_STEPS_MAX)));
  const middle = rounds + 1;
  const v = new Int32Array(2 * middle + 1);
  const trace: Int32Array[] = [];
  for (let d = 0; d <= rounds; d++) {
    trace.push(v.slice(middle - d - 1, middle + d + 2));
    for (let k = -d; k <= d; k += 2) {
      let x = cameFrom(v, middle, d, k)[1];
      while (x < n && x - k < m && a[x] === b[x - k]) x++;
      v[middle + k] = x;
      if (x >= n && x - k >= m) return walkBack(trace, n, m);
    }
  }
  return [];
}

/** The diagonal from which round d comes to diagonal k (down from above, or right from the left), and where that ends. */
function cameFrom(v: Int32Array, middle: number, d: number, k: number): [number, number] {
  const [left, above] = [v[middle + k - 1] ?? 0, v[middle + k + 1] ?? 0];
  return k === -d || (k !== d && left < above) ? [k + 1, above] : [k - 1, left + 1];
}

function walkBack(trace: Int32Array[], n: number, m: number): [number, number][] {
  const pairs: [number, number][] = [];
  let [x, y] = [n, m];
  for (let d = trace.length - 1; d >= 0; d--) {
    const v = trace[d] as Int32Array;
    const [from, begin] = cameFrom(v, d + 1, d, x - y);
    while (x > begin && y > begin - (x - y)) pairs.push([--x, --y]);
    if (d > 0) [x, y] = [v[d + 1 + from] ?? 0, (v[d + 1 + from] ?? 0) - from];
  }
  return pairs.reverse();
}

/** The hunks between two texts. */
export function diff(a: string[], b: string[]): Hunk[] {
  return hunksOf(a, b, matches(a, b));
}

function hunksOf(a: string[], b: string[], pairs: [number, number][]): Hunk[] {
  const hunks: Hunk[] = [];
  let [i, j] = [0, 0];
  for (const [x, y] of [...pairs, [a.length, b.length] as [number, number]]) {
    if (x > i || y > j) hunks.push({ at: i, newAt: j, removed: a.slice(i, x), added: b.slice(j, y) });
    [i, j] = [x + 1, y + 1];
  }
  return hunks;
}

/** The new text with only those hunks that touch lines `[first, last]` of the old one. */
export function within(old: string[], now: string[], first: number, last: number): string[] {
  const result: string[] = [];
  let at = 0;
  for (const hunk of diff(old, now)) {
    // An insertion touches the line that it comes before, and at the end of the lines the one that it comes after.
    const end = hunk.at + hunk.removed.length;
    const touches = end === hunk.at ? end >= first && end <= last + 1 : end > first && hunk.at <= last;
    if (!touches) continue;
    result.push(...old.slice(at, hunk.at), ...hunk.added);
    at = hunk.at + hunk.removed.length;
  }
  return [...result, ...old.slice(at)];
}

/**
 * What to show while the new text is being written: the lines that are complete, and then the old lines that they have not
 * reached. Where they stand in the old text is told by the last line that both have and that says something; a lone bracket
 * further down would be found too early.
 */
export function merged(old: string[], written: string[]): string[] {
  let reached = Math.min(old.length, written.length);
  const pairs = matches(old, written);
  for (let n = pairs.length - 1; n >= 0; n--) {
    const [i, j] = pairs[n] as [number, number];
    if (!says(old[i] ?? "") && !(n > 0 && pairs[n - 1]?.[0] === i - 1 && pairs[n - 1]?.[1] === j - 1)) continue;
    // Lines written after the last match replace as many old ones, until a match says otherwise.
    reached = Math.min(old.length, i + 1 + (written.length - 1 - j));
    break;
  }
  return [...written, ...old.slice(reached)];
}

function says(line: string): boolean {
  return /[\p{L}\p{N}_].*[\p{L}\p{N}_]/u.test(line);
}

/** A piece of a document in review: lines `[line, line + lines)` of it are what the edit put in place of `removed`. */
export interface Placed {
  line: number;
  lines: number;
  removed: string[];
}

/** A change of a document: what stood in lines `[from, to]` was replaced by a text with `breaks` line breaks. */
export interface LineChange {
  from: number;
  to: number;
  breaks: number;
  /** Whole lines were replaced by whole lines, so line `to` itself only moved. */
  wholeLines: boolean;
}

/** Where a piece is after a change; `null` when the change touched it: then it is the user's own text. */
export function shift(piece: Placed, change: LineChange): Placed | null {
  const last = change.wholeLines ? change.to - 1 : change.to;
  if (last < piece.line) return { ...piece, line: piece.line + change.breaks - (change.to - change.from) };
  return change.from >= piece.line + piece.lines ? piece : null;
}
