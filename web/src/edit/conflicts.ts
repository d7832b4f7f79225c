/**
 * What becomes of edits when somebody else changed the same configuration meanwhile: a merge of three sides. Pure.
 *
 * Places that only the others changed are theirs, places that only the edits touch are mine, and a place that both
 * touch is a conflict, which the user decides.
 */

import { isEqual, type Json, type JsonObject } from "../api/json.ts";
import { type Change, changesBetween, type Edit, type Edits } from "../form/edits.ts";
import { find, isWithin } from "../form/pointer.ts";

export interface Conflict {
  /** The place of the edit. */
  pointer: string;
  /** The value on which the edit was based; undefined if there was none, or if it is not known any more. */
  before: Json | undefined;
  /** The value that others put there; undefined if they removed it. */
  theirs: Json | undefined;
}

export interface Merged {
  /** The edits that still make a difference. */
  edits: Edits;
  conflicts: Conflict[];
  /** What the others changed, for the user to see; a secret's change has neither an old nor a new value. */
  taken: Change[];
}

/**
 * Carry edits over to a newer configuration.
 *
 * @param before The configuration on which the edits are based; undefined if it is not known any more.
 * @param after The newer configuration.
 * @param changed The places that the history lists as changed; they tell of secrets, which all look the same.
 * @param pending Conflicts that the user has not decided yet.
 */
export function mergeChanges(
  before: JsonObject | undefined,
  after: JsonObject,
  edits: Edits,
  changed: readonly string[] = [],
  pending: readonly Conflict[] = [],
): Merged {
  const taken =
    before === undefined ? [] : changesBetween(before, after).filter(({ pointer }) => pointer !== "/version");
  for (const pointer of changed) {
    if (!taken.some((change) => touches(change.pointer, pointer)) && isUnseen(before, after, pointer))
      taken.push({ pointer });
  }
  const undecided = new Map(pending.map((conflict) => [conflict.pointer, conflict]));
  const kept = new Map<string, Edit>();
  const conflicts: Conflict[] = [];
  for (const [pointer, edit] of edits) {
    const theirs = find(after, pointer);
    if (isDone(edit, theirs)) continue;
    kept.set(pointer, edit);
    const earlier = undecided.get(pointer);
    const both = before === undefined || taken.some((change) => touches(change.pointer, pointer));
    if (earlier !== undefined) conflicts.push({ ...earlier, theirs });
    else if (both) conflicts.push({ pointer, before: before && find(before, pointer), theirs });
  }
  return { edits: kept, conflicts, taken };
}

/** Whether one place contains the other, or both are the same. */
function touches(one: string, other: string): boolean {
  return isWithin(one, other) || isWithin(other, one);
}

/** Whether a place may have changed though it looks the same: it has a secret, or is not known from before. */
function isUnseen(before: JsonObject | undefined, after: JsonObject, pointer: string): boolean {
  return before === undefined || hasMask(find(after, pointer)) || hasMask(find(before, pointer));
}

function hasMask(value: Json | undefined): boolean {
  if (typeof value === "string") return value === "***" || value.startsWith("sealed:");
  if (Array.isArray(value)) return value.some(hasMask);
  return typeof value === "object" && value !== null && Object.values(value).some(hasMask);
}

/** Whether the newer configuration has what the edit asks for. A secret is never known to be the same. */
function isDone(edit: Edit, theirs: Json | undefined): boolean {
  if (edit.kind === "remove") return theirs === undefined;
  return edit.kind === "set" && !hasMask(edit.value) && isEqual(edit.value, theirs);
}

/** Return the edits that write the former values of changes back; without secrets, whose values nobody was shown. */
export function reversed(changes: readonly Change[]): Edits {
  const edits = new Map<string, Edit>();
  for (const change of changes) {
    if (change.old === undefined && change.new !== undefined) edits.set(change.pointer, { kind: "remove" });
    else if (change.old !== undefined && !hasMask(change.old))
      edits.set(change.pointer, { kind: "set", value: change.old });
  }
  return edits;
}
