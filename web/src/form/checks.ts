/** What a schema says about a value, in words. A hint while somebody types: the daemon's validation is the truth. */

import type { Problem } from "../api/client.ts";
import { format, isNumber, isObject, type Json, type JsonObject } from "../api/json.ts";
import { MASK } from "../api/masks.ts";
import { choiceTexts, mayBe } from "./choices.ts";
import { applyEdits, type Edits } from "./edits.ts";
import { asStored, compareNumbers, isMultiple, toDouble } from "./numbers.ts";
import { child, find, parent } from "./pointer.ts";
import {
  isSecretAt,
  type Limits,
  matches,
  type Place,
  type SchemaNode,
  type SchemaTree,
  shownChoices,
  step,
} from "./schema.ts";
import { typeOf } from "./types.ts";

/** The integers of 64 bits, with or without a sign, which are all that a configuration may have. */
const LARGEST_INTEGER = "18446744073709551615";
const SMALLEST_INTEGER = "-9223372036854775808";

const NAMES: Record<string, string> = {
  array: "a list",
  boolean: "true or false",
  integer: "a whole number",
  null: "null",
  number: "a number",
  object: "an object",
  string: "a text",
};

/** Return the problems of what the edits touch. */
export function checkEdits(schema: SchemaTree, config: JsonObject, edits: Edits): Problem[] {
  const current = applyEdits(config, edits);
  const found = new Map<string, Problem>();
  for (const [pointer, edit] of edits) {
    const place = schema.at(pointer);
    let problems: Problem[] = [];
    if (edit.kind === "text") problems = [{ pointer, message: edit.message }];
    else if (edit.kind === "secret")
      problems = secrets(edit.text, place.node.limits).map((message) => ({ pointer, message }));
    else if (edit.kind === "set") problems = checkValue(place, find(current, pointer) ?? edit.value, pointer);
    for (const problem of [...problems, ...missing(schema, current, pointer)]) {
      found.set(`${problem.pointer} ${problem.message}`, problem);
    }
  }
  return [...found.values()];
}

/** Return the required members that are missing on the way to a place. */
function missing(schema: SchemaTree, current: JsonObject, pointer: string): Problem[] {
  const found: Problem[] = [];
  for (let outer = parent(pointer); outer !== undefined; outer = parent(outer)) {
    const value = find(current, outer);
    // The daemon adds what the whole document must have.
    if (isObject(value) && outer !== "") found.push(...missingMembers(schema.at(outer).node, value, outer));
  }
  return found;
}

function missingMembers(node: SchemaNode, value: JsonObject, pointer: string): Problem[] {
  return [...node.required]
    .filter((name) => !Object.hasOwn(value, name))
    .map((name) => ({ pointer: child(pointer, name), message: "is missing; this member is required" }));
}

/** Return the problems of a value and of all in it. */
export function checkValue(place: Place, value: Json, pointer: string): Problem[] {
  const { node } = place;
  if (isSecretAt(place, value) && (value === MASK || String(value).startsWith("sealed:"))) return [];
  const problems = messages(place, value).map((message) => ({ pointer, message }));
  if (isObject(value)) {
    problems.push(...missingMembers(node, value, pointer));
    for (const [name, inner] of Object.entries(value)) {
      const below = child(pointer, name);
      if (node.others === "forbidden" && !node.names.includes(name)) {
        problems.push({ pointer: below, message: "is not a known member; remove it or correct the name" });
      } else problems.push(...checkValue(step(place, name), inner, below));
    }
  } else if (Array.isArray(value)) {
    value.forEach((item, index) => {
      problems.push(...checkValue(step(place, index), item, child(pointer, index)));
    });
  }
  return problems;
}

/** Return what is wrong with a value itself, as the daemon stores it; nothing about its members and items. */
export function messages(place: Place, typed: Json): string[] {
  const { node } = place;
  const value = isNumber(typed) ? asStored(typed) : typed;
  const type = typeOf(value);
  if (node.types !== undefined && !node.types.has(type)) {
    return [`expected ${[...typeNames(node)].map((name) => NAMES[name]).join(" or ")}`];
  }
  if (node.choices !== undefined && !node.choices.some((choice) => mayBe(choice.value, value))) {
    return [`expected ${choicesInWords(place)}`];
  }
  if (isNumber(value)) return numbers(value, node.limits);
  if (typeof value === "string") return texts(value, node.limits);
  if (!Array.isArray(value)) return [];
  const { minItems, maxItems } = node.limits;
  const found: string[] = [];
  if (minItems !== undefined && value.length < minItems) found.push(`expected at least ${count(minItems, "item")}`);
  if (maxItems !== undefined && value.length > maxItems) found.push(`expected at most ${count(maxItems, "item")}`);
  return found;
}

const NAMED = 20;

function choicesInWords(place: Place): string {
  const choices = place.node.choices ?? [];
  if (choices.length === 0) return "nothing; the schema allows no value here";
  const texts = choiceTexts(shownChoices(place, choices.slice(0, NAMED))).join(", ");
  const others = choices.length - NAMED;
  return `one of ${texts}${others > 0 ? ` and ${count(others, "other")}` : ""}`;
}

/** Return the types of a place as people name them: a number includes whole ones. */
export function typeNames(node: SchemaNode): Set<string> {
  const names = new Set<string>(node.types ?? []);
  if (names.has("number")) names.delete("integer");
  names.delete("null");
  return names;
}

function numbers(value: Json, limits: Limits): string[] {
  const found: string[] = [];
  const demand = (holds: boolean, text: string) => {
    if (!holds) found.push(`expected ${text}`);
  };
  for (const limit of limits.minimum) demand(compareNumbers(value, limit) >= 0, `at least ${limit}`);
  for (const limit of limits.maximum) demand(compareNumbers(value, limit) <= 0, `at most ${limit}`);
  for (const limit of limits.exclusiveMinimum) demand(compareNumbers(value, limit) > 0, `more than ${limit}`);
  for (const limit of limits.exclusiveMaximum) demand(compareNumbers(value, limit) < 0, `less than ${limit}`);
  for (const limit of limits.multipleOf) demand(isMultiple(value, limit), `a multiple of ${limit}`);
  // A number that is written with a point or an exponent is a double to the daemon.
  if (/^-?\d+$/.test(String(value))) {
    const fits = compareNumbers(value, SMALLEST_INTEGER) >= 0 && compareNumbers(value, LARGEST_INTEGER) <= 0;
    demand(fits, "an integer of 64 bits");
  } else demand(Number.isFinite(toDouble(value)), "a number that a double can hold");
  return found;
}

/** Return what is wrong with a typed secret, without quoting it. */
function secrets(value: string, limits: Limits): string[] {
  if (value === MASK) return [`${MASK} stands for a secret that is not shown; type the secret itself`];
  return value.startsWith("sealed:") ? [] : texts(value, limits);
}

function texts(value: string, { minLength, maxLength, pattern, format }: Limits): string[] {
  const found: string[] = [];
  // JSON Schema counts code points, of which some take two of JavaScript's units.
  const length = [...value].length;
  if (minLength !== undefined && length < minLength) {
    found.push(
      length === 0 && minLength === 1 ? "must not be empty" : `expected at least ${count(minLength, "character")}`,
    );
  }
  if (maxLength !== undefined && length > maxLength) found.push(`expected at most ${count(maxLength, "character")}`);
  for (const text of pattern) {
    if (matches(text, value) === false) found.push(`expected a text that matches ${text}`);
  }
  if (format !== undefined && Object.hasOwn(FORMATS, format) && FORMATS[format]?.test(value) === false)
    found.push(`expected a text in the format ${format}`);
  return found;
}

/** Formats of which a simple expression knows what is surely wrong. */
const FORMATS: Record<string, RegExp> = {
  date: /^\d{4}-\d\d-\d\d$/,
  "date-time": /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/,
  email: /^[^@\s]+@[^@\s]+$/,
  ipv4: /^(\d{1,3}\.){3}\d{1,3}$/,
  ipv6: /^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*$/,
  uri: /^[A-Za-z][A-Za-z0-9+.-]*:/,
  uuid: /^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/,
};

/** Return in words which values a place may have: "1 to 1000", "at most 20 characters". */
export function rangeInWords({ node }: Pick<Place, "node">): string {
  const { limits } = node;
  const parts: string[] = [];
  const low = strictest(limits.minimum, 1);
  const high = strictest(limits.maximum, -1);
  const above = strictest(limits.exclusiveMinimum, 1);
  const below = strictest(limits.exclusiveMaximum, -1);
  if (low !== undefined && high !== undefined) parts.push(`${low} to ${high}`);
  else if (low !== undefined) parts.push(`at least ${low}`);
  else if (high !== undefined) parts.push(`at most ${high}`);
  if (above !== undefined) parts.push(`more than ${above}`);
  if (below !== undefined) parts.push(`less than ${below}`);
  for (const limit of new Set(limits.multipleOf.map(String))) parts.push(`a multiple of ${limit}`);
  parts.push(
    ...amount(limits.minLength, limits.maxLength, "character"),
    ...amount(limits.minItems, limits.maxItems, "item"),
  );
  for (const pattern of new Set(limits.pattern)) parts.push(`matches ${pattern}`);
  if (limits.format !== undefined) parts.push(`format ${limits.format}`);
  if (limits.unit !== undefined) parts.push(`in ${limits.unit}`);
  return parts.join(", ");
}

function strictest(limits: readonly Json[], sign: 1 | -1): Json | undefined {
  return limits.toSorted((one, other) => sign * compareNumbers(other, one))[0];
}

function amount(least: number | undefined, most: number | undefined, noun: string): string[] {
  if (least !== undefined && most !== undefined) return [`${least} to ${count(most, noun)}`];
  if (most !== undefined) return [`at most ${count(most, noun)}`];
  // That a text must not be empty is said when it is.
  return least !== undefined && (least > 1 || noun === "item") ? [`at least ${count(least, noun)}`] : [];
}

export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** Return a value on one line: a text without quotes, a long one shortened. */
export function show(value: Json | undefined, longest = 120): string {
  if (value === undefined) return "nothing";
  const text = typeof value === "string" ? value : format(value);
  if (text === "") return "an empty text";
  return text.length > longest ? `${text.slice(0, longest)}…` : text;
}
