// Where the `vonk` program may be. No dependency on VS Code.

import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { delimiter, isAbsolute, join } from "node:path";

export interface Where {
  /** The setting; the only one that is looked at when it is not empty. */
  setting: string;
  path: string;
  home: string;
  /** Folder of the extension: a packed program lies in its bin/. */
  extension: string;
  windows: boolean;
}

/** Candidates, best first. Relative entries of the PATH are left out: they would run what lies in the opened folder. */
export function candidates(where: Where): string[] {
  if (where.setting !== "") return isAbsolute(where.setting) ? [where.setting] : [];
  const name = where.windows ? "vonk.exe" : "vonk";
  const folders = where.path.split(delimiter).filter((f) => f !== "" && isAbsolute(f));
  return [...folders, join(where.home, ".cargo", "bin"), join(where.extension, "bin")].map((f) => join(f, name));
}

/** The first candidate that can be run. */
export async function find(where: Where): Promise<string | null> {
  for (const file of candidates(where)) {
    try {
      await access(file, where.windows ? constants.F_OK : constants.X_OK);
      return file;
    } catch {
      // The next one, then.
    }
  }
  return null;
}

/** One line of `vonk pull --progress`: how much of the file is here, in percent; `null` for any other line. */
export function percent(line: string): number | null {
  if (!line.startsWith("{")) return null;
  try {
    const { done, total } = JSON.parse(line);
    return total > 0 && done >= 0 && done <= total ? (100 * done) / total : null;
  } catch {
    return null;
  }
}
