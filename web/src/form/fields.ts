/** Which fields a form has, and how each is edited. */

import { isObject, type Json, type JsonObject } from "../api/json.ts";
import { isHidden } from "../api/masks.ts";
import { visible } from "../ui/value_rows.ts";
import { checkValue, typeNames } from "./checks.ts";
import type { Choice } from "./choices.ts";
import { compareNumbers } from "./numbers.ts";
import { child, findAt, member } from "./pointer.ts";
import { isSecretAt, masked, type Place, type SchemaNode, step } from "./schema.ts";
import { type TypeName, typeOf } from "./types.ts";

/**
 * How a place is edited. `absent` is an object that is not there and is not shown until it is added, such as one that
 * contains itself; `json` is what a form cannot show.
 */
export type Kind = "text" | "number" | "boolean" | "choice" | "secret" | "object" | "list" | "json" | "absent";

const DEEPEST = 8;
const DEEPEST_ABSENT = 4;

/** What the daemon sets and a form does not show. */
const OF_THE_DAEMON = new Set(["service_name", "environment", "version"]);
/** The members of the base contract in the order in which people look for them. */
const FIRST = ["settings", "features", "limits", "api_config", "mqtt_config"];

/**
 * Return how a place is edited.
 *
 * @param value Its value; undefined if it has none.
 * @param trail What describes the places around, outermost first.
 */
export function kindOf(place: Place, value: Json | undefined, trail: readonly SchemaNode[]): Kind {
  const { node } = place;
  if (isSecretAt(place, value)) return "secret";
  if (offered(place, { isItem: true }).some(isNotNull)) return "choice";
  const kind = ofType(typeToEdit(node, value), node);
  if (kind === "object" || kind === "list") {
    if (trail.length >= DEEPEST) return "json";
    const again = node.described && trail.includes(node);
    if (value === undefined && kind === "object" && (again || trail.length >= DEEPEST_ABSENT)) return "absent";
  }
  return kind;
}

function isNotNull({ value }: Choice): boolean {
  return value !== null;
}

/** The choices of each place that the schema as a whole allows; its other rules count, too. */
const allowed = new WeakMap<SchemaNode, readonly Choice[]>();

/** Return the values that a person may choose at a place; only an item may be null. */
export function offered(place: Place, { isItem }: { isItem: boolean }): readonly Choice[] {
  const { node } = place;
  let found = allowed.get(node);
  if (found === undefined) {
    found = (node.choices ?? []).filter(({ value }) => checkValue(place, value, "").length === 0);
    allowed.set(node, found);
  }
  return isItem ? found : found.filter(isNotNull);
}

/** Return the type that a place has or will have; undefined if several are possible. */
function typeToEdit(node: SchemaNode, value: Json | undefined): string | undefined {
  if (value !== undefined) return value === null ? undefined : typeOf(value);
  const names = [...typeNames(node)];
  if (names.length === 1) return names[0];
  if (names.length === 0 && node.types === undefined && node.names.length > 0) return "object";
  return node.default === undefined || node.default === null ? undefined : typeOf(node.default);
}

function ofType(type: string | undefined, node: SchemaNode): Kind {
  const expected = typeNames(node);
  // A text, or a fraction, where a number is expected is corrected in the number's field.
  if (expected.size === 1 && (expected.has("integer") || expected.has("number"))) {
    return type === "string" || isNumeric(type) ? "number" : "json";
  }
  if (type === undefined || (node.types !== undefined && !node.types.has(type as TypeName))) return "json";
  switch (type) {
    case "string":
      return "text";
    case "integer":
    case "number":
      return "number";
    case "boolean":
      return "boolean";
    case "array":
      return node.further ? "json" : "list";
    case "object":
      return node.further && node.names.length === 0 ? "json" : "object";
    default:
      return "json";
  }
}

function isNumeric(type: string | undefined): boolean {
  return type === "integer" || type === "number";
}

/** Return why a place is edited as JSON. */
export function whyJson({ node }: Place, trail: readonly SchemaNode[]): string {
  if (trail.length >= DEEPEST) return "This lies too deep for a form; edit it as JSON.";
  if (node.further) return "The schema allows several forms here; edit it as JSON.";
  if (!node.described) return "The schema does not describe this; edit it as JSON.";
  return "This can be of several types; edit it as JSON.";
}

/** Return the names of an object's members that a form shows: declared ones, those that are there, and removed ones. */
export function memberNames(
  place: Place,
  pointer: string,
  values: readonly (Json | undefined)[],
  removed: Iterable<string>,
): string[] {
  const names = new Set(place.node.names);
  for (const value of values) if (isObject(value)) for (const name of Object.keys(value)) names.add(name);
  for (const other of removed) {
    if (!other.startsWith(`${pointer}/`)) continue;
    const [token = ""] = other.slice(pointer.length + 1).split("/");
    names.add(token.replaceAll("~1", "/").replaceAll("~0", "~"));
  }
  if (pointer !== "") return [...names];
  const rest = [...names].filter((name) => !FIRST.includes(name) && !OF_THE_DAEMON.has(name));
  return [...FIRST.filter((name) => names.has(name)), ...rest];
}

/** Whether members may be added to an object: to a map, but not beside declared members that the schema lists. */
export function isOpen(node: SchemaNode): boolean {
  return node.others === "described" || (node.others === "any" && node.names.length === 0);
}

/**
 * Whether a member can be removed: one of a map, or a value that is neither required nor has a default. A declared
 * object, such as the connection to the broker, is not removed by one button.
 */
export function isRemovable(outer: SchemaNode | undefined, name: string, { node }: Place, value: Json): boolean {
  if (outer === undefined || outer.required.has(name)) return false;
  return !outer.names.includes(name) || (node.default === undefined && !isObject(value));
}

/** Return the title of a member if it says more than its name: not the name of a class that the member is named after. */
export function titleOf({ node }: Place, name: string): string | undefined {
  const plain = (text: string) => text.replace(/[\s_-]/g, "").toLowerCase();
  return node.title !== undefined && plain(node.title) !== plain(name) ? node.title : undefined;
}

/**
 * Return the name of a member as a label. A name that cannot be seen, or that looks like another one, such as "é" of two
 * characters, is in quotes and has escapes.
 */
export function nameText(name: string): string {
  const composed = name === name.normalize("NFC") ? name : name.replace(/\p{M}/gu, escaped);
  const text = visible(composed);
  return text === name && name !== "" && name === name.trim() && !name.includes("  ") ? name : `"${text}"`;
}

function escaped(sign: string): string {
  return `\\u${(sign.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`;
}

/** Return a value to begin with at a place that had none, without any secret that the schema has for it. */
export function blank(node: SchemaNode, type?: string): Json {
  const isOpen = (value: Json) => !isHidden(masked({ node, named: false, restart: false }, value));
  if (node.default !== undefined && isOpen(node.default)) return node.default;
  const choices = node.choices?.filter(isNotNull) ?? [];
  const choice = choices.find(({ value }) => isOpen(value));
  if (choice !== undefined) return choice.value;
  const [expected] = typeNames(node);
  switch (type ?? expected ?? choices.map(({ value }) => typeOf(value))[0]) {
    case "integer":
    case "number": {
      const least = node.limits.minimum.find((limit) => compareNumbers(limit, 0) > 0);
      return least ?? node.limits.maximum.find((limit) => compareNumbers(limit, 0) < 0) ?? 0;
    }
    case "boolean":
      return false;
    case "array":
      return [];
    case "object": {
      // A secret has no value to begin with, and a text that must not be empty is typed.
      const simple = [...node.required].filter((name) => !isSecretName(name, node));
      return Object.fromEntries(simple.map((name) => [name, blank(node.member(name))]));
    }
    default:
      return "";
  }
}

function isSecretName(name: string, node: SchemaNode): boolean {
  return isSecretAt(step({ node, named: false, restart: false }, name));
}

/** The documents that a form shows. */
export interface Shown {
  config: JsonObject;
  current: JsonObject;
  removed: readonly string[];
}

/** Return the pointers of all fields, of objects too, that contain each of some words, and of the places around. */
export function matching(root: Place, shown: Shown, words: readonly string[]): Set<string> {
  const found = new Set<string>();
  const wanted = words.map((word) => word.toLowerCase());

  function visit(place: Place, path: readonly string[], pointer: string, trail: readonly SchemaNode[]): boolean {
    const value = findAt(shown.current, path) ?? findAt(shown.config, path);
    if (kindOf(place, value, trail) === "object") {
      const names = memberNames(place, pointer, [value, findAt(shown.config, path)], shown.removed);
      let any = names.length === 0 && contains(place, pointer, undefined, wanted);
      for (const name of names) {
        const inner = [...path, name];
        if (visit(step(place, name), inner, child(pointer, name), [...trail, place.node])) any = true;
      }
      if (any) found.add(pointer);
      return any;
    }
    const matches = contains(place, pointer, isSecretAt(place, value) ? undefined : value, wanted);
    if (matches) found.add(pointer);
    return matches;
  }

  visit(root, [], "", []);
  return found;
}

function contains({ node }: Place, pointer: string, value: Json | undefined, words: readonly string[]): boolean {
  const said = [pointer, node.title, node.description, node.variable, texts(value)].join("\n").toLowerCase();
  return words.every((word) => said.includes(word));
}

/** Return the texts of a value, to be searched. */
function texts(value: Json | undefined): string {
  if (value === undefined) return "";
  if (Array.isArray(value)) return value.map(texts).join("\n");
  if (isObject(value))
    return Object.keys(value)
      .map((name) => `${name}\n${texts(member(value, name))}`)
      .join("\n");
  return String(value);
}
