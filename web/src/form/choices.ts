/** The values that a schema lists for a place: `enum`, `const`, and alternatives of which each is one of these. */

import { format, isEqual, isObject, type Json, type JsonObject, parse } from "../api/json.ts";
import { MASK } from "../api/masks.ts";
import { visible } from "../ui/value_rows.ts";
import { type TypeName, typeOf } from "./types.ts";

export interface Choice {
  value: Json;
  /** What the schema calls it. */
  title?: string;
  deprecated?: boolean;
}

/** What an alternative may have beside its values, for none of it is a rule of its own. */
const SAID = new Set(["const", "enum", "type", "title", "description", "deprecated", "$comment", "examples"]);

/**
 * Return the values that all schemas of a place allow; undefined if none of them lists any.
 *
 * @param types The types that are allowed; undefined for any.
 */
export function choicesOf(
  schemas: readonly JsonObject[],
  types: ReadonlySet<TypeName> | undefined,
): Choice[] | undefined {
  const lists = schemas.flatMap(listsOf);
  const [first, ...rest] = lists;
  return first?.flatMap((choice) => {
    const others = rest.map((list) => list.find(({ value }) => isEqual(value, choice.value)));
    if (others.includes(undefined) || (types !== undefined && !types.has(typeOf(choice.value)))) return [];
    return [Object.assign({}, ...others, choice) as Choice];
  });
}

/** Whether a schema has alternatives that are more than a list of values. */
export function hasOtherAlternatives(schema: JsonObject): boolean {
  return [schema.oneOf, schema.anyOf].some((found) => found !== undefined && alternatives(found) === undefined);
}

function listsOf(schema: JsonObject): Choice[][] {
  const lists: Choice[][] = [];
  if (schema.const !== undefined) lists.push([{ value: schema.const }]);
  if (Array.isArray(schema.enum)) lists.push(schema.enum.map((value) => ({ value })));
  const any = alternatives(schema.anyOf);
  if (any !== undefined) lists.push(withoutRepeats(any));
  // What two alternatives allow is not allowed by exactly one.
  const one = alternatives(schema.oneOf);
  if (one !== undefined)
    lists.push(one.filter(({ value }) => one.filter((other) => isEqual(other.value, value)).length === 1));
  return lists;
}

function withoutRepeats(choices: readonly Choice[]): Choice[] {
  return choices.filter(({ value }, index) => choices.findIndex((other) => isEqual(other.value, value)) === index);
}

/** Return the values of alternatives of which each lists its own; undefined if one of them does not. */
function alternatives(found: Json | undefined): Choice[] | undefined {
  if (!Array.isArray(found)) return undefined;
  const choices: Choice[] = [];
  for (const alternative of found) {
    const listed = valuesOf(alternative);
    if (listed === undefined) return undefined;
    choices.push(...listed);
  }
  return choices;
}

function valuesOf(alternative: Json): Choice[] | undefined {
  if (!isObject(alternative) || !Object.keys(alternative).every((name) => SAID.has(name))) return undefined;
  const { title, deprecated, type } = alternative;
  if (type === "null") return [{ value: null }];
  const allowed = type === undefined ? undefined : [type].flat().map(String);
  let values: Json[] | undefined;
  if (alternative.const !== undefined) values = [alternative.const];
  else if (Array.isArray(alternative.enum)) values = alternative.enum;
  return values
    ?.filter((value) => allowed === undefined || isOfType(value, allowed))
    .map((value) => ({
      value,
      // The title of several values is not that of one.
      ...(typeof title === "string" && values.length === 1 ? { title } : {}),
      ...(deprecated === true ? { deprecated } : {}),
    }));
}

function isOfType(value: Json, types: readonly string[]): boolean {
  const type = typeOf(value);
  return types.includes(type) || (type === "integer" && types.includes("number"));
}

/** Whether a value may be a choice, as far as it is shown: `***` stands for any text. */
export function mayBe(choice: Json, value: Json): boolean {
  if (value === MASK) return typeof choice === "string";
  if (Array.isArray(choice) && Array.isArray(value)) {
    return choice.length === value.length && choice.every((item, index) => mayBe(item, value[index] ?? null));
  }
  if (!isObject(choice) || !isObject(value)) return isEqual(choice, value);
  const names = Object.keys(choice);
  return (
    names.length === Object.keys(value).length &&
    names.every((name) => Object.hasOwn(value, name) && mayBe(choice[name] ?? null, value[name] ?? null))
  );
}

/** Return the index of the choice that a value is; undefined if it is none, or if what is shown of it may be several. */
export function chosenOf(choices: readonly Choice[], value: Json): number | undefined {
  const possible = choices.flatMap((choice, index) => (mayBe(choice.value, value) ? [index] : []));
  return (
    possible.find((index) => isEqual(choices[index]?.value, value)) ?? (possible.length === 1 ? possible[0] : undefined)
  );
}

const LONGEST = 120;

/** Return what a list of choices shows of each; no two of them look the same. */
export function choiceTexts(choices: readonly Choice[]): string[] {
  const hasOthers = choices.some(({ value }) => typeof value !== "string");
  const plain = choices.map(({ value }) => plainText(value, hasOthers));
  const seen = new Map<string, number>();
  for (const text of plain) seen.set(shortened(text), (seen.get(shortened(text)) ?? 0) + 1);
  const texts = choices.map(({ title, deprecated }, index) => {
    const whole = plain[index] ?? "";
    const text = seen.get(shortened(whole)) === 1 ? shortened(whole) : whole;
    return `${title === undefined ? text : `${title} (${text})`}${deprecated ? ", deprecated" : ""}`;
  });
  // Those that differ only in what is not shown are counted.
  const alike = new Map<string, number>();
  for (const text of texts) alike.set(text, (alike.get(text) ?? 0) + 1);
  const before = new Map<string, number>();
  return texts.map((text) => {
    const number = (before.get(text) ?? 0) + 1;
    before.set(text, number);
    return alike.get(text) === 1 ? text : `${text}, ${number} of ${alike.get(text)}`;
  });
}

function shortened(text: string): string {
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}

const EMPTY = "an empty text";

/** Return a value on one line; a text in quotes where it would look like another value, or a browser would change it. */
function plainText(value: Json, hasOthers: boolean): string {
  if (typeof value !== "string") return format(value);
  if (value === "") return EMPTY;
  const quoted = visible(JSON.stringify(value));
  if (hasOthers && isJson(value)) return `${quoted} (text)`;
  const isPlain = value === visible(value) && value === value.trim().replace(/\s+/g, " ") && value !== EMPTY;
  return isPlain ? value : quoted;
}

function isJson(text: string): boolean {
  try {
    parse(text);
    return true;
  } catch {
    return false;
  }
}
