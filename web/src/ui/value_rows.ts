/** What a difference shows of the old and the new value: rows with a sign, in which the parts that differ are marked. */

import { format, isEqual, isObject, type Json } from "../api/json.ts";
import { diffItems, diffLines, diffWords, likeness, type Run } from "./text_diff.ts";

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
  if (old === undefined || next === undefined || kindOf(old) !== kindOf(next)) {
    return [...(old === undefined ? [] : whole("old", old)), ...(next === undefined ? [] : whole("new", next))];
  }
  if (typeof old === "string" && typeof next === "string" && (isBlock(old) || isBlock(next))) {
    return withoutMiddle(lineRows(old, next));
  }
  if (isStructure(old) && isStructure(next) && (isLong(old) || isLong(next))) {
    return withoutMiddle(structureRows(old, next, "", ""));
  }
  return wordRows(format(old), format(next));
}

/** Return the rows of two whole documents, with everything that is the same. */
export function documentRows(old: Json, next: Json): Row[] {
  return structureRows(old, next, "", "");
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

function isBlock(value: string): boolean {
  return value.includes("\n");
}

function isStructure(value: Json): boolean {
  return Array.isArray(value) || isObject(value);
}

function isLong(value: Json): boolean {
  return format(value).length > LINE_LENGTH;
}

function kindOf(value: Json): string {
  return Array.isArray(value) ? "array" : typeof value;
}

function row(kind: Row["kind"], line: string): Row {
  return { kind, parts: [{ kind: "same", text: line }] };
}

/**
 * Return a value as text: a text of several lines as it is, everything else as JSON, long objects and arrays with a line
 * for each member.
 */
export function text(value: Json): string {
  if (typeof value === "string" && isBlock(value)) return value;
  if (!isStructure(value) || !isLong(value)) return format(value);
  return members(value).join("\n");
}

function whole(kind: "old" | "new", value: Json): Row[] {
  return split(text(value)).map((line) => row(kind, line));
}

/** Write a line for each member, without the commas at the ends of lines: one that is added changes no other line. */
function members(value: Json): string[] {
  return format(value, 2)
    .split("\n")
    .map((line) => line.replace(/,$/, ""));
}

function structure(kind: Run["kind"], value: Json, indent: string, label: string): Row[] {
  return members(value).map((line, index) => row(kind, indent + (index === 0 ? label : "") + line));
}

/**
 * Return the rows of two values, member by member and item by item.
 *
 * @param indent Stands before each line.
 * @param label Stands before the value in its first line: the name of the member.
 */
function structureRows(old: Json, next: Json, indent: string, label: string): Row[] {
  if (isEqual(old, next)) return structure("same", next, indent, label);
  const inner = `${indent}  `;
  if (isObject(old) && isObject(next)) {
    const rows = [row("same", `${indent}${label}{`)];
    for (const [name, value] of Object.entries(old)) {
      const other = Object.hasOwn(next, name) ? next[name] : undefined;
      const named = `${JSON.stringify(name)}: `;
      rows.push(
        ...(other === undefined ? structure("old", value, inner, named) : structureRows(value, other, inner, named)),
      );
    }
    for (const [name, value] of Object.entries(next)) {
      if (!Object.hasOwn(old, name)) rows.push(...structure("new", value, inner, `${JSON.stringify(name)}: `));
    }
    return [...rows, row("same", `${indent}}`)];
  }
  if (Array.isArray(old) && Array.isArray(next)) {
    return [row("same", `${indent}${label}[`), ...itemRows(old, next, inner), row("same", `${indent}]`)];
  }
  return wordRows(`${indent}${label}${format(old)}`, `${indent}${label}${format(next)}`);
}

function itemRows(old: readonly Json[], next: readonly Json[], indent: string): Row[] {
  const rows: Row[] = [];
  const runs = diffItems(
    old.map((item) => format(item)),
    next.map((item) => format(item)),
  );
  let before = 0;
  let after = 0;
  for (const [index, { kind, items }] of runs.entries()) {
    const following = runs[index + 1];
    if (kind === "same") {
      for (let at = 0; at < items.length; at += 1)
        rows.push(...structure("same", next[after + at] ?? null, indent, ""));
      before += items.length;
      after += items.length;
    } else if (kind === "old") {
      // What stands in the same place is probably an item that was changed.
      const pairs = following?.kind === "new" ? Math.min(items.length, following.items.length) : 0;
      for (let at = 0; at < items.length; at += 1) {
        const item = old[before + at] ?? null;
        rows.push(
          ...(at < pairs
            ? structureRows(item, next[after + at] ?? null, indent, "")
            : structure("old", item, indent, "")),
        );
      }
      before += items.length;
      if (following?.kind !== "new") continue;
      for (let at = pairs; at < following.items.length; at += 1) {
        rows.push(...structure("new", next[after + at] ?? null, indent, ""));
      }
      after += following.items.length;
    } else if (runs[index - 1]?.kind !== "old") {
      for (let at = 0; at < items.length; at += 1) rows.push(...structure("new", next[after + at] ?? null, indent, ""));
      after += items.length;
    }
  }
  return rows;
}

/** Return the lines of a text; the last line end is no line of its own. */
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

function lineRows(before: string, after: string): Row[] {
  const runs = diffLines(before, after);
  const rows: Row[] = [];
  for (const [index, run] of runs.entries()) {
    const lines = split(run.text);
    if (run.kind === "same") rows.push(...lines.map((line) => row("same", line)));
    else if (run.kind === "old") {
      const next = runs[index + 1];
      const added = next?.kind === "new" ? split(next.text) : [];
      // As many lines on both sides: each is probably one that was changed.
      if (added.length === lines.length) {
        const pairs = lines.map((line, place) => wordRows(line, added[place] ?? ""));
        rows.push(...pairs.flatMap(([old]) => old ?? []), ...pairs.flatMap(([, changed]) => changed ?? []));
      } else rows.push(...lines.map((line) => row("old", line)), ...added.map((line) => row("new", line)));
    } else if (runs[index - 1]?.kind !== "old") rows.push(...lines.map((line) => row("new", line)));
  }
  // Lines that differ in nothing but the last line end would look alike.
  if (before.endsWith("\n") !== after.endsWith("\n")) {
    const kind = before.endsWith("\n") ? "new" : "old";
    rows.findLast((found) => found.kind === kind)?.parts.push({ kind, text: " (no line end)" });
  }
  return rows;
}

/** Leave out rows that are the same on both sides, but for a few around each difference. */
function withoutMiddle(rows: readonly Row[]): Row[] {
  const result: Row[] = [];
  for (let at = 0; at < rows.length; ) {
    let end = at;
    while (end < rows.length && rows[end]?.kind === "same") end += 1;
    if (end > at) {
      const after = at === 0 ? 0 : CONTEXT;
      const before = end === rows.length ? 0 : CONTEXT;
      const left = end - at - after - before;
      if (left > 1) {
        result.push(...rows.slice(at, at + after), row("gap", String(left)), ...rows.slice(end - before, end));
      } else result.push(...rows.slice(at, end));
      at = end;
    } else {
      result.push(rows[at] as Row);
      at += 1;
    }
  }
  return result;
}
