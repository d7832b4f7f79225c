import assert from "node:assert/strict";
import { test } from "node:test";
import { type Json, parse } from "../src/api/json.ts";
import { documentRows, valueRows, visible } from "../src/ui/value_rows.ts";

/** Return the rows as lines with a sign; what differs is between brackets. */
function shown(old: Json | undefined, next: Json | undefined): string[] {
  const signs = { old: "-", new: "+", same: " ", gap: "~" };
  return valueRows(old, next).map(
    ({ kind, parts }) =>
      signs[kind] + parts.map((part) => (part.kind === "same" ? part.text : `[${part.text}]`)).join(""),
  );
}

test("numbers are shown as they were written", () => {
  assert.deepEqual(shown(parse("9007199254740993"), parse("9007199254740992")), [
    "-9007199254740993",
    "+9007199254740992",
  ]);
  assert.deepEqual(shown(parse("1.0"), undefined), ["-1.0"]);
});

test("a text and a number that look alike differ by the quotes", () => {
  assert.deepEqual(shown("1", 1), ['-"1"', "+1"]);
});

test("the words of a line that differ are marked", () => {
  assert.deepEqual(shown("say hello to all people", "say goodbye to all people"), [
    '-"say [hello] to all people"',
    '+"say [goodbye] to all people"',
  ]);
});

test("a text of several lines is compared by lines, with little of what is the same", () => {
  const lines = Array.from({ length: 20 }, (_, index) => `line ${index}`);
  const changed = lines.with(10, "line ten");
  assert.deepEqual(shown(`${lines.join("\n")}\n`, `${changed.join("\n")}\n`), [
    "~8",
    " line 8",
    " line 9",
    "-line [10]",
    "+line [ten]",
    " line 11",
    " line 12",
    "~7",
  ]);
});

test("a text that differs only in its last line end does not look equal", () => {
  assert.deepEqual(shown("a\nb\n", "a\nb"), [" a", "-b", "+b[ (no line end)]"]);
});

test("a long array is compared item by item", () => {
  const items = Array.from({ length: 30 }, (_, index) => `item ${index}`);
  assert.deepEqual(shown(items, [...items, "item 30"]), ["~29", '   "item 28"', '   "item 29"', '+  "item 30"', " ]"]);
});

test("a side without a value has no row", () => {
  assert.deepEqual(shown(undefined, { a: 1 }), ['+{"a":1}']);
  assert.deepEqual(shown(undefined, undefined), []);
});

test("two whole documents are shown with everything that is the same", () => {
  const old = Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`m${index}`, index]));
  const rows = documentRows(old, { ...old, m19: 20 });
  assert.equal(rows.length, 23);
  assert.deepEqual(
    rows.filter(({ kind }) => kind !== "same").map(({ kind }) => kind),
    ["old", "new"],
  );
});

test("signs that nobody sees are written out", () => {
  assert.equal(visible("a\u202eb\u200bc\u00a0d ä"), "a\\u202eb\\u200bc\\u00a0d ä");
});
