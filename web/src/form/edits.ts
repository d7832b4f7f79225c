/**
 * What a user changed of a configuration, by JSON Pointer: plain data that outlives the page as a draft.
 *
 * Outer places apply before inner ones, so that an array that was replaced may have a typed secret inside. Except for
 * those secrets and for texts that are no values yet, what is inside an array is changed by replacing the array.
 */

import type { Problem } from "../api/client.ts";
import { format, isEqual, isObject, type Json, type JsonObject, parse } from "../api/json.ts";
import { MASK } from "../api/masks.ts";
import { mergePatchBetween, nullMembers } from "./changes.ts";
import { around, child, find, isWithin, member, put, tokens } from "./pointer.ts";
import type { SchemaTree } from "./schema.ts";

export { type Change, changesBetween } from "./changes.ts";

export type Edit =
  | { kind: "set"; value: Json }
  | { kind: "remove" }
  /** What was typed and is no value of the place yet, such as "12a" for a number. */
  | { kind: "text"; text: string; message: string; sensitive?: boolean }
  /** A secret that was typed. It is kept in memory only. */
  | { kind: "secret"; text: string };

export type Edits = ReadonlyMap<string, Edit>;

export const NO_EDITS: Edits = new Map();

const SEALED = /^sealed:/;

/** Return the configuration after the edits, for showing it: a typed secret is `***`, a text that is no value is left out. */
export function applyEdits(config: JsonObject, edits: Edits): JsonObject {
  return applied(config, edits, { secrets: true });
}

function applied(config: JsonObject, edits: Edits, { secrets }: { secrets: boolean }): JsonObject {
  let result: Json = config;
  for (const [pointer, edit] of inOrder(edits)) {
    const path = tokens(pointer);
    if (edit.kind === "set") result = put(result, path, edit.value) ?? {};
    else if (edit.kind === "remove") result = put(result, path, undefined) ?? {};
    else if (edit.kind === "secret" && secrets) result = put(result, path, MASK) ?? {};
  }
  return isObject(result) ? result : {};
}

/** Return the value of a place with the secrets that were typed in it: to compare it, never to show it. */
export function withTypedSecrets(value: Json, edits: Edits, pointer: string): Json {
  let result: Json = value;
  for (const [edited, edit] of edits) {
    if (edit.kind !== "secret" || !isWithin(edited, pointer)) continue;
    result = put(result, tokens(edited.slice(pointer.length)), edit.text) ?? result;
  }
  return result;
}

/** Return the edits, those of outer places first. */
function inOrder(edits: Edits): [string, Edit][] {
  const depth = (pointer: string) => pointer.split("/").length;
  return [...edits].sort(([one], [other]) => depth(one) - depth(other));
}

/**
 * Return the merge patch (RFC 7396) of the edits: only places that were touched and differ; arrays as a whole.
 *
 * @throws RangeError if an edit cannot be sent: a text that is no value, a `null` member, a secret that is not sealed.
 */
export function toMergePatch(config: JsonObject, edits: Edits): JsonObject {
  const [problem] = unsent(edits);
  if (problem !== undefined) throw new RangeError(`${problem.pointer} ${problem.message}`);
  if (hasSecrets(edits)) throw new RangeError("A secret has to be sealed before it is sent.");
  return mergePatchBetween(config, applyEdits(config, edits));
}

/** Return what has to be corrected before the edits can be sent. */
export function unsent(edits: Edits): Problem[] {
  return [...edits].flatMap(([pointer, edit]) => {
    if (edit.kind === "text") return [{ pointer, message: edit.message }];
    if (edit.kind !== "set") return [];
    const places = edit.value === null && pointer !== "" ? [pointer] : nullMembers(edit.value, pointer);
    return places.map((place) => ({
      pointer: place,
      message: "a member cannot be null; remove it or give it a value",
    }));
  });
}

/** Whether two edits ask for the same. The raw editor makes all of them anew with each key. */
export function isSameEdit(one: Edit, other: Edit | undefined): boolean {
  if (one.kind === "set") return other?.kind === "set" && isEqual(one.value, other.value);
  if (one.kind === "remove") return other?.kind === "remove";
  return other?.kind === one.kind && one.text === other.text;
}

export function hasSecrets(edits: Edits): boolean {
  return [...edits.values()].some(({ kind }) => kind === "secret");
}

/**
 * Return the edits that turn one configuration into another, as a text editor changes it.
 *
 * A string at the place of a secret becomes a `secret`, unless it stands for one (`***`) or is sealed already.
 */
export function editsBetween(old: JsonObject, wanted: JsonObject, schema: SchemaTree): Edits {
  const edits = new Map<string, Edit>();
  collect(old, wanted, "", schema, edits);
  return edits;
}

function collect(
  old: JsonObject,
  wanted: JsonObject,
  pointer: string,
  schema: SchemaTree,
  edits: Map<string, Edit>,
): void {
  for (const name of Object.keys(old)) {
    if (!Object.hasOwn(wanted, name)) edits.set(child(pointer, name), { kind: "remove" });
  }
  for (const [name, value] of Object.entries(wanted)) {
    const before = member(old, name);
    const place = child(pointer, name);
    if (isObject(before) && isObject(value)) collect(before, value, place, schema, edits);
    else for (const [inner, edit] of editsOfValue(before, value, place, schema)) edits.set(inner, edit);
  }
}

/** Return the edits that give a place a value whose secrets were typed in the open. */
function editsOfValue(before: Json | undefined, value: Json, pointer: string, schema: SchemaTree): [string, Edit][] {
  const secrets: [string, Edit][] = [];
  const rest = withoutSecrets(value, pointer, schema, secrets);
  if (rest === undefined || isEqual(rest, before)) return secrets;
  return [[pointer, { kind: "set", value: rest }], ...secrets];
}

/** Return a value without its open secrets, which are added to `secrets`; undefined if it is one. */
function withoutSecrets(value: Json, pointer: string, schema: SchemaTree, secrets: [string, Edit][]): Json | undefined {
  if (typeof value === "string") {
    if (value === MASK || SEALED.test(value) || !schema.isSecret(pointer, value)) return value;
    secrets.push([pointer, { kind: "secret", text: value }]);
    return undefined;
  }
  if (Array.isArray(value)) {
    // An item keeps its place while its secret is kept elsewhere.
    return value.map((item, index) => withoutSecrets(item, child(pointer, index), schema, secrets) ?? MASK);
  }
  if (!isObject(value)) return value;
  const members: [string, Json][] = [];
  for (const [name, inner] of Object.entries(value)) {
    const rest = withoutSecrets(inner, child(pointer, name), schema, secrets);
    if (rest !== undefined) members.push([name, rest]);
  }
  return Object.fromEntries(members);
}

/** Write the edits as a text for a draft, without anything that may be a secret. */
export function formatEdits(edits: Edits): string {
  const kept: Json[] = [];
  for (const [pointer, edit] of edits) {
    if (edit.kind === "set") kept.push([pointer, "set", edit.value]);
    else if (edit.kind === "remove") kept.push([pointer, "remove"]);
    else if (edit.kind === "text" && !edit.sensitive) kept.push([pointer, "text", edit.text, edit.message]);
  }
  return format(kept);
}

/** Read what `formatEdits` wrote; what is not readable is left out. */
export function parseEdits(text: string): Edits {
  const edits = new Map<string, Edit>();
  let rows: Json;
  try {
    rows = parse(text);
  } catch {
    return edits;
  }
  for (const row of Array.isArray(rows) ? rows : []) {
    if (!Array.isArray(row)) continue;
    const [pointer, kind, value, message] = row;
    if (typeof pointer !== "string" || (pointer !== "" && !pointer.startsWith("/"))) continue;
    if (kind === "set" && value !== undefined) edits.set(pointer, { kind, value });
    else if (kind === "remove") edits.set(pointer, { kind });
    else if (kind === "text" && typeof value === "string" && typeof message === "string")
      edits.set(pointer, { kind, text: value, message });
  }
  return edits;
}

/** Return the edits after a place was given a value; undefined removes it. What was typed in the place is dropped. */
export function setValue(config: JsonObject, edits: Edits, pointer: string, value: Json | undefined): Edits {
  const current = applied(config, edits, { secrets: false });
  const rest = new Map([...edits].filter(([edited]) => !isWithin(edited, pointer)));
  const place = editedPlace(current, rest, pointer);
  const wanted = put(find(current, place), tokens(pointer.slice(place.length)), value);
  const before = find(config, place);
  // The secrets in the place, and what is no value there yet, stay edits of their own.
  const edit = rest.get(place);
  if (edit?.kind === "set" || edit?.kind === "remove") rest.delete(place);
  for (const [edited, inner] of rest) {
    if (isWithin(edited, place) && (inner.kind === "set" || inner.kind === "remove")) rest.delete(edited);
  }
  if (wanted === undefined) {
    if (before !== undefined) rest.set(place, { kind: "remove" });
  } else if (!isEqual(wanted, before)) rest.set(place, { kind: "set", value: wanted });
  return rest;
}

/** Return the place whose edit says what a place inside it is: an array around, or an object that is replaced. */
function editedPlace(current: JsonObject, edits: Edits, pointer: string): string {
  for (const outer of around(pointer)) {
    const edit = edits.get(outer);
    if (edit?.kind === "set" || edit?.kind === "remove" || Array.isArray(find(current, outer))) return outer;
  }
  return pointer;
}

/** Return the edits after a place was given a value that may contain secrets in the open. */
export function setOpenValue(
  config: JsonObject,
  edits: Edits,
  pointer: string,
  value: Json,
  schema: SchemaTree,
): Edits {
  const secrets: [string, Edit][] = [];
  const rest = withoutSecrets(value, pointer, schema, secrets);
  const changed = rest === undefined ? edits : setValue(config, edits, pointer, rest);
  return new Map([...changed, ...secrets]);
}

/** Return the edits after a text was typed at a place of which it is no value, or a secret. */
export function setTyped(edits: Edits, pointer: string, edit: Edit & { kind: "text" | "secret" }): Edits {
  return new Map([...[...edits].filter(([edited]) => !isWithin(edited, pointer)), [pointer, edit]]);
}

/** Return the edits after the change of a place, and of all in it, was taken back. */
export function undo(config: JsonObject, edits: Edits, pointer: string): Edits {
  const rest = new Map([...edits].filter(([edited]) => !isWithin(edited, pointer)));
  const before = find(config, pointer);
  if (isEqual(find(applied(config, rest, { secrets: false }), pointer), before)) return rest;
  return setValue(config, rest, pointer, before);
}

/**
 * Return the edits after the items of an array were arranged anew.
 *
 * @param order The old index of each item, in the new order; a value instead is a new item.
 */
export function arrange(
  config: JsonObject,
  edits: Edits,
  pointer: string,
  order: readonly (number | { value: Json })[],
): Edits {
  const items = find(applied(config, edits, { secrets: false }), pointer);
  const old = Array.isArray(items) ? items : [];
  const wanted = order.map((item) => (typeof item === "number" ? (old[item] ?? null) : item.value));
  const moved: [string, Edit][] = [];
  for (const [edited, edit] of edits) {
    if (edited === pointer || !isWithin(edited, pointer) || edit.kind === "set" || edit.kind === "remove") continue;
    const [index = "", ...rest] = edited.slice(pointer.length + 1).split("/");
    const now = order.indexOf(Number(index));
    if (now >= 0) moved.push([[child(pointer, now), ...rest].join("/"), edit]);
  }
  return new Map([...setValue(config, edits, pointer, wanted), ...moved]);
}
