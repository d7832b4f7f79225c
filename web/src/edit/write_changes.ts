/** What a write changes, as `Differences` shows it. Secrets are `***` everywhere. */

import type { Answers } from "../api/client.ts";
import type { Json, JsonObject } from "../api/json.ts";
import { find } from "../form/pointer.ts";
import type { Change } from "../ui/differences.tsx";

type ValueChange = { old?: unknown; new?: unknown };
export type ValueChanges = Record<string, ValueChange>;

/** Return a place of `changes`; a side that the daemon leaves out has no value. */
export function changeOf(pointer: string, sides: ValueChange): Change {
  return {
    pointer,
    ...("old" in sides ? { old: sides.old as Json } : {}),
    ...("new" in sides ? { new: sides.new as Json } : {}),
  };
}

/**
 * Return every place that a write changes, or would change.
 *
 * The daemon lists at most 100 places with their values, none beyond 1 KiB. The values of the others are those of the
 * documents.
 *
 * @param before The configuration that the write is based on; undefined if there was none.
 */
export function writeChanges(
  before: JsonObject | undefined,
  answer: Pick<Answers["WriteAnswer"], "config" | "changed"> & Partial<Pick<Answers["WriteAnswer"], "changes">>,
): Change[] {
  const listed = (answer.changes ?? {}) as ValueChanges;
  return answer.changed.map((pointer) => {
    const sides = listed[pointer];
    if (sides !== undefined) return changeOf(pointer, sides);
    const old = find(before, pointer);
    const next = find(answer.config as JsonObject, pointer);
    return { pointer, ...(old === undefined ? {} : { old }), ...(next === undefined ? {} : { new: next }) };
  });
}
