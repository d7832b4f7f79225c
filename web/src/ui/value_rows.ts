/** What a difference shows of the old and the new value: rows with a sign, in which the parts that differ are marked. */

import { format, type Json } from "../api/json.ts";
import { diffLines, diffWords, likeness, type Run } from "./text_diff.ts";

/** What the daemon shows in place of a secret. */
export const MASK = "***";

export interface Row {
  kind: Run["kind"] | "gap";
  /** The text in parts; those that are not `same` differ from the other side. Of a `gap`: how many lines are left out. */
  parts: Run[];
}

/** A value on one line is at most so long; longer objects and arrays are shown over several lines. */
const LINE_LENGTH = 72;
/** Lines around a difference that are shown although they are the same. */
const CONTEXT = 2;
/** Below this share of characters in common, marks of single words would only confuse. */
const LIKE = 0.4;

/** Return the rows of a change; `undefined` is a side that has no value. */
export function valueRows(old: Json | undefined, next: Json | undefined): Row[] {
  if (old === undefined || next === undefined) {
    return [...whole("old", old), ...whole("new", next)];
  }
  // Two texts are compared as texts, whatever one of them would look like alone.
  const [before, after] =
    typeof old === "string" && typeof next === "string" && (isBlock(old) || isBlock(next))
      ? [old, next]
      : [text(old), text(next)];
  if (kindOf(old) !== kindOf(next)) return [...whole("old", old), ...whole("new", next)];
  if (before.includes("\n") || after.includes("\n")) return lineRows(before, after);
  return wordRows(before, after);
}

/** Return the rows of two whole documents, with everything that is the same. */
export function documentRows(old: Json, next: Json): Row[] {
  return lineRows(members(old), members(next), { whole: true });
}

/**
 * Return a value as text: a text of several lines as it is, everything else as JSON, long objects and arrays with a line
 * for each member.
 */
export function text(value: Json): string {
  if (typeof value === "string" && isBlock(value)) return value;
  const line = format(value);
  return line.length <= LINE_LENGTH || typeof value !== "object" ? line : members(value);
}

/**
 * Return a text in which characters that nobody sees, or that turn the order of others, are written as `\u202e`: two
 * values that differ never look equal.
 */
export function visible(value: string): string {
  return value.replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\u00a0\u2000-\u200a\u202f\u3000]/gu,
    (sign) => `\\u${(sign.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`,
  );
}

/** Write a line for each member, without the commas at their ends: a member that is added changes no other line. */
function members(value: Json): string {
  return format(value, 2).replace(/,$/gm, "");
}

function isBlock(value: string): boolean {
  return value.includes("\n");
}

function kindOf(value: Json): string {
  return Array.isArray(value) ? "array" : typeof value;
}

function whole(kind: "old" | "new", value: Json | undefined): Row[] {
  if (value === undefined) return [];
  return split(text(value)).map((line) => ({ kind, parts: [{ kind: "same", text: line }] }));
}

function split(value: string): string[] {
  const lines = value.split("\n");
  if (lines.length > 1 && lines.at(-1) === "") lines.pop();
  return lines;
}

function wordRows(before: string, after: string): Row[] {
  const runs = diffWords(before, after);
  const marked = likeness(runs) >= LIKE;
  const parts = (kind: "old" | "new", all: string): Run[] =>
    marked ? runs.filter((run) => run.kind === "same" || run.kind === kind) : [{ kind: "same", text: all }];
  return [
    { kind: "old", parts: parts("old", before) },
    { kind: "new", parts: parts("new", after) },
  ];
}

function lineRows(before: string, after: string, { whole = false } = {}): Row[] {
  const runs = diffLines(before, after);
  const rows: Row[] = [];
  for (const [index, run] of runs.entries()) {
    const lines = split(run.text);
    const first = index === 0;
    const last = index === runs.length - 1;
    if (run.kind === "same") {
      rows.push(...(whole ? lines.map(row("same")) : context(lines, first ? 0 : CONTEXT, last ? 0 : CONTEXT)));
    } else if (run.kind === "old") {
      const next = runs[index + 1];
      const added = next?.kind === "new" ? split(next.text) : [];
      // As many lines on both sides: each is probably one that was changed.
      if (added.length === lines.length) {
        const pairs = lines.map((line, place) => wordRows(line, added[place] ?? ""));
        rows.push(...pairs.flatMap(([old]) => old ?? []), ...pairs.flatMap(([, changed]) => changed ?? []));
      } else rows.push(...lines.map(row("old")), ...added.map(row("new")));
    } else if (runs[index - 1]?.kind !== "old") rows.push(...lines.map(row("new")));
  }
  // Lines that differ in nothing but the last line end would look alike.
  if (before.endsWith("\n") !== after.endsWith("\n")) {
    const kind = before.endsWith("\n") ? "new" : "old";
    rows.findLast((found) => found.kind === kind)?.parts.push({ kind, text: " (no line end)" });
  }
  return rows;
}

function row(kind: Row["kind"]): (line: string) => Row {
  return (line) => ({ kind, parts: [{ kind: "same", text: line }] });
}

/** Return rows that are the same on both sides: so many after the last difference, and before the next one. */
function context(lines: string[], after: number, before: number): Row[] {
  const left = lines.length - before - after;
  if (left <= 1) return lines.map(row("same"));
  return [
    ...lines.slice(0, after).map(row("same")),
    { kind: "gap", parts: [{ kind: "same", text: String(left) }] },
    ...lines.slice(lines.length - before).map(row("same")),
  ];
}
