/** What a draft contains: edits without their secrets, and what is needed to carry them over to a newer revision. */

import { format, isObject, type Json, type JsonObject, parse } from "../api/json.ts";
import { type Edits, formatEdits, parseEdits } from "../form/edits.ts";
import { type DraftPlace, draftText, keepDraftText } from "../store/drafts.ts";
import type { Conflict } from "./conflicts.ts";

export type TextFormat = "json" | "yaml";

export interface Draft {
  /** The revision on which the edits are based, and its epoch. */
  revision: number;
  epoch: number;
  /** When it was kept, in Unix seconds. */
  time: number;
  edits: Edits;
  /** Where secrets were typed, which no draft has. */
  secrets: string[];
  /** Conflicts that are not decided, with the values on which those edits were based. */
  conflicts: Conflict[];
  /** The text of the raw editor while it is no configuration. */
  text?: DraftText;
  comment: string;
}

export interface DraftText {
  format: TextFormat;
  text: string;
}

/** Write a draft as text. */
export function formatDraft({ edits, conflicts, text, ...rest }: Draft): string {
  const undecided = conflicts.map(({ pointer, before }) => (before === undefined ? { pointer } : { pointer, before }));
  return format({
    ...rest,
    edits: formatEdits(edits),
    conflicts: undecided,
    ...(text === undefined ? {} : { text: { ...text } }),
  });
}

/** Read the text of a draft; undefined if it is none. Another version of the console may have written it. */
export function parseDraft(text: string): Draft | undefined {
  let kept: Json;
  try {
    kept = parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(kept) || typeof kept.revision !== "number" || typeof kept.edits !== "string") return undefined;
  const { revision, epoch, time, comment } = kept;
  return {
    revision,
    epoch: typeof epoch === "number" ? epoch : 0,
    time: Number(time) || 0,
    edits: parseEdits(kept.edits),
    secrets: Array.isArray(kept.secrets) ? kept.secrets.filter((item) => typeof item === "string") : [],
    conflicts: conflictsOf(kept.conflicts),
    comment: typeof comment === "string" ? comment : "",
    ...textOf(kept.text),
  };
}

function conflictsOf(value: Json | undefined): Conflict[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((item) =>
    isObject(item) && typeof item.pointer === "string"
      ? [{ pointer: item.pointer, before: item.before, theirs: undefined }]
      : [],
  );
}

function textOf(text: Json | undefined): { text?: DraftText } {
  if (!isObject(text) || typeof text.text !== "string") return {};
  return { text: { format: text.format === "yaml" ? "yaml" : "json", text: text.text } };
}

/** Keep a draft; returns whether the browser did. */
export function keepDraft(place: DraftPlace, draft: Draft): boolean {
  return keepDraftText(place, formatDraft(draft));
}

export function readDraft(place: DraftPlace): Draft | undefined {
  const text = draftText(place);
  return text === undefined ? undefined : parseDraft(text);
}

/** Parts of names that make a value a secret. */
const SECRET_NAMES = ["password", "secret", "key", "token"];
/** What is no secret: a placeholder, a sealed one, a number or a flag. What is inside an object or array may be one. */
const NO_SECRET = /^(?:["']?\*{3}|["']?sealed:|(?:null|true|false|-?\d[\d.eE+-]*)\s*(?:[,}\]\n]|$)|$)/;

/**
 * Whether a text that is no configuration yet may hold a secret in the open, so that it must not be kept.
 *
 * @param text What was typed.
 * @param before The configuration on which it is based: each of its `***` has to be in the text still.
 * @param names The names that the schema makes those of secrets, besides the usual ones; undefined if it does so for
 *   names that nobody knows before.
 */
export function mayHaveSecret(text: string, before: JsonObject, names: Iterable<string> | undefined): boolean {
  if (names === undefined) return true;
  const masks = (where: string) => where.split("***").length + where.split("sealed:").length;
  if (masks(text) < masks(format(before))) return true;
  const parts = [...SECRET_NAMES, ...names].map((name) => name.replace(/[^\w\s]/g, "\\$&")).join("|");
  // A name up to its colon.
  const named = new RegExp(`(?:${parts})[^"'\\n:{}[\\],]*["']?\\s*:[ \\t]*`, "gi");
  for (const { 0: name, index } of text.matchAll(named)) {
    if (!NO_SECRET.test(text.slice(index + name.length))) return true;
  }
  return false;
}
