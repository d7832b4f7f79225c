/** Refused edits of files, as few lines as they can be said in. */

import type { RefusedEdit } from "../api/queries.ts";
import { counted } from "../ui/words.ts";

/** How many the daemon tells at most. */
export const MOST_REFUSED = 10;
const FEWEST_TOGETHER = 3;

/** Return the edits; one that is refused for several services, such as a default of all, once. */
export function refusedGroups(edits: readonly RefusedEdit[]): RefusedEdit[] {
  const groups = new Map<string, { common: string; alike: RefusedEdit[] }>();
  for (const edit of edits) {
    const { service } = edit;
    const message = edit.message ?? "";
    const common = message.startsWith(`${service} `) ? message.slice(`${service} `.length) : message;
    const key = JSON.stringify([edit.file, edit.line, common]);
    const group = groups.get(key) ?? { common, alike: [] };
    groups.set(key, group);
    group.alike.push(edit);
  }
  return [...groups.values()].flatMap(({ common, alike }) => {
    const [first] = alike;
    if (first?.service == null) return alike.slice(0, 1);
    return alike.length < FEWEST_TOGETHER
      ? alike
      : [{ file: first.file, line: first.line, message: `${counted(alike.length, "service")}: ${common}` }];
  });
}
