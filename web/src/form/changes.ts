/** Differences between two documents, and the merge patch (RFC 7396) that turns one into the other. */

import { isEqual, isObject, type Json, type JsonObject } from "../api/json.ts";
import { child, member } from "./pointer.ts";

/** A leaf that differs: `old` is missing where it is new, `new` where it disappeared. */
export interface Change {
  pointer: string;
  old?: Json;
  new?: Json;
}

/**
 * Return every leaf that differs between two values, in the order of the documents.
 *
 * Arrays are leaves, and so are empty objects; the order of members has no meaning, and 1 is 1.0.
 */
export function changesBetween(old: Json, wanted: Json, pointer = ""): Change[] {
  const found: Change[] = [];
  compare(old, wanted, pointer, found);
  return found;
}

function compare(old: Json, wanted: Json, pointer: string, found: Change[]): void {
  if (old === wanted) return;
  if (!isObject(old) || !isObject(wanted)) {
    if (!isEqual(old, wanted)) found.push({ pointer, old, new: wanted });
    return;
  }
  for (const [name, value] of Object.entries(old)) {
    const other = member(wanted, name);
    const place = child(pointer, name);
    if (other === undefined) for (const leaf of leaves(value, place)) found.push({ pointer: leaf[0], old: leaf[1] });
    else compare(value, other, place, found);
  }
  for (const [name, value] of Object.entries(wanted)) {
    if (Object.hasOwn(old, name)) continue;
    for (const leaf of leaves(value, child(pointer, name))) found.push({ pointer: leaf[0], new: leaf[1] });
  }
}

/** Return the leaves of a value with their pointers; arrays and empty objects are leaves. */
export function leaves(value: Json, pointer = ""): [pointer: string, value: Json][] {
  if (!isObject(value) || Object.keys(value).length === 0) return [[pointer, value]];
  return Object.entries(value).flatMap(([name, inner]) => leaves(inner, child(pointer, name)));
}

/**
 * Return the smallest merge patch that turns one object into another.
 *
 * The wanted object must have no member that is `null`, which a merge patch cannot express.
 */
export function mergePatchBetween(old: JsonObject, wanted: JsonObject): JsonObject {
  const patch: [string, Json][] = [];
  for (const name of Object.keys(old)) if (!Object.hasOwn(wanted, name)) patch.push([name, null]);
  for (const [name, value] of Object.entries(wanted)) {
    const before = member(old, name);
    if (before === value) continue;
    if (isObject(before) && isObject(value)) {
      const inner = mergePatchBetween(before, value);
      if (Object.keys(inner).length > 0) patch.push([name, inner]);
    } else if (!isEqual(before, value)) patch.push([name, value]);
  }
  return Object.fromEntries(patch);
}

/** Apply a merge patch (RFC 7396 §2): objects merge, `null` removes, everything else replaces. */
export function mergePatch(target: Json | undefined, patch: Json): Json {
  if (!isObject(patch)) return patch;
  const result = new Map(isObject(target) ? Object.entries(target) : []);
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) result.delete(name);
    else result.set(name, mergePatch(result.get(name), value));
  }
  return Object.fromEntries(result);
}

/** Return the pointers of members that are `null`, which no configuration may have. */
export function nullMembers(value: Json, pointer = ""): string[] {
  if (Array.isArray(value)) return value.flatMap((item, index) => nullMembers(item, child(pointer, index)));
  if (!isObject(value)) return [];
  return Object.entries(value).flatMap(([name, inner]) =>
    inner === null ? [child(pointer, name)] : nullMembers(inner, child(pointer, name)),
  );
}
