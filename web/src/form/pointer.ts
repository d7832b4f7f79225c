/** JSON Pointers (RFC 6901), and documents that are changed at a place. No function changes what it is given. */

import { isObject, type Json, type JsonObject } from "../api/json.ts";

/**
 * Return the unescaped reference tokens of a pointer.
 *
 * @throws RangeError if it is neither empty nor begins with "/".
 */
export function tokens(pointer: string): string[] {
  if (pointer === "") return [];
  if (!pointer.startsWith("/")) throw new RangeError(`The pointer ${pointer} does not begin with "/".`);
  return pointer
    .slice(1)
    .split("/")
    .map((token) => token.replaceAll("~1", "/").replaceAll("~0", "~"));
}

function escapeToken(token: string): string {
  return token.replaceAll("~", "~0").replaceAll("/", "~1");
}

/** Return the pointer of some unescaped reference tokens. */
export function join(path: readonly (string | number)[]): string {
  return path.map((token) => `/${escapeToken(String(token))}`).join("");
}

/** Return the pointer of a member or item of the place that a pointer names. */
export function child(pointer: string, token: string | number): string {
  return `${pointer}/${escapeToken(String(token))}`;
}

/** Return the pointer of the place around; undefined for the whole document. */
export function parent(pointer: string): string | undefined {
  return pointer === "" ? undefined : pointer.slice(0, pointer.lastIndexOf("/"));
}

/** Whether a pointer names a place or something in it. */
export function isWithin(pointer: string, outer: string): boolean {
  return pointer === outer || pointer.startsWith(`${outer}/`);
}

/** Return the pointers of the places around the one that a pointer names, outermost first, from the document on. */
export function around(pointer: string): string[] {
  const found: string[] = [];
  for (let at = pointer.indexOf("/"); at >= 0; at = pointer.indexOf("/", at + 1)) found.push(pointer.slice(0, at));
  return found;
}

/** Return the member or item of a value; undefined if it has none with this name. */
export function member(value: Json | undefined, token: string): Json | undefined {
  if (Array.isArray(value)) return isIndex(token) ? value[Number(token)] : undefined;
  // Object.hasOwn, because every object inherits a "constructor".
  return isObject(value) && Object.hasOwn(value, token) ? value[token] : undefined;
}

/** Return the value at a pointer; undefined if there is none. */
export function find(value: Json | undefined, pointer: string): Json | undefined {
  return findAt(value, tokens(pointer));
}

/** Return the value at a place that is given by its reference tokens; undefined if there is none. */
export function findAt(value: Json | undefined, path: readonly string[]): Json | undefined {
  let found = value;
  for (const token of path) {
    if (found === undefined) return undefined;
    found = member(found, token);
  }
  return found;
}

/** Return a copy of an object with a member; a member named `__proto__` is one like others. */
function withMember(object: JsonObject, name: string, value: Json): JsonObject {
  return { ...object, [name]: value };
}

/** Return a copy of an object without a member. */
function withoutMember(object: JsonObject, name: string): JsonObject {
  return Object.fromEntries(Object.entries(object).filter(([key]) => key !== name));
}

/**
 * Return a copy of a value in which a place has another value; undefined removes it.
 *
 * Objects that are missing on the way are made. An item is replaced, or appended if the index is the array's length;
 * another index changes nothing.
 */
export function put(value: Json | undefined, path: readonly string[], wanted: Json | undefined): Json | undefined {
  const [token, ...rest] = path;
  if (token === undefined) return wanted;
  if (Array.isArray(value)) {
    const index = isIndex(token) ? Number(token) : Number.POSITIVE_INFINITY;
    if (index > value.length) return value;
    const item = put(value[index], rest, wanted);
    if (item === undefined) return value.filter((_, place) => place !== index);
    return [...value.slice(0, index), item, ...value.slice(index + 1)];
  }
  const object = isObject(value) ? value : {};
  const inner = member(object, token);
  if (wanted === undefined && (inner === undefined || (rest.length > 0 && typeof inner !== "object"))) return value;
  const changed = put(inner, rest, wanted);
  if (changed === undefined) return withoutMember(object, token);
  return changed === inner ? value : withMember(object, token, changed);
}

function isIndex(token: string): boolean {
  return /^(0|[1-9]\d{0,9})$/.test(token);
}
