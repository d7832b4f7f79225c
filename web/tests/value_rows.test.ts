import assert from "node:assert/strict";
import { test } from "node:test";
import { format, type Json, parse } from "../src/api/json.ts";
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

test("an item that was changed is compared with itself, not with the one that was added after it", () => {
  const lights = ["ceiling", "floor lamp beside the window", "desk lamp"];
  const old = [
    { name: "kitchen", lights },
    { name: "bath", on: false },
  ];
  const next = [
    { name: "kitchen", lights },
    { name: "bath", on: true },
    { name: "hall", on: false },
  ];
  assert.deepEqual(shown(old, next), [
    "~9",
    "   {",
    '     "name": "bath"',
    '-    "on": [false]',
    '+    "on": [true]',
    "   }",
    "+  {",
    '+    "name": "hall"',
    '+    "on": false',
    "+  }",
    " ]",
  ]);
});

test("every item and member of two made-up values is shown once on each side", () => {
  let seed = 11;
  const random = (limit: number) => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed % limit;
  };
  const made = (depth: number): Json => {
    if (depth === 0 || random(3) === 0) return random(4);
    if (random(2) === 0) return Array.from({ length: random(6) }, () => made(depth - 1));
    return Object.fromEntries(Array.from({ length: random(5) }, () => [`m${random(6)}`, made(depth - 1)]));
  };
  const side = (rows: ReturnType<typeof documentRows>, kind: "old" | "new") =>
    rows
      .filter((row) => row.kind === "same" || row.kind === kind)
      .flatMap(({ parts }) => pieces(parts.map(({ text }) => text).join("")));
  // Brackets of an empty value may stand on lines of their own, and the order of members has no meaning.
  const pieces = (text: string) => text.match(/"\w+"|\d+|[[\]{}]/g) ?? [];
  for (let count = 0; count < 300; count += 1) {
    const [old, next] = [{ a: made(4) }, { a: made(4) }];
    const rows = documentRows(old, next);
    assert.deepEqual(side(rows, "old").sort(), pieces(format(old)).sort());
    assert.deepEqual(side(rows, "new").sort(), pieces(format(next)).sort());
  }
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
