/** Configurations as YAML 1.2 (core schema) and back, with every number as it is written. */

import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  type Node,
  parseDocument,
  Scalar,
  stringify,
  type YAMLMap,
} from "yaml";
import { isLosslessNumber, type Json, LosslessNumber } from "../api/json.ts";

const JSON_NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;
/** Aliases repeat what they name; so many values a configuration never has. */
const MOST_NODES = 100_000;

/** A text that is no configuration, and where. */
export class TextError extends Error {
  /** Offset of the place in the text. */
  readonly at: number;

  constructor(message: string, at: number) {
    super(message);
    this.at = at;
  }
}

export function formatYaml(value: Json): string {
  return stringify(value, {
    lineWidth: 0,
    aliasDuplicateObjects: false,
    customTags: (tags) => [
      {
        tag: "tag:yaml.org,2002:float",
        default: true,
        identify: isLosslessNumber,
        resolve: (text: string) => text,
        stringify: ({ value: number }) => String(number),
      },
      ...tags,
    ],
  });
}

/**
 * Read a text.
 *
 * @throws TextError if it is not YAML, or holds what JSON cannot say.
 */
export function parseYaml(text: string): Json {
  const document = parseDocument(text, {
    uniqueKeys: true,
    intAsBigInt: true,
    version: "1.2",
    schema: "core",
    // Its place is said apart from the message.
    prettyErrors: false,
  });
  const [error] = document.errors;
  if (error !== undefined) throw new TextError(error.message.replace(/\.?$/, "."), error.pos[0]);
  if (document.contents === null) throw new TextError("It is empty.", 0);
  return toJson(document.contents, document, { left: MOST_NODES });
}

function toJson(node: Node | null | undefined, document: Document, count: { left: number }): Json {
  count.left -= 1;
  const at = node?.range?.[0] ?? 0;
  if (count.left < 0) throw new TextError("Its aliases make it too large.", at);
  if (node === null || node === undefined) return null;
  if (isAlias(node)) {
    const named = node.resolve(document);
    if (named === undefined) throw new TextError(`There is no anchor ${node.source}.`, at);
    return toJson(named as Node, document, count);
  }
  if (isSeq(node)) return node.items.map((item) => toJson(item as Node, document, count));
  if (isMap(node)) {
    return Object.fromEntries(
      node.items.map((pair) => [
        nameOf(pair.key as Node, document),
        toJson(pair.value as Node | null, document, count),
      ]),
    );
  }
  if (isScalar(node)) return scalar(node, at);
  return null;
}

function nameOf(key: Node, document: Document): string {
  const found = isAlias(key) ? key.resolve(document) : key;
  if (!isScalar(found)) throw new TextError("The name of a member is a text.", key.range?.[0] ?? 0);
  return typeof found.value === "string" ? found.value : (found.source ?? String(found.value));
}

function scalar({ value, source, type }: Scalar, at: number): Json {
  if (value === null || typeof value === "boolean" || typeof value === "string") return value;
  const written = type === Scalar.PLAIN && source !== undefined && JSON_NUMBER.test(source) ? source : String(value);
  if (!JSON_NUMBER.test(written)) throw new TextError(`${source ?? written} is no number of JSON.`, at);
  const number = Number(written);
  return String(number) === written ? number : new LosslessNumber(written);
}

/** Return where the value at a place stands; that of the next place around if there is none. */
export function yamlPlace(text: string, path: readonly string[]): [from: number, to: number] {
  const document = parseDocument(text, { intAsBigInt: true });
  let node: Node | null = document.contents;
  let found = node?.range;
  for (const token of path) {
    if (isMap(node)) {
      const pair: YAMLMap["items"][number] | undefined = node.items.find(
        ({ key }) => isScalar(key) && (key.source ?? String(key.value)) === token,
      );
      if (pair === undefined) break;
      found = (pair.key as Node).range ?? found;
      node = pair.value as Node | null;
    } else if (isSeq(node)) {
      node = (node.items[Number(token)] ?? null) as Node | null;
      if (node === null) break;
      found = node.range ?? found;
    } else break;
  }
  return found ? [found[0], found[1]] : [0, 0];
}
