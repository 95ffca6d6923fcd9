// Which part of a suggestion the user took. VS Code tells an extension only that all of it was taken; word and line are told by
// the change that they make. No dependency on VS Code.

export type Kind = "word" | "line";

interface Shown {
  uri: string;
  offset: number;
  text: string;
}

/** What stands as ghost text, and how much of it is left. */
export class Accepts {
  private shown: Shown | null = null;

  /** A suggestion was handed to the editor, to stand at `offset`. */
  show(uri: string, offset: number, text: string): void {
    this.shown = { uri, offset, text };
  }

  clear(): void {
    this.shown = null;
  }

  /**
   * A change of a document: whether it took a word or a line of the suggestion. One typed character that happens to be the
   * next one of the suggestion is typing, and the whole rest is reported by the editor itself.
   */
  changed(uri: string, offset: number, replaced: number, text: string): Kind | null {
    const shown = this.shown;
    if (!shown || shown.uri !== uri) return null;
    if (replaced !== 0 || offset !== shown.offset || text === "" || !shown.text.startsWith(text)) {
      this.shown = null;
      return null;
    }
    const rest = shown.text.slice(text.length);
    this.shown = rest === "" ? null : { uri, offset: offset + text.length, text: rest };
    if (rest === "" || text.length === 1) return null;
    return /[\r\n]/.test(text) || /^[\r\n]/.test(rest) ? "line" : "word";
  }
}
