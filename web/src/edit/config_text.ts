/** The text of the raw editor: how a configuration is written, read, and where its values stand. */

import { ensureSyntaxTree } from "@codemirror/language";
import type { EditorState } from "@codemirror/state";
import type { SyntaxNode } from "@lezer/common";
import { format, isObject, type JsonObject, parse } from "../api/json.ts";
import { tokens } from "../form/pointer.ts";
import type { TextFormat } from "./drafts.ts";
import { formatYaml, parseYaml, TextError, yamlPlace } from "./yaml_text.ts";

export { TextError };

export function writeText(config: JsonObject, kind: TextFormat): string {
  return kind === "yaml" ? formatYaml(config) : `${format(config, 2)}\n`;
}

/**
 * Read a configuration.
 *
 * @throws TextError if the text is none.
 */
export function readText(text: string, kind: TextFormat): JsonObject {
  const value = kind === "yaml" ? parseYaml(text) : parseJson(text);
  if (!isObject(value)) throw new TextError("A configuration is an object.", 0);
  return value;
}

function parseJson(text: string) {
  try {
    return parse(text);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const at = Number(/ at position (\d+)/.exec(message)?.[1] ?? text.length);
    throw new TextError(message.replace(/ at position \d+/, "").replace(/\.?$/, "."), Math.min(at, text.length));
  }
}

/** Return the line of an offset, from 1 on. */
export function lineOf(text: string, at: number): number {
  return text.slice(0, at).split("\n").length;
}

/** Return where the value of a pointer stands in an editor; that of the next place around if there is none. */
export function placeOf(state: EditorState, kind: TextFormat, pointer: string): { from: number; to: number } {
  const path = tokens(pointer);
  if (kind === "yaml") {
    const [from, to] = yamlPlace(state.doc.toString(), path);
    return { from: Math.min(from, state.doc.length), to: Math.min(to, state.doc.length) };
  }
  const tree = ensureSyntaxTree(state, state.doc.length, 200);
  let node: SyntaxNode | null | undefined = tree?.topNode.firstChild;
  let found = { from: 0, to: 0 };
  for (const token of path) {
    const next: { name: SyntaxNode; value: SyntaxNode | null } | undefined = node
      ? inner(state, node, token)
      : undefined;
    if (next === undefined) break;
    found = { from: next.name.from, to: next.name.to };
    node = next.value;
  }
  return found;
}

function inner(
  state: EditorState,
  node: SyntaxNode,
  token: string,
): { name: SyntaxNode; value: SyntaxNode | null } | undefined {
  if (node.name === "Object") {
    for (const property of node.getChildren("Property")) {
      const name = property.getChild("PropertyName");
      if (name !== null && nameIs(state.sliceDoc(name.from, name.to), token))
        return { name, value: property.lastChild };
    }
  }
  if (node.name === "Array") {
    let index = 0;
    for (let item = node.firstChild; item !== null; item = item.nextSibling) {
      if (/^[[\],⚠]$/.test(item.name)) continue;
      if (String(index) === token) return { name: item, value: item };
      index += 1;
    }
  }
  return undefined;
}

function nameIs(source: string, name: string): boolean {
  try {
    return JSON.parse(source) === name;
  } catch {
    return false;
  }
}
