// Positions as LSP and VS Code have them (line, UTF-16 unit) in a string, and edits given by them. No dependency on VS Code,
// so that it can be tested without one.

export interface Position {
  line: number;
  character: number;
}
export interface Range {
  start: Position;
  end: Position;
}
export interface TextEdit {
  range: Range;
  newText: string;
}

/** Offsets at which the lines of a text begin. A line ends with \n, \r\n or \r. */
export function lineStarts(text: string): number[] {
  const starts = [0];
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 13 && text.charCodeAt(i + 1) === 10) i++;
    if (c === 10 || c === 13) starts.push(i + 1);
  }
  return starts;
}

/** Offset of a position; what lies beyond a line's or the text's end counts as that end. */
export function offsetAt(text: string, starts: number[], position: Position): number {
  const start = starts[position.line];
  if (start === undefined) return position.line < 0 ? 0 : text.length;
  let end = starts[position.line + 1] ?? text.length;
  // The line's end is before its line break.
  if (position.line + 1 < starts.length) {
    end--;
    if (text.charCodeAt(end) === 10 && end > start && text.charCodeAt(end - 1) === 13) end--;
  }
  return Math.min(start + Math.max(0, position.character), end);
}

/** Position of an offset. */
export function positionAt(starts: number[], offset: number): Position {
  let [low, high] = [0, starts.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((starts[middle] ?? 0) <= offset) low = middle;
    else high = middle - 1;
  }
  return { line: low, character: offset - (starts[low] ?? 0) };
}

/** The text after edits that do not overlap and all speak of the text before. `null` where they do overlap. */
export function applyEdits(text: string, edits: TextEdit[]): string | null {
  const starts = lineStarts(text);
  const cuts = edits
    .map((e) => ({ from: offsetAt(text, starts, e.range.start), to: offsetAt(text, starts, e.range.end), text: e.newText }))
    .sort((a, b) => a.from - b.from);
  let result = "";
  let at = 0;
  for (const cut of cuts) {
    if (cut.from < at || cut.to < cut.from) return null;
    result += text.slice(at, cut.from) + cut.text;
    at = cut.to;
  }
  return result + text.slice(at);
}
