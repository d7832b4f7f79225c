/**
 * What a service's schema says about each place of its configuration, whether or not there is a value.
 *
 * Annotations and what counts as a secret follow the daemon (`schemas/schema_tree.py`); its validation stays the truth
 * about values.
 */

import { format, isNumber, isObject, type Json, type JsonObject } from "../api/json.ts";
import { MASK } from "../api/masks.ts";
import { type Choice, choicesOf, hasOtherAlternatives } from "./choices.ts";
import { around, find, member, tokens } from "./pointer.ts";
import type { TypeName } from "./types.ts";

const TYPES: readonly string[] = ["string", "integer", "number", "boolean", "object", "array", "null"];
const SECRET_NAME = /password|secret|key|token/i;

interface Part {
  /** The schema in which a `$ref` of the part is resolved. */
  root: JsonObject;
  schema: JsonObject;
  /** Whether annotations count in it: not in parts of `allOf` and of patterns. */
  annotates: boolean;
}

/** The limits of a place; each list has those of every part of the schema, which all hold. */
export interface Limits {
  minimum: Json[];
  maximum: Json[];
  exclusiveMinimum: Json[];
  exclusiveMaximum: Json[];
  multipleOf: Json[];
  minLength?: number | undefined;
  maxLength?: number | undefined;
  minItems?: number | undefined;
  maxItems?: number | undefined;
  pattern: string[];
  format?: string | undefined;
  unit?: string | undefined;
}

/** The parts of a schema that describe one place. Places that the same parts describe share one. */
export class SchemaNode {
  readonly title: string | undefined;
  readonly description: string | undefined;
  readonly default: Json | undefined;
  readonly deprecated: boolean;
  readonly readOnly: boolean;
  readonly restart: boolean;
  /** The environment variable of the place (`x-env`). */
  readonly variable: string | undefined;
  /** Whether the schema says that a string here is a secret; undefined if it says nothing. */
  readonly marked: boolean | undefined;
  /** Whether it expects a number or a boolean, so that the name alone makes no secret. */
  readonly numeric: boolean;
  /** The types that are allowed; undefined for any. */
  readonly types: ReadonlySet<TypeName> | undefined;
  /** The values that are allowed; undefined for any. */
  readonly choices: readonly Choice[] | undefined;
  /** The names of declared members in the order of the schema, and of required ones. */
  readonly names: readonly string[];
  readonly required: ReadonlySet<string>;
  /** Whether other members than the declared ones may be added: `described` if the schema says what they are. */
  readonly others: "described" | "any" | "forbidden";
  readonly limits: Limits;
  /** Whether the schema has rules of the place that a form cannot show: `oneOf` and the like. */
  readonly further: boolean;
  readonly described: boolean;
  readonly #parts: readonly Part[];
  readonly #known: Map<string, SchemaNode>;
  readonly #members = new Map<string, SchemaNode>();
  #item: SchemaNode | undefined;

  constructor(parts: readonly Part[], known: Map<string, SchemaNode>) {
    this.#parts = parts;
    this.#known = known;
    const all = parts.map(({ schema }) => schema);
    const own = parts.filter(({ annotates }) => annotates).map(({ schema }) => schema);
    // The service's own schema comes after the base contract and says more.
    const last = (name: string) => all.findLast((schema) => schema[name] !== undefined)?.[name];
    const text = (name: string) => {
      const value = last(name);
      return typeof value === "string" ? value : undefined;
    };
    this.described = all.length > 0;
    this.title = text("title");
    this.description = text("description");
    this.default = last("default");
    this.deprecated = all.some((schema) => schema.deprecated === true);
    this.readOnly = all.some((schema) => schema.readOnly === true);
    this.restart = own.some((schema) => schema["x-restart-required"] === true);
    const variable = own.find((schema) => typeof schema["x-env"] === "string")?.["x-env"];
    this.variable = typeof variable === "string" ? variable : undefined;
    this.marked = marked(own);
    this.numeric = own.some(({ type }) => type === "integer" || type === "number" || type === "boolean");
    this.types = typesOf(all);
    this.choices = choicesOf(all, this.types);
    this.names = namesOf(all);
    this.required = new Set(all.flatMap(({ required }) => (Array.isArray(required) ? required.map(String) : [])));
    this.others = othersOf(all);
    this.limits = limitsOf(all, text);
    this.further = all.some((schema) => "not" in schema || "prefixItems" in schema || hasOtherAlternatives(schema));
  }

  /** Return what describes a member, and whether its name is one of a secret. */
  member(name: string): SchemaNode {
    let found = this.#members.get(name);
    if (found === undefined) {
      found = this.#inner((schema) => memberSchemas(schema, name));
      // Of names that are not declared there may be any number; they share what describes them.
      if (this.names.includes(name)) this.#members.set(name, found);
    }
    return found;
  }

  /** Return what describes every item. */
  item(): SchemaNode {
    this.#item ??= this.#inner(({ items }) => [[items, true]]);
    return this.#item;
  }

  /** Whether a token of a pointer can only be the index of an item here. */
  isIndex(token: string): boolean {
    const closed = this.#parts.some(
      ({ schema, annotates }) => annotates && ("properties" in schema || "additionalProperties" in schema),
    );
    return /^\d+$/.test(token) && this.described && !closed;
  }

  #inner(select: (schema: JsonObject) => [Json | undefined, annotates: boolean][]): SchemaNode {
    return nodeOf(
      this.#parts.flatMap(({ root, schema, annotates }) =>
        select(schema).map(([inner, here]) => ({ root, schema: inner, annotates: annotates && here })),
      ),
      this.#known,
    );
  }
}

/** A place: what describes it, and what its names and the places around it mean for it. */
export interface Place {
  node: SchemaNode;
  /** Whether a name on the way contains password, secret, key or token. */
  named: boolean;
  /** Whether the service has to restart to apply a change of it. */
  restart: boolean;
}

/** Return the place of a member or item. */
export function step(place: Place, token: string | number): Place {
  const isItem = typeof token === "number" || place.node.isIndex(token);
  const node = isItem ? place.node.item() : place.node.member(token);
  return {
    node,
    named: place.named || (!isItem && SECRET_NAME.test(token)),
    restart: place.restart || node.restart,
  };
}

/** Whether a value at a place is a secret; without one, whether a string would be. */
export function isSecretAt({ node, named }: Place, value?: Json): boolean {
  if (value !== undefined) return typeof value === "string" && (node.marked ?? named);
  return node.marked ?? (named && !node.numeric && (node.types === undefined || node.types.has("string")));
}

/** Return a value of a place with `***` for each secret in it. */
export function masked(place: Place, value: Json): Json {
  if (Array.isArray(value)) return value.map((item, index) => masked(step(place, index), item));
  if (!isObject(value)) return isSecretAt(place, value) ? MASK : value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, masked(step(place, name), inner)]));
}

/** Return choices of a place as they are shown: no page shows a secret, though a schema lists it. */
export function shownChoices(place: Place, choices: readonly Choice[] = place.node.choices ?? []): Choice[] {
  return choices.map((choice) => ({ ...choice, value: masked(place, choice.value) }));
}

export class SchemaTree {
  readonly root: Place;
  /** The names of members that the schema makes secrets; undefined if there are some whose names it does not say. */
  readonly secretNames: ReadonlySet<string> | undefined;

  constructor(schema: JsonObject) {
    const names = new Set<string>();
    this.secretNames = addSecretNames(schema, undefined, names) ? names : undefined;
    const parts = Array.isArray(schema.allOf) ? schema.allOf : [schema];
    const known = new Map<string, SchemaNode>();
    const node = nodeOf(
      parts.filter(isObject).map((part) => ({ root: part, schema: part, annotates: true })),
      known,
    );
    // As for the daemon, an annotation of the whole document means nothing.
    this.root = { node, named: false, restart: false };
  }

  /** Return the place that a pointer names, whether or not a configuration has it. */
  at(pointer: string): Place {
    return tokens(pointer).reduce((place: Place, token) => step(place, token), this.root);
  }

  /** Whether a value at a place is a secret; without one, whether a string would be. */
  isSecret(pointer: string, value?: Json): boolean {
    return isSecretAt(this.at(pointer), value);
  }

  /** Return the pointers whose change the service applies only at a restart. */
  restartRequired(pointers: readonly string[]): string[] {
    return pointers.filter((pointer) => {
      const { node, restart } = this.at(pointer);
      // An array changes as a whole.
      return restart || node.item().restart;
    });
  }
}

/** What describes members of any name, or places that a `$ref` names. */
const NAMELESS: readonly string[] = [
  "$defs",
  "definitions",
  "patternProperties",
  "additionalProperties",
  "unevaluatedProperties",
];
/** Values, which describe nothing. */
const VALUES: readonly string[] = ["default", "const", "enum", "examples"];

/** Add the names of the members that a schema makes secrets; returns whether these are all. */
function addSecretNames(schema: Json | undefined, name: string | undefined, names: Set<string>): boolean {
  if (Array.isArray(schema)) return schema.map((inner) => addSecretNames(inner, name, names)).every(Boolean);
  if (!isObject(schema)) return true;
  let all = true;
  if (schema["x-sensitive"] === true || schema.writeOnly === true) {
    if (name === undefined) all = false;
    else names.add(name);
  }
  for (const [keyword, inner] of Object.entries(schema)) {
    if (VALUES.includes(keyword)) continue;
    if (keyword === "properties" && isObject(inner)) {
      for (const [member, below] of Object.entries(inner)) all = addSecretNames(below, member, names) && all;
    } else all = addSecretNames(inner, NAMELESS.includes(keyword) ? undefined : name, names) && all;
  }
  return all;
}

/** The trees that were read last, by schema: fields keep their state when the same schema is loaded again. */
const read = new Map<string, SchemaTree>();
const KEPT = 8;

/**
 * Read the `schema` of the daemon's answer: the base contract and the service's own schema.
 *
 * The same schema gives the same tree, also when it was loaded anew.
 */
export function readSchema(schema: JsonObject | Record<string, unknown>): SchemaTree {
  const text = format(schema as JsonObject);
  let tree = read.get(text);
  if (tree === undefined) {
    const [oldest] = read.keys();
    if (read.size >= KEPT && oldest !== undefined) read.delete(oldest);
    tree = new SchemaTree(schema as JsonObject);
    read.set(text, tree);
  }
  return tree;
}

interface Found {
  root: JsonObject;
  schema: Json | undefined;
  annotates: boolean;
}

const numbers = new WeakMap<object, number>();
let nextNumber = 0;

function numberOf(schema: JsonObject): number {
  let number = numbers.get(schema);
  if (number === undefined) {
    number = nextNumber++;
    numbers.set(schema, number);
  }
  return number;
}

function nodeOf(found: readonly Found[], known: Map<string, SchemaNode>): SchemaNode {
  const parts: Part[] = [];
  for (const { root, schema, annotates } of found) expand(root, schema, annotates, parts);
  const key = parts
    .map(({ root, schema, annotates }) => `${numberOf(root)}.${numberOf(schema)}${annotates ? "" : "-"}`)
    .join(" ");
  let node = known.get(key);
  if (node === undefined) {
    node = new SchemaNode(parts, known);
    known.set(key, node);
  }
  return node;
}

/** Add a subschema, the target of its `$ref`, and the parts of its `allOf`, which all describe the place. */
function expand(root: JsonObject, schema: Json | undefined, annotates: boolean, parts: Part[]): void {
  if (!isObject(schema) || parts.some((part) => part.root === root && part.schema === schema)) return;
  const only = onlyAlternative(schema);
  parts.push({ root, schema: only === undefined ? schema : withoutAlternatives(schema), annotates });
  if (typeof schema.$ref === "string") expand(root, resolve(root, schema.$ref), annotates, parts);
  for (const part of Array.isArray(schema.allOf) ? schema.allOf : []) expand(root, part, false, parts);
  if (only !== undefined) expand(root, only, false, parts);
}

/** Return the one alternative that is left when null, which no member may be, is left out; undefined if there are more. */
function onlyAlternative(schema: JsonObject): Json | undefined {
  const alternatives = schema.anyOf ?? schema.oneOf;
  if (!Array.isArray(alternatives) || (schema.anyOf !== undefined && schema.oneOf !== undefined)) return undefined;
  const left = alternatives.filter((inner) => !(isObject(inner) && inner.type === "null"));
  return left.length === 1 ? left[0] : undefined;
}

const stripped = new WeakMap<JsonObject, JsonObject>();

/** Return a schema without its alternatives; always the same object for the same schema. */
function withoutAlternatives(schema: JsonObject): JsonObject {
  let found = stripped.get(schema);
  if (found === undefined) {
    found = Object.fromEntries(Object.entries(schema).filter(([name]) => name !== "anyOf" && name !== "oneOf"));
    stripped.set(schema, found);
  }
  return found;
}

function resolve(root: JsonObject, reference: string): Json | undefined {
  if (reference === "#") return root;
  if (!reference.startsWith("#/")) return undefined;
  return find(root, reference.slice(1).replaceAll("%25", "%").replaceAll("%22", '"'));
}

/** Return the subschemas of a member, and whether annotations count in each. */
function memberSchemas(schema: JsonObject, name: string): [Json | undefined, annotates: boolean][] {
  const declared = member(schema.properties, name);
  const patterns = isObject(schema.patternProperties)
    ? Object.entries(schema.patternProperties).filter(([pattern]) => matches(pattern, name))
    : [];
  const found: [Json | undefined, boolean][] = patterns.map(([, inner]) => [inner, false]);
  if (declared !== undefined) found.push([declared, true]);
  else if (patterns.length === 0) found.push([schema.additionalProperties, true]);
  return found;
}

/** So many ways to match a text are tried at most, as far as a pattern shows it: some hundredths of a second. */
const MOST_WAYS = 1e7;

/**
 * Whether a text matches a pattern of JSON Schema; undefined if this browser cannot tell.
 *
 * A browser tries one way after the other, so that `^(a+)+$` takes years for a few characters, and the page hangs. Then
 * the daemon alone tells, whose expressions take a time that grows with the text.
 */
export function matches(pattern: string, text: string): boolean | undefined {
  if (text.length ** repetitions(pattern) > MOST_WAYS) return undefined;
  try {
    return new RegExp(pattern, "u").test(text);
  } catch {
    return undefined;
  }
}

const REPETITION = /^(?:[*+]|\{\d+(?:,\d*)?\})/;

/** Return how many repetitions a pattern has; infinite if one of them repeats another one, a choice or an option. */
function repetitions(pattern: string): number {
  // What is no part of an expression's structure: escaped characters and classes of characters.
  const plain = pattern.replace(/\\[\s\S]|\[(?:\\[\s\S]|[^\]\\])*\]/g, "x");
  let count = 0;
  // Whether each group that is open has a repetition, a choice or an option.
  const open = [false];
  for (let at = 0; at < plain.length; at += 1) {
    const inner = plain[at] === ")" && open.length > 1 ? open.pop() : false;
    const outer = open.length - 1;
    if (plain[at] === "(") open.push(false);
    else if (plain[at] === "|" || (plain[at] === "?" && plain[at - 1] !== "(") || inner) open[outer] = true;
    const repeated = plain[at] === "(" ? null : REPETITION.exec(plain.slice(at + 1, at + 20));
    if (repeated === null) continue;
    if (inner) return Number.POSITIVE_INFINITY;
    at += repeated[0].length;
    open[outer] = true;
    count += 1;
  }
  return count;
}

function marked(schemas: readonly JsonObject[]): boolean | undefined {
  const said = schemas.filter((schema) => "x-sensitive" in schema).map((schema) => schema["x-sensitive"] === true);
  if (schemas.some(({ writeOnly }) => writeOnly === true)) said.push(true);
  return said.length === 0 ? undefined : said.includes(true);
}

function typesOf(schemas: readonly JsonObject[]): ReadonlySet<TypeName> | undefined {
  let allowed: Set<string> | undefined;
  for (const { type } of schemas) {
    if (type === undefined) continue;
    const here = new Set((Array.isArray(type) ? type : [type]).map(String).filter((name) => TYPES.includes(name)));
    if (here.has("number")) here.add("integer");
    const before: Set<string> = allowed ?? here;
    allowed = new Set([...before].filter((name) => here.has(name)));
  }
  return allowed as Set<TypeName> | undefined;
}

function namesOf(schemas: readonly JsonObject[]): string[] {
  const names = new Set<string>();
  // The order of the service's own schema, which comes last, counts.
  for (const { properties } of schemas.toReversed()) {
    if (isObject(properties)) for (const name of Object.keys(properties)) names.add(name);
  }
  for (const { required } of schemas) {
    if (Array.isArray(required)) for (const name of required) names.add(String(name));
  }
  return [...names];
}

function othersOf(schemas: readonly JsonObject[]): SchemaNode["others"] {
  const forbids = (value: Json | undefined) => value === false;
  if (schemas.some((schema) => forbids(schema.additionalProperties) || forbids(schema.unevaluatedProperties))) {
    return schemas.some(({ patternProperties }) => isObject(patternProperties)) ? "described" : "forbidden";
  }
  const described = schemas.some(
    (schema) => isObject(schema.additionalProperties) || isObject(schema.patternProperties),
  );
  return described ? "described" : "any";
}

function limitsOf(schemas: readonly JsonObject[], text: (name: string) => string | undefined): Limits {
  const all = (name: string) => schemas.map((schema) => schema[name]).filter((value) => value !== undefined);
  const numbers = (name: string) => all(name).filter(isNumber);
  const counts = (name: string) => numbers(name).map((value) => Number(String(value)));
  const most = (values: number[]) => (values.length === 0 ? undefined : Math.max(...values));
  const least = (values: number[]) => (values.length === 0 ? undefined : Math.min(...values));
  return {
    minimum: numbers("minimum"),
    maximum: numbers("maximum"),
    exclusiveMinimum: numbers("exclusiveMinimum"),
    exclusiveMaximum: numbers("exclusiveMaximum"),
    multipleOf: numbers("multipleOf"),
    minLength: most(counts("minLength")),
    maxLength: least(counts("maxLength")),
    minItems: most(counts("minItems")),
    maxItems: least(counts("maxItems")),
    pattern: all("pattern").filter((value) => typeof value === "string"),
    format: text("format"),
    unit: text("x-unit"),
  };
}

/** Return the pointers around some pointers, and themselves. */
export function withPlacesAround(pointers: Iterable<string>): Set<string> {
  const found = new Set<string>();
  for (const pointer of pointers) {
    for (const outer of around(pointer)) found.add(outer);
    found.add(pointer);
  }
  return found;
}
